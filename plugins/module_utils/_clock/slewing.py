# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slewing a clock that is ahead: the kernel takes it back little by little."""

from __future__ import annotations

from .._linux.timex import MOST_SLEWED_NS
from .methods import SLEW
from .offsets import Given
from .report import Offset
from .stepping import Stepper
from .timestamps import SECOND_NS


class Slewer:
    """Slews one guest's clock. ``count`` is the slews that were tried; ``has_begun``: one was, certainly."""

    def __init__(self, given: Given, stepper: Stepper) -> None:
        self.count = 0
        self.has_begun = False
        self._agent, _reference, self._options, self._criteria, _warn = given
        self._stepper = stepper

    async def slew(self, offset: Offset) -> tuple[Offset, str | None]:
        """Begin a slew, unless one that is under way ends right; and again if that one does not.

        Return the last offset, and the obstacle that kept the clock from being slewed.

        :raises QgaError: the guest was lost meanwhile
        """
        while self.count < self._options.attempts and not self.ends_right(offset):
            obstacle = await self.obstacle(offset)
            if obstacle is not None:
                if self.count:
                    self._stepper.error = None  # a slew was refused for this reason, which came up meanwhile
                return offset, obstacle
            offset = await self._stepper.approach(SLEW, offset)
            self.count += 1
            offset = await self._stepper.step(SLEW, offset)
            self.has_begun = self.has_begun or self._stepper.error is None
        return offset, None

    async def obstacle(self, offset: Offset) -> str | None:
        """Return why the clock cannot be slewed, None if it can."""
        slew = offset.measurement.slew
        if self._options.method not in ("auto", "extended"):
            return f"method {self._options.method} does not slew"
        if slew is None or not await self._agent.knows(SLEW.command):
            return "its agent does not slew clocks"
        if not slew.is_possible:
            return "a time service in the guest disciplines its clock"
        if abs(offset.likely_ns) > MOST_SLEWED_NS:
            return f"at most {MOST_SLEWED_NS / SECOND_NS:g} s is slewed"
        if offset.interval.low <= 0 and not self._criteria.glides_off(offset):
            return "it may be late as well"
        return None

    def ends_right(self, offset: Offset) -> bool:
        """Return whether a slew is under way, or was begun here, that leaves the clock within tolerance."""
        slew = offset.measurement.slew
        is_begun = self.count > 0 and self._stepper.error is None
        if slew is None or not (slew.left_ns or is_begun):
            return False
        return not self._criteria.is_beyond_after(slew.left_ns, offset)
