# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles on systems of all kinds: what they serve, and the sentence in which they refuse the rest."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.cores import every_core
from tests.support.described_guest import DESCRIBE, LATER, PLAIN, PYTHON, UNCLEAR, described, every_role, result_of
from tests.support.printing_guest import PrintingGuest
from tests.support.until import until

NOT_ANSWERED = "did not answer what the role"
# The role of guests knows one more family, which comes first.
UNKNOWN = "Debian, RedHat and Suse, but not "
REFUSED = {
    "nothing": ("", NOT_ANSWERED),
    "something else": ("Welcome to Guest!\r\nuid\nUID=0\n=\n", NOT_ANSWERED),
    "a user": (described(uid="1000"), "needs root"),
    "a user that is no number": (described(uid="0 0"), "needs root"),
    "another init": (described(init=""), "needs systemd"),
    "no os-release, as on EL 6": ("uid=0\ninit=systemd\npython=full\n", UNKNOWN + "a system without os-release."),
    "FreeBSD": (described(families="freebsd ", version="14", name="FreeBSD"), UNKNOWN + "FreeBSD."),
    "no name": (described(families="", version="", name=""), UNKNOWN + "a system without os-release."),
}


@every_role
@pytest.mark.parametrize("case", REFUSED)
def test_what_a_role_cannot_serve_is_refused_in_a_sentence(role: str, case: str, tmp_path: Path) -> None:
    printed, sentence = REFUSED[case]
    run = PrintingGuest(tmp_path, {DESCRIBE: printed}).run_role(role)
    assert sentence in result_of(run, "Refuse what the role cannot serve")["msg"]
    assert [word for word in UNCLEAR if word in run.output] == []


FOUND_ON_ALPINE = "channel\npython\nwritable=/usr/lib/qemu-ga-extended\n"
SERVED_INITS = {
    ("debian", "systemd"): "",
    ("debian", "openrc"): "",
    ("devuan debian", "sysvinit"): "",
    ("alpine", "openrc"): "",
    ("alpine", "sysvinit"): "needs OpenRC, and this guest runs sysvinit.",
    ("alpine", "systemd"): "needs OpenRC, and this guest runs systemd.",
    ("rhel", "sysvinit"): "needs systemd, and this guest runs sysvinit.",
    ("suse", "openrc"): "needs systemd, and this guest runs OpenRC.",
    ("debian", "runit"): "needs systemd, OpenRC or sysvinit, and this guest runs none of them.",
    ("debian", "openrc|sysvinit"): "needs systemd, OpenRC or sysvinit, and this guest runs none of them.",
}


@pytest.mark.parametrize(("families", "init"), SERVED_INITS)
def test_a_family_is_served_with_the_inits_that_there_are_scripts_for(families: str, init: str, tmp_path: Path) -> None:
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(families=families, init=init)})
    run = guest.run_role("extended_agent", tasks_from="requirements", show="extended_agent_files.values() | list")
    sentence = SERVED_INITS[families, init]
    if sentence:
        assert sentence in result_of(run, "Refuse what the role cannot serve")["msg"]
        return
    files = result_of(run, "Show")["msg"]
    assert ("/etc/init.d/qemu-ga-extended" in files) == (init != "systemd")
    assert ("/etc/systemd/system/qemu-ga-extended.service" in files) == (init == "systemd")


def test_what_apk_does_not_install_is_said_in_a_sentence(tmp_path: Path) -> None:
    alpine = described(families="alpine", init="openrc", name="Alpine Linux")
    # The guest has nothing more that the role asks for. Whatever names the channel is the question how the guest is.
    printed = {DESCRIBE: alpine, "apk add": "ERROR: unable to select packages", "/dev/virtio-ports": FOUND_ON_ALPINE}
    run = PrintingGuest(tmp_path, printed, {"apk add": 1}).run_role("extended_agent")
    asked = result_of(run, "Install the packages with apk")
    assert asked["rc"] == 1
    message = result_of(run, "Fail if apk did not install them")["msg"]
    assert message == "qemu-guest-agent could not be installed: ERROR: unable to select packages"


@every_core
@pytest.mark.parametrize(
    ("printed", "sentence"),
    [
        ("", "/usr/bin/python3 of this host is not there."),
        ("version=\n", "/usr/bin/python3 of this host is not there."),
        ("version=3.6\n", "/usr/bin/python3 of this host is 3.6."),
        ("Illegal instruction\n", "/usr/bin/python3 of this host is not there."),
        ("version=3.11\x1b[2J\n", "/usr/bin/python3 of this host is not there."),
        ("version=3.{{ 6 * 7 }}\n", "/usr/bin/python3 of this host is not there."),
    ],
)
def test_a_python_that_says_nothing_is_refused_in_a_sentence(
    core: str, printed: str, sentence: str, tmp_path: Path
) -> None:
    run = PrintingGuest(tmp_path, {DESCRIBE: described(), PYTHON: printed}).run_role("resync_on_resume", core=core)
    assert result_of(run, "Refuse a Python that is too old")["msg"].endswith(sentence)
    assert [word for word in UNCLEAR if word in run.output] == []


