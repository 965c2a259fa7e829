# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resync one guest's clock: measure, decide, step or slew, measure again, report.

Theory of operation
-------------------
A measurement is an interval that contains the offset (``offsets.py``); ``tolerance.py`` decides what it proves. Once
the guest was measured, it is pinned: another guest that takes its place is not touched.

Decide (``_Run.report``), by the first matching row; a warning decides nothing, and the next rows apply:

=======================================================================  ============================================
measurement                                                              action
=======================================================================  ============================================
the deadline passes while it is repeated for proof                       report the deadline's error
its readings contradict each other                                       report an error
within tolerance, but a slew in progress will take the clock out of it   slew or leave with ``backward=slew``; else warn
within tolerance; or less than both tolerance and uncertainty            leave (an error, if that is not proven)
a step may set the clock back, and ``backward`` forbids that             slew or leave
the agent lacks the method's command                                     report its error
anything else                                                            step; in a dry run, report that
=======================================================================  ============================================

Slew or leave (``_Run._slew_or_leave``): a slew in progress that will end within tolerance is left alone. Otherwise one
is begun, unless there is an obstacle (``Slewer.obstacle``), which becomes a warning. If nothing is left of a slew and
the clock is not within tolerance, it may be about to end: the clock is measured again a second later.

Step (``_Run._step_until_correct``): immediately before each step, it is checked again that it cannot set the clock
back. After each step, the clock is measured, and the first matching row decides whether another step is worth it
(``_Run._is_step_worth_it``):

=======================================================================  ============================================
after a step                                                             another step, while attempts are left
=======================================================================  ============================================
the guest does not support it                                            no: it would be refused again
not settled: neither proven within tolerance nor below the uncertainty   yes, after measuring apart (see below)
settled, but another run may be active, the agent had an error, or no    no: the gain is not worth the risk
attempt would be left to correct a bad step
settled, but not proven within tolerance, or it may set the clock back   no
settled, and the residual is within the method's precision               no
anything else                                                            yes, to improve the result
=======================================================================  ============================================

