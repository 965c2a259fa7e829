"""qga_info on a real guest."""

from __future__ import annotations

from typing import Any

from tests.processes.ansible_run import run_tasks
from tests.vm.guest import Guest

TASKS: dict[str, dict[str, Any]] = {
    "all": {},
    "min": {"gather_subset": ["min"]},
    "all but two": {"gather_subset": ["!commands", "!time"]},
    "a command": {"command": "guest-set-time"},
    "a command of the extended agent": {"command": "guest-update-time"},
}


def test_qga_info_returns_the_facts_of_each_subset(guest: Guest) -> None:
    run = run_tasks(
        [
            {"name": name, "qemu.guest_agent.qga_info": {"domain": guest.name, **options}}
            for name, options in TASKS.items()
        ]
    )
    assert run.status == 0, run.output
    results = [run.result(name) for name in TASKS]
    assert not any(result["changed"] for result in results)
    everything, least, all_but_two, command, absent = (result["guest"] for result in results)

    assert everything["name"] == everything["hostname"] == guest.name
    assert (everything["agent"]["kind"], everything["os"]["id"]) == ("stock", "debian")
    assert everything["timezone"]["offset"] == 0
    assert "lo" in [interface["name"] for interface in everything["network"]]
    assert "/" in [filesystem["mountpoint"] for filesystem in everything["filesystems"]]
    assert everything["vcpus"][0]["online"]
    assert everything["memory"]["block_size"] * everything["memory"]["blocks"] >= 256 * 1024 * 1024
    assert all(everything[name] for name in ("disk_stats", "cpu_stats", "disks"))
    assert everything["freeze"] == "thawed"
    assert everything["time"]["uncertainty_ns"] > 0
    # guest-get-load came with QEMU 10.0, guest-network-get-route with 9.1; the guest's agent is 7.2.
    assert {name: error["code"] for name, error in everything["errors"].items()} == {
        "load": "command_not_found",
        "routes": "command_not_found",
    }

    assert set(least) == {"name", "status", "agent", "hostname", "os", "timezone", "errors"}
    assert set(everything) - set(all_but_two) == {"commands", "time"}
    details = command["command"]
    assert (details["present"], details["enabled"], details["details_from"]) == (True, True, "catalog")
    assert details["arguments"] == [{"name": "time", "type": "int", "optional": True}]
    assert (absent["command"]["present"], absent["command"]["enabled"]) == (False, False)
