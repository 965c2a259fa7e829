"""All guests of a hypervisor in one task: four real ones at once, under a real libvirt that is restarted meanwhile."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks
from tests.support.correction import MODULE, NEAR_NS, TASK, claims
from tests.vm import libvirtd
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.session import restored_guests

INFO = "qemu.guest_agent.qga_info"
NAMES = ("qga-fleet-2", "qga-fleet-3", "qga-fleet-10")
# Four of them on two processors may take seconds to answer.
PATIENT_S = 20
SECOND_NS = 1_000_000_000
MARK = ("urn:qemu.guest_agent:resync", "--key", "qga", "--set", '<resync enabled="no"/>')


@pytest.fixture(scope="module")
def fleet(guest: Guest, connection: libvirt.virConnect) -> Iterator[dict[str, Guest]]:
    with restored_guests(connection, NAMES) as restored:
        yield {each.name: each for each in (guest, *restored)}


def correct(**options: Any) -> dict[str, Any]:
    """What the module returned for all test guests but those of other tests, whether it failed or not."""
    options = {"domains": ["qga-test", "qga-fleet-*"], "timeout": PATIENT_S, **options}
    return run_tasks([{"name": TASK, MODULE: options, "ignore_errors": True}]).result(TASK)


def statuses(result: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["status"] for entry in result["guests"]}


def virsh(*words: str) -> None:
    subprocess.run(["virsh", "--connect", libvirtd.URI, "--quiet", *words], check=True, stdin=subprocess.DEVNULL)


def test_all_restored_guests_get_their_time_back_in_one_task(fleet: dict[str, Guest]) -> None:
    for each in fleet.values():
        each.managed_save()
    for each in fleet.values():
        each.start()
    result = correct(wait_timeout=120)
    assert [entry["name"] for entry in result["guests"]] == ["qga-test", *NAMES]  # as named, and by number
    assert set(statuses(result).values()) == {"corrected"}, result
    summary = result["summary"]
    assert (summary["total"], summary["corrected"], summary["failed"]) == (4, 4, 0)
    assert summary["largest_offset_before_ns"] < -SECOND_NS
    assert abs(summary["largest_offset_after_ns"]) < NEAR_NS
    for entry in result["guests"]:
        witnessed = fleet[entry["name"]].witness.offset()
        assert abs(witnessed.offset_ns) < NEAR_NS
        assert claims(entry, "after", witnessed), entry["name"]

    again = correct()
    assert not again["changed"]
    assert set(statuses(again).values()) == {"unchanged"}


def test_what_cannot_be_used_is_skipped_if_matched_and_an_error_if_named(fleet: dict[str, Guest]) -> None:
    paused, marked, other, free = (fleet[name] for name in (*NAMES, "qga-test"))
    paused.suspend()
    virsh("metadata", marked.name, "--live", *MARK)
    marked.witness.step(-3 * SECOND_NS)
    try:
        matched = correct(domains=["qga-*"])
        named = correct(domains=[paused.name, marked.name, "qga-nonesuch", other.name])
        alone = run_tasks([{"name": TASK, MODULE: {"domain": marked.name}, "ignore_errors": True}]).result(TASK)
        spared = marked.witness.offset()
    finally:
        paused.resume()
        virsh("metadata", marked.name, "--live", MARK[0], "--remove")

    reasons = {entry["name"]: entry["reason"]["code"] for entry in matched["guests"] if entry["status"] == "skipped"}
    assert reasons.items() >= {paused.name: "not_running", marked.name: "opted_out"}.items()
    assert statuses(matched)[free.name] != "failed"
    assert "failed" not in matched or not matched["failed"]

    errors = {entry["name"]: entry["error"]["code"] for entry in named["guests"] if entry["status"] == "failed"}
    assert errors == {paused.name: "not_running", marked.name: "opted_out", "qga-nonesuch": "not_found"}
    assert statuses(named)[other.name] in ("unchanged", "corrected")
    assert named["error"]["code"] == "guests_failed"

    assert alone["error"]["code"] == "opted_out"
    assert spared.offset_ns < -2 * SECOND_NS
    assert set(statuses(correct()).values()) <= {"unchanged", "corrected"}


def test_names_uuids_and_patterns_name_a_guest_once(fleet: dict[str, Guest]) -> None:
    listed = run_tasks([{"name": "list", INFO: {"domains": ["qga-fleet-*"], "gather_subset": ["!all"]}}]).result("list")
    uuid = listed["guests"][0]["uuid"]
    result = correct(domains=[NAMES[0], uuid.upper(), "qga-fleet-*", "!qga-fleet-10"])
    assert [entry["name"] for entry in result["guests"]] == list(NAMES[:2])
    assert any("more than once" in str(warning) for warning in result["warnings"])
    assert all(name in fleet for name in statuses(result))


def test_a_dead_guest_costs_its_own_time_and_nothing_else(fleet: dict[str, Guest]) -> None:
    dead = fleet[NAMES[0]]
    for name, each in fleet.items():
        if name != dead.name:
            each.witness.step(-5 * SECOND_NS)
    with dead.agent_stopped():
        result = correct(timeout=10)
    assert statuses(result) == {**dict.fromkeys(fleet, "corrected"), dead.name: "failed"}
    failed = next(entry for entry in result["guests"] if entry["name"] == dead.name)
    assert failed["error"]["code"] == "unresponsive"
    for name, each in fleet.items():
        if name != dead.name:
            assert abs(each.witness.offset().offset_ns) < NEAR_NS
    dead.wait_for_agent()


@pytest.mark.thorough
def test_a_daemon_that_is_restarted_in_the_middle_costs_no_guest(fleet: dict[str, Guest]) -> None:
    for each in fleet.values():
        each.witness.step(-7 * SECOND_NS)
    # Every guest spends a second in hwclock, so this falls into somebody's work.
    restart = threading.Thread(target=_restart_when_the_first_is_right, args=(fleet,))
    restart.start()
    result = correct(concurrency=1)
    restart.join()
    assert set(statuses(result).values()) == {"corrected"}, result
    for each in fleet.values():
        assert abs(each.witness.offset().offset_ns) < NEAR_NS
    again = correct()
    assert not again["changed"], again


def _restart_when_the_first_is_right(fleet: Mapping[str, Guest]) -> None:
    first = fleet["qga-test"].witness
    deadline = time.monotonic() + 60
    with contextlib.suppress(VmError):  # it says so if the clock is stepped while it looks
        while first.offset(2).offset_ns < -SECOND_NS and time.monotonic() < deadline:
            time.sleep(0.05)
    libvirtd.restart()


def test_at_the_deadline_what_was_done_is_reported_and_the_rest_is_listed(fleet: dict[str, Guest]) -> None:
    for each in fleet.values():
        each.witness.step(-4 * SECOND_NS)
    result = correct(concurrency=1, deadline=1.5)
    assert len(result["guests"]) == len(fleet)
    late = [entry for entry in result["guests"] if entry["status"] == "failed"]
    assert late
    assert {entry["error"]["code"] for entry in late} == {"deadline"}
    assert result["error"]["code"] == "guests_failed"
    assert set(statuses(correct()).values()) <= {"corrected", "unchanged"}
