"""Four real guests, all restored: one task of ours, and a loop of virsh domtime --now, by turns in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import libvirt

from tests.processes.ansible_run import run_tasks
from tests.support.correction import MODULE, TASK, correct_by_virsh
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.session import restored_guests

NAMES = tuple(f"qga-bench-{number}" for number in range(1, 5))
ROUNDS = 4


@dataclass(frozen=True)
class RealFleet:
    """Residuals by the witness in milliseconds, and the seconds for all guests together, of either way."""

    ours_ms: tuple[float, ...]
    ours_s: tuple[float, ...]
    theirs_ms: tuple[float, ...]
    theirs_s: tuple[float, ...]
    honest: int

    @property
    def residual_ratio(self) -> float:
        return median(self.theirs_ms) / median(self.ours_ms)

    def as_dict(self) -> dict[str, Any]:
        return {
            "real_fleet_residual_ms": {"qga_update_time": self.ours_ms, "virsh_domtime_now": self.theirs_ms},
            "real_fleet_s": {"qga_update_time": self.ours_s, "virsh_domtime_now": self.theirs_s},
            "real_fleet_residual_ratio": self.residual_ratio,
            "real_fleet_honest": self.honest,
        }


def bench_real_fleet(connection: libvirt.virConnect, say: Callable[[str], None]) -> RealFleet:
    with restored_guests(connection, NAMES, say=say) as guests:
        ours_ms: list[float] = []
        ours_s: list[float] = []
        theirs_ms: list[float] = []
        theirs_s: list[float] = []
        honest = 0
        for number in range(1, ROUNDS + 1):
            _restore(guests)
            result = _correct()
            ours_s.append(result["summary"]["duration_ns"] / 1e9)
            for guest, entry in zip(guests, result["guests"], strict=True):
                witnessed = guest.witness.offset()
                ours_ms.append(abs(witnessed.offset_ns) / 1e6)
                honest += abs(entry["offset_after_ns"] - witnessed.offset_ns) <= entry["uncertainty_after_ns"]
            _restore(guests)
            corrections = [correct_by_virsh(guest) for guest in guests]
            theirs_ms += [abs(correction.after.offset_ns) / 1e6 for correction in corrections]
            theirs_s.append(sum(correction.seconds for correction in corrections))
            say(
                f"{number} of {ROUNDS}: one task for {len(guests)} restored guests {ours_s[-1]:.2f} s, "
                f"virsh {theirs_s[-1]:.2f} s"
            )
    return RealFleet(tuple(ours_ms), tuple(ours_s), tuple(theirs_ms), tuple(theirs_s), honest)


def _restore(guests: Sequence[Guest]) -> None:
    for guest in guests:
        guest.managed_save()
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.wait_for_agent()


def _correct() -> dict[str, Any]:
    run = run_tasks([{"name": TASK, MODULE: {"domains": list(NAMES)}}])
    if run.status != 0:
        raise VmError(f"The playbook failed:\n{run.output}")
    return run.result(TASK)
