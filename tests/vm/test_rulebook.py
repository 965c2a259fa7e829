"""A rulebook corrects the clock of a real guest after each resumption, as a witness in the guest confirms."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import libvirt

from tests.processes.rulebook import DEADLINE_S, Rulebook
from tests.support.correction import NEAR_NS, TOLERANCE_NS, save_and_restore, suspend_and_resume
from tests.support.until import until
from tests.vm.errors import VmError
from tests.vm.guest import Guest

ASLEEP_S = 1.5


def until_right(guest: Guest, running: Rulebook) -> None:
    def is_right() -> bool:
        assert running.is_running, running.output
        with suppress(VmError):  # the clock was stepped during the witness's measurement
            return abs(guest.witness.offset().offset_ns) < TOLERANCE_NS
        return False

    until(is_right, lambda: running.output, DEADLINE_S)


def test_a_guest_is_corrected_once_after_each_resumption(
    guest: Guest, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    def revert(guest: Guest, _seconds: float) -> None:
        guest.revert("before")
        guest.wait_for_agent()

    uuid = connection.lookupByName(guest.name).UUIDString()
    # Before the rulebook starts: taking a snapshot pauses the guest for a moment.
    guest.snapshot("before")
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
    guest.delete_snapshot("before")
    for cause in ("resumed", "restored", "reverted"):
        assert running.output.count(f"'cause': '{cause}'") == 1
    assert "failed=1" not in running.output
