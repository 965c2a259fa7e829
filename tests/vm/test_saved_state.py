"""Guests that are restored from a saved state are independent, and their clocks are correct."""

from __future__ import annotations

import libvirt

from tests.vm.guest import Guest
from tests.vm.session import restored_guests

# The witness steps a guest's clock by an offset that it measured to a fraction of a millisecond.
RIGHT_NS = 50_000_000


def test_two_guests_from_one_state_are_independent(connection: libvirt.virConnect) -> None:
    names = ["qga-saved-a", "qga-saved-with-a-longer-name"]
    with restored_guests(connection, names) as guests:
        assert [guest.ask("guest-get-host-name")["host-name"] for guest in guests] == names
        assert len({connection.lookupByName(name).UUIDString() for name in names}) == 2
        for guest in guests:
            assert abs(guest.witness.offset().offset_ns) < RIGHT_NS
        first, second = guests
        first.sh("echo mine >/etc/mine; sync")
        assert second.sh("ls /etc/mine 2>/dev/null || echo none") == "none\n"
        first.witness.step(-5_000_000_000)
        assert abs(second.witness.offset().offset_ns) < RIGHT_NS
    for guest in guests:
        assert not guest.files.directory.exists()
        assert Guest.find(connection, guest.name) is None
