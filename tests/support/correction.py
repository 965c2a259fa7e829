"""Setting a real guest's clock wrong, and correcting it by our module and by virsh, observed by the witness."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.processes.ansible_run import PlaybookRun, run_tasks
from tests.vm.guest import Guest
from tests.vm.witness import Reading

MODULE = "qemu.guest_agent.qga_update_time"
TASK = "Resync the guest's clock"

# The module's default.
TOLERANCE_NS = 100_000_000
# Upper limit of the witness's offset for a clock within tolerance: the witness reads later, and an emulated guest's
# clock drifts on a busy machine. The benchmark shows the usual offset.
NEAR_NS = TOLERANCE_NS + 20_000_000


def is_right(guest: Guest) -> bool:
    """Return whether the guest's clock is as close as after a correction, by the witness."""
    return abs(guest.witness.offset().offset_ns) < NEAR_NS


@dataclass(frozen=True)
class Correction:
    """One correction: the guest's offset before and after it, by the witness, and the duration in seconds."""

    before: Reading
    after: Reading
    seconds: float


def save_and_restore(guest: Guest, seconds: float) -> None:
    guest.save()
    time.sleep(seconds)
    guest.restore()
    guest.wait_for_agent()


def suspend_and_resume(guest: Guest, seconds: float) -> None:
    guest.suspend()
    time.sleep(seconds)
    guest.resume()


def snapshot_and_revert(guest: Guest, seconds: float) -> None:
    """Revert the guest to its state of so many seconds ago."""
    guest.snapshot("bedtime")
    time.sleep(seconds)
    guest.revert("bedtime")
    guest.delete_snapshot("bedtime")
    guest.wait_for_agent()


NAPS: Mapping[str, Callable[[Guest, float], None]] = {
    "save/restore": save_and_restore,
    "suspend/resume": suspend_and_resume,
    "snapshot revert": snapshot_and_revert,
}


def run_module(guest: Guest, *arguments: str, **options: Any) -> PlaybookRun:
    """Run the module in a real playbook. ``arguments`` go to ansible-playbook."""
    return run_tasks([{"name": TASK, MODULE: {"domain": guest.name, "uri": guest.uri, **options}}], *arguments)


def entry_of(guest: Guest, *arguments: str, **options: Any) -> dict[str, Any]:
    run = run_module(guest, *arguments, **options)
    if run.status != 0:
        raise RuntimeError(f"the playbook failed:\n{run.output}")
    entry: dict[str, Any] = run.result(TASK)["guest"]
    return entry


def claims(entry: Mapping[str, Any], when: str, witnessed: Reading) -> bool:
    """Return whether the witness agrees with the module. The witness is uncertain, too, and is read a little later."""
    gap_ns = abs(entry[f"offset_{when}_ns"] - witnessed.offset_ns)
    return bool(gap_ns <= entry[f"uncertainty_{when}_ns"] + witnessed.uncertainty_ns)


def correct_by_module(guest: Guest, **options: Any) -> tuple[Correction, dict[str, Any]]:
    """Return the correction, with the module's own duration, and the guest's entry in the module's result."""
    before = guest.witness.offset()
    entry = entry_of(guest, **options)
    return Correction(before, guest.witness.offset(), entry["duration_ns"] / 1e9), entry


def correct_by_virsh(guest: Guest) -> Correction:
    before = guest.witness.offset()
    begun = time.monotonic()
    command = ["virsh", "--connect", guest.uri, "--quiet", "domtime", guest.name, "--now"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - begun
    return Correction(before, guest.witness.offset(), seconds)