Measuring apart: a wrong step may have been doubled by another run that measured the same offset. So the clock is
measured again after a random pause, during which the other run may have reverted its step.
"""

from __future__ import annotations

import time
from typing import Callable

from .._agent import GuestAgent
from .._errors import CommandError, DeadlineError, NotConvergedError, NotSupportedError
from .._protocol.errors import QgaError
from .figures import direction, length, signed
from .measuring import never
from .methods import METHODS, ResyncOptions
from .offsets import Gauge, Given
from .reference import Reference
from .report import Offset, ResyncReport
from .stepping import Slewer, Stepper
from .tolerance import Criteria

_CONTRADICTION_HINT = "Something in the guest sets its clock all the time, or its agent returns false times."

_UNPROVEN_HINT = (
    "Slow replies prove little: run the task again when guest and host are less busy, lower concurrency, or raise "
    "tolerance above the uncertainty."
)


async def resync(agent: GuestAgent, reference: Reference, options: ResyncOptions) -> ResyncReport:
    """Set the guest's clock to the reference.

    If the clock does not come within tolerance, the report has an ``error``, and no exception is raised: the figures
    matter most then.

    :raises QgaError: the guest's clock could not be read
    """
    return await _Run(agent, reference, options).report()


class _Run:
    """The decisions of one resync. The gauge, the stepper and the slewer measure and act."""

    def __init__(self, agent: GuestAgent, reference: Reference, options: ResyncOptions) -> None:
        self._started_ns = time.monotonic_ns()
        self._warnings: dict[str, None] = {}  # without duplicates
        # A method would make a reference cycle, and leave the whole run to the garbage collector.
        self._warn: Callable[[str], object] = self._warnings.setdefault
        given = Given(agent, reference, options, Criteria(options.tolerance_ns, options.backward), self._warn)
        self._agent, self._reference, self._options, self._criteria, _warn = given
        self._gauge = Gauge(given)
        self._stepper = Stepper(given, self._gauge)
        self._slewer = Slewer(given, self._stepper, self._gauge)

    async def report(self) -> ResyncReport:
        options, criteria = self._options, self._criteria
        await self._gauge.learn_to_read()
        before = await self._gauge.measure(self._gauge.is_off if await self._can_improve() else never)
        self._agent.pin()
        try:
            before = await self._gauge.measure_for_proof(before)
        except DeadlineError as late:
            return self._report(before, None, error=late)
        if criteria.proves_nothing(before):
            contradiction = (
                "the guest's clock cannot be measured: "
                f"its readings contradict each other by {length(before.measurement.resolution_ns)}"
            )
            return self._report(before, None, error=NotConvergedError(contradiction, _CONTRADICTION_HINT))
        if criteria.slews_off(before):
            if options.backward == "slew":
                return await self._slew_or_leave(before)
            self._warn_of_slewing_off(before)
        within = criteria.within(before)
        if within or abs(before.ns) < min(options.tolerance_ns, before.uncertainty_ns):
            return self._report(before, within, error=None if within else self._unproven(before))
        if criteria.may_go_back(before):
            return await self._slew_or_leave(before)
        method = await self._method()
        try:
            await self._agent.require(METHODS[method].command)
        except CommandError as missing:
            return self._report(before, within, error=missing)
        if options.dry_run:  # the step would end a slew in progress
            return self._report(before, within, changed=True, method=method, planned_slew_ns=0)
        return await self._step_until_correct(before, method)

    async def _method(self) -> str:
        if self._options.method != "auto":
            return self._options.method
        return "extended" if await self._agent.knows("guest-update-time") else "set_time"

    async def _can_improve(self) -> bool:
        """Return whether another step could follow, without the second that hwclock takes."""
        if self._options.attempts <= 1 or self._options.dry_run or await self._method() != "extended":
            return False
        return await self._agent.knows(METHODS["extended"].command)

    async def _step_until_correct(self, before: Offset, method: str) -> ResyncReport:
        offset, attempts = before, 0
        is_contended = False
        while attempts < self._options.attempts:
            attempts += 1
            try:
                offset = await self._stepper.approach(METHODS[method], offset)
                if self._criteria.may_go_back(offset):
                    attempts -= 1
                    break
                offset = await self._stepper.step(METHODS[method], offset)
                is_last = attempts == self._options.attempts
                is_refused = isinstance(self._stepper.error, NotSupportedError)
                if not (is_last or is_refused or self._criteria.is_settled(offset)):
                    is_contended = True
                    offset = await self._gauge.measure_apart()
                offset = await self._gauge.measure_for_proof(offset)
            except QgaError as lost:
                # Without a measurement after the step, its effect is not reported as a success.
                changed = self._stepper.may_be_stepped
                within = False if changed else self._criteria.within(before)
                return self._report(before, within, None, changed, method, attempts, lost)
            if not self._is_step_worth_it(method, offset, attempts, is_contended):
                break
        if not attempts:
            return await self._slew_or_leave(offset)
        moved = not before.measurement.interval.overlaps(offset.measurement.interval)
        is_left = self._criteria.may_go_back(offset) and not self._criteria.is_settled(offset)
        if is_left and self._options.backward == "slew":
            return await self._report_slewing(before, offset, method, attempts, moved)
        if is_left:
            self._warn_of_leaving(offset)
        error = self._verdict(method, attempts, offset, is_left)
        self._warn_of_error_without_effect("the clock was set", error)
        changed = moved or self._criteria.is_settled(offset)
        return self._report(before, self._criteria.within(offset), offset, changed, method, attempts, error)

    def _is_step_worth_it(self, method: str, offset: Offset, attempts: int, is_contended: bool) -> bool:
        """Decide by the second table above."""
        if isinstance(self._stepper.error, NotSupportedError):
            return False
        if not self._criteria.is_settled(offset):
            return True
        if is_contended or self._stepper.error is not None or attempts + 1 >= self._options.attempts:
            return False
        if self._criteria.lacks_proof(offset) or self._criteria.may_go_back(offset):
            return False
        return abs(offset.likely_ns) > METHODS[method].fine_ns(offset)

    async def _slew_or_leave(self, before: Offset) -> ResyncReport:
        """Report a clock that was not stepped because that might have set it back."""
        if self._options.backward != "slew":
            return self._leave(before)
        within = self._criteria.within(before)
        if self._slewer.ends_within_tolerance(before):
            return self._report(before, within)
        obstacle = await self._slewer.obstacle(before)
        if obstacle is not None:
            return self._leave(before, obstacle)
        if self._options.dry_run:
            planned_ns = -before.likely_ns
            return self._report(before, within, changed=True, method="extended", planned_slew_ns=planned_ns)
        return await self._report_slewing(before, before, "extended")

    async def _report_slewing(
        self, before: Offset, offset: Offset, method: str, attempts: int = 0, is_stepped: bool = False
    ) -> ResyncReport:
        """Slew a clock that is certainly ahead, possibly after some steps, and report."""
        slewer = self._slewer
        try:
            offset, obstacle = await slewer.slew(offset)
            is_at_the_end = slewer.may_be_counted_ahead(offset)
            if is_at_the_end:
                offset = await slewer.measure_at_the_end()
        except QgaError as lost:
            changed = is_stepped or self._stepper.may_be_stepped
            within = self._criteria.within(offset)
            return self._report(before, within, None, changed, method, attempts + slewer.count, lost)
        attempts += slewer.count
        within = self._criteria.within(offset)
        is_under_way = within is True if is_at_the_end else slewer.ends_within_tolerance(offset)
        left_for = obstacle if self._criteria.may_go_back(offset) else None
        if left_for is not None:
            self._warn_of_leaving(offset, left_for)
        error = None if is_under_way else self._verdict(method, attempts, offset, left_for is not None)
        self._warn_of_error_without_effect("the clock is being slewed", error)
        changed = is_stepped or slewer.has_begun or (is_under_way and slewer.count > 0)
        return self._report(before, within, offset, changed, method, attempts, error)

    def _leave(self, before: Offset, obstacle: str = "") -> ResyncReport:
        """Report a clock that was neither stepped nor slewed."""
        if self._criteria.slews_off(before):
            self._warn_of_slewing_off(before)
        self._warn_of_leaving(before, obstacle)
        within = self._criteria.within(before)
        return self._report(before, within, error=self._unproven(before) if within is None else None)

    def _verdict(self, method: str, attempts: int, offset: Offset, is_left: bool) -> QgaError | None:
        """Return the error of a clock after steps. A clock that ``backward`` leaves ahead is not an error."""
        within = self._criteria.within(offset)
        is_estimate_within = abs(offset.ns) <= self._options.tolerance_ns
        if within is None and (is_left or is_estimate_within or self._criteria.is_settled(offset)):
            return self._unproven(offset, attempts)
        if within or (is_left and self._stepper.error is None):
            return None
        return self._error(f"the guest's clock is still {_off_by(offset, attempts)}", METHODS[method].hint)

    def _unproven(self, offset: Offset, attempts: int = 0) -> QgaError | None:
        """Return the error of a clock that may or may not be within tolerance; None if no proof is required."""
        tolerance_ns = self._options.tolerance_ns
        if offset.uncertainty_ns > tolerance_ns:
            self._warn(
                "the tolerance is smaller than the uncertainty of this guest's measurement: "
                f"the uncertainty is {length(offset.uncertainty_ns)}"
            )
        if not self._criteria.lacks_proof(offset):
            return None
        figures = (
            f"the guest's clock is not proven to be within the tolerance of {length(tolerance_ns)}: "
            f"it is {_off_by(offset, attempts)}"
        )
        return self._error(figures, _UNPROVEN_HINT)

    def _error(self, figures: str, hint: str | None) -> QgaError:
        error = self._stepper.error
        if error is not None:
            return type(error)(f"{error.message}, and {figures}", error.hint)
        return NotConvergedError(figures, hint)

    def _warn_of_error_without_effect(self, effect: str, error: QgaError | None) -> None:
        if self._stepper.error is not None and error is None:
            self._warn(f"{effect} although the agent reported an error: {self._stepper.error.message}")

    def _warn_of_slewing_off(self, offset: Offset) -> None:
        end_ns = offset.ns + offset.left_to_slew_ns
        self._warn(f"the guest's clock is being slewed, and will be off by {signed(end_ns)} when the slew ends")

    def _warn_of_leaving(self, offset: Offset, obstacle: str = "") -> None:
        if self._criteria.within(offset):
            return
        is_certain = offset.ns > 0
        ahead = f"{'is' if is_certain else 'may be'} {direction(offset.ns if is_certain else offset.interval.high)}"
        rule = f"backward={self._options.backward} forbids stepping it back"
        self._warn(f"the guest's clock {ahead} and was left alone: {rule}{f', and {obstacle}' if obstacle else ''}")

    def _report(
        self,
        before: Offset,
        within: bool | None,
        after: Offset | None = None,
        changed: bool = False,
        method: str | None = None,
        attempts: int = 0,
        error: QgaError | None = None,
        planned_slew_ns: int | None = None,
    ) -> ResyncReport:
        now_ns = time.monotonic_ns()
        # Relative to the monotonic clock, since the reference may have been stepped after the measurement.
        untouched = before.measurement.interval.middle
        planned = self._reference.base_ns() if changed and not planned_slew_ns else untouched
        return ResyncReport(
            changed=changed,
            within_tolerance=within,
            method=method,
            attempts=attempts,
            before=before,
            after=after,
            guest_time_before_ns=now_ns + untouched,
            guest_time_after_ns=now_ns + (planned if after is None else after.measurement.interval.middle),
            duration_ns=now_ns - self._started_ns,
            warnings=tuple(self._warnings),
            error=error,
            stepped_at_ns=self._stepper.stepped_at_ns,
            slewing_ns=(after or before).left_to_slew_ns if planned_slew_ns is None else planned_slew_ns,
            is_planned=changed and self._options.dry_run,
        )


def _off_by(offset: Offset, attempts: int) -> str:
    after = f" after {attempts} attempt{'' if attempts == 1 else 's'}" if attempts else ""
    return f"off by {offset.words}{after}"
