"""What qga_info tells of a real guest."""

from __future__ import annotations

from typing import Any

import pytest

from tests.processes.ansible_run import PlaybookRun, run_tasks
from tests.vm.guest import Guest

MODULE = "qemu.guest_agent.qga_info"


@pytest.fixture(scope="module")
def run(guest: Guest) -> PlaybookRun:
    options: dict[str, dict[str, Any]] = {
        "all": {},
        "min": {"gather_subset": ["min"]},
        "all but two": {"gather_subset": ["!commands", "!time"]},
        "a command": {"command": "guest-set-time"},
        "a command of the extended agent": {"command": "guest-update-time"},
    }
    done = run_tasks([{"name": name, MODULE: {"domain": guest.name, **each}} for name, each in options.items()])
    assert done.status == 0, done.output
    return done


def facts(run: PlaybookRun, task: str) -> dict[str, Any]:
    result = run.result(task)
    assert not result["changed"]
    assert result["guests"] == [result["guest"]]
    entry: dict[str, Any] = result["guest"]
    return entry


def test_all_that_the_guest_is(run: PlaybookRun, guest: Guest) -> None:
    entry = facts(run, "all")
    assert entry["name"] == guest.name
    assert entry["hostname"] == guest.name
    assert entry["agent"]["kind"] == "stock"
    assert entry["os"]["id"] == "debian"
    assert entry["timezone"]["offset"] == 0
    assert "lo" in [interface["name"] for interface in entry["network"]]
    assert "/" in [filesystem["mountpoint"] for filesystem in entry["filesystems"]]
    assert entry["vcpus"][0]["online"]
    assert entry["memory"]["block_size"] * entry["memory"]["blocks"] >= 256 * 1024 * 1024
    assert entry["disk_stats"]
    assert entry["cpu_stats"]
    assert entry["disks"]
    assert entry["freeze"] == "thawed"
    assert entry["time"]["uncertainty_ns"] > 0


def test_what_this_agent_lacks_is_told_and_costs_nothing_else(run: PlaybookRun) -> None:
    """guest-get-load came with QEMU 10.0, guest-network-get-route with 9.1; the guest's agent is 7.2."""
    errors = facts(run, "all")["errors"]
    assert {name: error["code"] for name, error in errors.items()} == {
        "load": "command_not_found",
        "routes": "command_not_found",
    }


def test_the_least(run: PlaybookRun) -> None:
    assert set(facts(run, "min")) == {"name", "status", "agent", "hostname", "os", "timezone", "errors"}


def test_all_but_some(run: PlaybookRun) -> None:
    left_out = set(facts(run, "all")) - set(facts(run, "all but two"))
    assert left_out == {"commands", "time"}


def test_the_details_of_a_command(run: PlaybookRun) -> None:
    details = facts(run, "a command")["command"]
    assert details["present"]
    assert details["enabled"]
    assert details["arguments"] == [{"name": "time", "type": "int", "optional": True}]
    assert details["details_from"] == "catalogue"

    absent = facts(run, "a command of the extended agent")["command"]
    assert not absent["present"]
    assert not absent["enabled"]
