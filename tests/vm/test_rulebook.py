"""A real guest that is resumed while a rulebook runs gets its time back from it, as a witness in it confirms."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest
import yaml

from tests.processes.rulebook import DEADLINE_S, Rulebook
from tests.support.correction import NEAR_NS, TOLERANCE_NS, save_and_restore, suspend_and_resume
from tests.vm.errors import VmError
from tests.vm.guest import Guest

SECOND_NS = 1_000_000_000
ASLEEP_S = 1.5


def is_right(guest: Guest) -> bool:
    try:
        return abs(guest.witness.offset().offset_ns) < TOLERANCE_NS
    except VmError:  # it was stepped while the witness was asked
        return False


def until_right(guest: Guest, running: Rulebook) -> None:
    until = time.monotonic() + DEADLINE_S
    while not is_right(guest):
        assert running.is_running, running.output
        assert time.monotonic() < until, running.output
        time.sleep(0.02)


@pytest.fixture
def uuid(guest: Guest, connection: libvirt.virConnect) -> str:
    found: str = connection.lookupByName(guest.name).UUIDString()
    return found


@pytest.fixture
def snapshot(guest: Guest) -> Iterator[str]:
    """Taken before anybody listens: while it is, the guest is paused for a moment."""
    name = "before"
    guest.snapshot(name)
    yield name
    guest.delete_snapshot(name)


def test_each_time_it_wakes_it_gets_its_time_back_once(guest: Guest, uuid: str, snapshot: str, tmp_path: Path) -> None:
    def revert(guest: Guest, _seconds: float) -> None:
        guest.revert(snapshot)
        guest.wait_for_agent()

    with Rulebook(
        "qemu.guest_agent.resync_on_resume", tmp_path, "--print-events", variables={"qga_uris": guest.uri}
    ) as running:
        running.wait_for(f"{guest.uri} is watched")
        for number, nap in enumerate((suspend_and_resume, save_and_restore, revert), start=1):
            nap(guest, ASLEEP_S)
            until_right(guest, running)
            running.wait_for("PLAY RECAP", times=number)
            assert abs(guest.witness.offset().offset_ns) < NEAR_NS
            assert running.output.count(f"'uuid': '{uuid}'") == number
    for cause in ("resumed", "restored", "reverted"):
        assert running.output.count(f"'cause': '{cause}'") == 1
    assert "failed=1" not in running.output


def test_a_users_tasks_find_what_was_done(guest: Guest, uuid: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    content = "{{ [qga_event, qga_clock.guest] | to_json | string }}"
    tasks = tmp_path / "after.yml"
    tasks.write_text(
        yaml.safe_dump(
            [{"name": "Keep it", "ansible.builtin.copy": {"content": content, "dest": str(kept), "mode": "0600"}}]
        )
    )
    with Rulebook(
        "qemu.guest_agent.resync_on_resume_playbook",
        tmp_path,
        variables={"qga_uris": guest.uri},
        playbook_variables={"qga_tasks_after": str(tasks)},
    ) as running:
        running.wait_for(f"{guest.uri} is watched")
        suspend_and_resume(guest, ASLEEP_S)
        until_right(guest, running)
        running.wait_for("PLAY RECAP")
    event, entry = json.loads(kept.read_text())
    assert (event["domain"], event["uuid"], event["cause"]) == (guest.name, uuid, "resumed")
    assert entry["offset_before_ns"] < -SECOND_NS
    assert abs(entry["offset_after_ns"]) < NEAR_NS
