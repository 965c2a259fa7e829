# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a resync: its figures under the names that the modules return, and a sentence for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._linux.timex import slew_duration_ns
from .._protocol.errors import QgaError
from .figures import direction, length, signed, with_twins
from .intervals import Interval, Measurement


class Offset(NamedTuple):
    """A measurement compared with the reference: guest clock minus the time that it should show."""

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
    def words(self) -> str:
        return f"{signed(self.ns)} ±{length(self.uncertainty_ns)}"

    @property
    def left_to_slew_ns(self) -> int:
        """The amount that a slew under way still adds to the clock; 0 if the agent reports none."""
        slew = self.measurement.slew
        return 0 if slew is None else slew.left_ns


CORRECTED = "corrected"
WOULD_CORRECT = "would_correct"
UNCHANGED = "unchanged"
SLEWING = "slewing"
STATUSES = (CORRECTED, WOULD_CORRECT, UNCHANGED, SLEWING)


@dataclass(frozen=True)
class ResyncReport:
    """The result of a resync. Times are integer nanoseconds.

    ``changed``: the guest's clock was stepped, or a slew begun. With ``is_planned``, that would have been done in a
    run that is not dry.
    ``slewing_ns``: what is left of a slew at the end, or would be begun in a dry run. 0: no slew, or the agent does not
    report one.
    ``within_tolerance`` is by the last measurement. None: it proves neither that the clock is within tolerance nor that
    it is not.
    ``guest_time_before_ns`` is what the guest's clock would show at the end of the run had nothing been done,
    ``guest_time_after_ns`` what it does show.
    ``stepped_at_ns`` is when the last step was done, by the host's monotonic clock; None if its reply does not show it.
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
    is_planned: bool = False

    @property
    def latest(self) -> Offset:
        return self.after or self.before

    @property
    def status(self) -> str:
        """The status of a report without an error, one of ``STATUSES``."""
        if self.is_planned:
            return WOULD_CORRECT
        if self.slewing_ns and not self.within_tolerance:
            return SLEWING
        return CORRECTED if self.changed else UNCHANGED

    @property
    def sentence(self) -> str | None:
        """A sentence about the clock, whose subject is the guest; None with an error."""
        if self.error is not None:
            return None
        slew = self._slew_in_words()
        if self.is_planned:
            return f"is {direction(self.before.ns)}; its clock would be {slew or 'stepped'}"
        if self.status == SLEWING:
            return f"is {direction(self.latest.ns)}; its clock is being {slew}"
        if self.after is not None and self.attempts:
            state = "off by" if self.within_tolerance is False else "right to"
            return f"was {direction(self.before.ns)}; its clock is now {state} {self.after.words}"
        if self.within_tolerance:
            return f"is right ({self.latest.words})"
        if self.within_tolerance is None:
            return f"is right within its uncertainty ({self.latest.words})"
        return f"is off by {self.latest.words} and was left alone"

    def as_dict(self) -> dict[str, object]:
        """The figures under the names that the modules return."""
        after = self.after
        result: dict[str, object] = with_twins(
            {
                "changed": self.changed,
                "within_tolerance": self.within_tolerance,
                "method": self.method,
                "attempts": self.attempts,
                "offset_before_ns": self.before.ns,
                "uncertainty_before_ns": self.before.uncertainty_ns,
                "offset_after_ns": None if after is None else after.ns,
                "uncertainty_after_ns": None if after is None else after.uncertainty_ns,
                "offset_ns": self.latest.ns,
                "uncertainty_ns": self.latest.uncertainty_ns,
                "round_trip_ns": self.latest.measurement.round_trip_ns,
                "resolution_ns": self.latest.measurement.resolution_ns,
                "slewing": self._slewing(),
                "guest_time_before_ns": self.guest_time_before_ns,
                "guest_time_after_ns": self.guest_time_after_ns,
                "duration_ns": self.duration_ns,
            }
        )
        if self.error is not None:
            result["error"] = self.error.as_dict()
        return result

    def _slewing(self) -> dict[str, object] | None:
        if not self.slewing_ns:
            return None
        return with_twins({"left_ns": self.slewing_ns, "duration_ns": slew_duration_ns(self.slewing_ns)})

    def _slew_in_words(self) -> str:
        if not self.slewing_ns:
            return ""
        way = "back" if self.slewing_ns < 0 else "forward"
        return f"slewed {way} by {length(self.slewing_ns)}, which takes {length(slew_duration_ns(self.slewing_ns))}"
