"""The connection plugin into a real guest, which has no network card."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import libvirt
import pytest
import yaml

from tests.processes.ansible_run import CONNECTION, PlaybookRun, run_playbook
from tests.processes.core_targets import run_connection_target
from tests.support.tiers import quick
from tests.support.until import meanwhile, until
from tests.vm.deployment import ROLE
from tests.vm.guest import BOOT_DEADLINE_S, Guest
from tests.vm.session import restored_guest

PYTHON = "/usr/bin/python3"
PASSWORD = "it's \\ s\u00fc$t"  # noqa: S105  # nobody's
PATIENCE_S = 60.0


Run = Callable[..., PlaybookRun]


def runner_for(guest: Guest, tmp_path: Path) -> Run:
    """What runs tasks in the guest."""

    def run_tasks(tasks: Sequence[Mapping[str, Any]], **variables: Any) -> PlaybookRun:
        play = {"hosts": guest.name, "gather_facts": False, "tasks": list(tasks)}
        playbook = tmp_path / "play.yml"
        playbook.write_text(yaml.safe_dump([play], allow_unicode=True))
        given = {"ansible_connection": CONNECTION, "ansible_python_interpreter": PYTHON, **variables}
        return run_playbook(playbook, "-i", f"{guest.name},", "-e", json.dumps(given))

    return run_tasks


@pytest.fixture
def run(guest: Guest, tmp_path: Path) -> Run:
    return runner_for(guest, tmp_path)


def failure(done: PlaybookRun) -> tuple[str, str]:
    """How the only task failed, and what was said."""
    (record,) = done.tasks
    return record.outcome, re.sub(r"\s+", " ", record.result["msg"])


def raw(command: str) -> list[dict[str, Any]]:
    return [{"name": "raw", "ansible.builtin.raw": command}]


def is_there(guest: Guest, path: str) -> bool:
    return guest.sh(f"test ! -e {path} || echo there") != ""


# ------------------------------------------------------------------------------------------------------ what must work


# More than one request holds, or as large as a package.
@pytest.mark.parametrize("megabytes", quick([1, 10], [1]))
def test_tasks_of_all_kinds(guest: Guest, run: Run, tmp_path: Path, megabytes: int) -> None:
    (tmp_path / "script").write_text('#!/bin/sh\necho "script: $1"\n')
    (tmp_path / "empty").touch()
    content = bytes(range(256)) * (megabytes * 4096)
    (tmp_path / "big").write_bytes(content)
    there = "/root/with space \u4f60"
    done = run(
        [
            {"name": "ping", "ansible.builtin.ping": {}},
            {"name": "setup", "ansible.builtin.setup": {}},
            {
                "name": "raw",
                "ansible.builtin.raw": "echo \u6c49\u8bed; echo oops >&2; echo $HOME; exit 3",
                "failed_when": False,
            },
            {"name": "signal", "ansible.builtin.raw": "kill -9 $$", "failed_when": False},
            {"name": "script", "ansible.builtin.script": f"{tmp_path}/script 'an argument'"},
            {"name": "make a directory", "ansible.builtin.file": {"path": there, "state": "directory"}},
            {"name": "copy nothing", "ansible.builtin.copy": {"src": f"{tmp_path}/empty", "dest": f"{there}/empty"}},
            {"name": "copy much", "ansible.builtin.copy": {"src": f"{tmp_path}/big", "dest": f"{there}/big"}},
            {"name": "copy again", "ansible.builtin.copy": {"src": f"{tmp_path}/big", "dest": f"{there}/big"}},
            {
                "name": "fetch",
                "ansible.builtin.fetch": {"src": f"{there}/big", "dest": f"{tmp_path}/back", "flat": True},
            },
            {"name": "async", "ansible.builtin.command": "sh -c 'sleep 2; echo done'", "async": 120, "poll": 1},
            {"name": "wait", "ansible.builtin.wait_for_connection": {"timeout": 60}},
        ]
    )
    assert done.status == 0, done.output
    facts = done.result("setup")["ansible_facts"]
    assert facts["ansible_os_family"] == "Debian"
    assert "ansible_default_ipv4" not in facts or not facts["ansible_default_ipv4"]
    assert done.result("raw")["stdout"] == "\u6c49\u8bed\n/root\n"
    assert done.result("signal")["rc"] == 128 + 9
    assert done.result("script")["stdout"] == "script: an argument\n"
    assert done.result("async")["stdout"] == "done"
    assert [done.result(name)["changed"] for name in ("copy much", "copy again")] == [True, False]
    assert (tmp_path / "back").read_bytes() == content
    assert guest.sh("cd /dev/shm && stat -c '%n %a %U' qga-*") == "qga-code-0 700 root\n"
    assert int(guest.sh("ls /dev/shm/qga-code-0 | wc -l")) > 20


def test_a_guest_by_its_uuid(guest: Guest, run: Run) -> None:
    uuid = libvirt.open(guest.uri).lookupByName(guest.name).UUIDString()
    assert run(raw("hostname"), ansible_qga_domain=uuid, ansible_host="10.0.0.1").status == 0


def test_becoming_root_from_another_user_with_a_password(guest: Guest, run: Run) -> None:
    guest.sh("id tester >/dev/null 2>&1 || useradd --create-home tester")
    by_su = {
        "ansible_become": True,
        "ansible_become_method": "ansible.builtin.su",
        # su asks nothing of root, whom the agent runs as.
        "ansible_become_exe": "runuser -u tester -- su",
        "ansible_become_password": PASSWORD,
    }
    set_password = {
        "name": "password",
        "ansible.builtin.command": {"cmd": "chpasswd", "stdin": f"root:{PASSWORD}"},
        "no_log": True,
    }
    tasks = [
        set_password,
        {"name": "who", "ansible.builtin.command": "id -un", "vars": by_su},
        {"name": "by a file", "ansible.builtin.command": "id -un", "vars": {**by_su, "ansible_pipelining": False}},
        {
            "name": "wrong",
            "ansible.builtin.raw": "id -un",
            "vars": {**by_su, "ansible_become_password": "no"},
            "ignore_errors": True,
        },
        {
            "name": "down",
            "ansible.builtin.command": "id -un",
            "become": True,
            "become_user": "tester",
            "become_method": "su",
        },
    ]
    # su is one more program to start, which takes an emulated guest on a busy machine longer than usual patience.
    done = run(tasks, ansible_qga_become_success_timeout=60)
    assert done.status == 0, done.output
    assert done.result("who")["stdout"] == "root"
    assert done.result("by a file")["stdout"] == "root"
    assert "[become_failed]" in done.result("wrong")["msg"]
    assert done.result("down")["stdout"] == "tester"


@pytest.mark.thorough
def test_ansibles_own_test_of_connection_plugins(guest: Guest, tmp_path: Path) -> None:
    variables = {
        "ansible_connection": CONNECTION,
        "ansible_qga_domain": guest.name,
        "ansible_python_interpreter": PYTHON,
    }
    hosts = {f"guest-{value}": {**variables, "ansible_pipelining": value} for value in ("true", "false")}
    assert run_connection_target(hosts, tmp_path / "local", "/tmp/ansible-remote")  # noqa: S108  # the guest's


def test_a_reboot(connection: libvirt.virConnect, tmp_path: Path) -> None:
    reboot = {"reboot_timeout": int(BOOT_DEADLINE_S), "reboot_command": "systemctl reboot"}
    with restored_guest(connection, "qga-rebooted") as guest:
        before = guest.sh("cat /proc/sys/kernel/random/boot_id")
        done = runner_for(guest, tmp_path)([{"name": "reboot", "ansible.builtin.reboot": reboot}, *raw("true")])
        assert done.status == 0, f"{done.output}\nThe end of its console:\n{guest.console.tail()}"
        assert guest.sh("cat /proc/sys/kernel/random/boot_id") != before


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_an_agent_that_is_away_and_comes_back(guest: Guest, run: Run) -> None:
    wait = [{"name": "wait", "ansible.builtin.wait_for_connection": {"timeout": 120}}]
    with contextlib.ExitStack() as away:
        away.enter_context(guest.agent_away())
        outcome, said = failure(run([{"name": "ping", "ansible.builtin.ping": {}}]))
        assert outcome == "unreachable"
        assert "[not_connected]" in said
        with meanwhile(lambda: run(wait)) as done:
            away.close()
    assert done[0].status == 0


@pytest.mark.thorough
def test_a_guest_that_is_paused_in_the_middle_of_a_command(guest: Guest, run: Run) -> None:
    with meanwhile(lambda: run(raw("touch /tmp/begun; sleep 3; rm /tmp/begun; echo done"))) as done:
        until(lambda: is_there(guest, "/tmp/begun"), "the command was not begun", PATIENCE_S)  # noqa: S108  # the guest's
        guest.suspend()
        time.sleep(2)
        guest.resume()
    assert done[0].result("raw")["stdout"] == "done\n"


@pytest.mark.thorough
def test_a_guest_that_is_restored_in_the_middle_of_a_command(guest: Guest, run: Run) -> None:
    guest.snapshot("before")
    try:
        with meanwhile(lambda: run(raw("touch /tmp/begun; sleep 1000"))) as done:
            until(lambda: is_there(guest, "/tmp/begun"), "the command was not begun", PATIENCE_S)  # noqa: S108  # the guest's
            guest.revert("before")
        outcome, said = failure(done[0])
        assert outcome == "unreachable"
        assert "it was started anew or restored meanwhile [result_lost]" in said
    finally:
        guest.delete_snapshot("before")
    assert run(raw("true")).status == 0


def test_a_guest_whose_file_systems_are_frozen(guest: Guest, run: Run) -> None:
    guest.ask("guest-fsfreeze-freeze")
    try:
        outcome, said = failure(run(raw("true")))
    finally:
        guest.ask("guest-fsfreeze-thaw")
    assert outcome == "unreachable"
    assert "[frozen]" in said


@pytest.mark.thorough
def test_a_guest_that_is_frozen_for_a_moment_in_the_middle_of_a_command(guest: Guest, run: Run) -> None:
    with meanwhile(lambda: run(raw("touch /run/begun; sleep 3; rm /run/begun; echo done"))) as done:
        until(lambda: is_there(guest, "/run/begun"), "the command was not begun", PATIENCE_S)
        guest.ask("guest-fsfreeze-freeze")
        time.sleep(5)
        guest.ask("guest-fsfreeze-thaw")
    assert done[0].result("raw")["stdout"] == "done\n"


@pytest.mark.thorough
def test_a_full_disk(guest: Guest, run: Run, tmp_path: Path) -> None:
    guest.sh("mkdir -p /mnt/small && mount -t tmpfs -o size=1m tmpfs /mnt/small")
    try:
        (tmp_path / "big").write_bytes(b"x" * 5_000_000)
        copy = {"src": f"{tmp_path}/big", "dest": "/root/none"}
        outcome, said = failure(run([{"name": "copy", "ansible.builtin.copy": copy}], ansible_remote_tmp="/mnt/small"))
        assert outcome == "failed"
        assert "No space left on device" in said
        much = raw("head -c 5000000 /dev/zero")
        outcome, said = failure(run(much, ansible_qga_guest_directories=["/mnt/small"]))
        assert outcome == "failed"
        assert "[output_lost]" in said
    finally:
        guest.sh("umount /mnt/small")


@pytest.mark.thorough
def test_a_command_that_never_ends_and_one_that_writes_too_much(guest: Guest, run: Run) -> None:
    outcome, said = failure(run(raw("echo $$ >/tmp/pid; exec sleep 1000"), ansible_qga_exec_timeout=3))
    assert outcome == "failed"
    assert "[exec_timeout]" in said
    until(lambda: guest.sh("kill -0 $(cat /tmp/pid) 2>/dev/null || echo gone") == "gone\n", "it lives on", PATIENCE_S)
    outcome, said = failure(run(raw("head -c 100000000 /dev/zero")))
    assert outcome == "failed"
    assert "[output_too_long]" in said
    assert run(raw("true")).status == 0


# ------------------------------------------------------------------------------------------------------------- the role


@pytest.mark.thorough
def test_the_role_switches_the_agent_under_its_own_feet(connection: libvirt.virConnect, tmp_path: Path) -> None:
    tasks = [{"name": "Deploy", "ansible.builtin.include_role": {"name": ROLE}}, *raw("echo done")]
    with restored_guest(connection, "qga-switched") as guest:
        run = runner_for(guest, tmp_path)
        done = run(tasks)
        assert done.status == 0, done.output
        assert guest.ask("guest-info")["extended-version"]
        again = run(tasks)
        assert again.status == 0, again.output
