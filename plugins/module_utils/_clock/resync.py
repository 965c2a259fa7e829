# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Giving one guest the right time: measure, decide, step or slew, verify, report."""

from __future__ import annotations

import random
import time

from .._agent import GuestAgent
from .._errors import (
    CommandError,
    CommandFailedError,
    DeadlineError,
    ExchangeTimeoutError,
    GuestReplacedError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotConvergedError,
    NotSupportedError,
    UnresponsiveError,
)
from .._event_loop.tasks import pause
from .._linux.timex import MOST_SLEWED_NS, SLEW_PPM
from .._protocol import values
from .._protocol.errors import QgaError
from .intervals import Interval, Measurement
from .measuring import Suffices, measure, never, reader, stock_reader
from .methods import HWCLOCK_SECONDS, METHODS, SLEW, Method, ResyncOptions
from .reference import JumpWatch, Reference
from .report import Offset, ResyncReport
from .timestamps import SECOND_NS

# What one reply may cost. The longest is that to guest-info, some 6 KiB; of a thousand guests, all may send as much as
# they can at the same time.
REPLY_LIMITS = values.Limits(size=64 * 1024, nesting=16)


# A hypervisor's daemon that is restarted is back by then, and has found the agents again; and an agent in its guest.
_RESTART_SECONDS = 15.0
_AGENT_RESTART_SECONDS = 5.0


# The kernel counts what it slews within a second as done when that second begins, and in whole microseconds.
_SLEW_GRAIN_NS = SECOND_NS // 1_000_000 * SLEW_PPM + 1_000

# The clock may have been set all the same. A hypervisor may fail in what it does behind the setting.
_NO_VERDICT = (
    CommandFailedError,
    ExchangeTimeoutError,
    UnresponsiveError,
    NotConnectedError,
    NotSupportedError,
    HypervisorUnavailableError,
)


# A measurement is given one time limit of an exchange, but no less than this, which a coarse clock takes.
_MEASURING_SECONDS = 1.0

# Another run at the same guest that measured when this one did has added the same delta. Whose step came out wrong
# waits for up to this many times what a look takes, and looks again: two in step would swing the clock for ever.
_APART_LOOKS = 10
_APART_SECONDS = 3.0

# What is more uncertain than by an agent that knows whole minutes only, or read more coarsely, was not measured.
_MOST_UNCERTAIN_NS = 120 * SECOND_NS

# How many more exchanges are worth their time when the interval lies across the tolerance.
_CLOSER_LOOK = 4

# A measurement whose time was over before it was decided is repeated up to this many times, unless two in a row prove
# no more. It is slow answers that prove little, and on a busy host it may be the other guests that make them slow: so
# each time, the pause before it is up to twice as long, and guests of one task are measured again one after the other.
# One that takes longer than this does not keep the next one waiting.
_LOOKS_FOR_PROOF = 4
_LOOKS_IN_VAIN = 2
_NARROWER_PERCENT = 90

_UNPROVEN_HINT = (
    "Slow answers prove little: run the task again when guest and host are less busy, lower concurrency, or raise "
    "tolerance above the uncertainty."
)


def is_certainly_within(interval: Interval, tolerance_ns: int) -> bool:
    return -tolerance_ns <= interval.low and interval.high <= tolerance_ns


def is_certainly_beyond(interval: Interval, tolerance_ns: int) -> bool:
    return interval.low > tolerance_ns or interval.high < -tolerance_ns


def proven_within(interval: Interval, tolerance_ns: int) -> bool | None:
    """Whether an offset in this interval is within tolerance; None: the interval does not say."""
    if is_certainly_within(interval, tolerance_ns):
        return True
    return False if is_certainly_beyond(interval, tolerance_ns) else None


async def resync(agent: GuestAgent, reference: Reference, options: ResyncOptions) -> ResyncReport:
    """Bring the guest's clock to the reference.

    A clock that does not come within tolerance is no exception but the report's ``error``: the figures matter most
    then.

    :raises QgaError: the guest's clock could not be read
    """
    return await _Run(agent, reference, options).report()


