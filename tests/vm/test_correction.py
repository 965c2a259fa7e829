"""A real guest that slept gets its time back; a witness in it, independent of the agent, confirms what is claimed."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks
from tests.support.correction import MODULE, NAPS, NEAR_NS, TASK, claims, correct_by_module, entry_of, run_module
from tests.vm.guest import Guest
from tests.vm.saved_state import GuestKind
from tests.vm.session import restored_guest

SECOND_NS = 1_000_000_000
ASLEEP_S = 1.5


@pytest.mark.parametrize("nap", NAPS)
def test_a_guest_that_slept_gets_its_time_back(guest: Guest, nap: str) -> None:
    NAPS[nap](guest, ASLEEP_S)
    correction, entry = correct_by_module(guest, wait_timeout=60)

    assert correction.before.offset_ns < -SECOND_NS
    assert abs(correction.after.offset_ns) < NEAR_NS
    assert entry["changed"]
    assert entry["within_tolerance"]
    assert entry["method"] == "set_time"
    assert claims(entry, "before", correction.before)
    assert claims(entry, "after", correction.after)

    again = entry_of(guest)
    assert not again["changed"]
    assert again["attempts"] == 0
    assert claims(again, "before", guest.witness.offset())


def test_check_mode_tells_what_it_would_do_and_does_not_do_it(guest: Guest) -> None:
    guest.witness.step(-3 * SECOND_NS)
    before = guest.witness.offset()
    run = run_module(guest, "--check", "--diff")
    result = run.result(TASK)

    assert result["changed"]
    assert result["guest"]["offset_after_ns"] is None
    assert result["diff"]["before"] < result["diff"]["after"]
    assert abs(guest.witness.offset().offset_ns - before.offset_ns) < NEAR_NS


def test_a_guest_that_is_ahead_goes_back_only_if_it_may(guest: Guest) -> None:
    entry_of(guest)
    guest.witness.step(5 * SECOND_NS)
    forbidden = run_module(guest, backward="leave").result(TASK)
    assert not forbidden["changed"]
    assert not forbidden["guest"]["within_tolerance"]
    assert any("backward=leave" in warning for warning in forbidden["warnings"])

    assert entry_of(guest)["changed"]
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS


def test_a_utc_offset_is_added_to_the_reference(guest: Guest) -> None:
    assert entry_of(guest, utc_offset=3600)["changed"]
    assert abs(guest.witness.offset().offset_ns - 3600 * SECOND_NS) < NEAR_NS
    assert entry_of(guest)["changed"]


def test_a_stated_time_takes_the_place_of_the_hosts(guest: Guest) -> None:
    entry = entry_of(guest, time="2031-05-06T07:08:09.5+02:00")
    assert entry["changed"]
    # 2031-05-06T05:08:09.5Z; the module's own work is part of it.
    assert 0 <= entry["guest_time_after_ns"] - 1935810489_500000000 < 60 * SECOND_NS
    assert entry_of(guest)["changed"]
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS


def test_the_guests_own_hardware_clock_is_good_to_a_second(guest: Guest) -> None:
    guest.witness.step(-20 * SECOND_NS)
    entry = entry_of(guest, method="rtc", tolerance=2)
    assert entry["changed"]
    assert entry["method"] == "rtc"
    assert abs(guest.witness.offset().offset_ns) < 2 * SECOND_NS
    entry_of(guest)


def test_a_domain_is_found_by_its_uuid_and_through_any_uri(guest: Guest, connection: libvirt.virConnect) -> None:
    uuid = connection.lookupByName(guest.name).UUIDString()
    tasks = [
        {"name": "by UUID", MODULE: {"domain": uuid}},
        {"name": "by another uri", MODULE: {"domain": guest.name, "uri": "qemu+unix:///system"}},
    ]
    run = run_tasks(tasks)
    assert run.status == 0, run.output
    assert run.result("by UUID")["guest"]["within_tolerance"]
    assert run.result("by another uri")["guest"]["within_tolerance"]


@pytest.fixture(scope="module")
def catching_up(connection: libvirt.virConnect) -> Iterator[Guest]:
    with restored_guest(connection, "qga-catchup", GuestKind(catches_up=True)) as restored:
        yield restored


def test_a_guest_whose_rtc_catches_up_is_set_through_libvirt(catching_up: Guest) -> None:
    catching_up.suspend()
    catching_up.resume()
    catching_up.witness.step(-30 * SECOND_NS)
    correction, entry = correct_by_module(catching_up)
    assert entry["changed"]
    assert abs(correction.after.offset_ns) < NEAR_NS
    assert claims(entry, "after", correction.after)
