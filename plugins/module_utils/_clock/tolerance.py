# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tolerance rule: what a measured offset proves, and which steps it allows.

A measurement is an interval that holds the offset. Against the tolerance, it proves one of three things:

=====================================  ==========================
interval                               the clock is within
=====================================  ==========================
both ends are within the tolerance     True
all of it is beyond the tolerance      False
anything else                          None: not proven
=====================================  ==========================
"""

from __future__ import annotations

from typing import NamedTuple

from .._linux.timex import SLEW_PPM
from .intervals import Interval
from .report import Offset
from .timestamps import SECOND_NS

# At the beginning of each second, the kernel counts that second's slew as done, in whole microseconds.
_SLEW_GRAIN_NS = SECOND_NS // 1_000_000 * SLEW_PPM + 1_000

# An agent that reports whole minutes reaches this. A measurement with a larger uncertainty or resolution is invalid.
_MOST_UNCERTAIN_NS = 120 * SECOND_NS


def within(interval: Interval, tolerance_ns: int) -> bool | None:
    """Decide by the table above."""
    if -tolerance_ns <= interval.low and interval.high <= tolerance_ns:
        return True
    return False if is_certainly_beyond(interval, tolerance_ns) else None


def is_certainly_beyond(interval: Interval, tolerance_ns: int) -> bool:
    return interval.low > tolerance_ns or interval.high < -tolerance_ns


class Criteria(NamedTuple):
    """The options that decide about an offset. ``backward`` is as in ``ResyncOptions``."""

    tolerance_ns: int
    backward: str

    def within(self, offset: Offset) -> bool | None:
        return within(offset.interval, self.tolerance_ns)

    def lacks_proof(self, offset: Offset) -> bool:
        """Return whether proof is missing. A tolerance of zero needs none: the clock is stepped every time."""
        return self.tolerance_ns > 0 and self.within(offset) is None

    def proves_nothing(self, offset: Offset) -> bool:
        worst_ns = max(offset.uncertainty_ns, offset.measurement.resolution_ns)
        return worst_ns > max(self.tolerance_ns, _MOST_UNCERTAIN_NS)

    def is_settled(self, offset: Offset) -> bool:
        """Return whether the clock can stay as it is. A residual below the uncertainty may be zero, and another step
        would only add noise.
        """
        is_at_best = abs(offset.ns) <= offset.uncertainty_ns
        return not self.proves_nothing(offset) and (self.within(offset) is True or is_at_best)

    def may_go_back(self, offset: Offset) -> bool:
        """Return whether a step might set the clock back although that is forbidden."""
        return self.backward != "step" and offset.interval.high > 0

    def slews_off(self, offset: Offset) -> bool:
        """Return whether the clock is within tolerance, and a slew in progress takes it out. This happens if the guest
        was paused or the host's clock was stepped during the slew.
        """
        left_ns = offset.left_to_slew_ns
        return bool(left_ns and self.within(offset)) and self.is_beyond_after(left_ns, offset)

    def is_beyond_after(self, slewed_ns: int, offset: Offset) -> bool:
        return is_certainly_beyond(offset.interval.shifted(slewed_ns), self.tolerance_ns + _SLEW_GRAIN_NS)
