"""The roles on guests whose shell prints arbitrary text: it never selects a file of the controller, is never run, and
reaches the terminal only as plain text.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.processes.ansible_run import every_core
from tests.processes.printing_guest import PrintingGuest
from tests.support.bait import baits
from tests.support.role_run import DESCRIBE, PYTHON, VALIDATE, described, every_role, result_of
from tests.support.terminal import commands_in
from tests.support.tiers import quick
from tests.support.until import until


def switching(init: str = "systemd") -> dict[str, object]:
    """The variables of a role when the switch begins."""
    return {
        "qga_deployment_is_check": False,
        "qga_deployment_system": {"init": init, "family": "Debian", "release": "12"},
        "extended_agent_wanted": "extended",
        "extended_agent_stock_unit": "qemu-guest-agent.service",
        "extended_agent_python": "/usr/bin/python3",
    }


@pytest.fixture
def canaries(tmp_path: Path) -> Path:
    """The directory in which any executed text leaves a file."""
    directory = tmp_path / "canaries"
    directory.mkdir()
    return directory


def runs(guest: PrintingGuest, words: str) -> None:
    """Have the guest run scripts that contain these words, on this machine."""
    text = guest.shell.read_text()
    guest.shell.write_text(text.replace("true) exit 0", f'*{words}*) exec /bin/sh -c "$2" ;;\ntrue) exit 0'))


# ---------------------------------------------------------------------------------------------- files of the controller

# From the directory of a role's variables up to the root, and down to a file that a guest left on the controller.
UP = "/.." * 40
PATHS = {
    "after a slash": UP + "{planted}",
    "as if a release": "8" + UP + "{planted}",
    "without a slash": UP[1:] + "{planted}",
    "with blanks": "12 " + UP + "{planted}",
}


@every_core
@every_role
@pytest.mark.parametrize("mode", ["", "--check"])
@pytest.mark.parametrize("path", quick(PATHS, ["after a slash"]))
def test_no_output_of_a_guest_selects_a_file_of_the_controller(
    core: str, role: str, mode: str, path: str, tmp_path: Path, canaries: Path
) -> None:
    # As fetch would leave it. The role reads this variable next.
    planted = tmp_path / "planted.yml"
    planted.write_text(f"{role}_state: \"{{{{ lookup('pipe', 'touch {canaries}/planted') }}}}\"\n", encoding="utf-8")
    version = PATHS[path].format(planted=planted.with_suffix(""))
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(version=version), PYTHON: "version=3.11\n"})
    run = guest.run_role(role, *filter(None, [mode]), core=core)
    assert list(canaries.iterdir()) == []
    asked = [task.task for task in run.tasks if task.task.endswith(("Inspect the guest", "Inspect the host"))]
    assert asked, f"the role did not get past the point where the file was read: {run.output}"


@every_core
@every_role
def test_only_known_families_are_accepted(core: str, role: str, tmp_path: Path) -> None:
    (tmp_path / "planted.yml").write_text(f"{role}_state: planted\n", encoding="utf-8")
    families = f"{UP}{tmp_path}/planted Debian ../vars/Debian __class__ items"
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(families=families, name="Odd")})
    run = guest.run_role(role, core=core)
    assert "Debian, RedHat and Suse, but not Odd." in run.output


# --------------------------------------------------------------------------------------------------------- the terminal


def tricks(canaries: Path) -> dict[str, str]:
    """Return baits of one line each."""
    texts = {name: " ".join(text.split("\n")) for name, text in baits(canaries).items() if name != "surrogates"}
    return {"owned": "\x1b]0;owned\a\x1b[2J", **{name: text for name, text in texts.items() if text}}


@every_core
@every_role
def test_a_system_may_have_any_name(core: str, role: str, tmp_path: Path, canaries: Path) -> None:
    texts = tricks(canaries)
    names = ("owned", "clipboard", "eightbit", "direction", "expression")
    for name in names if role == "extended_agent" else names[:1]:
        # Only str.splitlines() splits lines in more places than a shell does.
        text = "".join(texts[name].splitlines()[0])
        guest = PrintingGuest(tmp_path, {DESCRIBE: described(families=text, version=text, name=text)})
        run = guest.run_role(role, core=core)
        assert commands_in(run.output) == []
        assert f"but not {visible(text)}." in result_of(run, VALIDATE[role])["msg"]
    assert list(canaries.iterdir()) == []


@every_core
@every_role
def test_any_answer_may_be_bait(core: str, role: str, tmp_path: Path, canaries: Path) -> None:
    bait = "\n".join(tricks(canaries).values())
    lines = "".join(f"{key}={text}\n" for key in ("python", "other", "record", "newer") for text in bait.splitlines())
    guest = PrintingGuest(
        tmp_path,
        # The last line of a key counts.
        {DESCRIBE: f"{bait}\n{lines}{described()}", "systemctl": f"{bait}\n{lines}", PYTHON: f"{bait}\nversion=3.11\n"},
        {"systemctl": 3},
    )
    run = guest.run_role(role, core=core)
    assert commands_in(run.output) == []
    assert "its shell exited with status 3, without a message." in run.output
    assert list(canaries.iterdir()) == []


@every_core
@every_role
@pytest.mark.parametrize("state", ["present", "absent"])
def test_a_record_is_not_a_template(core: str, role: str, state: str, tmp_path: Path, canaries: Path) -> None:
    bait = list(tricks(canaries).values())
    record = {"installed_packages": bait, "metrics": bait, "directories": bait}
    found = f"channel\nstock\npython\nuser\nlibvirt\nrecord={json.dumps(record)}\n"
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": found, PYTHON: "version=3.11\n"})
    run = guest.run_role(role, core=core, variables={f"{role}_state": state, f"{role}_remove_packages": True})
    # A module would return its input, but this guest does not run modules.
    shipped = ("Fail if files were not copied", "Fail if a removal failed")
    assert [task.outcome for task in run.tasks if task.task.rpartition(" : ")[2].startswith(shipped)] == ["failed"]
    assert commands_in(run.output) == []
    assert list(canaries.iterdir()) == []


@every_core
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("stock", "The guest reverted to the stock agent. "),
        ("none", "The guest has no agent now. "),
        ("extendedish", "The switch left no result."),
    ],
)
def test_the_result_of_a_switch_is_shown_as_text(core: str, result: str, message: str, tmp_path: Path) -> None:
    reason = "\x1b]0;owned\a\x9b2J \u202e {{ 6 * 7 }}"
    guest = PrintingGuest(tmp_path, {"systemd-run": "", "waited": "", "result": f"{result} {reason}\n"})
    run = guest.run_role("extended_agent", core=core, tasks_from="switch", variables=switching())
    shown = result_of(run, "Fail if the switch failed")["msg"]
    assert shown.startswith(message)
    assert shown.endswith(visible(reason))
    assert commands_in(run.output) == []


def test_waiting_for_the_switch_works_without_modules(tmp_path: Path) -> None:
    guest = PrintingGuest(tmp_path, {"waited": ""})  # it runs commands but no modules, as without Python
    lost = json.dumps({"extended_agent_waited": {"unreachable": True}})
    settings = {"extended_agent_try": 1, "extended_agent_confirm_timeout": 1}
    run = guest.run_role("extended_agent", "-e", lost, tasks_from="wait", variables=settings)
    assert result_of(run, "Reconnect to the guest")["msg"].startswith("timed out")
    assert run.status == 0, run.output


@pytest.mark.parametrize(
    ("result", "mode", "is_confirmed"),
    [
        ("extended\n", "", True),
        ("extended\n", "--check", False),
        ("stock The play did not reach the guest.\n", "", False),
        (None, "", False),
    ],
)
def test_a_switch_of_an_interrupted_run_is_confirmed_by_the_next_run(
    result: str | None, mode: str, is_confirmed: bool, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    if result is not None:
        (work / "result").write_text(result)
    guest = PrintingGuest(tmp_path, {DESCRIBE: described()})
    runs(guest, f"{work}/confirmed")
    places = {"extended_agent_switch_directory": str(work), "extended_agent_directories": [str(tmp_path / "lib")]}
    run = guest.run_role("extended_agent", "-e", json.dumps(places), *filter(None, [mode]))
    assert result_of(run, "Inspect the guest")["rc"] == 0
    assert (work / "confirmed").exists() is is_confirmed


@pytest.mark.parametrize("init", ["systemd", "sysvinit"])
@pytest.mark.parametrize("is_in_progress", [True, False])
def test_no_switch_is_started_while_another_is_in_progress(
    init: str, is_in_progress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, programs = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    programs.mkdir()
    # Only whether it would be started matters here.
    stub = f'#!/bin/sh\necho "$0 $*" >>{tmp_path}/calls\n'
    texts = {"systemctl": f"#!/bin/sh\nexit {0 if is_in_progress else 3}\n", "sleep": "#!/bin/sh\n"}
    for name, text in {"setsid": stub, "systemd-run": stub, **texts}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    guest = PrintingGuest(tmp_path, {"waited=0; until": "", "result &&": "none\n"})
    runs(guest, f"{work}/switch")
    with subprocess.Popen(["/bin/sh", "-c", "read -r line", "qemu-ga-extended-switch"], stdin=subprocess.PIPE) as other:
        (work / "pid").write_text(f"{other.pid if is_in_progress else os.getpid()}\n")
        places = json.dumps({"extended_agent_switch_directory": str(work)})
        run = guest.run_role("extended_agent", "-e", places, tasks_from="switch", variables=switching(init))
    started = result_of(run, "Start the switch")
    if is_in_progress:
        assert "Another switch is in progress." in result_of(run, "Fail if the switch did not start")["msg"]
        assert (work / "pid").exists()
        assert not (tmp_path / "calls").exists()
    else:
        assert started["rc"] == 0
        until((tmp_path / "calls").exists, run.output)
