"""The variables of the roles as ``-e name=value`` gives them: always as a text, whatever their kind."""

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

DEBIAN = "uid=0\ninit=systemd\nfamilies=debian\nversion=12\nname=Debian\npython=full\n"
ANSWERS = {"os-release": DEBIAN, "sys.version_info": "version=3.11\n"}
LISTS = ("extended_agent_block_rpcs", "extended_agent_allow_rpcs")
ROLE_VARIABLES = yaml.safe_load((ROOT / "roles/extended_agent/vars/main.yml").read_text())


def given(values: dict[str, str] | str) -> list[str]:
    """Return the arguments that give these texts, or this JSON."""
    texts = [values] if isinstance(values, str) else [f"{name}='{value}'" for name, value in values.items()]
    return [word for text in texts for word in ("-e", text)]


def rendered(role: str, values: dict[str, str] | str, directory: Path, core: str, *templates: str) -> list[str]:
    """Return what the role makes of its templates."""
    paths = [ROOT / "roles" / role / "templates" / name for name in templates]
    show = ", ".join(f"lookup('ansible.builtin.template', '{path}')" for path in paths)
    guest = PrintingGuest(directory, ANSWERS)
    arguments = [*given(values), *given({f"{role}_needed_capabilities": ""})]  # which a task finds out
    run = guest.run_role(role, *arguments, core=core, tasks_from="requirements", show=f"{{'texts': [{show}]}}")
    assert run.status == 0, run.output
    texts: list[str] = run.result("Show")["msg"]["texts"]
    return texts


# --------------------------------------------------------------------------------------------------- the extended agent

BLOCKED = {"guest-exec", "guest-set-time"}
AGENTS: dict[str, tuple[dict[str, str] | str, dict[str, Any]]] = {
    "texts": (
        {
            "extended_agent_block_rpcs": "guest-exec,guest-set-time",
            "extended_agent_allow_rpcs": "guest-ping, guest-info",
            "extended_agent_verbose": "y",
        },
        {"block_rpcs": BLOCKED, "allow_rpcs": {"guest-ping", "guest-info"}, "verbose": True},
    ),
    "one name each": (
        {
            "extended_agent_block_rpcs": "guest-exec",
            "extended_agent_allow_rpcs": "guest-ping",
            "extended_agent_verbose": "off",
        },
        {"block_rpcs": {"guest-exec"}, "allow_rpcs": {"guest-ping"}, "verbose": False},
    ),
    "empty texts": (
        {"extended_agent_block_rpcs": "", "extended_agent_allow_rpcs": "", "extended_agent_verbose": "0"},
        {"block_rpcs": set(), "allow_rpcs": None, "verbose": False},
    ),
    "empty names": (
        {"extended_agent_block_rpcs": "guest-exec,,guest-set-time,", "extended_agent_allow_rpcs": ","},
        {"block_rpcs": BLOCKED, "allow_rpcs": set()},
    ),
    "lists": (
        (
            '{"extended_agent_block_rpcs": ["guest-exec", "guest-set-time"], "extended_agent_allow_rpcs": [""],'
            ' "extended_agent_verbose": true}'
        ),
        {"block_rpcs": BLOCKED, "allow_rpcs": set(), "verbose": True},
    ),
    "none": (
        '{"extended_agent_block_rpcs": null, "extended_agent_allow_rpcs": [], "extended_agent_verbose": "false"}',
        {"block_rpcs": set(), "allow_rpcs": None, "verbose": False},
    ),
}


@every_core
@pytest.mark.parametrize("case", AGENTS)
def test_the_agent_reads_what_was_given(core: str, case: str, tmp_path: Path) -> None:
    values, meant = AGENTS[case]
    configuration = tmp_path / "conf"
    (text,) = rendered("extended_agent", values, tmp_path, core, "qemu-ga-extended.conf.j2")
    configuration.write_text(text, encoding="utf-8")
    options = extended_agent.module("options").read(["-c", str(configuration)], {}).options
    assert {name: getattr(options, name) for name in meant} == meant


@pytest.mark.parametrize(("value", "line"), [("45", "confirm_seconds=45"), (" 600 ", "confirm_seconds=600")])
def test_the_switch_waits_as_long_as_was_given(value: str, line: str, tmp_path: Path) -> None:
    values = {"extended_agent_confirm_timeout": value}
    (script,) = rendered("extended_agent", values, tmp_path, "2.19", "switch.j2")
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
def test_what_can_name_no_command_is_refused_before_anything_changes(
    core: str, name: str, value: str, wrong: str, tmp_path: Path
) -> None:
    run = PrintingGuest(tmp_path, ANSWERS).run_role("extended_agent", "-e", f'{{"{name}": {value}}}', core=core)
    (failed,) = (task for task in run.tasks if task.outcome == "failed")
    assert failed.task.endswith(": Validate the guest and the variables")
    assert failed.result["msg"] == (
        "extended_agent_block_rpcs and extended_agent_allow_rpcs expect names of commands, such as guest-exec, "
        f"and not {wrong}."
    )


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"extended_agent_block_rpcs": "guest-file-seek,guest-exec"}, "guest-exec, guest-file-seek"),
        (
            {"extended_agent_allow_rpcs": "guest-ping,guest-exec,guest-exec-status"},
            "guest-file-open, guest-file-close, ",
        ),
        ({"extended_agent_block_rpcs": "guest-info", "extended_agent_allow_rpcs": ",".join(NEEDED)}, ""),
    ],
)
def test_lists_that_would_cut_the_play_off_are_refused_before_anything_changes(
    values: dict[str, str], refused: str, tmp_path: Path
) -> None:
    assert tuple(ROLE_VARIABLES["extended_agent_connection_needs"]) == NEEDED
    guest = PrintingGuest(tmp_path, ANSWERS)
    for connection, is_refused in (("ssh", False), ("qemu.guest_agent.qga", bool(refused))):
        # This guest is reached in another way, but the role knows no more than this of the connection.
        run = guest.run_role("extended_agent", *given({**values, "extended_agent_connection": connection}))
        assert ("could not come back to it" in run.output) is is_refused, run.output
        assert not is_refused or refused in run.output


