# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The findings of a resync, and the figures under the names that the modules return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._linux.timex import slew_duration_ns
from .._protocol.errors import QgaError
from .intervals import Interval, Measurement
from .timestamps import SECOND_NS


class Offset(NamedTuple):
    """A measurement seen against the reference: guest clock minus the time that it should show."""

    interval: Interval
    likely_ns: int
    measurement: Measurement

    @property
    def ns(self) -> int:
        return self.interval.middle

    @property
    def uncertainty_ns(self) -> int:
        return self.interval.half_width

    @property
    def left_to_slew_ns(self) -> int:
        """The amount that a slew under way still adds to the clock; 0 if the agent reports none."""
        slew = self.measurement.slew
        return 0 if slew is None else slew.left_ns


def in_seconds(nanoseconds: int) -> str:
    return "%.6f s" % (nanoseconds / SECOND_NS)


CORRECTED = "corrected"
UNCHANGED = "unchanged"
SLEWING = "slewing"


@dataclass(frozen=True)
class ResyncReport:
    """Times are integer nanoseconds.

    ``changed``: the guest's clock was stepped, or a slew of it begun; or that would have been done in a dry run.
    ``slewing_ns``: what is left of a slew at the end, or would be begun in a dry run; 0: the clock is not being slewed,
    as far as its agent reports that. ``within_tolerance`` is of the last
    measurement: None if that proves neither that the clock is within tolerance nor that it is not.
    ``guest_time_before_ns`` is what the guest's clock would show at the end of the run had nothing been done,
    ``guest_time_after_ns`` what it does show.
    ``stepped_at_ns`` is when the last step was done, as far as its reply tells, on the host's monotonic clock.
    """

    changed: bool
    within_tolerance: bool | None
    method: str | None
    attempts: int
    before: Offset
    after: Offset | None
    guest_time_before_ns: int
    guest_time_after_ns: int
    duration_ns: int
    warnings: tuple[str, ...] = ()
    error: QgaError | None = None
    stepped_at_ns: int | None = None
    slewing_ns: int = 0

    @property
    def status(self) -> str:
        """In one word, for a report without an error."""
        if self.slewing_ns and not self.within_tolerance:
            return SLEWING
        return CORRECTED if self.changed else UNCHANGED

    @property
    def message(self) -> str | None:
        """The slew that is under way, or would be begun in a dry run; None if there is none."""
        if not self.slewing_ns or self.error is not None:
            return None
        is_planned = self.changed and self.after is None
        verb = "would glide" if is_planned else "glides"
        way = "back" if self.slewing_ns < 0 else "forward"
        seconds, duration = (ns / SECOND_NS for ns in (abs(self.slewing_ns), slew_duration_ns(self.slewing_ns)))
        return f"its clock {verb} {way} by {seconds:.3f} s within {duration:.0f} s"

    def as_dict(self) -> dict[str, object]:
        """The figures under the names that the modules return."""
        latest = self.after or self.before
        result: dict[str, object] = {
            "changed": self.changed,
            "within_tolerance": self.within_tolerance,
            "method": self.method,
            "attempts": self.attempts,
            "offset_before_ns": self.before.ns,
            "uncertainty_before_ns": self.before.uncertainty_ns,
            "offset_after_ns": None if self.after is None else self.after.ns,
            "uncertainty_after_ns": None if self.after is None else self.after.uncertainty_ns,
            "round_trip_ns": latest.measurement.round_trip_ns,
            "resolution_ns": latest.measurement.resolution_ns,
            "slewing": self._slewing(),
            "guest_time_before_ns": self.guest_time_before_ns,
            "guest_time_after_ns": self.guest_time_after_ns,
            "duration_ns": self.duration_ns,
        }
        if self.error is not None:
            result["error"] = self.error.as_dict()
        return result

    def _slewing(self) -> dict[str, object] | None:
        if not self.slewing_ns:
            return None
        duration_ns = slew_duration_ns(self.slewing_ns)
        return {
            "left": self.slewing_ns / SECOND_NS,
            "left_ns": self.slewing_ns,
            "duration": duration_ns / SECOND_NS,
            "duration_ns": duration_ns,
        }
