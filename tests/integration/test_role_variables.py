"""The roles' variables as strings, as ``-e name=value`` sets them whatever their type, and as values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.session import NEEDED

from tests.processes.ansible_run import every_core
from tests.processes.printing_guest import PrintingGuest
from tests.support import extended_agent, resync_service
from tests.support.collection import ROOT
from tests.support.role_run import DESCRIBE, PYTHON, described

ANSWERS = {DESCRIBE: described(), PYTHON: "version=3.11\n"}
LISTS = ("extended_agent_block_rpcs", "extended_agent_allow_rpcs")
ROLE_VARIABLES = yaml.safe_load((ROOT / "roles/extended_agent/vars/main.yml").read_text())


def given(role: str, **values: Any) -> tuple[str, str]:
    """Return the arguments that set the role's variables to these values."""
    return "-e", json.dumps({f"{role}_{name}": value for name, value in values.items()})


def rendered(role: str, core: str | None, directory: Path, *templates: str, **values: Any) -> list[str]:
    """Return the role's templates as it renders them."""
    paths = [ROOT / "roles" / role / "templates" / name for name in templates]
    show = ", ".join(f"lookup('ansible.builtin.template', '{path}')" for path in paths)
    # Otherwise, a task determines the capabilities.
    arguments = given(role, needed_capabilities="", **values)
    guest = PrintingGuest(directory, ANSWERS)
    run = guest.run_role(role, *arguments, core=core, tasks_from="requirements", show=f"{{'texts': [{show}]}}")
    assert run.status == 0, run.output
    texts: list[str] = run.result("Show")["msg"]["texts"]
    return texts


# --------------------------------------------------------------------------------------------------- the extended agent

BLOCKED = {"guest-exec", "guest-set-time"}


@every_core
@pytest.mark.parametrize(
    ("block", "allow", "verbose", "expected"),
    [
        ("guest-exec,guest-set-time", "guest-ping, guest-info", "y", (BLOCKED, {"guest-ping", "guest-info"}, True)),
        ("guest-exec", "guest-ping", "off", ({"guest-exec"}, {"guest-ping"}, False)),
        ("", "", "0", (set(), None, False)),
        ("guest-exec,,guest-set-time,", ",", "no", (BLOCKED, set(), False)),
        (["guest-exec", "guest-set-time"], [""], True, (BLOCKED, set(), True)),
        (None, [], "false", (set(), None, False)),
    ],
    ids=["strings", "one name each", "empty strings", "empty names", "lists", "none"],
)
def test_the_agent_reads_the_given_values(
    core: str, block: Any, allow: Any, verbose: Any, expected: tuple[Any, ...], tmp_path: Path
) -> None:
    values = {"block_rpcs": block, "allow_rpcs": allow, "verbose": verbose}
    (text,) = rendered("extended_agent", core, tmp_path, "qemu-ga-extended.conf.j2", **values)
    (tmp_path / "conf").write_text(text, encoding="utf-8")
    options = extended_agent.module("options").read(["-c", str(tmp_path / "conf")], {})[0]
    assert (options.block_rpcs, options.allow_rpcs, options.verbose) == expected


@pytest.mark.parametrize(("value", "line"), [("45", "confirm_seconds=45"), (" 600 ", "confirm_seconds=600")])
def test_the_switch_waits_for_the_given_time(value: str, line: str, tmp_path: Path) -> None:
    (script,) = rendered("extended_agent", None, tmp_path, "switch.j2", confirm_timeout=value)
    assert line in script.splitlines()


@every_core
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ('"g,guest-exec,x"', "g, x"),
        ('["guest-exec;guest-ping", "guest-info"]', "guest-exec;guest-ping"),
        ('"[guest-exec]"', "[guest-exec]"),
    ],
)
def test_a_name_that_cannot_be_a_command_is_refused_before_anything_changes(
    core: str, name: str, value: str, wrong: str, tmp_path: Path
) -> None:
    run = PrintingGuest(tmp_path, ANSWERS).run_role("extended_agent", "-e", f'{{"{name}": {value}}}', core=core)
    (failed,) = (task for task in run.tasks if task.outcome == "failed")
    assert failed.task.endswith(": Validate the guest and the variables")
    assert failed.result["msg"] == (
        "extended_agent_block_rpcs and extended_agent_allow_rpcs expect command names, such as guest-exec, "
        f"not {wrong}."
    )