@pytest.mark.parametrize("mode", ["", "--check"])
def test_a_read_only_usr_that_lacks_a_package_is_refused_in_a_sentence(mode: str, tmp_path: Path) -> None:
    found = "channel\npython\nwritable=/var/lib/qemu-ga-extended/lib\n"
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": found})
    run = guest.run_role("extended_agent", *filter(None, [mode]))
    assert "The guest lacks qemu-guest-agent, and its /usr is read-only." in run.output
    assert "Install the packages" not in run.output


@pytest.mark.parametrize(
    ("found", "directory"),
    [
        ("", "/usr/lib/qemu-ga-extended"),
        ("writable={usr}\nwritable={var}\n", "/usr/lib/qemu-ga-extended"),
        ("writable={var}\n", "/var/lib/qemu-ga-extended/lib"),
        ("writable={usr}\nwritable={var}\ndirectory={var}\n", "/var/lib/qemu-ga-extended/lib"),
        ("writable={var}\nmoved={usr}\ndirectory={usr}\n", "/usr/lib/qemu-ga-extended"),
        ("writable={var}\ndirectory={usr}\n", "/var/lib/qemu-ga-extended/lib"),
        ("writable={usr}\ndirectory=/etc\nwritable=/etc\nmoved=/etc\n", "/usr/lib/qemu-ga-extended"),
    ],
)
def test_the_agents_directory_can_be_written_or_is_the_one_in_use(found: str, directory: str, tmp_path: Path) -> None:
    answer = found.format(usr="/usr/lib/qemu-ga-extended", var="/var/lib/qemu-ga-extended/lib")
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": f"channel\npython\nstock\n{answer}"})
    run = guest.run_role("extended_agent")
    (chosen,) = (task for task in run.tasks if ": Choose the directory" in task.task)
    assert chosen.result["ansible_facts"]["extended_agent_chosen_directory"] == directory


@every_core
def test_only_settings_of_the_stock_units_own_life_are_taken_over(core: str, tmp_path: Path) -> None:
    lines = [
        "IgnoreOnIsolate = True",
        "Conflicts=shutdown.target rescue@x\\x2d.target",
        "ExecStart=/bin/sh",
        "Before={{ 6 * 7 }}",
        "Before=$(touch x)",
    ]
    found = "".join(f"life {line}\n" for line in lines)
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "systemctl": f"channel\npython\nstock\n{found}"})
    run = guest.run_role("extended_agent", core=core)
    (taken,) = (task for task in run.tasks if task.task.endswith(": Take that over"))
    assert taken.result["ansible_facts"]["extended_agent_stock_life"] == [
        "IgnoreOnIsolate=True",
        "Conflicts=shutdown.target rescue@x\\x2d.target",
    ]


def test_a_setting_of_several_lines_is_taken_over_whole(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    unit = "[Unit]\nConflicts=a.service \\\n    b.service\\\n c.service\nIgnoreOnIsolate=True\n"
    (programs / "systemctl").write_text(f"#!/bin/sh\ncat <<'END'\n{unit}END\n")
    (programs / "systemctl").chmod(0o755)
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), "LoadState": "channel\npython\nstock\n"})
    case = f'*"systemctl cat"*) PATH={programs}:$PATH exec /bin/sh -c "$2" ;;\n'
    guest.shell.write_text(guest.shell.read_text().replace("true) exit 0", f"{case}true) exit 0"))
    taken = result_of(guest.run_role("extended_agent"), "Take that over")["ansible_facts"]["extended_agent_stock_life"]
    conflicts, isolation = taken
    assert conflicts.split() == ["Conflicts=a.service", "b.service", "c.service"]
    assert isolation == "IgnoreOnIsolate=True"


