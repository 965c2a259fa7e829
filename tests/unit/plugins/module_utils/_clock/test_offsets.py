"""A clock is reported as within tolerance only if its whole interval is; otherwise it is measured again."""

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
from tests.support.resyncs import extended, resync, run, skewed, steps, stock

SLOW = (200 * MILLISECOND, 120 * MILLISECOND)
BY_EACH_AGENT = pytest.mark.parametrize("make", [stock, extended])


class TestProof:
    @BY_EACH_AGENT
    @pytest.mark.parametrize(
        ("ahead_ns", "ways", "attempts"),
        [
            (0, SLOW, 0),
            (80 * MILLISECOND, SLOW, 1),
            (-156 * MILLISECOND, SLOW, 1),
            (0, (2 * SECOND, 2 * SECOND), 0),
            (-20 * SECOND, SLOW, 1),
        ],
    )
    def test_a_clock_that_may_be_right_is_not_reported_as_right(
        self, line: TimeLine, make: Any, ahead_ns: int, ways: tuple[int, int], attempts: int
    ) -> None:
        guest = make(line, ahead_ns)
        guest.delays = lambda _command: ways
        report = run(guest)
        assert (report.changed, report.within_tolerance, report.attempts) == (attempts > 0, None, attempts)
        assert isinstance(report.error, NotConvergedError)
        assert report.error.message.startswith("the guest's clock is not proven to be within the tolerance of 100.0 ms")
        assert f"off by {report.latest.words}" in report.error.message
        assert report.error.message.endswith("after 1 attempt") is (attempts == 1)
        assert "raise tolerance" in report.error.hint
        (warning,) = report.warnings
        assert "smaller than the uncertainty" in warning

    @BY_EACH_AGENT
    @pytest.mark.parametrize("ahead_ns", [0, -20 * SECOND])
    def test_it_is_measured_again_until_answers_are_faster(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, make: Any, ahead_ns: int
    ) -> None:
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)
        guest = make(line, ahead_ns)
        usual = guest.delays
        quiet_at_ns = line.now_ns + 10 * SECOND
        guest.delays = lambda command: SLOW if line.now_ns < quiet_at_ns else usual(command)
        report = run(guest)
        assert (report.within_tolerance, report.error, report.warnings) == (True, None, ())
        assert (report.changed, report.attempts) == (ahead_ns != 0, steps(guest))
        assert line.slept

    @pytest.mark.parametrize("ways_ns", [[2_450 * MILLISECOND], [x * 100 * MILLISECOND for x in range(24, 1, -1)]])
    def test_measuring_always_ends(self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, ways_ns: list[int]) -> None:
        """It ends even if each measurement is better than the one before."""
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)
        guest = stock(line, 0)
        ways = iter([*ways_ns, *ways_ns[-1:] * 1000])
        guest.delays = lambda _command: (next(ways),) * 2
        began_ns = line.now_ns
        assert run(guest).within_tolerance is None
        assert len(line.slept) <= 4
        assert line.now_ns - began_ns < 100 * SECOND

    def test_it_is_not_measured_again_if_that_cannot_prove_more(self, line: TimeLine) -> None:
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
    def test_a_coarse_clock_is_proven_right_only_within_its_ticks(
        self, line: TimeLine, tick_ns: int, tolerance_ns: int, within: bool | None
    ) -> None:
        report = run(stock(line, -20 * SECOND, tick_ns=tick_ns), tolerance_ns=tolerance_ns)
        assert (report.within_tolerance, report.error is None) == (within, within is True)
        is_known = tick_ns == MILLISECOND
        assert any("coarse or being slewed" in warning for warning in report.warnings) is not is_known
        assert (report.as_dict()["resolution_ns"] == tick_ns) is is_known

    @pytest.mark.parametrize(("second_us", "within"), [(0, True), (-1_050, None)])
    def test_a_residual_that_straddles_the_tolerance_is_stepped_again(
        self, line: TimeLine, second_us: int, within: bool | None
    ) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = skewed(guest, [-1_050 * MICROSECOND, second_us * MICROSECOND])
        report = run(guest, tolerance_ns=MILLISECOND, attempts=2 if within is None else 3)
        assert (report.changed, report.within_tolerance, report.attempts) == (True, within, 2)
        assert report.error.__class__ is (NotConvergedError if within is None else type(None))

    def test_the_agents_error_is_reported_first(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.delays = lambda _command: SLOW
        guest.handlers["guest-set-time"] = lambda arguments: guest.set_time(arguments) and failed("hwclock failed")
        report = run(guest)
        assert isinstance(report.error, CommandFailedError)
        assert "hwclock failed, and the guest's clock is not proven to be within" in report.error.message
        assert (report.changed, report.within_tolerance) == (True, None)

    @pytest.mark.parametrize(("ahead_ns", "within"), [(0, None), (-20 * SECOND, False)])
    def test_a_deadline_while_waiting_keeps_the_measurement(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, ahead_ns: int, within: bool | None
    ) -> None:
        guest = extended(line, ahead_ns)
        guest.delays = lambda _command: SLOW

        def too_late(_seconds: float) -> None:
            raise DeadlineError("the deadline of 9 s passed before work on the guest ended")

        monkeypatch.setattr(line, "sleep", too_late)
        report = resync(GuestAgent(guest, 5.0), line.reference(), ResyncOptions())
        assert isinstance(report.error, DeadlineError)
        assert (report.changed, report.within_tolerance) == (ahead_ns != 0, within)
        assert abs(report.before.ns - ahead_ns) <= report.before.uncertainty_ns