@pytest.mark.parametrize(
    ("block", "allow", "refused"),
    [
        ("guest-file-seek,guest-exec", "", "guest-exec, guest-file-seek"),
        ("", "guest-ping,guest-exec,guest-exec-status", "guest-file-open, guest-file-close, "),
        ("guest-info", ",".join(NEEDED), ""),
    ],
)
def test_lists_that_would_disconnect_the_play_are_refused_before_anything_changes(
    block: str, allow: str, refused: str, tmp_path: Path
) -> None:
    assert tuple(ROLE_VARIABLES["extended_agent_connection_needs"]) == NEEDED
    guest = PrintingGuest(tmp_path, ANSWERS)
    for connection, is_refused in (("ssh", False), ("qemu.guest_agent.qga", bool(refused))):
        # This guest has another connection, but the role reads only this variable.
        values = given("extended_agent", block_rpcs=block, allow_rpcs=allow, connection=connection)
        run = guest.run_role("extended_agent", *values)
        assert ("and could not reconnect" in run.output) is is_refused, run.output
        assert not is_refused or refused in run.output


def test_the_agent_can_be_removed_despite_a_wrong_list(tmp_path: Path) -> None:
    values = given("extended_agent", state="absent", block_rpcs="g,u")
    run = PrintingGuest(tmp_path, ANSWERS).run_role("extended_agent", *values)
    assert "expect command names" not in run.output
    assert any(task.task.endswith(": Inspect the guest") for task in run.tasks)


@every_core
@pytest.mark.parametrize(
    ("value", "removes"),
    [*((text, False) for text in ("false", "no", "0", "n", "False")), *((text, True) for text in ("true", "yes", "y"))],
)
def test_packages_are_removed_only_on_request(core: str, value: str, removes: bool, tmp_path: Path) -> None:
    record = json.dumps({"installed_packages": ["qemu-guest-agent"]})
    found = f"path=/etc/qemu-ga-extended.conf\nuser\nkept\nrecord={record}\n"
    guest = PrintingGuest(tmp_path, {**ANSWERS, "record=": found, "removed": "removed it\n"})
    values = given("extended_agent", state="absent", remove_packages=value)
    run = guest.run_role("extended_agent", "--check", *values, core=core)
    done = [task.task.rpartition(" : ")[2] for task in run.tasks]
    assert "Remove the agent's files" in done, run.output
    assert ("Remove the packages that the role installed" in done) is removes


# ----------------------------------------------------------------------------------------------------- resync on resume

HERE = ("qemu:///system", "lxc:///system")
THERE = ("qemu:///system", "qemu+tls://other.example/system")
NUMBERS = {"agent_patience": "7.5", "tolerance": "1e-3", "attempts": "4", "samples": "5", "timeout": "0.5"}


@every_core
@pytest.mark.parametrize(
    ("given_uris", "given_flag", "uris", "flag"),
    [
        (",".join(HERE), "y", HERE, True),
        ("qemu:///system, lxc:///system ", "No", HERE, False),
        (",".join(THERE), "T", THERE, True),
        (" ".join(THERE), "0", THERE, False),
        ("qemu:///system", "on", HERE[:1], True),
        (THERE, False, THERE, False),
    ],
    ids=["strings", "with blanks", "elsewhere", "two in one", "one", "a list"],
)
def test_the_service_reads_the_given_values(
    core: str, given_uris: Any, given_flag: Any, uris: tuple[str, ...], flag: bool, tmp_path: Path
) -> None:
    values = {**NUMBERS, "uris": given_uris, "look_at_start": given_flag, "require_synchronized_host": given_flag}
    templates = ("qga-resync-on-resume.conf.j2", "qga-resync-on-resume.service.j2")
    conf, unit = rendered("resync_on_resume", core, tmp_path, *templates, **values)
    (tmp_path / "conf").write_text(conf, encoding="utf-8")
    config = resync_service.module("config").read(str(tmp_path / "conf"))
    assert config.uris == uris
    assert (config.look_at_start, config.resync["require_synchronized_host"]) == (flag, flag)
    assert (config.agent_patience, config.timeout, config.resync["tolerance"]) == (7.5, 0.5, 0.001)
    assert (config.resync["attempts"], config.resync["samples"]) == (4, 5)
    # The sandbox is as tight as these hypervisors allow.
    assert ("PrivateNetwork=yes" in unit.splitlines()) is (uris != THERE)
    assert f"TasksMax={32 + 32 * len(uris)}" in unit.splitlines()
