# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stepping a guest's clock, and slewing one that is ahead, so that the kernel sets it back gradually.

An error of a step or slew decides nothing. The measurement after it does.
"""

from __future__ import annotations

import time

from .._errors import (
    CommandError,
    CommandFailedError,
    DeadlineError,
    ExchangeTimeoutError,
    GuestReplacedError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotSupportedError,
    UnresponsiveError,
)
from .._event_loop.tasks import pause
from .._linux.timex import MOST_SLEWED_NS
from .._protocol.errors import QgaError
from .methods import SLEW, Method
from .offsets import Gauge, Given
from .report import Offset
from .timestamps import SECOND_NS

# The clock may have been set despite these errors. The hypervisor can fail after setting it.
_NO_VERDICT = (
    CommandFailedError,
    ExchangeTimeoutError,
    UnresponsiveError,
    NotConnectedError,
    NotSupportedError,
    HypervisorUnavailableError,
)

# At the beginning of each second, the kernel counts that second's slew as done.
_COUNTED_AHEAD_SECONDS = 1.0


class Stepper:
    """Steps one guest's clock.

    ``error`` is the error of the last step. ``may_be_stepped``: a step was sent and was not refused in advance.
    ``stepped_at_ns`` is the time of the last step with a reply.
    """

    def __init__(self, given: Given, gauge: Gauge) -> None:
        self.error: QgaError | None = None
        self.may_be_stepped = False
        self.stepped_at_ns: int | None = None
        self._agent, self._reference, self._options, _criteria, self._warn = given
        self._gauge = gauge

    async def approach(self, method: Method, offset: Offset) -> Offset:
        """Make sure that a step reaches the guest that was measured, and without delay if it carries a time. Return the
        offset from the reference, which may have been stepped since the measurement.
        """
        try:
            await self._agent.require_same()
            if method.carries_time:
                # While another client's hwclock runs, a request waits for a second, which makes its time wrong.
                await self._agent.come_next()
        except HypervisorUnavailableError:
            await self._agent.wait(self._options.timings.daemon)
        return self._gauge.against_reference(offset.measurement)

    async def step(self, method: Method, offset: Offset) -> Offset:
        """Step the clock once, or begin a slew, and measure.

        :raises QgaError: the guest was lost, or it refused in advance
        """
        self.error = None
        before, self.may_be_stepped = self.may_be_stepped, True
        try:
            warning = await method.step(self._agent, self._reference, offset, self._options)
        except _NO_VERDICT as error:
            self.error = error
            await self._await_agent(error)
        except CommandError:
            self.may_be_stepped = before
            raise
        else:
            if not method.is_gradual:
                self.stepped_at_ns = time.monotonic_ns()
            if warning:
                self._warn(warning)
        return await self._gauge.measure_after_step()

    async def _await_agent(self, step_error: QgaError) -> None:
        """Wait until an agent that still runs hwclock answers again, or its timeout has passed a second time."""
        timings = self._options.timings
        is_restart = isinstance(step_error, HypervisorUnavailableError)
        try:
            await self._agent.wait(timings.daemon if is_restart else timings.hwclock)
        except (DeadlineError, GuestReplacedError):
            raise
        except QgaError as silent:
            raise step_error from silent


class Slewer:
    """Slews one guest's clock. ``count`` is the number of attempts; ``has_begun``: one certainly succeeded."""

    def __init__(self, given: Given, stepper: Stepper, gauge: Gauge) -> None:
        self.count = 0
        self.has_begun = False
        self._agent, _reference, self._options, self._criteria, _warn = given
        self._stepper = stepper
        self._gauge = gauge

    async def slew(self, offset: Offset) -> tuple[Offset, str | None]:
        """Begin a slew, unless one in progress ends within tolerance; retry until one does.

        Return the last offset, and the obstacle that prevented a slew.

        :raises QgaError: the guest was lost
        """
        while self.count < self._options.attempts and not self.ends_within_tolerance(offset):
            obstacle = await self.obstacle(offset)
            if obstacle is not None:
                if self.count:
                    self._stepper.error = None  # this is why a slew was refused
                return offset, obstacle
            offset = await self._stepper.approach(SLEW, offset)
            self.count += 1
            offset = await self._stepper.step(SLEW, offset)
            self.has_begun = self.has_begun or self._stepper.error is None
        return offset, None

    def may_be_counted_ahead(self, offset: Offset) -> bool:
        """Return whether nothing is left to slew, and the clock is not within tolerance yet but may be in a second."""
        is_within = self._criteria.tolerance_ns == 0 or self._criteria.within(offset) is True
        return not offset.left_to_slew_ns and not is_within and self.ends_within_tolerance(offset)

    async def measure_at_the_end(self) -> Offset:
        """Measure after the kernel has finished what it already counts as done.

        :raises QgaError: the guest was lost
        """
        await pause(_COUNTED_AHEAD_SECONDS)
        return await self._gauge.measure_for_proof(await self._gauge.measure_after_step())

    async def obstacle(self, offset: Offset) -> str | None:
        """Return the reason why the clock cannot be slewed; None if it can."""
        slew = offset.measurement.slew
        if self._options.method not in ("auto", "extended"):
            return f"method {self._options.method} does not slew"
        if slew is None or not await self._agent.knows(SLEW.command):
            return "its agent does not slew clocks"
        if not slew.is_possible:
            return "a time service in the guest disciplines its clock"
        if abs(offset.likely_ns) > MOST_SLEWED_NS:
            return f"at most {MOST_SLEWED_NS / SECOND_NS:g} s is slewed"
        if offset.interval.low <= 0 and not self._criteria.slews_off(offset):
            return "it may be behind as well"
        return None

    def ends_within_tolerance(self, offset: Offset) -> bool:
        """Return whether a slew is in progress, or was begun here, that will bring the clock within tolerance."""
        slew = offset.measurement.slew
        is_begun = self.count > 0 and self._stepper.error is None
        if slew is None or not (slew.left_ns or is_begun):
            return False
        return not self._criteria.is_beyond_after(slew.left_ns, offset)
