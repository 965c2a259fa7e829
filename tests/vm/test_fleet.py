"""All guests of a hypervisor in one task: four real guests, under a real libvirt that is restarted meanwhile."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks
from tests.support.correction import MODULE, NEAR_NS, TASK, claims, is_right
from tests.support.until import meanwhile, until
from tests.vm import libvirtd
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.session import restored_guests

NAMES = ("qga-fleet-2", "qga-fleet-3", "qga-fleet-10")
# Four of them on two processors may take seconds to answer.
PATIENT_S = 20
SECOND_NS = 1_000_000_000
MARK = ("urn:qemu.guest_agent:resync", "--key", "qga", "--set", '<resync enabled="no"/>')

Fleet = dict[str, Guest]


@pytest.fixture(scope="module")
def fleet(guest: Guest, connection: libvirt.virConnect) -> Iterator[Fleet]:
    with restored_guests(connection, NAMES) as restored:
        yield {each.name: each for each in (guest, *restored)}


def correct(**options: Any) -> dict[str, Any]:
    """Return the module's result for this module's guests, whether it failed or not."""
    options = {"domains": ["qga-test", "qga-fleet-*"], "timeout": PATIENT_S, **options}
    return run_tasks([{"name": TASK, MODULE: options, "ignore_errors": True}]).result(TASK)


def statuses(result: Mapping[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["status"] for entry in result["guests"]}


def codes(result: Mapping[str, Any], status: str) -> dict[str, str]:
    """Return the error or reason code of each guest with this status."""
    found = (entry for entry in result["guests"] if entry["status"] == status)
    return {entry["name"]: (entry.get("error") or entry["reason"])["code"] for entry in found}


def virsh(*words: str) -> None:
    subprocess.run(["virsh", "--connect", libvirtd.URI, "--quiet", *words], check=True, stdin=subprocess.DEVNULL)


def test_one_task_corrects_all_restored_guests(fleet: Fleet) -> None:
    for each in fleet.values():
        each.managed_save()
    for each in fleet.values():
        each.start()
    result = correct(wait_timeout=120)
    # In the order of the patterns, and then naturally sorted.
    assert list(statuses(result).items()) == [(name, "corrected") for name in ("qga-test", *NAMES)], result
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


def test_unusable_guests_are_skipped_if_matched_and_fail_if_named(fleet: Fleet) -> None:
    paused, marked, other = (fleet[name] for name in NAMES)
    paused.suspend()
    virsh("metadata", marked.name, "--live", *MARK)
    marked.witness.step(-3 * SECOND_NS)
    try:
        matched = correct(domains=["qga-*"])
        named = correct(domains=[paused.name, marked.name, "qga-nonesuch", other.name])
        spared = marked.witness.offset()
    finally:
        paused.resume()
        virsh("metadata", marked.name, "--live", MARK[0], "--remove")

    expected = {paused.name: "not_running", marked.name: "opted_out"}
    assert codes(matched, "skipped").items() >= expected.items()
    assert not matched.get("failed")
    assert codes(named, "failed") == {**expected, "qga-nonesuch": "not_found"}
    assert statuses(named)[other.name] in ("unchanged", "corrected")
    assert named["error"]["code"] == "guests_failed"
    assert spared.offset_ns < -2 * SECOND_NS
    assert set(statuses(correct()).values()) <= {"unchanged", "corrected"}


def test_a_dead_guest_uses_up_only_its_own_timeout(fleet: Fleet) -> None:
    dead, *others = (fleet[name] for name in (*NAMES, "qga-test"))
    for each in others:
        each.witness.step(-5 * SECOND_NS)
    with dead.agent_stopped():
        result = correct(timeout=10)
    assert statuses(result) == {**dict.fromkeys(fleet, "corrected"), dead.name: "failed"}
    assert codes(result, "failed") == {dead.name: "unresponsive"}
    assert all(map(is_right, others))
    dead.wait_for_agent()


@pytest.mark.thorough
def test_no_guest_fails_when_libvirtd_is_restarted_during_the_task(fleet: Fleet) -> None:
    for each in fleet.values():
        each.witness.step(-7 * SECOND_NS)
    # Every guest spends a second in hwclock, so the restart interrupts one of them.
    with meanwhile(lambda: _restart_when_the_first_is_right(fleet)):
        result = correct(concurrency=1)
    assert set(statuses(result).values()) == {"corrected"}, result
    assert all(map(is_right, fleet.values()))
    again = correct()
    assert not again["changed"], again


def _restart_when_the_first_is_right(fleet: Fleet) -> None:
    first = fleet["qga-test"].witness
    with suppress(VmError):  # raised if the clock is stepped during the reading
        until(lambda: first.offset(2).offset_ns > -SECOND_NS, "the first guest is not corrected", 60)
    libvirtd.restart()
