"""The connection plugin to a real guest without a network card."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.processes.ansible_run import PlaybookRun, run_tasks_in_guest
from tests.support.tiers import quick
from tests.support.until import meanwhile, until
from tests.vm.guest import BOOT_DEADLINE_S, Guest
from tests.vm.session import restored_guest

BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
WAIT = {"name": "wait", "ansible.builtin.wait_for_connection": {"timeout": 120}}


def raw(command: str) -> dict[str, Any]:
    return {"name": "raw", "ansible.builtin.raw": command}


def assert_unreachable(run: PlaybookRun, code: str) -> None:
    (record,) = run.tasks
    assert record.outcome == "unreachable"
    assert f"[{code}]" in re.sub(r"\s+", " ", record.result["msg"])


@contextmanager
def under_way(guest: Guest, seconds: int) -> Iterator[list[PlaybookRun]]:
    """Run a command in the guest, and continue when it has started."""
    command = raw(f"touch /run/begun; sleep {seconds}; echo done")
    with meanwhile(lambda: run_tasks_in_guest(guest.name, [command])) as done:
        begun = "test ! -e /run/begun || echo begun"
        until(lambda: guest.sh(begun) != "", "the command has not started", 60.0)
        guest.sh("rm /run/begun")
        yield done


# Larger than one request, or as large as a package.
@pytest.mark.parametrize("megabytes", quick([1, 10], [1]))
def test_tasks_of_every_kind_work(guest: Guest, connection: libvirt.virConnect, tmp_path: Path, megabytes: int) -> None:
    (tmp_path / "script").write_text('#!/bin/sh\necho "script: $1"\n')
    content = bytes(range(256)) * (megabytes * 4096)
    (tmp_path / "big").write_bytes(content)
    there = "/root/with space \u4f60"
    much = {"ansible.builtin.copy": {"src": f"{tmp_path}/big", "dest": f"{there}/big"}}
    back = {"src": f"{there}/big", "dest": f"{tmp_path}/back", "flat": True}
    by_uuid = {
        "ansible_qga_domain": connection.lookupByName(guest.name).UUIDString(),
        "ansible_host": "10.0.0.1",
    }
    done = run_tasks_in_guest(
        guest.name,
        [
            {"name": "setup", "ansible.builtin.setup": {}},
            {**raw("echo \u6c49\u8bed; echo oops >&2; echo $HOME; exit 3"), "failed_when": False},
            {"name": "signal", "ansible.builtin.raw": "kill -9 $$", "failed_when": False},
            {"name": "script", "ansible.builtin.script": f"{tmp_path}/script 'an argument'"},
            {"name": "make a directory", "ansible.builtin.file": {"path": there, "state": "directory"}},
            {"name": "copy much", **much},
            {"name": "copy again", **much},
            {"name": "fetch", "ansible.builtin.fetch": back},
            {"name": "async", "ansible.builtin.command": "sh -c 'sleep 2; echo done'", "async": 120, "poll": 1},
            {"name": "by UUID", "ansible.builtin.command": "hostname", "vars": by_uuid},
        ],
    )
    assert done.status == 0, done.output
    facts = done.result("setup")["ansible_facts"]
    assert facts["ansible_os_family"] == "Debian"
    assert not facts.get("ansible_default_ipv4")
    assert done.result("raw")["stdout"] == "\u6c49\u8bed\n/root\n"
    assert done.result("signal")["rc"] == 128 + 9
    assert done.result("script")["stdout"] == "script: an argument\n"
    assert done.result("async")["stdout"] == "done"
    assert done.result("by UUID")["stdout"] == guest.name
    assert [done.result(name)["changed"] for name in ("copy much", "copy again")] == [True, False]
    assert (tmp_path / "back").read_bytes() == content
    assert guest.sh("cd /dev/shm && stat -c '%n %a %U' qga-*") == "qga-code-0 700 root\n"
    assert int(guest.sh("ls /dev/shm/qga-code-0 | wc -l")) > 20


def test_a_guest_reboots_through_the_connection(connection: libvirt.virConnect) -> None:
    reboot = {"reboot_timeout": int(BOOT_DEADLINE_S), "reboot_command": "systemctl reboot"}
    with restored_guest(connection, "qga-rebooted") as guest:
        before = guest.sh(BOOT_ID)
        done = run_tasks_in_guest(guest.name, [{"name": "reboot", "ansible.builtin.reboot": reboot}, raw("true")])
        assert done.status == 0, f"{done.output}\nThe end of its console:\n{guest.console.tail()}"
        assert guest.sh(BOOT_ID) != before


def test_a_stopped_agent_is_unreachable_until_it_returns(guest: Guest) -> None:
    with ExitStack() as away:
        away.enter_context(guest.agent_away())
        assert_unreachable(run_tasks_in_guest(guest.name, [raw("true")]), "not_connected")
        with meanwhile(lambda: run_tasks_in_guest(guest.name, [WAIT])) as done:
            away.close()
    assert done[0].status == 0


def pause(guest: Guest) -> None:
    guest.suspend()
    time.sleep(2)
    guest.resume()


def freeze(guest: Guest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    time.sleep(5)
    guest.ask("guest-fsfreeze-thaw")


@pytest.mark.thorough
@pytest.mark.parametrize("happen", [pause, freeze])
def test_a_command_survives_a_short_standstill_of_its_guest(guest: Guest, happen: Callable[[Guest], None]) -> None:
    with under_way(guest, seconds=3) as done:
        happen(guest)
    assert done[0].result("raw")["stdout"] == "done\n"


@pytest.mark.thorough
def test_reverting_the_guest_during_a_command_loses_the_result(guest: Guest) -> None:
    guest.snapshot("before")
    try:
        with under_way(guest, seconds=1000) as done:
            guest.revert("before")
        assert_unreachable(done[0], "result_lost")
    finally:
        guest.delete_snapshot("before")
    assert run_tasks_in_guest(guest.name, [raw("true")]).status == 0


def test_a_guest_with_frozen_file_systems_is_unreachable(guest: Guest) -> None:
    guest.ask("guest-fsfreeze-freeze")
    try:
        run = run_tasks_in_guest(guest.name, [raw("true")])
    finally:
        guest.ask("guest-fsfreeze-thaw")
    assert_unreachable(run, "frozen")
