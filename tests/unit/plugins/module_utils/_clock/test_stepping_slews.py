"""Clocks that may not be stepped back are left alone or slewed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.figures import direction
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandFailedError,
    CommandNotFoundError,
    NotConvergedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND, Handler, SimulatedGuest, TimeLine, failed
from tests.support.resyncs import breaks, change, extended, figures, is_set, never_back, run, slews, steps, stock

BY_EACH_AGENT = pytest.mark.parametrize("make", [stock, extended])


class TestSteppingBackIsForbidden:
    """The rule is checked before every step, not only before the first one."""

    @BY_EACH_AGENT
    @pytest.mark.parametrize(
        ("left_ns", "within", "attempts"),
        [
            ((900 * SECOND,), False, 1),
            ((105 * MILLISECOND,), False, 1),
            ((50 * MILLISECOND,), True, 1),
            ((-5 * SECOND, 0), True, 2),
        ],
    )
    def test_a_step_that_went_too_far_is_left_with_a_warning(
        self, line: TimeLine, make: Any, left_ns: tuple[int, ...], within: bool, attempts: int
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, *left_ns)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts) == (True, within, attempts)
        assert report.error is None
        assert report.after is not None
        assert report.after.ns == pytest.approx(left_ns[-1], abs=2 * MILLISECOND)
        ahead = direction(report.after.ns)
        assert [ahead in warning and "backward=leave" in warning for warning in report.warnings] == [True] * (
            not within
        )

    @BY_EACH_AGENT
    def test_a_clock_that_jumps_between_two_attempts_is_left_with_a_warning(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, make: Any
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, -5 * SECOND, 0)
        # Another client sets the clock while this one waits.
        monkeypatch.setattr(line, "sleep", lambda _seconds: guest.clock.step(905 * SECOND))
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, False, 1, None)
        assert any("15 min 00 s ahead" in warning and "backward=leave" in warning for warning in report.warnings)

    @BY_EACH_AGENT
    @pytest.mark.parametrize(("jump_ms", "within"), [(-900_000, False), (-20_050, True)])
    def test_a_guest_is_not_stepped_back_after_its_host_was_stepped_back(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, make: Any, jump_ms: int, within: bool
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest)

        async def require_same(_timeout: float) -> None:
            line.step_host(jump_ms * MILLISECOND)

        monkeypatch.setattr(guest, "require_same", require_same)
        report = run(guest, backward="leave")
        assert (figures(report)[:2], report.attempts, report.error) == ((False, within), 0, None)
        assert report.before.ns == pytest.approx((-jump_ms - 20_000) * MILLISECOND, abs=2 * MILLISECOND)
        jumped, *left = report.warnings
        assert "host's clock was stepped" in jumped
        assert [("14 min 40 s ahead" in warning and "backward=leave" in warning) for warning in left] == [True] * (
            not within
        )

    @BY_EACH_AGENT
    @pytest.mark.parametrize(
        ("ahead_ns", "tolerance_ns", "within"),
        [(-10 * MICROSECOND, 0, None), (99_900 * MICROSECOND, 100 * MILLISECOND, None), (20 * SECOND, SECOND, False)],
    )
    @pytest.mark.parametrize("dry_run", [False, True])
    def test_a_guest_that_may_be_ahead_is_left_and_not_reported_as_right(
        self, line: TimeLine, make: Any, ahead_ns: int, tolerance_ns: int, within: bool | None, dry_run: bool
    ) -> None:
        guest = make(line, ahead_ns)
        report = run(guest, tolerance_ns=tolerance_ns, backward="leave", dry_run=dry_run)
        assert figures(report) == (False, within, None, 0)
        assert report.error.__class__ is (NotConvergedError if tolerance_ns and within is None else type(None))
        assert any("backward=leave" in warning for warning in report.warnings)
        assert not is_set(guest)

    @pytest.mark.parametrize("backward", ["leave", "slew"])
    @BY_EACH_AGENT
    @given(
        ahead_ns=st.integers(-30 * SECOND, 30 * SECOND) | st.integers(-SECOND, SECOND),
        left_ns=st.lists(st.integers(-2 * SECOND, 2 * SECOND), min_size=5, max_size=5),
        attempts=st.integers(1, 5),
    )
    def test_no_step_ever_moves_the_clock_back(
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


class TestSlewing:
    """A clock that is ahead is slewed back."""

    def test_a_slew_that_another_client_ended_is_not_reported_as_within_tolerance(self, line: TimeLine) -> None:
        guest = extended(line, 99_700 * MICROSECOND)
        never_back(guest, 0)  # setting a clock ends its slew
        report = run(guest, backward="slew", attempts=1)
        assert figures(report) == (True, None, "extended", 1)
        assert isinstance(report.error, NotConvergedError)
        assert "is not proven to be within the tolerance" in report.error.message

    def test_a_clock_that_another_client_set_back_is_not_reported_as_left_ahead(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        never_back(guest, -205 * MILLISECOND)
        report = run(guest, backward="slew", tolerance_ns=MILLISECOND)
        assert figures(report) == (True, False, "extended", 1)
        assert isinstance(report.error, NotConvergedError)
        assert "is still off by -5.0 ms" in report.error.message
        assert report.warnings == ()

    @pytest.mark.parametrize("is_lost", [False, True])
    def test_a_slew_that_the_kernel_counts_as_done_too_early_is_waited_for(self, line: TimeLine, is_lost: bool) -> None:
        guest = extended(line, 600 * MICROSECOND)

        def is_all_counted(usual: Handler, arguments: Any) -> Reply:
            return Returned({**usual(arguments).value, "slewing": 0})

        change(guest, "guest-get-clock", is_all_counted)
        if is_lost:
            breaks(guest, "guest-get-clock", 9, lambda: line.slept != [])
        report = run(guest, backward="slew", tolerance_ns=500 * MICROSECOND)
        assert figures(report) == (True, None if is_lost else True, "extended", 1)
        assert (report.error is not None) is is_lost
        assert (report.after is None) is is_lost
        assert line.slept[0] == 1.0

    @pytest.mark.parametrize("ahead_ns", [102 * MILLISECOND, 499 * MILLISECOND])
    def test_a_clock_that_is_ahead_is_slewed_back_and_a_second_run_changes_nothing(
        self, line: TimeLine, ahead_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        planned = run(guest, backward="slew", dry_run=True)
        assert figures(planned) == (True, False, "extended", 0)
        assert planned.slewing_ns == pytest.approx(-ahead_ns, abs=MILLISECOND)
        assert planned.guest_time_after_ns == planned.guest_time_before_ns
        assert not is_set(guest)

        report = run(guest, backward="slew")
        assert figures(report) == (True, False, "extended", 1)
        assert (report.error, report.warnings, report.stepped_at_ns) == (None, (), None)
        assert report.slewing_ns == pytest.approx(-ahead_ns, abs=MILLISECOND)
        assert report.as_dict()["slewing"] == {
            "left": report.slewing_ns / SECOND,
            "left_ns": report.slewing_ns,
            "duration": -report.slewing_ns * 2000 / SECOND,
            "duration_ns": -report.slewing_ns * 2000,
        }
        assert guest.clock.offset_ns() == pytest.approx(ahead_ns, abs=MILLISECOND)
        (arguments,) = guest.asked("guest-update-time")
        assert (arguments["relative"], arguments["slew"]) == (True, True)

        line.now_ns += 2 * SECOND
        planned, again = (run(guest, backward="slew", dry_run=dry_run) for dry_run in (True, False))
        assert figures(planned) == figures(again) == (False, False, None, 0)
        assert (again.error, again.warnings, again.after) == (None, (), None)
        assert again.slewing_ns == pytest.approx(MILLISECOND - ahead_ns, abs=MILLISECOND)
        assert slews(guest) == 1

        line.now_ns += 2000 * abs(again.slewing_ns)
        last = run(guest, backward="slew")
        assert figures(last) == (False, True, None, 0)
        assert (last.slewing_ns, last.as_dict()["slewing"]) == (0, None)
        assert abs(guest.clock.offset_ns()) < MILLISECOND

    def test_with_a_tolerance_of_zero_a_slew_is_begun_once(self, line: TimeLine) -> None:
        guest = extended(line, 5 * MILLISECOND)
        assert figures(run(guest, backward="slew", tolerance_ns=0)) == (True, False, "extended", 1)
        line.now_ns += 3 * SECOND
        again = run(guest, backward="slew", tolerance_ns=0)
        assert (again.changed, again.error, slews(guest)) == (False, None, 1)

    @pytest.mark.parametrize(
        ("reason", "ahead_ns", "options", "change"),
        [
            ("at most 0.5 s is slewed", 502 * MILLISECOND, {}, lambda _guest: None),
            ("a time service", 200 * MILLISECOND, {}, lambda guest: setattr(guest, "is_disciplined", True)),
            ("does not slew", 200 * MILLISECOND, {}, lambda guest: setattr(guest, "slews", False)),
            ("does not slew", 200 * MILLISECOND, {}, lambda guest: guest.commands.pop("guest-update-time")),
            ("does not slew", 200 * MILLISECOND, {}, lambda guest: guest.commands.pop("guest-get-clock")),
            ("method set_time does not slew", 200 * MILLISECOND, {"method": "set_time"}, lambda _guest: None),
            ("it may be behind as well", 10 * MICROSECOND, {"tolerance_ns": 0}, lambda _guest: None),
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
        assert "ahead and was left alone" in warning
        assert reason in warning
        assert not is_set(guest)

    @pytest.mark.parametrize(
        ("backward", "is_disciplined"), [("step", False), ("leave", False), ("slew", True), ("step", True)]
    )
    def test_a_slew_that_cannot_be_replaced_is_a_warning(
        self, line: TimeLine, backward: str, is_disciplined: bool
    ) -> None:
        guest = extended(line, 50 * MILLISECOND)
        guest.clock.slew(-300 * MILLISECOND)
        guest.is_disciplined = is_disciplined
        report = run(guest, backward=backward)
        assert figures(report) == (False, True, None, 0)
        (warning,) = report.warnings
        assert "is being slewed, and will be off by -250.0 ms" in warning
        assert not is_set(guest)

    @pytest.mark.parametrize(("left_ms", "slewed"), [(300, 1), (900, 0)])
    def test_a_step_that_went_too_far_is_followed_by_a_slew_if_that_is_possible(
        self, line: TimeLine, left_ms: int, slewed: int
    ) -> None:
        guest = extended(line, -20 * SECOND)
        never_back(guest, left_ms * MILLISECOND)
        usual = guest.handlers["guest-update-time"]
        guest.handlers["guest-update-time"] = lambda arguments: (
            guest.update_time(arguments) if "slew" in arguments else usual(arguments)
        )
        report = run(guest, backward="slew")
        assert (figures(report), report.error) == ((True, False, "extended", 1 + slewed), None)
        assert report.slewing_ns == pytest.approx(-left_ms * MILLISECOND * slewed, abs=MILLISECOND)
        assert ["at most 0.5 s is slewed" in warning for warning in report.warnings] == [True] * (1 - slewed)

    @pytest.mark.parametrize(
        ("handler", "expected", "error", "words"),
        [
            (
                lambda _guest, _arguments: failed("The clock was not set: CAP_SYS_TIME"),
                (False, False, 2),
                CommandFailedError,
                "CAP_SYS_TIME, and the guest's clock is still off by +200.0 ms",
            ),
            (
                lambda guest, arguments: guest.times_out(guest.update_time)(arguments),
                (True, False, 1),
                None,
                "the clock is being slewed although the agent reported an error",
            ),
            (
                lambda guest, arguments: setattr(guest, "is_disciplined", True) or guest.update_time(arguments),
                (False, False, 1),
                None,
                "a time service in the guest",
            ),
            (
                lambda guest, arguments: guest.commands.pop("guest-get-clock") and guest.update_time(arguments),
                (True, False, 1),
                CommandNotFoundError,
                "has no command guest-get-clock",
            ),
        ],
        ids=["refused", "reply lost", "time service was faster", "guest lost"],
    )
    def test_the_result_of_a_slew_that_ran_into_an_error(
        self,
        line: TimeLine,
        handler: Callable[[SimulatedGuest, Any], Reply],
        expected: tuple[bool, bool, int],
        error: type[Exception] | None,
        words: str,
    ) -> None:
        guest = extended(line, 200 * MILLISECOND)
        guest.handlers["guest-update-time"] = lambda arguments: handler(guest, arguments)
        report = run(guest, backward="slew", attempts=2)
        assert (report.changed, report.within_tolerance, report.attempts) == expected
        assert report.error.__class__ is (error or type(None))
        assert words in (" ".join(report.warnings) if report.error is None else report.error.message)

    def test_slow_answers_during_a_slew_prove_nothing_and_are_not_a_failure(self, line: TimeLine) -> None:
        guest = extended(line, 150 * MILLISECOND)
        guest.delays = lambda _command: (100 * MILLISECOND, 60 * MILLISECOND)
        report = run(guest, backward="slew", update_rtc=True)
        assert (report.changed, report.within_tolerance, report.error) == (True, None, None)
        assert report.slewing_ns < 0
        assert any("hardware clock was not updated" in each for each in report.warnings)

    @pytest.mark.parametrize("is_refused", [False, True])
    @pytest.mark.parametrize(("stepped_ns", "is_error"), [(-250 * MILLISECOND, True), (-400 * MILLISECOND, False)])
    def test_a_slew_that_was_begun_is_a_change_whatever_its_result(
        self, line: TimeLine, stepped_ns: int, is_error: bool, is_refused: bool
    ) -> None:
        guest = extended(line, 200 * MILLISECOND)

        def host_is_stepped(arguments: Any) -> Reply:
            line.step_host(stepped_ns)
            return failed("no") if is_refused else guest.update_time(arguments)

        guest.handlers["guest-update-time"] = host_is_stepped
        # The offset is too large for another slew, or no attempt is left.
        report = run(guest, backward="slew", attempts=1 if is_error else 2)
        assert figures(report) == (not is_refused, False, "extended", 1)
        assert (report.error is not None) is is_error

    @pytest.mark.parametrize(
        ("backward", "ahead_ns", "left_ns"),
        [
            *((backward, -20 * SECOND, -100 * MILLISECOND) for backward in ("step", "slew", "leave")),
            ("step", 200 * MILLISECOND, -200 * MILLISECOND),
        ],
    )
    def test_a_step_ends_a_slew_that_is_under_way(
        self, line: TimeLine, backward: str, ahead_ns: int, left_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        guest.clock.slew(left_ns)
        planned = run(guest, backward=backward, dry_run=True)
        assert (planned.changed, planned.slewing_ns, planned.status) == (True, 0, "would_correct")
        assert planned.sentence.endswith("; its clock would be stepped")
        report = run(guest, backward=backward)
        assert (report.changed, report.within_tolerance, report.slewing_ns, slews(guest)) == (True, True, 0, 0)
        line.now_ns += 200 * SECOND
        assert abs(guest.clock.offset_ns()) < MILLISECOND

    @pytest.mark.parametrize(
        ("ahead_ms", "left_ms", "within"), [(400, -100, False), (50, -300, True), (-50, -300, True)]
    )
    def test_a_slew_that_would_end_at_a_wrong_time_is_replaced(
        self, line: TimeLine, ahead_ms: int, left_ms: int, within: bool
    ) -> None:
        guest = extended(line, ahead_ms * MILLISECOND)
        guest.clock.slew(left_ms * MILLISECOND)
        report = run(guest, backward="slew")
        assert (figures(report), report.error) == ((True, within, "extended", 1), None)
        line.now_ns += 900 * SECOND
        assert abs(guest.clock.offset_ns()) < MILLISECOND
