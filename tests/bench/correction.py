"""What our module and virsh leave of a guest's offset, and how long they take: same guest, same run, by turns."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.support.correction import (
    Correction,
    correct_by_module,
    correct_by_virsh,
    save_and_restore,
    suspend_and_resume,
)
from tests.vm.guest import Guest

# At least this long, and up to a second more by chance: virsh's error is where in a second it happens to be called, and
# hwclock, which waits for a second's edge, would otherwise keep the whole loop in step with the seconds.
ASLEEP_S = 1.3
NAPS = (suspend_and_resume,) * 7 + (save_and_restore,) * 3


@dataclass(frozen=True)
class Residuals:
    """What was left by one way of correcting; by the witness."""

    left_ms: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return median(abs(each) for each in self.left_ms)

    @property
    def worst_ms(self) -> float:
        return max(abs(each) for each in self.left_ms)


@dataclass(frozen=True)
class ExtendedCorrections:
    """By the module through the extended agent. ``honest`` as in Corrections."""

    left: Residuals
    honest: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "extended_residual_ms": self.left.left_ms,
            "extended_correction_s": self.left.seconds,
            "extended_honest": self.honest,
        }


@dataclass(frozen=True)
class Corrections:
    """``honest`` counts the corrections whose residual, by the witness, lay within the uncertainty that was claimed."""

    ours: Residuals
    theirs: Residuals
    honest: int

    @property
    def residual_ratio(self) -> float:
        return self.theirs.median_ms / self.ours.median_ms

    def as_dict(self) -> dict[str, Any]:
        return {
            "residual_ms": {"qga_update_time": self.ours.left_ms, "virsh_domtime_now": self.theirs.left_ms},
            "residual_ratio": self.residual_ratio,
            "correction_s": {"qga_update_time": self.ours.seconds, "virsh_domtime_now": self.theirs.seconds},
            "honest": self.honest,
        }


def bench_corrections(guest: Guest, say: Callable[[str], None]) -> Corrections:
    """Send the guest to sleep again and again; wake it, and correct it by the one and by the other in turn."""
    ours, theirs, honest = [], [], 0
    for number, nap in enumerate(NAPS, 1):
        nap(guest, ASLEEP_S + random.random())
        correction, entry = correct_by_module(guest)
        ours.append(correction)
        honest += _is_honest(correction, entry)
        nap(guest, ASLEEP_S + random.random())
        theirs.append(correct_by_virsh(guest))
        say(
            f"{number} of {len(NAPS)}, {nap.__name__}: ours left {_left_ms(ours[-1]):.3f} ms "
            f"after {entry['attempts']} step(s), virsh {_left_ms(theirs[-1]):.3f} ms"
        )
    return Corrections(_residuals(ours), _residuals(theirs), honest)


def bench_extended_corrections(guest: Guest, say: Callable[[str], None]) -> ExtendedCorrections:
    """The same naps, corrected by the module through the extended agent."""
    taken, honest = [], 0
    for number, nap in enumerate(NAPS, 1):
        nap(guest, ASLEEP_S + random.random())
        correction, entry = correct_by_module(guest, method="extended")
        taken.append(correction)
        honest += _is_honest(correction, entry)
        say(
            f"{number} of {len(NAPS)}, {nap.__name__}: left {_left_ms(correction):.3f} ms after {entry['attempts']} "
            f"step(s) in {correction.seconds:.3f} s"
        )
    return ExtendedCorrections(_residuals(taken), honest)


def _is_honest(correction: Correction, entry: Mapping[str, Any]) -> bool:
    gap_ns = abs(entry["offset_after_ns"] - correction.after.offset_ns)
    return bool(gap_ns <= entry["uncertainty_after_ns"])


def _residuals(corrections: Sequence[Correction]) -> Residuals:
    return Residuals(tuple(_left_ms(each) for each in corrections), tuple(each.seconds for each in corrections))


def _left_ms(correction: Correction) -> float:
    return correction.after.offset_ns / 1e6
