# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import resync as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import Interval
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.outcome import message_of, status_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.resync import (
    is_certainly_beyond,
    is_certainly_within,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    CommandNotFoundError,
    DeadlineError,
    ExchangeTimeoutError,
    GuestReplacedError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotConvergedError,
    NotSupportedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from hypothesis import given
from hypothesis import strategies as st

from tests.support.blocking import blocking
from tests.support.simulated_guest import (
    EXTENDED_COMMANDS,
    MICROSECOND,
    MILLISECOND,
    SECOND,
    STOCK_COMMANDS,
    GuestClock,
    Handler,
    SimulatedGuest,
    TimeLine,
    disabled,
    failed,
    not_found,
)

resync = blocking(module.resync)

UNSUPPORTED = "this feature or command is not currently supported"

DOCUMENTED = {
    "changed",
    "within_tolerance",
    "method",
    "attempts",
    "offset_before_ns",
    "uncertainty_before_ns",
    "offset_after_ns",
    "uncertainty_after_ns",
    "round_trip_ns",
    "resolution_ns",
    "slewing",
    "guest_time_before_ns",
    "guest_time_after_ns",
    "duration_ns",
}


# There and back, of a guest that is slow and always the same.
WAYS = (5_000 * MICROSECOND, 1_500 * MICROSECOND)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> TimeLine:
    line = TimeLine()
    line.install(monkeypatch)
    return line


def stock(line: TimeLine, ahead_ns: int, **clock: int) -> SimulatedGuest:
    return SimulatedGuest(line, GuestClock(line, ahead_ns, **clock))


def extended(line: TimeLine, ahead_ns: int, **clock: int) -> SimulatedGuest:
    return SimulatedGuest(line, GuestClock(line, ahead_ns, **clock), EXTENDED_COMMANDS)


def run(guest: SimulatedGuest, utc_offset_ns: int = 0, **options: Any) -> ResyncReport:
    report = resync(GuestAgent(guest, 5.0), guest.line.reference(utc_offset_ns), ResyncOptions(**options))
    assert_honest(guest, report, utc_offset_ns)
    return report


def assert_honest(guest: SimulatedGuest, report: ResyncReport, utc_offset_ns: int = 0) -> None:
    """The last measurement holds the truth, and the dictionary has exactly what is documented."""
    result = report.as_dict()
    assert set(result) == (DOCUMENTED if report.error is None else DOCUMENTED | {"error"})
    assert all(value.__class__ is int for name, value in result.items() if name.endswith("_ns") and value is not None)
    if report.after is not None or not report.attempts:
        latest = report.after or report.before
        truth_ns = guest.clock.offset_ns() - utc_offset_ns
        assert abs(latest.ns - truth_ns) <= latest.uncertainty_ns


def is_set(guest: SimulatedGuest) -> bool:
    return bool(guest.asked("guest-set-time") or guest.asked("guest-update-time"))


class TestDeciding:
    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize("ahead_ns", [0, 99 * MILLISECOND, -99 * MILLISECOND])
    def test_a_clock_within_tolerance_is_left_alone(self, line: TimeLine, make: Any, ahead_ns: int) -> None:
        guest = make(line, ahead_ns)
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.method, report.attempts) == (False, True, None, 0)
        assert report.after is None
        assert report.error is None
        assert report.guest_time_before_ns == report.guest_time_after_ns
        assert not is_set(guest)

    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize("ahead_ns", [-7 * 86_400 * SECOND, -20 * SECOND, -102 * MILLISECOND, 102 * MILLISECOND])
    def test_a_clock_beyond_it_is_stepped_and_a_second_run_has_nothing_to_do(
        self, line: TimeLine, make: Any, ahead_ns: int
    ) -> None:
        guest = make(line, ahead_ns)
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts) == (True, True, 1)
        assert report.error is None
        assert report.warnings == ()
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND
        again = run(guest)
        assert (again.changed, again.attempts, again.after) == (False, 0, None)

    @pytest.mark.parametrize("ahead_us", [99_900, 100_200, -99_900, -100_200])
    def test_across_the_tolerance_more_exchanges_are_made_and_what_is_not_proven_within_is_stepped(
        self, line: TimeLine, ahead_us: int
    ) -> None:
        guest = stock(line, ahead_us * MICROSECOND)
        report = run(guest)
        asked = [name for name, _arguments in guest.requests]
        assert asked[: asked.index("guest-set-time")].count("guest-get-time") == 4 + 64
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, True, 1, None)

    def test_the_whole_interval_has_to_be_within_tolerance(self, line: TimeLine) -> None:
        began_ns = line.now_ns

        def found(tolerance_ns: int) -> ResyncReport:
            # Each time the same guest at the same time, so that the same offset is found.
            line.now_ns = began_ns
            return run(stock(line, 100 * MILLISECOND), tolerance_ns=tolerance_ns, dry_run=True)

        most_ns = found(SECOND).before.interval.high
        at, below = found(most_ns), found(most_ns - MICROSECOND)
        assert at.before.interval.high == most_ns
        assert (at.within_tolerance, at.changed) == (True, False)
        assert (below.within_tolerance, below.changed, below.error) == (None, True, None)

    def test_intervals_that_touch_have_an_offset_in_common(self) -> None:
        assert module._overlap(Interval(0, 5), Interval(5, 9))
        assert module._overlap(Interval(5, 9), Interval(0, 5))
        assert not module._overlap(Interval(0, 5), Interval(6, 9))
        assert not module._overlap(Interval(6, 9), Interval(0, 5))

    def test_how_certain_an_interval_is(self) -> None:
        assert is_certainly_within(Interval(-10, 10), 10)
        assert not is_certainly_within(Interval(-11, 10), 10)
        assert not is_certainly_within(Interval(-10, 11), 10)
        assert is_certainly_beyond(Interval(11, 20), 10)
        assert is_certainly_beyond(Interval(-20, -11), 10)
        assert not is_certainly_beyond(Interval(10, 20), 10)
        assert not is_certainly_beyond(Interval(-20, -10), 10)

    def test_tolerance_zero_steps_every_time(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        for _run in range(2):
            report = run(guest, tolerance_ns=0)
            # Nothing is proven to be within nothing, and nobody asked for it.
            assert (report.changed, report.within_tolerance, report.error) == (True, None, None)
            assert any("finer than this guest can be measured" in warning for warning in report.warnings)

    def test_the_same_warning_is_given_once(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [-3 * MILLISECOND, 0])
        report = run(guest, tolerance_ns=0)
        assert report.attempts == 2
        assert len(report.warnings) == 1

    def test_samples_are_exchanges(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        report = run(guest, samples=3)
        assert len(guest.asked("guest-get-time")) == 3
        assert report.before.measurement.exchanges == 3

    def test_a_guest_that_is_ahead_is_left_so_if_going_back_is_forbidden(self, line: TimeLine) -> None:
        guest = stock(line, 20 * SECOND)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.method, report.error) == (False, False, None, None)
        assert [w for w in report.warnings if "20.0000" in w and "backward=leave" in w]
        assert not is_set(guest)

    def test_a_guest_that_is_behind_is_stepped_all_the_same(self, line: TimeLine) -> None:
        assert run(stock(line, -20 * SECOND), backward="leave").changed

    def test_the_reference_may_differ_from_utc(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        report = run(guest, utc_offset_ns=3_600 * SECOND)
        assert report.changed
        assert abs(guest.clock.offset_ns() - 3_600 * SECOND) < 300 * MICROSECOND


def never_back(guest: SimulatedGuest, *left_ns: int) -> None:
    """After each step, the clock is off by the next of these. No step may take it back."""
    left = iter(left_ns)

    def watched(usual: Handler) -> Handler:
        def handle(arguments: Any) -> Reply:
            before_ns, began_ns = guest.clock.true_ns(), guest.line.now_ns
            reply = usual(arguments)
            assert guest.clock.true_ns() - before_ns >= guest.line.now_ns - began_ns, "it was taken back"
            guest.clock.add(next(left))
            return reply

        return handle

    for command in ("guest-set-time", "guest-update-time"):
        guest.handlers[command] = watched(guest.handlers[command])


def steps(guest: SimulatedGuest) -> int:
    return len(guest.asked("guest-set-time")) + len(guest.asked("guest-update-time"))


class TestGoingBackIsForbidden:
    """It is asked before every step, and not only before the first one."""

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_step_that_went_too_far_is_left_within_tolerance_without_a_word(self, line: TimeLine, make: Any) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, 50 * MILLISECOND)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts) == (True, True, 1)
        assert (report.error, report.warnings) == (None, ())

    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize("left_ns", [900 * SECOND, 105 * MILLISECOND])
    @pytest.mark.parametrize("attempts", [1, 2, 3])
    def test_a_step_that_went_too_far_is_left_with_a_warning(
        self, line: TimeLine, make: Any, left_ns: int, attempts: int
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, left_ns)
        report = run(guest, backward="leave", attempts=attempts)
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, False, 1, None)
        assert report.after is not None
        assert report.after.ns == pytest.approx(left_ns, abs=2 * MILLISECOND)
        (warning,) = report.warnings
        assert f"{report.after.ns / SECOND:.6f} s ahead" in warning
        assert "backward=leave" in warning

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_clock_that_jumps_between_two_attempts_is_left_with_a_warning(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, make: Any
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, -5 * SECOND, 0)
        sleep = line.sleep

        def sleep_while_another_sets_it(seconds: float) -> None:
            guest.clock.add(905 * SECOND)
            sleep(seconds)

        monkeypatch.setattr(line, "sleep", sleep_while_another_sets_it)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, False, 1, None)
        assert "900.0" in report.warnings[0]

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_residual_that_is_late_is_stepped_again(self, line: TimeLine, make: Any) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, -5 * SECOND, 0)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, True, 2, None)

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_host_that_goes_back_before_the_step_takes_no_guest_along(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, make: Any
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest)

        async def require_same(_timeout: float) -> None:
            line.step_host(-900 * SECOND)

        monkeypatch.setattr(guest, "require_same", require_same)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts, report.after) == (False, False, 0, None)
        assert report.before.ns == pytest.approx(880 * SECOND, abs=2 * MILLISECOND)
        assert report.error is None
        assert any("880.0" in warning and "backward=leave" in warning for warning in report.warnings)

    def test_a_guest_that_is_right_by_the_hosts_new_time_is_left_without_a_word_of_that(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guest = stock(line, -20 * SECOND)
        steps_of_host = iter([-20_050 * MILLISECOND])

        async def require_same(_timeout: float) -> None:
            line.step_host(next(steps_of_host, 0))

        monkeypatch.setattr(guest, "require_same", require_same)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.error) == (False, True, None)
        (warning,) = report.warnings
        assert "host's clock was stepped" in warning

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_host_that_goes_back_between_two_attempts_takes_no_guest_along(self, line: TimeLine, make: Any) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, -5 * SECOND)
        guest.delays = lambda _command: (line.step_host(-900 * SECOND * (steps(guest) == 1)), WAYS)[1]
        report = resync(GuestAgent(guest, 5.0), line.reference(), ResyncOptions(backward="leave"))
        assert (report.changed, report.attempts) == (True, 1)
        assert any("backward=leave" in warning for warning in report.warnings)

    def test_the_agents_error_is_not_forgotten_over_it(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)

        def fails_behind(arguments: Any) -> Reply:
            guest.set_time(arguments)
            guest.clock.add(900 * SECOND)
            return failed("hwclock failed")

        guest.handlers["guest-set-time"] = fails_behind
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts) == (True, False, 1)
        assert isinstance(report.error, CommandFailedError)
        assert "hwclock failed, and the guest's clock is still off by 9" in report.error.message

    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_guest_that_may_be_ahead_is_left(self, line: TimeLine, make: Any, dry_run: bool) -> None:
        guest = make(line, -10 * MICROSECOND)
        report = run(guest, tolerance_ns=0, backward="leave", dry_run=dry_run)
        assert (report.changed, report.attempts, report.error) == (False, 0, None)
        assert any("backward=leave" in warning for warning in report.warnings)
        assert not is_set(guest)

    @pytest.mark.parametrize("backward", ["leave", "slew"])
    @pytest.mark.parametrize("make", [stock, extended])
    @given(
        ahead_ns=st.integers(-30 * SECOND, 30 * SECOND) | st.integers(-SECOND, SECOND),
        left_ns=st.lists(st.integers(-2 * SECOND, 2 * SECOND), min_size=5, max_size=5),
        attempts=st.integers(1, 5),
    )
    def test_no_step_ever_takes_the_clock_back(
        self, make: Any, backward: str, ahead_ns: int, left_ns: list[int], attempts: int
    ) -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            line = TimeLine()
            line.install(monkeypatch)
            guest = make(line, ahead_ns)
            never_back(guest, *left_ns, *left_ns)
            report = run(guest, backward=backward, attempts=attempts)
            assert report.attempts == steps(guest)
            if report.within_tolerance is not True:
                assert report.error is not None or any("backward=" in each for each in report.warnings)


