# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One step or slew of a guest's clock. Its error is not a verdict: the measurement after it is."""

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
from .._protocol.errors import QgaError
from .methods import Method
from .offsets import Gauge, Given
from .report import Offset

# The clock may have been set all the same. A hypervisor may fail in what it does after the setting.
_NO_VERDICT = (
    CommandFailedError,
    ExchangeTimeoutError,
    UnresponsiveError,
    NotConnectedError,
    NotSupportedError,
    HypervisorUnavailableError,
)


class Stepper:
    """Steps one guest's clock.

    ``error`` is that of the last step. ``may_be_stepped``: one was sent, and was not refused before it was tried.
    ``stepped_at_ns`` is when the last one was done, as far as its reply says.
    """

    def __init__(self, given: Given, gauge: Gauge) -> None:
        self.error: QgaError | None = None
        self.may_be_stepped = False
        self.stepped_at_ns: int | None = None
        self._agent, self._reference, self._options, _criteria, self._warn = given
        self._gauge = gauge

    async def approach(self, method: Method, offset: Offset) -> Offset:
        """Make sure that a step would reach the guest that was measured; and at once, if it carries a time. Return the
        offset by the reference, which may have been stepped meanwhile.
        """
        try:
            await self._agent.require_same()
            if method.carries_time:
                # After another client's hwclock a request waits for a second, and its stamp grows old meanwhile.
                await self._agent.come_next()
        except HypervisorUnavailableError:
            await self._agent.wait(self._options.timings.daemon)
        return self._gauge.against_reference(offset.measurement)

    async def step(self, method: Method, offset: Offset) -> Offset:
        """Step the clock once, or begin a slew; and measure.

        :raises QgaError: the guest was lost, or refused before it tried
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
        """An agent that still sits in hwclock answers nobody; it has as long again to come out of it."""
        timings = self._options.timings
        is_restart = isinstance(step_error, HypervisorUnavailableError)
        try:
            await self._agent.wait(timings.daemon if is_restart else timings.hwclock)
        except (DeadlineError, GuestReplacedError):
            raise
        except QgaError as silent:
            raise step_error from silent