def test_a_wrong_list_keeps_nobody_from_removing_the_agent(tmp_path: Path) -> None:
    values = {"extended_agent_state": "absent", "extended_agent_block_rpcs": "g,u"}
    run = PrintingGuest(tmp_path, ANSWERS).run_role("extended_agent", *given(values))
    assert "expect names of commands" not in run.output
    assert any(task.task.endswith(": Inspect the guest") for task in run.tasks)


@every_core
@pytest.mark.parametrize(
    ("value", "removes"),
    [
        *(("false", False), ("no", False), ("0", False), ("n", False), ("False", False)),
        *(("true", True), ("yes", True), ("y", True)),
    ],
)
def test_packages_are_removed_only_where_that_was_asked_for(
    core: str, value: str, removes: bool, tmp_path: Path
) -> None:
    record = json.dumps({"installed_packages": ["qemu-guest-agent"]})
    found = f"path=/etc/qemu-ga-extended.conf\nuser\nkept\nrecord={record}\n"
    guest = PrintingGuest(tmp_path, {**ANSWERS, "record=": found, "removed": "removed it\n"})
    values = {"extended_agent_state": "absent", "extended_agent_remove_packages": value}
    run = guest.run_role("extended_agent", "--check", *given(values), core=core)
    done = [task.task.rpartition(" : ")[2] for task in run.tasks]
    assert "Remove the agent's files" in done, run.output
    assert ("Remove the packages that the role had to install" in done) is removes


# ----------------------------------------------------------------------------------------------------- resync on resume

HERE = ("qemu:///system", "lxc:///system")
THERE = ("qemu:///system", "qemu+tls://other.example/system")
FLAGS = ("look_at_start", "require_synchronized_host")
SERVICES: dict[str, tuple[dict[str, str] | str, tuple[str, ...], bool]] = {
    "texts": ({"uris": "qemu:///system,lxc:///system", **dict.fromkeys(FLAGS, "y")}, HERE, True),
    "with blanks": ({"uris": "qemu:///system, lxc:///system ", **dict.fromkeys(FLAGS, "No")}, HERE, False),
    "elsewhere": ({"uris": "qemu:///system,qemu+tls://other.example/system", **dict.fromkeys(FLAGS, "T")}, THERE, True),
    "two in one": ({"uris": " ".join(THERE), **dict.fromkeys(FLAGS, "0")}, THERE, False),
    "one": ({"uris": "qemu:///system", **dict.fromkeys(FLAGS, "on")}, HERE[:1], True),
    "lists": (
        (
            '{"resync_on_resume_uris": ["qemu:///system", "qemu+tls://other.example/system"],'
            ' "resync_on_resume_look_at_start": false, "resync_on_resume_backward": "slew",'
            ' "resync_on_resume_require_synchronized_host": 0}'
        ),
        THERE,
        False,
    ),
}
NUMBERS = {"agent_patience": "7.5", "tolerance": "1e-3", "attempts": "4", "samples": "5", "timeout": "0.5"}


@every_core
@pytest.mark.parametrize("case", SERVICES)
def test_the_service_reads_what_was_given(core: str, case: str, tmp_path: Path) -> None:
    texts, uris, flag = SERVICES[case]
    if not isinstance(texts, str):
        texts = {f"resync_on_resume_{name}": value for name, value in {**NUMBERS, **texts}.items()}
    templates = ("qga-resync-on-resume.conf.j2", "qga-resync-on-resume.service.j2")
    conf, unit = rendered("resync_on_resume", texts, tmp_path, core, *templates)
    (tmp_path / "conf").write_text(conf, encoding="utf-8")
    config = resync_service.module("config").read(str(tmp_path / "conf"))
    assert config.uris == uris
    assert {config.look_at_start, *(config.resync[name] for name in FLAGS[1:])} == {flag}
    if not isinstance(texts, str):
        assert (config.agent_patience, config.timeout, config.resync["tolerance"]) == (7.5, 0.5, 0.001)
        assert (config.resync["attempts"], config.resync["samples"]) == (4, 5)
    # The sandbox is as tight as these hypervisors allow.
    assert ("PrivateNetwork=yes" in unit.splitlines()) is (uris != THERE)
    assert f"TasksMax={32 + 32 * len(uris)}" in unit.splitlines()