def slews(guest: SimulatedGuest) -> int:
    return sum("slew" in arguments for arguments in guest.asked("guest-update-time"))


def figures(report: ResyncReport) -> tuple[bool, bool | None, str | None, int]:
    return report.changed, report.within_tolerance, report.method, report.attempts


class TestSlewing:
    """A clock that is ahead glides back."""

    @pytest.mark.parametrize("ahead_ns", [102 * MILLISECOND, 200 * MILLISECOND, 499 * MILLISECOND])
    def test_a_clock_that_is_ahead_glides_back_and_a_second_run_changes_nothing(
        self, line: TimeLine, ahead_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        report = run(guest, backward="slew")
        assert figures(report) == (True, False, "extended", 1)
        assert (report.error, report.warnings, report.stepped_at_ns) == (None, (), None)
        assert report.slewing_ns == pytest.approx(-ahead_ns, abs=MILLISECOND)
        assert guest.clock.offset_ns() == pytest.approx(ahead_ns, abs=MILLISECOND)
        (arguments,) = guest.asked("guest-update-time")
        assert (arguments["relative"], arguments["slew"]) == (True, True)

        line.now_ns += 2 * SECOND
        again = run(guest, backward="slew")
        assert figures(again) == (False, False, None, 0)
        assert (again.error, again.warnings, again.after) == (None, (), None)
        assert again.slewing_ns == pytest.approx(MILLISECOND - ahead_ns, abs=MILLISECOND)
        assert slews(guest) == 1

        line.now_ns += 2000 * abs(again.slewing_ns)
        last = run(guest, backward="slew")
        assert figures(last) == (False, True, None, 0)
        assert last.slewing_ns == 0
        assert abs(guest.clock.offset_ns()) < MILLISECOND

    def test_what_is_left_is_reported_with_the_time_that_it_takes(self, line: TimeLine) -> None:
        guest = extended(line, 0)
        guest.clock.slew(-200 * MILLISECOND)
        report = run(guest)
        assert report.slewing_ns == pytest.approx(-200 * MILLISECOND, abs=10 * MICROSECOND)
        assert report.as_dict()["slewing"] == {
            "left": report.slewing_ns / SECOND,
            "left_ns": report.slewing_ns,
            "duration": -report.slewing_ns * 2000 / SECOND,
            "duration_ns": -report.slewing_ns * 2000,
        }
        assert run(extended(line, 0)).as_dict()["slewing"] is None

    def test_with_a_tolerance_of_zero_it_is_begun_once(self, line: TimeLine) -> None:
        guest = extended(line, 5 * MILLISECOND)
        assert figures(run(guest, backward="slew", tolerance_ns=0)) == (True, False, "extended", 1)
        line.now_ns += 3 * SECOND
        again = run(guest, backward="slew", tolerance_ns=0)
        assert (again.changed, again.error, slews(guest)) == (False, None, 1)

    @pytest.mark.parametrize(
        ("reason", "ahead_ns", "options", "change"),
        [
            ("at most 0.5 s is slewed", 502 * MILLISECOND, {}, lambda _guest: None),
            ("at most 0.5 s is slewed", 20 * SECOND, {}, lambda _guest: None),
            ("a time service", 200 * MILLISECOND, {}, lambda guest: setattr(guest, "is_disciplined", True)),
            ("its agent does not slew", 200 * MILLISECOND, {}, lambda guest: setattr(guest, "slews", False)),
            (
                "its agent does not slew",
                200 * MILLISECOND,
                {},
                lambda guest: guest.commands["guest-update-time"].update(enabled=False),
            ),
            ("its agent does not slew", 200 * MILLISECOND, {}, lambda guest: guest.commands.pop("guest-get-clock")),
            ("method set_time does not slew", 200 * MILLISECOND, {"method": "set_time"}, lambda _guest: None),
            ("it may be late as well", 10 * MICROSECOND, {"tolerance_ns": 0}, lambda _guest: None),
        ],
    )
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_clock_that_cannot_be_slewed_is_left_with_the_reason(
        self,
        line: TimeLine,
        reason: str,
        ahead_ns: int,
        options: dict[str, Any],
        change: Callable[[SimulatedGuest], object],
        dry_run: bool,
    ) -> None:
        guest = extended(line, ahead_ns)
        change(guest)
        report = run(guest, backward="slew", dry_run=dry_run, **options)
        assert (report.changed, report.attempts, report.error, report.slewing_ns) == (False, 0, None, 0)
        (warning,) = (each for each in report.warnings if "backward=slew" in each)
        assert reason in warning
        assert "ahead and was left so" in warning
        assert not is_set(guest)

    def test_the_stock_agents_guest_is_left_with_the_reason(self, line: TimeLine) -> None:
        guest = stock(line, 200 * MILLISECOND)
        report = run(guest, backward="slew")
        assert (report.changed, report.within_tolerance, report.error) == (False, False, None)
        assert "its agent does not slew clocks" in report.warnings[0]
        assert not is_set(guest)

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_guest_that_is_late_is_stepped_all_the_same(self, line: TimeLine, make: Any) -> None:
        guest = make(line, -20 * SECOND)
        report = run(guest, backward="slew")
        assert (report.changed, report.within_tolerance, slews(guest)) == (True, True, 0)

    @pytest.mark.parametrize("backward", ["step", "slew", "leave"])
    def test_a_guest_that_slept_while_it_glided_is_stepped_and_glides_no_more(
        self, line: TimeLine, backward: str
    ) -> None:
        guest = extended(line, -20 * SECOND)
        guest.clock.slew(-100 * MILLISECOND)
        report = run(guest, backward=backward)
        assert (report.changed, report.within_tolerance, report.slewing_ns) == (True, True, 0)
        line.now_ns += 200 * SECOND
        assert abs(guest.clock.offset_ns()) < MILLISECOND

    def test_one_that_may_be_stepped_back_is_stepped_and_glides_no_more(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        guest.clock.slew(-200 * MILLISECOND)
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.slewing_ns, slews(guest)) == (True, True, 0, 0)

    def test_a_dry_run_says_what_would_be_done(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        report = run(guest, backward="slew", dry_run=True)
        assert figures(report) == (True, False, "extended", 0)
        assert report.slewing_ns == pytest.approx(-200 * MILLISECOND, abs=MILLISECOND)
        assert report.guest_time_after_ns == report.guest_time_before_ns
        assert not is_set(guest)

        guest.clock.slew(-200 * MILLISECOND)
        again = run(guest, backward="slew", dry_run=True)
        assert figures(again) == (False, False, None, 0)
        assert again.slewing_ns < 0

    @pytest.mark.parametrize("backward", ["step", "slew", "leave"])
    def test_a_dry_run_of_a_step_reports_no_slew(self, line: TimeLine, backward: str) -> None:
        guest = extended(line, -SECOND)
        guest.clock.slew(100 * MILLISECOND)
        report = run(guest, backward=backward, dry_run=True)
        assert (report.changed, report.slewing_ns) == (True, 0)  # the step would end it
        assert (status_of(report), message_of(report)) == ("corrected", None)

    def test_a_slew_that_does_not_end_right_is_replaced(self, line: TimeLine) -> None:
        guest = extended(line, 400 * MILLISECOND)
        guest.clock.slew(-100 * MILLISECOND)
        report = run(guest, backward="slew")
        assert figures(report) == (True, False, "extended", 1)
        assert report.slewing_ns == pytest.approx(-400 * MILLISECOND, abs=MILLISECOND)

    @pytest.mark.parametrize("ahead_ns", [50 * MILLISECOND, -50 * MILLISECOND])
    def test_a_slew_that_takes_a_right_clock_out_of_tolerance_is_replaced(self, line: TimeLine, ahead_ns: int) -> None:
        guest = extended(line, ahead_ns)
        guest.clock.slew(-300 * MILLISECOND)
        report = run(guest, backward="slew")
        assert figures(report) == (True, True, "extended", 1)
        assert report.error is None
        line.now_ns += 700 * SECOND
        assert abs(guest.clock.offset_ns()) < MILLISECOND

    @pytest.mark.parametrize(
        ("backward", "is_disciplined"), [("step", False), ("leave", False), ("slew", True), ("step", True)]
    )
    def test_where_it_cannot_be_replaced_that_is_a_warning(
        self, line: TimeLine, backward: str, is_disciplined: bool
    ) -> None:
        guest = extended(line, 50 * MILLISECOND)
        guest.clock.slew(-300 * MILLISECOND)
        guest.is_disciplined = is_disciplined
        report = run(guest, backward=backward)
        assert figures(report) == (False, True, None, 0)
        (warning,) = report.warnings
        assert "is being slewed, and will be off by -0.2" in warning
        assert not is_set(guest)

    def test_a_step_that_went_too_far_is_followed_by_a_slew(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        never_back(guest, 300 * MILLISECOND, 0)
        usual = guest.handlers["guest-update-time"]
        guest.handlers["guest-update-time"] = lambda arguments: (
            guest.update_time(arguments) if "slew" in arguments else usual(arguments)
        )
        report = run(guest, backward="slew")
        assert figures(report) == (True, False, "extended", 2)
        assert (report.error, report.warnings) == (None, ())
        assert report.slewing_ns == pytest.approx(-300 * MILLISECOND, abs=MILLISECOND)

    def test_a_step_that_went_too_far_for_a_slew_is_left_with_the_reason(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        never_back(guest, 900 * MILLISECOND)
        report = run(guest, backward="slew")
        assert figures(report) == (True, False, "extended", 1)
        assert report.error is None
        assert "at most 0.5 s is slewed" in report.warnings[0]
        assert slews(guest) == 0

    def test_an_agent_without_the_permission_is_an_error_with_the_figures(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        guest.handlers["guest-update-time"] = lambda _arguments: failed("The clock was not set: CAP_SYS_TIME")
        report = run(guest, backward="slew", attempts=2)
        assert figures(report) == (False, False, "extended", 2)
        assert isinstance(report.error, CommandFailedError)
        assert "CAP_SYS_TIME, and the guest's clock is still off by 0.2" in report.error.message

    def test_a_time_service_that_comes_first_is_no_error(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)

        def comes_first(arguments: Any) -> Reply:
            guest.is_disciplined = True
            return guest.update_time(arguments)

        guest.handlers["guest-update-time"] = comes_first
        report = run(guest, backward="slew")
        assert (report.changed, report.within_tolerance, report.attempts) == (False, False, 1)
        assert slews(guest) == 1
        assert any("a time service in the guest" in each for each in report.warnings)
        assert report.error is None

    @pytest.mark.parametrize("is_refused", [False, True])
    @pytest.mark.parametrize(("stepped_ns", "is_error"), [(-250 * MILLISECOND, True), (-400 * MILLISECOND, False)])
    def test_a_slew_that_was_begun_is_a_change_whatever_came_of_it(
        self, line: TimeLine, stepped_ns: int, is_error: bool, is_refused: bool
    ) -> None:
        guest = extended(line, 200 * MILLISECOND)

        def host_is_stepped(arguments: Any) -> Reply:
            line.step_host(stepped_ns)
            return failed("no") if is_refused else guest.update_time(arguments)

        guest.handlers["guest-update-time"] = host_is_stepped
        # Too far for another slew, or that would be one too many.
        report = run(guest, backward="slew", attempts=1 if is_error else 2)
        assert figures(report) == (not is_refused, False, "extended", 1)
        assert (report.error is not None) is is_error

    def test_a_reply_that_is_lost_is_no_verdict(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        guest.handlers["guest-update-time"] = guest.times_out(guest.update_time)
        report = run(guest, backward="slew")
        assert figures(report) == (True, False, "extended", 1)
        assert report.error is None
        assert "the clock is being slewed although the agent reported an error" in report.warnings[0]

    def test_a_guest_that_is_lost_after_it_is_an_error(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)

        def replaced(arguments: Any) -> Reply:
            guest.update_time(arguments)
            guest.handlers["guest-get-clock"] = lambda _arguments: disabled("guest-get-clock")
            return Returned({})

        guest.handlers["guest-update-time"] = replaced
        report = run(guest, backward="slew")
        assert isinstance(report.error, CommandDisabledError)
        assert (report.changed, report.attempts) == (True, 1)

    def test_slow_answers_prove_nothing_meanwhile_and_that_is_no_failure(self, line: TimeLine) -> None:
        guest = extended(line, 150 * MILLISECOND)
        guest.delays = lambda _command: (100 * MILLISECOND, 60 * MILLISECOND)
        report = run(guest, backward="slew")
        assert (report.changed, report.within_tolerance, report.error) == (True, None, None)
        assert report.slewing_ns < 0

    def test_the_hardware_clock_is_not_written_and_that_is_said(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        report = run(guest, backward="slew", update_rtc=True)
        assert report.changed
        assert any("hardware clock was not updated" in each for each in report.warnings)


SLOW = (200 * MILLISECOND, 120 * MILLISECOND)


class TestProof:
    """That a clock is within tolerance is claimed only if all of the interval is."""

    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize(
        ("ahead_ns", "ways"),
        [(0, SLOW), (80 * MILLISECOND, SLOW), (-156 * MILLISECOND, SLOW), (0, (2 * SECOND, 2 * SECOND))],
    )
    def test_a_clock_that_may_be_right_is_not_claimed_to_be(
        self, line: TimeLine, make: Any, ahead_ns: int, ways: tuple[int, int]
    ) -> None:
        guest = make(line, ahead_ns)
        guest.delays = lambda _command: ways
        report = run(guest)
        assert report.within_tolerance is report.as_dict()["within_tolerance"] is None
        assert isinstance(report.error, NotConvergedError)
        assert report.error.message.startswith("the guest's clock is not proven to be within the tolerance of 0.100000")
        assert f"(uncertainty {(report.after or report.before).uncertainty_ns / SECOND:.6f} s)" in report.error.message
        assert "raise tolerance" in report.error.hint
        (warning,) = report.warnings
        assert "finer than this guest can be measured" in warning

    @pytest.mark.parametrize("make", [stock, extended])
    def test_what_a_step_did_is_not_claimed_either(self, line: TimeLine, make: Any) -> None:
        guest = make(line, -20 * SECOND)
        guest.delays = lambda _command: SLOW
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts) == (True, None, 1)
        assert report.after is not None
        assert isinstance(report.error, NotConvergedError)
        assert report.error.message.endswith("after 1 attempt")

    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize("ahead_ns", [0, -20 * SECOND])
    def test_it_is_measured_on_until_answers_come_sooner(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, make: Any, ahead_ns: int
    ) -> None:
        monkeypatch.setattr(module.random, "uniform", lambda _low, high: high)
        guest = make(line, ahead_ns)
        usual = guest.delays
        quiet_at_ns = line.now_ns + 10 * SECOND
        guest.delays = lambda command: SLOW if line.now_ns < quiet_at_ns else usual(command)
        report = run(guest)
        assert (report.within_tolerance, report.error, report.warnings) == (True, None, ())
        assert report.changed is (ahead_ns != 0)
        assert report.attempts == steps(guest)
        assert line.slept

    @pytest.mark.parametrize("ways_ns", [[2_450 * MILLISECOND], [x * 100 * MILLISECOND for x in range(24, 1, -1)]])
    def test_but_not_for_ever(self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, ways_ns: list[int]) -> None:
        """Not even if each measurement is better than the one before."""
        monkeypatch.setattr(module.random, "uniform", lambda _low, high: high)
        guest = stock(line, 0)
        ways = iter([*ways_ns, *ways_ns[-1:] * 1000])
        guest.delays = lambda _command: (next(ways),) * 2
        began_ns = line.now_ns
        assert run(guest).within_tolerance is None
        assert len(line.slept) <= 4
        assert line.now_ns - began_ns < 100 * SECOND

    def test_nor_where_more_time_would_prove_no_more(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        report = run(guest, tolerance_ns=100 * MICROSECOND)
        assert (report.within_tolerance, report.changed) == (None, False)
        assert isinstance(report.error, NotConvergedError)
        assert len(guest.asked("guest-get-time")) == 4 + 64
        assert line.slept == []

    @pytest.mark.parametrize(
        ("tick_ns", "tolerance_ns", "within"),
        [(15_625_000, 100 * MILLISECOND, True), (MILLISECOND, 5 * MILLISECOND, True), (15_625_000, 100_000, None)],
    )
    def test_a_coarse_clock_is_proven_as_far_as_its_ticks_allow(
        self, line: TimeLine, tick_ns: int, tolerance_ns: int, within: bool | None
    ) -> None:
        report = run(stock(line, -20 * SECOND, tick_ns=tick_ns), tolerance_ns=tolerance_ns)
        assert report.within_tolerance is within
        assert (report.error is None) is (within is True)

    def test_a_residual_across_the_tolerance_is_stepped_again(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [-1_050 * MICROSECOND, 0])
        report = run(guest, tolerance_ns=MILLISECOND)
        assert (report.within_tolerance, report.attempts, report.error) == (True, 2, None)

    def test_one_that_stays_there_is_an_error(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [-1_050 * MICROSECOND] * 2)
        report = run(guest, tolerance_ns=MILLISECOND, attempts=2)
        assert (report.changed, report.within_tolerance, report.attempts) == (True, None, 2)
        assert isinstance(report.error, NotConvergedError)
        assert "still off by" in report.error.message

    def test_the_agents_error_comes_first(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.delays = lambda _command: SLOW
        guest.handlers["guest-set-time"] = lambda arguments: guest.set_time(arguments) and failed("hwclock failed")
        report = run(guest)
        assert isinstance(report.error, CommandFailedError)
        assert "hwclock failed, and the guest's clock is not proven to be within" in report.error.message
        assert (report.changed, report.within_tolerance) == (True, None)

    @pytest.mark.parametrize("ahead_ns", [0, -20 * SECOND])
    def test_a_deadline_meanwhile_leaves_the_figures(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, ahead_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        guest.delays = lambda _command: SLOW

        def too_late(_seconds: float) -> None:
            raise DeadlineError("the deadline of 9 s passed before it was done")

        monkeypatch.setattr(line, "sleep", too_late)
        report = resync(GuestAgent(guest, 5.0), line.reference(), ResyncOptions())
        assert isinstance(report.error, DeadlineError)
        assert report.within_tolerance is (None if ahead_ns == 0 else False)
        assert report.changed is (ahead_ns != 0)
        assert abs(report.before.ns - ahead_ns) <= report.before.uncertainty_ns

    def test_a_guest_that_must_not_go_back_and_may_be_ahead_is_not_claimed_to_be_right(self, line: TimeLine) -> None:
        guest = stock(line, 99_900 * MICROSECOND)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance) == (False, None)
        assert isinstance(report.error, NotConvergedError)
        assert any("backward=leave" in warning for warning in report.warnings)


class TestDryRun:
    @pytest.mark.parametrize(("make", "method"), [(stock, "set_time"), (extended, "extended")])
    def test_it_tells_what_it_would_do_and_touches_nothing(self, line: TimeLine, make: Any, method: str) -> None:
        guest = make(line, -20 * SECOND)
        report = run(guest, dry_run=True)
        assert (report.changed, report.within_tolerance, report.method, report.attempts) == (True, False, method, 0)
        assert report.after is None
        assert not is_set(guest)
        assert guest.clock.offset_ns() == -20 * SECOND
        assert abs(report.guest_time_after_ns - line.time_ns()) < MICROSECOND
        assert abs(report.guest_time_before_ns - guest.clock.true_ns()) < 300 * MICROSECOND

    def test_a_right_clock_would_not_be_changed(self, line: TimeLine) -> None:
        assert not run(stock(line, 0), dry_run=True).changed


class TestChoosingTheMethod:
    @pytest.mark.parametrize(
        ("commands", "method", "used", "command"),
        [
            (STOCK_COMMANDS, "auto", "set_time", "guest-set-time"),
            (EXTENDED_COMMANDS, "auto", "extended", "guest-update-time"),
            (EXTENDED_COMMANDS, "extended", "extended", "guest-update-time"),
            (EXTENDED_COMMANDS, "set_time", "set_time", "guest-set-time"),
            (STOCK_COMMANDS, "rtc", "rtc", "guest-set-time"),
        ],
    )
    def test_by_option_and_by_what_the_agent_lists(
        self, line: TimeLine, commands: tuple[str, ...], method: str, used: str, command: str
    ) -> None:
        guest = SimulatedGuest(line, GuestClock(line, -20 * SECOND), commands)
        report = run(guest, method=method, tolerance_ns=2 * SECOND)
        assert (report.method, report.changed, report.error) == (used, True, None)
        assert guest.asked(command)

    def test_a_disabled_extended_command_falls_back(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        guest.commands["guest-update-time"]["enabled"] = False
        assert run(guest).method == "set_time"

    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_method_that_the_agent_lacks_fails_with_the_figures(self, line: TimeLine, dry_run: bool) -> None:
        guest = stock(line, -20 * SECOND)
        report = run(guest, method="extended", dry_run=dry_run)
        assert isinstance(report.error, CommandNotFoundError)
        assert "extended_agent" in report.error.hint
        assert (report.changed, report.within_tolerance, report.attempts) == (False, False, 0)
        assert abs(report.before.ns + 20 * SECOND) < MILLISECOND

    def test_a_disabled_set_time_is_told_before_it_is_tried(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.commands["guest-set-time"]["enabled"] = False
        report = run(guest)
        assert isinstance(report.error, CommandDisabledError)
        assert not report.changed
        assert not is_set(guest)

    def test_a_right_clock_needs_no_method(self, line: TimeLine) -> None:
        assert run(stock(line, 0), method="extended").error is None

    def test_an_agent_that_hides_its_list_and_refuses_has_changed_nothing(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-info"] = lambda _arguments: disabled("guest-info")
        guest.handlers["guest-set-time"] = lambda _arguments: disabled("guest-set-time")
        report = run(guest)
        assert isinstance(report.error, CommandDisabledError)
        assert (report.changed, report.within_tolerance, report.after) == (False, False, None)
        assert report.guest_time_after_ns == report.guest_time_before_ns


class TestTheExtendedAgent:
    @pytest.mark.parametrize("ahead_ns", [-20_500_000_001, 20_500_000_001, -SECOND, SECOND, 3 * SECOND + 1])
    def test_it_is_given_a_delta_that_needs_no_time_of_day(self, line: TimeLine, ahead_ns: int) -> None:
        guest = extended(line, ahead_ns)
        report = run(guest)
        (arguments,) = guest.asked("guest-update-time")
        assert set(arguments) == {"seconds", "nanoseconds", "relative"}
        assert arguments["relative"] is True
        assert 0 <= arguments["nanoseconds"] < SECOND
        assert arguments["seconds"] * SECOND + arguments["nanoseconds"] == -report.before.likely_ns

    def test_a_clock_that_is_off_is_stepped_as_soon_as_that_is_certain(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        guest.delays = lambda _command: WAYS
        report = run(guest)
        assert report.after is not None
        assert (report.before.measurement.exchanges, report.after.measurement.exchanges) == (3, 4)

    @pytest.mark.parametrize(
        ("ahead_ns", "options"),
        [
            (-20 * SECOND, {"attempts": 1}),
            (-20 * SECOND, {"dry_run": True}),
            (-20 * SECOND, {"method": "set_time"}),
            (-20 * SECOND, {"method": "rtc"}),
            (0, {}),
        ],
        ids=str,
    )
    def test_but_not_where_no_second_step_would_mend_the_first(
        self, line: TimeLine, ahead_ns: int, options: dict[str, Any]
    ) -> None:
        guest = extended(line, ahead_ns)
        guest.delays = lambda _command: WAYS
        assert run(guest, **options).before.measurement.exchanges == 4

    def test_a_slow_way_adds_no_error(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        usual = guest.delays
        guest.delays = lambda command: (3 * SECOND, 0) if command == "guest-update-time" else usual(command)
        assert run(guest).attempts == 1
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND

    def test_the_hardware_clock_is_written_on_request_only(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        run(guest, update_rtc=True)
        assert guest.asked("guest-update-time")[0]["rtc"] is True

    def test_a_hardware_clock_that_could_not_be_written_is_a_warning(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)

        def without_rtc(arguments: Any) -> Reply:
            reply = guest.update_time(arguments)
            assert isinstance(reply, Returned)
            return Returned({**reply.value, "rtc-error": "no RTC was found"})

        guest.handlers["guest-update-time"] = without_rtc
        report = run(guest, update_rtc=True)
        assert report.error is None
        assert report.warnings == ("the guest's hardware clock was not updated: no RTC was found",)

    @pytest.mark.parametrize("value", [None, [], 3, "text"])
    def test_what_it_returns_is_no_verdict(self, line: TimeLine, value: object) -> None:
        guest = extended(line, -20 * SECOND)

        def strange(arguments: Any) -> Reply:
            guest.update_time(arguments)
            return Returned(value)

        guest.handlers["guest-update-time"] = strange
        assert run(guest).within_tolerance


class TestSettingATime:
    def test_it_is_stamped_as_it_leaves_and_leads_by_the_way_there(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        arrivals: list[tuple[int, int]] = []

        def note(arguments: Any) -> Reply:
            arrivals.append((arguments["time"], line.time_ns()))
            return guest.set_time(arguments)

        guest.handlers["guest-set-time"] = note
        report = run(guest)
        ((sent_ns, arrived_ns),) = arrivals
        assert sent_ns - (arrived_ns - 300_137) == report.before.measurement.one_way_ns * 120 // 100
        # Of the round trip, 60 % are the way there here, which nobody can tell from outside; 77 % were expected.
        assert sent_ns - arrived_ns == pytest.approx(300_137 * 120 // 100 + 85_000 * 120 // 100 - 300_137, abs=2_000)

    def test_a_wait_before_the_step_does_not_age_the_time(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        usual = guest.delays

        def slow_before(command: str) -> tuple[int, int]:
            if command == "guest-set-time":
                line.now_ns += 2 * SECOND  # a queue in front of the channel
            return usual(command)

        guest.delays = slow_before
        assert run(guest).attempts == 1
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND

    def test_it_has_time_for_hwclock(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        run(guest)
        timeouts = {name: guest.timeouts[number] for number, (name, _arguments) in enumerate(guest.requests)}
        assert timeouts["guest-set-time"] == 10.0
        assert timeouts["guest-get-time"] == 5.0

    def test_an_error_behind_the_setting_is_a_warning(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)

        def no_rtc(arguments: Any) -> Reply:
            guest.set_time(arguments)
            return failed("hwclock failed to set hardware clock to system time")

        guest.handlers["guest-set-time"] = no_rtc
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.error) == (True, True, None)
        (warning,) = report.warnings
        assert "the clock was set although" in warning
        assert "hwclock failed" in warning

    def test_an_error_without_the_setting_fails_with_the_figures(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = lambda _arguments: failed("Failed to set time: not permitted")
        report = run(guest)
        assert isinstance(report.error, CommandFailedError)
        assert "not permitted" in report.error.message
        assert "off by -19.9999" in report.error.message
        assert "after 3 attempts" in report.error.message
        assert (report.changed, report.within_tolerance, report.attempts) == (False, False, 3)

    @pytest.mark.parametrize("method", ["auto", "set_time", "rtc"])
    def test_what_the_guest_does_not_support_is_tried_once(self, line: TimeLine, method: str) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = lambda _arguments: failed(UNSUPPORTED)
        report = run(guest, method=method, tolerance_ns=SECOND)
        assert isinstance(report.error, NotSupportedError)
        assert "off by -19.9999" in report.error.message
        assert "after 1 attempt" in report.error.message
        assert "util-linux-extra" in report.error.hint
        assert (report.changed, report.within_tolerance, report.attempts) == (False, False, 1)
        assert len(guest.asked("guest-set-time")) == 1
        assert line.slept == []

    @pytest.mark.parametrize(("off_ns", "right"), [(0, True), (-SECOND, False)])
    def test_what_is_called_unsupported_behind_the_setting_is_measured(
        self, line: TimeLine, off_ns: int, right: bool
    ) -> None:
        guest = stock(line, -20 * SECOND)

        def set_all_the_same(arguments: Any) -> Reply:
            guest.set_time({"time": arguments["time"] + off_ns})
            return failed(UNSUPPORTED)

        guest.handlers["guest-set-time"] = set_all_the_same
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts) == (True, right, 1)
        assert (report.error is None) is right
        assert ("the clock was set although" in " ".join(report.warnings)) is right

    @pytest.mark.parametrize("was_set", [True, False])
    def test_a_timeout_is_measured(self, line: TimeLine, was_set: bool) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = guest.times_out(guest.set_time if was_set else None)
        report = run(guest, attempts=1)
        assert report.within_tolerance is was_set
        assert report.changed is was_set
        assert (report.error is None) is was_set
        if not was_set:
            assert isinstance(report.error, ExchangeTimeoutError)
            assert "after 1 attempt" in report.error.message

    def test_an_agent_that_is_busy_behind_a_timeout_is_waited_for(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = guest.times_out(guest.set_time)
        pings = iter([UnresponsiveError("busy"), UnresponsiveError("busy"), None])

        def ping(_arguments: Any) -> Reply:
            trouble = next(pings)
            if trouble is not None:
                raise trouble
            return Returned({})

        guest.handlers["guest-ping"] = ping
        assert run(guest).within_tolerance
        assert line.slept == [0.2, 0.2]

    def test_an_agent_that_is_gone_behind_the_step_is_told_and_what_it_did_is_not_known(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = guest.times_out()
        guest.handlers["guest-ping"] = guest.times_out()
        report = run(guest)
        assert isinstance(report.error, ExchangeTimeoutError)
        assert (report.changed, report.within_tolerance, report.attempts, report.after) == (True, False, 1, None)

    def test_an_agent_that_is_gone_before_the_step_was_not_stepped(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        guest = stock(line, -20 * SECOND)
        monkeypatch.setattr(guest, "is_shared", True)
        guest.handlers["guest-ping"] = guest.times_out()
        report = run(guest)
        assert isinstance(report.error, ExchangeTimeoutError)
        assert (report.changed, report.within_tolerance, report.attempts, report.after) == (False, False, 1, None)
        assert not is_set(guest)

    @pytest.mark.parametrize("is_shared", [True, False])
    def test_a_ping_waits_in_the_times_stead_for_another_clients_hwclock(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, is_shared: bool
    ) -> None:
        guest = stock(line, -20 * SECOND)
        monkeypatch.setattr(guest, "is_shared", is_shared)
        guest.delays = lambda command: (SECOND if command == "guest-ping" else 300_137, 200_219)
        assert run(guest).attempts == 1
        assert [name for name, _arguments in guest.requests if name in ("guest-ping", "guest-set-time")] == [
            *["guest-ping"] * is_shared,
            "guest-set-time",
        ]

    def test_a_refusal_in_a_later_attempt_leaves_what_the_first_one_did(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        replies = iter([Returned({}), disabled("guest-set-time")])
        guest.handlers["guest-set-time"] = lambda _arguments: next(replies)
        report = run(guest)
        assert isinstance(report.error, CommandDisabledError)
        assert (report.changed, report.attempts) == (True, 2)

    def test_a_hypervisor_that_fails_behind_the_setting_is_a_warning(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)

        def fails_behind(arguments: Any) -> Reply:
            guest.set_time(arguments)
            raise HypervisorUnavailableError("rtc-reset-reinjection failed")

        guest.handlers["guest-set-time"] = fails_behind
        report = run(guest)
        assert (report.within_tolerance, report.error) == (True, None)
        assert "rtc-reset-reinjection failed" in report.warnings[0]


class TestARestartOfTheAgent:
    def test_behind_the_step_it_is_waited_for(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        answer = guest.handlers["guest-get-clock"]
        away = iter([True])

        def read(arguments: Any) -> Reply:
            if is_set(guest) and next(away, False):
                raise NotConnectedError("no guest agent runs")
            return answer(arguments)

        guest.handlers["guest-get-clock"] = read
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, True, 1, None)
        assert report.after is not None

    def test_one_that_stays_away_is_told_and_what_was_done_is_not_known(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        answer = guest.handlers["guest-get-clock"]

        def read(arguments: Any) -> Reply:
            if is_set(guest):
                raise NotConnectedError("no guest agent runs")
            return answer(arguments)

        guest.handlers["guest-get-clock"] = guest.handlers["guest-ping"] = read
        report = run(guest)
        assert isinstance(report.error, NotConnectedError)
        assert (report.changed, report.after) == (True, None)


class TestARestartOfTheHypervisorsDaemon:
    """What a step did is found out by measuring, and a daemon that is restarted just then is back soon."""

    @pytest.mark.parametrize(("make", "reading"), [(stock, "guest-get-time"), (extended, "guest-get-clock")])
    @pytest.mark.parametrize("away", [0, 3])
    def test_behind_the_step_it_is_waited_for(self, line: TimeLine, make: Any, reading: str, away: int) -> None:
        guest = make(line, -20 * SECOND)
        breaks(guest, reading, lambda: is_set(guest), 1)
        breaks(guest, "guest-ping", lambda: is_set(guest), away)
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, True, 1, None)
        assert line.slept == [0.2] * away
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND

    def test_one_that_stays_away_is_told_and_what_was_done_is_not_known(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        breaks(guest, "guest-get-time", lambda: is_set(guest), 1)
        breaks(guest, "guest-ping", lambda: is_set(guest), 1000)
        began_ns = line.now_ns
        report = run(guest)
        assert isinstance(report.error, HypervisorUnavailableError)
        assert (report.changed, report.within_tolerance, report.attempts, report.after) == (True, False, 1, None)
        assert line.now_ns - began_ns < 20 * SECOND

    @pytest.mark.parametrize("away", [0, 3])
    def test_between_measuring_and_the_step_it_is_waited_for(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, away: int
    ) -> None:
        guest = stock(line, -20 * SECOND)
        looks = iter([HypervisorUnavailableError("the connection to libvirt broke")])

        async def require_same(_timeout: float) -> None:
            for error in looks:
                raise error

        monkeypatch.setattr(guest, "require_same", require_same)
        breaks(guest, "guest-ping", lambda: True, away)
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, True, 1, None)
        assert line.slept == [0.2] * away
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND

    def test_before_the_step_it_is_an_exception_at_once(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        breaks(guest, "guest-get-time", lambda: True, 1)
        with pytest.raises(HypervisorUnavailableError):
            run(guest)
        assert line.slept == []


def breaks(guest: SimulatedGuest, command: str, when: Callable[[], bool], times: int) -> None:
    """The connection to the hypervisor breaks so many times at that command."""
    usual = guest.handlers[command]
    left = [times]

    def handle(arguments: Any) -> Reply:
        if left[0] and when():
            left[0] -= 1
            raise HypervisorUnavailableError("the connection to libvirt broke")
        return usual(arguments)

    guest.handlers[command] = handle


class TestTheHardwareClock:
    def test_it_takes_no_time_along_and_whole_seconds_will_do(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        report = run(guest, method="rtc", tolerance_ns=SECOND)
        assert guest.asked("guest-set-time") == [{}]
        assert (report.method, report.attempts, report.within_tolerance) == ("rtc", 1, True)

    def test_too_fine_a_tolerance_gets_its_own_hint(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        report = run(guest, method="rtc", tolerance_ns=MILLISECOND)
        assert isinstance(report.error, NotConvergedError)
        assert "whole seconds" in report.error.hint


def skewed(guest: SimulatedGuest, by_ns: list[int]) -> Handler:
    """guest-set-time as on a guest that needs longer than usual: each call is off by the next of these."""
    errors = iter(by_ns)

    def handle(arguments: Any) -> Reply:
        reply = guest.set_time(arguments)
        guest.clock.add(next(errors))
        return reply

    return handle


class TestAttempts:
    def test_a_coarse_first_step_is_refined(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [-3 * MILLISECOND, 0])
        report = run(guest)
        assert (report.attempts, report.error) == (2, None)
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND

    @pytest.mark.parametrize("left_ns", [300 * MICROSECOND, -500 * MICROSECOND])
    def test_half_a_millisecond_is_left(self, line: TimeLine, left_ns: int) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [left_ns])
        assert run(guest).attempts == 1

    def test_what_lies_below_the_uncertainty_is_left(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.delays = lambda _command: (5_000_137, 5_000_219)
        guest.handlers["guest-set-time"] = skewed(guest, [3 * MILLISECOND])
        assert run(guest).attempts == 1

    @pytest.mark.parametrize(("attempts", "taken"), [(1, 1), (2, 1), (3, 2), (5, 4)])
    def test_one_attempt_is_left_to_mend_what_refining_may_spoil(
        self, line: TimeLine, attempts: int, taken: int
    ) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [-3 * MILLISECOND] * attempts)
        report = run(guest, attempts=attempts)
        assert (report.attempts, report.within_tolerance, report.error) == (taken, True, None)

    def test_an_agent_that_had_trouble_is_not_asked_to_refine(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        set_roughly = skewed(guest, [-3 * MILLISECOND])

        def fails_behind(arguments: Any) -> Reply:
            set_roughly(arguments)
            return failed("hwclock failed")

        guest.handlers["guest-set-time"] = fails_behind
        report = run(guest)
        assert (report.attempts, report.within_tolerance, report.error) == (1, True, None)

    @pytest.mark.parametrize("attempts", [1, 2, 3])
    def test_a_clock_that_will_not_come_right_fails_with_the_figures(self, line: TimeLine, attempts: int) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [2 * SECOND] * attempts)
        report = run(guest, attempts=attempts)
        assert isinstance(report.error, NotConvergedError)
        assert "off by 2.0" in report.error.message
        assert f"after {attempts} attempt" in report.error.message
        assert (report.changed, report.within_tolerance, report.attempts) == (True, False, attempts)
        assert report.as_dict()["error"] == report.error.as_dict()

    @pytest.mark.parametrize("ahead_ns", [-8 * SECOND, 8 * SECOND])
    def test_another_run_that_added_the_same_is_given_time_to_take_it_back(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, ahead_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        monkeypatch.setattr(module.random, "uniform", lambda _low, high: high)

        def step_twice(arguments: Any) -> Reply:
            guest.clock.add(-ahead_ns)
            return guest.update_time(arguments)

        def sleep_while_it_is_taken_back(seconds: float) -> None:
            assert seconds > 0
            guest.clock.add(ahead_ns)
            sleep(seconds)

        sleep = line.sleep
        guest.handlers["guest-update-time"] = step_twice
        monkeypatch.setattr(line, "sleep", sleep_while_it_is_taken_back)
        report = run(guest)
        assert report.error is None
        assert (report.changed, report.within_tolerance, report.attempts) == (True, True, 1)
        assert len(guest.asked("guest-update-time")) == 1

    @pytest.mark.parametrize("looks", [1, 2])
    def test_what_was_measured_of_one_guest_is_not_done_to_another(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, looks: int
    ) -> None:
        guest = extended(line, -8 * SECOND)
        asked: list[str] = []

        async def require_same(_timeout: float) -> None:
            asked.append("same")
            if asked.count("same") == looks:
                raise GuestReplacedError("another guest is there now")

        monkeypatch.setattr(guest, "pin", lambda: asked.append("pin"))
        monkeypatch.setattr(guest, "require_same", require_same)
        report = run(guest)
        assert asked == ["pin", *["same"] * looks]
        assert report.error is not None
        assert report.error.code == "replaced"
        assert report.after is None
        assert report.changed is (looks == 2)
        assert len(guest.asked("guest-update-time")) == looks - 1

    def test_a_guest_that_was_replaced_while_its_agent_was_waited_for_is_told_as_that(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = guest.times_out()

        def is_another(_arguments: Any) -> Reply:
            raise GuestReplacedError("another guest is there now")

        guest.handlers["guest-ping"] = is_another
        report = run(guest)
        assert report.error is not None
        assert report.error.code == "replaced"
        assert (report.changed, report.within_tolerance, report.attempts, report.after) == (True, False, 1, None)
        assert len(guest.asked("guest-set-time")) == 1

    @pytest.mark.parametrize("when", ["at first", "behind the step"])
    def test_readings_that_prove_nothing_prove_no_right_clock(self, line: TimeLine, when: str) -> None:
        guest = stock(line, -20 * SECOND)
        answer = guest.handlers["guest-get-time"]
        signs = iter([1, -1] * 1000)

        def lie(arguments: Any) -> Reply:
            honest = answer(arguments)
            if when == "at first" or is_set(guest):
                return Returned(honest.value + next(signs) * 10 * 365 * 86400 * SECOND)
            return honest

        guest.handlers["guest-get-time"] = lie
        report = resync(GuestAgent(guest, 5.0), line.reference(), ResyncOptions())
        assert isinstance(report.error, NotConvergedError)
        assert not report.within_tolerance
        assert is_set(guest) is (when == "behind the step")

    def test_nobody_waits_behind_a_step_that_came_out_right_or_was_the_last(self, line: TimeLine) -> None:
        run(extended(line, -8 * SECOND))
        unmoved = extended(line, -8 * SECOND)
        unmoved.handlers["guest-update-time"] = lambda _arguments: Returned({})
        run(unmoved, attempts=1)
        assert line.slept == []

    def test_an_agent_that_never_sets_has_changed_nothing(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = lambda _arguments: Returned({})
        report = run(guest)
        assert isinstance(report.error, NotConvergedError)
        assert (report.changed, report.attempts) == (False, 3)
        assert len(guest.asked("guest-set-time")) == 3

    def test_an_agent_that_sets_whole_minutes_is_found_out(self, line: TimeLine) -> None:
        guest = stock(line, -200 * SECOND)
        guest.handlers["guest-set-time"] = lambda arguments: guest.set_time(
            {"time": arguments["time"] // (60 * SECOND) * 60 * SECOND}
        )
        report = run(guest)
        assert isinstance(report.error, NotConvergedError)
        assert report.changed

    def test_a_drifting_clock_is_set_and_the_truth_is_held(self, line: TimeLine) -> None:
        assert run(stock(line, -20 * SECOND, drift_ppb=450_000)).within_tolerance


class TestTheGuestsTimes:
    def test_before_and_after_are_for_the_same_instant(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        report = run(guest)
        assert abs(report.guest_time_before_ns - (line.time_ns() - 20 * SECOND)) < 300 * MICROSECOND
        assert abs(report.guest_time_after_ns - guest.clock.true_ns()) < 300 * MICROSECOND

    def test_duration_is_all_of_it(self, line: TimeLine) -> None:
        began_ns = line.now_ns
        guest = stock(line, -20 * SECOND)
        agent = GuestAgent(guest, 5.0)
        report = resync(agent, line.reference(), ResyncOptions())
        assert report.duration_ns == line.now_ns - began_ns > SECOND


class TestTheHostsClock:
    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize("jump_ns", [-3_600 * SECOND, 5 * SECOND])
    def test_a_jump_during_the_step_is_told_and_the_new_time_counts(
        self, line: TimeLine, make: Any, jump_ns: int
    ) -> None:
        guest = make(line, -20 * SECOND)
        command = "guest-update-time" if make is extended else "guest-set-time"
        usual = guest.handlers[command]

        def jumps(arguments: Any) -> Reply:
            if len(guest.asked(command)) == 1:
                line.step_host(jump_ns)
            return usual(arguments)

        guest.handlers[command] = jumps
        report = run(guest)
        assert (report.attempts, report.within_tolerance, report.error) == (2, True, None)
        assert [w for w in report.warnings if "host's clock was stepped" in w]
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND
        # Before is what the guest would show now, whatever the host thinks of it.
        untouched_ns = line.time_ns() - jump_ns - 20 * SECOND
        assert abs(report.guest_time_before_ns - untouched_ns) < 300 * MICROSECOND

    def test_a_jump_alone_is_no_change_of_the_guest(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)

        def jumps_and_sets_nothing(_arguments: Any) -> Reply:
            line.step_host(5 * SECOND)
            return Returned({})

        guest.handlers["guest-set-time"] = jumps_and_sets_nothing
        report = run(guest)
        assert report.changed is False
        assert isinstance(report.error, NotConvergedError)


class TestCoarseClocks:
    def test_windows_ticks_are_a_warning(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND, tick_ns=15_625_000)
        report = run(guest)
        assert report.within_tolerance
        assert [w for w in report.warnings if "coarse or being slewed" in w]
        assert len(report.warnings) == len(set(report.warnings))

    def test_milliseconds_are_a_resolution(self, line: TimeLine) -> None:
        report = run(stock(line, -20 * SECOND, tick_ns=MILLISECOND))
        assert report.within_tolerance
        assert report.as_dict()["resolution_ns"] == MILLISECOND
        assert report.warnings == ()


def test_a_guest_that_cannot_be_read_is_an_exception(line: TimeLine) -> None:
    guest = stock(line, 0)
    guest.handlers["guest-get-time"] = lambda _arguments: not_found("guest-get-time")
    with pytest.raises(CommandNotFoundError):
        run(guest)