class _Run:
    """One resync; holds what its phases tell each other."""

    def __init__(self, agent: GuestAgent, reference: Reference, options: ResyncOptions) -> None:
        self._agent = agent
        # The lead of guest-set-time is learnt from a command that goes the same way.
        self._read = stock_reader(agent)
        self._reference = reference
        self._options = options
        self._started_ns = time.monotonic_ns()
        self._jumps = JumpWatch(reference)
        self._warnings: list[str] = []
        self._step_error: QgaError | None = None
        self._may_be_stepped = False
        self._looked_for_ns = 0
        self._look_seconds = max(_MEASURING_SECONDS, agent.timeout)
        self._looks_left = _LOOKS_FOR_PROOF
        self._slews = 0
        self._has_begun_slew = False
        self._stepped_at_ns: int | None = None

    async def report(self) -> ResyncReport:
        options = self._options
        if options.method != "set_time":
            self._read = await reader(self._agent)
        before = await self._look(self._is_off if await self._can_come_nearer() else never)
        self._agent.pin()  # what was measured of one guest is not to be done to another
        try:
            before = await self._look_on(before)
        except DeadlineError as late:
            return self._finish(before, None, changed=False, within_tolerance=None, error=late)
        if self._proves_nothing(before):
            return self._finish(before, None, changed=False, within_tolerance=None, error=self._contradiction(before))
        if self._glides_off(before):
            if options.backward == "slew":
                return await self._slew_or_leave(before)
            self._warn_of_gliding(before)
        within = self._within(before)
        if within or abs(before.ns) < min(options.tolerance_ns, before.uncertainty_ns):
            error = None if within else self._unproven(before)
            return self._finish(before, None, changed=False, within_tolerance=within, error=error)
        if self._is_forbidden(before):
            return await self._slew_or_leave(before)
        try:
            method = await self._choose()
        except CommandError as missing:
            return self._finish(before, None, changed=False, within_tolerance=within, error=missing)
        if options.dry_run:  # the step would end a slew that is under way
            return self._finish(before, None, changed=True, within_tolerance=within, method=method, planned_slew_ns=0)
        return await self._step_until_right(before, method)

    async def _slew_or_leave(self, before: Offset) -> ResyncReport:
        """The report of a clock that was not stepped because it might have gone back."""
        if self._options.backward != "slew":
            return self._leave(before)
        within = self._within(before)
        if self._ends_right(before):
            return self._finish(before, None, changed=False, within_tolerance=within)
        obstacle = await self._obstacle(before)
        if obstacle is not None:
            return self._leave(before, obstacle)
        if self._options.dry_run:
            planned_ns = -before.likely_ns
            return self._finish(before, None, True, within, method="extended", planned_slew_ns=planned_ns)
        return await self._finish_by_slewing(before, before, "extended")

    async def _finish_by_slewing(
        self, before: Offset, offset: Offset, method: str, attempts: int = 0, is_stepped: bool = False
    ) -> ResyncReport:
        """The report of a clock that is certainly ahead, maybe after some steps."""
        try:
            offset, obstacle = await self._slew(offset)
        except QgaError as lost:
            changed = is_stepped or self._may_be_stepped
            return self._finish(before, None, changed, self._within(offset), method, attempts + self._slews, lost)
        attempts += self._slews
        is_under_way = self._ends_right(offset)
        if obstacle is not None:
            self._warn_of_leaving(offset, obstacle)
        error = None if is_under_way else self._verdict(method, attempts, offset, obstacle is not None)
        if self._step_error is not None and error is None:
            self._warn(f"the clock is being slewed although the agent reported an error: {self._step_error.message}")
        return self._finish(
            before,
            offset,
            changed=is_stepped or self._has_begun_slew or (is_under_way and self._slews > 0),
            within_tolerance=self._within(offset),
            method=method,
            attempts=attempts,
            error=error,
        )

    async def _slew(self, offset: Offset) -> tuple[Offset, str | None]:
        """Have the kernel slew the clock, unless a slew that is under way ends right. The last measurement, and what
        kept the clock from being slewed.

        :raises QgaError: the guest was lost meanwhile
        """
        while self._slews < self._options.attempts and not self._ends_right(offset):
            obstacle = await self._obstacle(offset)
            if obstacle is not None:
                if self._slews:
                    self._step_error = None  # a slew was refused for this reason, which came up meanwhile
                return offset, obstacle
            await self._approach(SLEW)
            offset = self._against_reference(offset.measurement)  # which may have been stepped meanwhile
            self._slews += 1
            await self._step(SLEW, offset)
            self._has_begun_slew = self._has_begun_slew or self._step_error is None
            offset = await self._look_behind()
        return offset, None

    async def _obstacle(self, offset: Offset) -> str | None:
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
        if offset.interval.low <= 0 and not self._glides_off(offset):
            return "it may be late as well"
        return None

    def _ends_right(self, offset: Offset) -> bool:
        """Return whether a slew is under way, or was begun here, that leaves the clock within tolerance."""
        slew = offset.measurement.slew
        is_begun = self._slews > 0 and self._step_error is None
        if slew is None or not (slew.left_ns or is_begun):
            return False
        return not self._is_beyond_after(slew.left_ns, offset)

    def _glides_off(self, offset: Offset) -> bool:
        """Return whether the clock is within tolerance, and a slew is under way that takes it out: the guest slept,
        or the host's clock was stepped meanwhile.
        """
        left_ns = _left_to_slew_ns(offset)
        return bool(left_ns and self._within(offset)) and self._is_beyond_after(left_ns, offset)

    def _is_beyond_after(self, slewed_ns: int, offset: Offset) -> bool:
        return is_certainly_beyond(offset.interval.shifted(slewed_ns), self._options.tolerance_ns + _SLEW_GRAIN_NS)

    def _warn_of_gliding(self, offset: Offset) -> None:
        end_ns = offset.ns + _left_to_slew_ns(offset)
        self._warn(f"the guest's clock is being slewed, and will be off by {_seconds(end_ns)} at the end of that")

    def _leave(self, before: Offset, obstacle: str = "") -> ResyncReport:
        """The report of a clock that was neither stepped nor slewed."""
        if self._glides_off(before):
            self._warn_of_gliding(before)
        self._warn_of_leaving(before, obstacle)
        within = self._within(before)
        error = self._unproven(before) if within is None else None
        return self._finish(before, None, changed=False, within_tolerance=within, error=error)

    async def _step_until_right(self, before: Offset, method: str) -> ResyncReport:
        options = self._options
        offset = before
        is_done = is_contended = False
        attempts = 0
        while attempts < options.attempts and not is_done:
            attempts += 1
            try:
                await self._approach(METHODS[method])
                offset = self._against_reference(offset.measurement)  # which may have been stepped meanwhile
                if self._is_forbidden(offset):
                    attempts -= 1
                    break
                await self._step(METHODS[method], offset)
                offset = await self._look_behind()
                is_refused = isinstance(self._step_error, NotSupportedError)  # another attempt would be, too
                if attempts < options.attempts and not is_refused and not self._is_settled(offset):
                    is_contended = True
                    offset = await self._look_apart()
                offset = await self._look_on(offset)
            except QgaError as lost:
                # Of a step that nobody has measured, it is not claimed that it helped.
                within = False if self._may_be_stepped else self._within(before)
                return self._finish(before, None, self._may_be_stepped, within, method, attempts, lost)
            # To come nearer is not worth what it may spoil: where two may be at it, where the agent had trouble, and
            # where no attempt would be left to mend it.
            is_risky = is_contended or self._step_error is not None or attempts + 1 >= options.attempts
            is_fine = abs(offset.likely_ns) <= METHODS[method].fine_ns(offset)
            is_near = is_fine or is_risky or self._lacks_proof(offset) or self._is_forbidden(offset)
            is_done = is_refused or (is_near and self._is_settled(offset))
        if not attempts:
            return await self._slew_or_leave(offset)
        is_left = self._is_forbidden(offset) and not self._is_settled(offset)
        moved = not _overlap(before.measurement.interval, offset.measurement.interval)
        if is_left and options.backward == "slew":
            return await self._finish_by_slewing(before, offset, method, attempts, moved)
        if is_left:
            self._warn_of_leaving(offset)
        error = self._verdict(method, attempts, offset, is_left)
        if self._step_error is not None and error is None:
            self._warn(f"the clock was set although the agent reported an error: {self._step_error.message}")
        return self._finish(
            before,
            offset,
            changed=moved or self._is_settled(offset),
            within_tolerance=self._within(offset),
            method=method,
            attempts=attempts,
            error=error,
        )

    async def _can_come_nearer(self) -> bool:
        """Whether a step that was not quite right can be followed by another, which costs no second of hwclock's."""
        is_to_step = self._options.attempts > 1 and not self._options.dry_run
        is_by_delta = is_to_step and await self._method() == "extended"
        return is_by_delta and await self._agent.knows(METHODS["extended"].command)

    def _is_off(self, against_monotonic: Interval) -> bool:
        """For certain, so it is stepped as soon as may be: how well is measured behind the step."""
        offset = against_monotonic.shifted(-self._reference.base_ns())
        if self._options.backward == "slew" and offset.high > 0:
            return False  # no step follows, and a slew is too slow for a second one to make up for what the first left
        return is_certainly_beyond(offset, self._options.tolerance_ns)

    def _is_open(self, against_monotonic: Interval) -> bool:
        """Whether the clock is within tolerance is not proven either way."""
        offset = against_monotonic.shifted(-self._reference.base_ns())
        return proven_within(offset, self._options.tolerance_ns) is None

    async def _look(self, suffices: Suffices = never) -> Offset:
        """Measure; more closely if the tolerance lies within the interval."""
        began_ns = time.monotonic_ns()
        samples = self._options.samples
        longest_ns = round(self._look_seconds * SECOND_NS)
        measurement = await measure(self._read, samples, 1, longest_ns, suffices, self._is_open, samples * _CLOSER_LOOK)
        self._looked_for_ns = time.monotonic_ns() - began_ns
        return self._against_reference(measurement)

    async def _look_on(self, offset: Offset) -> Offset:
        """Measure again, as long as that may prove what the last measurement had not time enough to prove."""
        narrow_ns, in_vain = offset.uncertainty_ns * _NARROWER_PERCENT // 100, 0
        while (
            self._lacks_proof(offset)
            and offset.measurement.is_cut_short
            and self._looks_left
            and in_vain < _LOOKS_IN_VAIN
        ):
            longest = _APART_SECONDS * 2 ** (_LOOKS_FOR_PROOF - self._looks_left)
            self._looks_left -= 1
            self._look_seconds = _MEASURING_SECONDS
            await pause(random.uniform(0, longest))  # noqa: S311  # no secret
            async with self._options.turns.turn():
                offset = await self._look_behind()
            in_vain = 0 if offset.uncertainty_ns <= narrow_ns else in_vain + 1
            narrow_ns = min(narrow_ns, offset.uncertainty_ns * _NARROWER_PERCENT // 100)
        return offset

    async def _look_behind(self) -> Offset:
        """Measure behind a step. What it did is not known yet: who is restarted just then is waited for."""
        try:
            return await self._look_at_same()
        except HypervisorUnavailableError:
            await self._agent.wait(_RESTART_SECONDS)
        except NotConnectedError:
            await self._agent.wait(_AGENT_RESTART_SECONDS)
        return await self._look_at_same()

    async def _look_at_same(self) -> Offset:
        offset = await self._look()
        await self._agent.require_same()
        return offset

    async def _look_apart(self) -> Offset:
        longest = min(_APART_SECONDS, _APART_LOOKS * self._looked_for_ns / SECOND_NS)
        await pause(random.uniform(0, longest))  # noqa: S311  # no secret
        return await self._look_behind()

    def _against_reference(self, measurement: Measurement) -> Offset:
        jump_ns = self._jumps.jump_ns()
        if jump_ns:
            self._warn(f"the host's clock was stepped by {_seconds(jump_ns)} meanwhile; its new time counts")
        if measurement.coarse:
            self._warn(
                "the guest's clock is coarse or being slewed: "
                f"its readings differ by {_seconds(measurement.resolution_ns)}"
            )
        base_ns = self._reference.base_ns()
        return Offset(measurement.interval.shifted(-base_ns), measurement.likely_ns - base_ns, measurement)

    def _within(self, offset: Offset) -> bool | None:
        return proven_within(offset.interval, self._options.tolerance_ns)

    def _lacks_proof(self, offset: Offset) -> bool:
        """Nobody asks for a proof of a tolerance of zero: that only has the clock stepped every time."""
        return self._options.tolerance_ns > 0 and self._within(offset) is None

    def _is_settled(self, offset: Offset) -> bool:
        """Whether another step can be spared. A residual below the uncertainty cannot be told from none: stepping again
        would only add noise.
        """
        is_at_best = abs(offset.ns) <= offset.uncertainty_ns
        return not self._proves_nothing(offset) and (self._within(offset) is True or is_at_best)

    def _is_forbidden(self, offset: Offset) -> bool:
        """Whether a step might take the clock back and must not."""
        return self._options.backward != "step" and offset.interval.high > 0

    def _warn_of_leaving(self, offset: Offset, obstacle: str = "") -> None:
        if self._within(offset):
            return
        ahead = f"is {_seconds(offset.ns)}" if offset.ns > 0 else f"may be {_seconds(offset.interval.high)}"
        rule = f"backward={self._options.backward} forbids stepping it back"
        self._warn(f"the guest {ahead} ahead and was left so: {rule}{f', and {obstacle}' if obstacle else ''}")

    def _proves_nothing(self, offset: Offset) -> bool:
        worst_ns = max(offset.uncertainty_ns, offset.measurement.resolution_ns)
        return worst_ns > max(self._options.tolerance_ns, _MOST_UNCERTAIN_NS)

    @staticmethod
    def _contradiction(offset: Offset) -> QgaError:
        return NotConvergedError(
            "the guest's clock cannot be measured: "
            f"its readings contradict each other by {_seconds(offset.measurement.resolution_ns)}",
            "Something in the guest sets its clock all the time, or its agent does not tell the truth.",
        )

    async def _choose(self) -> str:
        method = await self._method()
        await self._agent.require(METHODS[method].command)
        return method

    async def _method(self) -> str:
        if self._options.method != "auto":
            return self._options.method
        return "extended" if await self._agent.knows("guest-update-time") else "set_time"

    async def _step(self, way: Method, offset: Offset) -> None:
        """Step the clock once, or begin a slew. Its error is not a verdict: the measurement after it is."""
        self._step_error = None
        before, self._may_be_stepped = self._may_be_stepped, True
        try:
            warning = await way.step(self._agent, self._reference, offset, self._options)
        except _NO_VERDICT as error:
            self._step_error = error
            await self._await_agent()
        except CommandError:
            self._may_be_stepped = before  # refused before it was tried
            raise
        else:
            if not way.is_gradual:
                self._stepped_at_ns = time.monotonic_ns()
            if warning:
                self._warn(warning)

    async def _approach(self, way: Method) -> None:
        """Make sure that a step would reach the guest that was measured; and at once, if it carries a time."""
        try:
            await self._agent.require_same()
            if way.carries_time:
                # Behind another client's hwclock a request waits for a second, and its stamp grows old meanwhile.
                await self._agent.come_next()
        except HypervisorUnavailableError:
            await self._agent.wait(_RESTART_SECONDS)

    async def _await_agent(self) -> None:
        """An agent that still sits in hwclock answers nobody; it has as long again to come out of it."""
        is_restart = isinstance(self._step_error, HypervisorUnavailableError)
        try:
            await self._agent.wait(_RESTART_SECONDS if is_restart else HWCLOCK_SECONDS)
        except (DeadlineError, GuestReplacedError):
            raise
        except QgaError as silent:
            raise (self._step_error or silent) from silent

    def _verdict(self, method: str, attempts: int, offset: Offset, is_left: bool) -> QgaError | None:
        """What is wrong with the clock after so many steps. To be left ahead, as was demanded, is no error."""
        within = self._within(offset)
        if within is None and (is_left or self._is_settled(offset)):
            return self._unproven(offset, attempts)
        if within or (is_left and self._step_error is None):
            return None
        figures = f"the guest's clock is still {_off_by(offset)}{_after(attempts)}"
        return self._error(figures, METHODS[method].hint)

    def _unproven(self, offset: Offset, attempts: int = 0) -> QgaError | None:
        """The error of a clock that may or may not be within tolerance; None if no proof was asked for."""
        tolerance_ns = self._options.tolerance_ns
        if offset.uncertainty_ns > tolerance_ns:
            self._warn(
                "the tolerance is finer than this guest can be measured: "
                f"the uncertainty is {_seconds(offset.uncertainty_ns)}"
            )
        if not self._lacks_proof(offset):
            return None
        figures = (
            f"the guest's clock is not proven to be within the tolerance of {_seconds(tolerance_ns)}: "
            f"it is {_off_by(offset)}{_after(attempts)}"
        )
        return self._error(figures, _UNPROVEN_HINT)

    def _error(self, figures: str, hint: str | None) -> QgaError:
        if self._step_error is not None:
            return type(self._step_error)(f"{self._step_error.message}, and {figures}", self._step_error.hint)
        return NotConvergedError(figures, hint)

    def _finish(
        self,
        before: Offset,
        after: Offset | None,
        changed: bool,
        within_tolerance: bool | None,
        method: str | None = None,
        attempts: int = 0,
        error: QgaError | None = None,
        planned_slew_ns: int | None = None,
    ) -> ResyncReport:
        now_ns = time.monotonic_ns()
        # Against the monotonic clock: the reference may have been stepped since it was compared with.
        untouched = before.measurement.interval.middle
        planned = self._reference.base_ns() if changed and not planned_slew_ns else untouched
        return ResyncReport(
            changed=changed,
            within_tolerance=within_tolerance,
            method=method,
            attempts=attempts,
            before=before,
            after=after,
            guest_time_before_ns=now_ns + untouched,
            guest_time_after_ns=now_ns + (planned if after is None else after.measurement.interval.middle),
            duration_ns=now_ns - self._started_ns,
            warnings=tuple(self._warnings),
            error=error,
            stepped_at_ns=self._stepped_at_ns,
            slewing_ns=_left_to_slew_ns(after or before) if planned_slew_ns is None else planned_slew_ns,
        )

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warnings:
            self._warnings.append(sentence)


def _overlap(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


def _left_to_slew_ns(offset: Offset) -> int:
    """Return what a slew that is under way still adds to the clock; 0 if the agent reports none."""
    slew = offset.measurement.slew
    return 0 if slew is None else slew.left_ns


def _seconds(nanoseconds: int) -> str:
    return "%.6f s" % (nanoseconds / SECOND_NS)


def _off_by(offset: Offset) -> str:
    return f"off by {_seconds(offset.ns)} (uncertainty {_seconds(offset.uncertainty_ns)})"


def _after(attempts: int) -> str:
    return f" after {attempts} attempt{'' if attempts == 1 else 's'}" if attempts else ""


# ------------------------------------------------------------------------------------------------- the ways of stepping
