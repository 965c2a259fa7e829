# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tolerance rule: what a measured offset proves, and which steps it allows.

A measurement is an interval that holds the offset. Against the tolerance, it proves one of three things:

================================  ==========================
interval                          the clock is within
================================  ==========================
no end is beyond the tolerance    True
all of it is beyond               False
anything else                     None: not proven
================================  ==========================
"""

from __future__ import annotations

from typing import NamedTuple

from .._linux.timex import SLEW_PPM
from .intervals import Interval
from .report import Offset
from .timestamps import SECOND_NS

# The kernel counts what it slews within a second as done when that second begins, and in whole microseconds.
_SLEW_GRAIN_NS = SECOND_NS // 1_000_000 * SLEW_PPM + 1_000

# What is less certain than an agent that knows whole minutes only, or is read more coarsely, was not measured.
_MOST_UNCERTAIN_NS = 120 * SECOND_NS


def within(interval: Interval, tolerance_ns: int) -> bool | None:
    """Decide by the table above."""
    if -tolerance_ns <= interval.low and interval.high <= tolerance_ns:
        return True
    return False if is_certainly_beyond(interval, tolerance_ns) else None


def is_certainly_beyond(interval: Interval, tolerance_ns: int) -> bool:
    return interval.low > tolerance_ns or interval.high < -tolerance_ns


class Criteria(NamedTuple):
    """The options that an offset is judged by. ``backward`` is as in ``ResyncOptions``."""

    tolerance_ns: int
    backward: str

    def within(self, offset: Offset) -> bool | None:
        return within(offset.interval, self.tolerance_ns)

    def lacks_proof(self, offset: Offset) -> bool:
        """A tolerance of zero asks for no proof: it only has the clock stepped every time."""
        return self.tolerance_ns > 0 and self.within(offset) is None

    def proves_nothing(self, offset: Offset) -> bool:
        worst_ns = max(offset.uncertainty_ns, offset.measurement.resolution_ns)
        return worst_ns > max(self.tolerance_ns, _MOST_UNCERTAIN_NS)

    def is_settled(self, offset: Offset) -> bool:
        """Whether the clock can stay as it is. A residual below the uncertainty cannot be told from none: another step
        would only add noise.
        """
        is_at_best = abs(offset.ns) <= offset.uncertainty_ns
        return not self.proves_nothing(offset) and (self.within(offset) is True or is_at_best)

    def may_go_back(self, offset: Offset) -> bool:
        """Whether a step might take the clock back although that is forbidden."""
        return self.backward != "step" and offset.interval.high > 0

    def glides_off(self, offset: Offset) -> bool:
        """Whether the clock is within tolerance, and a slew that is under way takes it out: the guest slept, or the
        host's clock was stepped meanwhile.
        """
        left_ns = offset.left_to_slew_ns
        return bool(left_ns and self.within(offset)) and self.is_beyond_after(left_ns, offset)

    def is_beyond_after(self, slewed_ns: int, offset: Offset) -> bool:
        return is_certainly_beyond(offset.interval.shifted(slewed_ns), self.tolerance_ns + _SLEW_GRAIN_NS)
