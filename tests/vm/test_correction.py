"""A real guest is corrected after a pause; a witness in it, independent of the agent, verifies the reported figures."""

from __future__ import annotations

import libvirt
import pytest

from tests.support.correction import NAPS, NEAR_NS, TASK, claims, correct_by_module, entry_of, run_module
from tests.vm.guest import Guest
from tests.vm.saved_state import GuestKind
from tests.vm.session import restored_guest

SECOND_NS = 1_000_000_000


@pytest.mark.parametrize("nap", NAPS)
def test_a_guest_is_corrected_after_a_pause(guest: Guest, nap: str) -> None:
    NAPS[nap](guest, 1.5)
    correction, entry = correct_by_module(guest, wait_timeout=60)
    assert correction.before.offset_ns < -SECOND_NS
    assert abs(correction.after.offset_ns) < NEAR_NS
    assert (entry["changed"], entry["within_tolerance"], entry["method"]) == (True, True, "set_time")
    assert claims(entry, "before", correction.before)
    assert claims(entry, "after", correction.after)

    again = entry_of(guest)
    assert (again["changed"], again["attempts"]) == (False, 0)
    assert claims(again, "before", guest.witness.offset())


def test_a_guest_that_is_ahead_is_set_back_only_if_allowed(guest: Guest) -> None:
    entry_of(guest)
    guest.witness.step(5 * SECOND_NS)
    for arguments, options in (((), {"backward": "leave"}), (("--check",), {})):
        run = run_module(guest, *arguments, **options)
        assert run.result(TASK)["changed"] is bool(arguments)
        assert abs(guest.witness.offset().offset_ns - 5 * SECOND_NS) < NEAR_NS
    assert entry_of(guest)["changed"]
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS


def test_the_guests_hardware_clock_is_accurate_to_a_second(guest: Guest) -> None:
    guest.witness.step(-20 * SECOND_NS)
    entry = entry_of(guest, method="rtc", tolerance=2)
    assert (entry["changed"], entry["method"]) == (True, "rtc")
    assert abs(guest.witness.offset().offset_ns) < 2 * SECOND_NS
    entry_of(guest)


def test_a_domain_is_found_by_its_uuid_and_through_any_uri(guest: Guest, connection: libvirt.virConnect) -> None:
    uuid = connection.lookupByName(guest.name).UUIDString()
    assert entry_of(guest, domain=uuid, uri="qemu+unix:///system")["within_tolerance"]


def test_a_guest_whose_rtc_catches_up_is_set_through_libvirt(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-catchup", GuestKind(catches_up=True)) as guest:
        guest.suspend()
        guest.resume()
        guest.witness.step(-30 * SECOND_NS)
        correction, entry = correct_by_module(guest)
    assert entry["changed"]
    assert abs(correction.after.offset_ns) < NEAR_NS
    assert claims(entry, "after", correction.after)