SYSTEMS = {
    "Debian 12": (described(families="debian ", version="12"), PLAIN, PLAIN),
    "Devuan 5": (described(families="devuan debian", version="5"), PLAIN, PLAIN),
    "Ubuntu 24.04": (described(families="ubuntu debian", version="24"), PLAIN, PLAIN),
    "RHEL 8": (described(families="rhel fedora", version="8"), LATER, PLAIN),
    "Rocky Linux 9": (described(families="rocky rhel centos fedora", version="9"), PLAIN, PLAIN),
    "SLES 15": (described(families="sles suse", version="15"), LATER, LATER),
    "Tumbleweed": (described(families="opensuse-tumbleweed opensuse suse", version="20261130"), PLAIN, PLAIN),
    "a rolling release without version": (described(families="debian ", version=""), PLAIN, PLAIN),
}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("role", "place"), [("extended_agent", 1), ("resync_on_resume", 2)])
def test_a_familys_names_are_those_of_its_release(role: str, place: int, system: str, tmp_path: Path) -> None:
    guest = PrintingGuest(tmp_path, {DESCRIBE: SYSTEMS[system][0], PYTHON: "version=3.11\n"})
    run = guest.run_role(role, tasks_from="requirements", show=f"{role}_python")
    assert result_of(run, "Show")["msg"] == SYSTEMS[system][place], run.output
    assert json.dumps(result_of(run, "Learn the family's names")["ansible_included_var_files"]).count(".yml") == 1


# -------------------------------------------------------------------------------------------------------- the switch


def test_the_verdict_is_waited_for_on_where_a_module_cannot_run(tmp_path: Path) -> None:
    guest = PrintingGuest(tmp_path, {"waited": ""})  # it runs commands, and no modules: it has no Python
    lost = json.dumps({"extended_agent_waited": {"unreachable": True}})
    settings = {"extended_agent_try": 1, "extended_agent_confirm_timeout": 1}
    run = guest.run_role("extended_agent", "-e", lost, tasks_from="verdict", variables=settings)
    assert result_of(run, "Reach the guest again")["msg"].startswith("timed out")
    assert run.status == 0, run.output


@pytest.mark.parametrize(
    ("verdict", "mode", "is_confirmed"),
    [
        ("extended\n", "", True),
        ("extended\n", "--check", False),
        ("stock Nobody reached the guest.\n", "", False),
        (None, "", False),
    ],
)
def test_a_switch_of_an_interrupted_run_is_confirmed_by_the_next_run(
    verdict: str | None, mode: str, is_confirmed: bool, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    if verdict is not None:
        (work / "verdict").write_text(verdict)
    guest = PrintingGuest(tmp_path, {DESCRIBE: described()})
    # What names this file is really run, here.
    case = f'*{work}/confirmed*) exec /bin/sh -c "$2" ;;\n'
    guest.shell.write_text(guest.shell.read_text().replace("true) exit 0", f"{case}true) exit 0"))
    places = {"extended_agent_switch_directory": str(work), "extended_agent_directories": [str(tmp_path / "lib")]}
    run = guest.run_role("extended_agent", "-e", json.dumps(places), *filter(None, [mode]))
    assert result_of(run, "Ask how the guest is")["rc"] == 0
    assert (work / "confirmed").exists() is is_confirmed


@pytest.mark.parametrize("init", ["systemd", "sysvinit"])
@pytest.mark.parametrize("is_under_way", [True, False])
def test_a_switch_is_not_started_beside_another(init: str, is_under_way: bool, tmp_path: Path) -> None:
    work, programs = tmp_path / "work", tmp_path / "bin"
    work.mkdir()
    programs.mkdir()
    # It is not the program that would be started that matters here, but whether.
    stub = f'#!/bin/sh\necho "$0 $*" >>{tmp_path}/calls\n'
    texts = {"systemctl": f"#!/bin/sh\nexit {0 if is_under_way else 3}\n", "sleep": "#!/bin/sh\n"}
    for name, text in {"setsid": stub, "systemd-run": stub, **texts}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    guest = PrintingGuest(tmp_path, {"waited=0; until": "", "verdict &&": "none\n"})
    case = f'*{work}/switch*) PATH={programs}:$PATH exec /bin/sh -c "$2" ;;\n'
    guest.shell.write_text(guest.shell.read_text().replace("true) exit 0", f"{case}true) exit 0"))
    with subprocess.Popen(["/bin/sh", "-c", "read -r line", "qemu-ga-extended-switch"], stdin=subprocess.PIPE) as other:
        (work / "pid").write_text(f"{other.pid if is_under_way else os.getpid()}\n")
        settings = {
            "extended_agent_is_check": False,
            "extended_agent_guest": {"init": init},
            "extended_agent_wanted": "extended",
            "extended_agent_stock_unit": "qemu-guest-agent.service",
            "extended_agent_python": PLAIN,
        }
        places = json.dumps({"extended_agent_switch_directory": str(work)})
        run = guest.run_role("extended_agent", "-e", places, tasks_from="switch", variables=settings)
    started = result_of(run, "Start the switch, apart from everything that it stops")
    if is_under_way:
        assert "Another switch is under way." in result_of(run, "Fail if it did not start")["msg"]
        assert (work / "pid").exists()
        assert not (tmp_path / "calls").exists()
    else:
        assert started["rc"] == 0
        until((tmp_path / "calls").exists, run.output)
