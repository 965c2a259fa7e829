"""Measuring again, for proof: a clock is reported within tolerance only if all of the interval is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandFailedError,
    DeadlineError,
    NotConvergedError,
)

from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND, TimeLine, failed
from tests.support.resyncs import (
    extended,
    resync,
    run,
    skewed,
    steps,
    stock,
)

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
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)
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
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)
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
