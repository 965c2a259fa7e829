"""Clocks that may not be stepped back: they are left, or they glide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandDisabledError, CommandFailedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND, SimulatedGuest, TimeLine, disabled, failed
from tests.support.resyncs import (
    WAYS,
    after,
    extended,
    figures,
    is_set,
    never_back,
    resync,
    run,
    slews,
    steps,
    stock,
)


class TestGoingBackIsForbidden:
    """It is asked before every step, and not only before the first one."""

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
            guest.clock.step(905 * SECOND)
            sleep(seconds)

        monkeypatch.setattr(line, "sleep", sleep_while_another_sets_it)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, False, 1, None)
        assert "900.0" in report.warnings[0]

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

    @pytest.mark.parametrize("make", [stock, extended])
    @pytest.mark.parametrize(("left_ns", "attempts"), [((50 * MILLISECOND,), 1), ((-5 * SECOND, 0), 2)])
    def test_what_a_step_leaves_is_judged_by_its_sign(
        self, line: TimeLine, make: Any, left_ns: tuple[int, ...], attempts: int
    ) -> None:
        guest = make(line, -20 * SECOND)
        never_back(guest, *left_ns)
        report = run(guest, backward="leave")
        assert (report.changed, report.within_tolerance, report.attempts) == (True, True, attempts)
        assert (report.error, report.warnings) == (None, ())


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

    @pytest.mark.parametrize("make", [stock, extended])
    def test_a_guest_that_is_late_is_stepped_all_the_same(self, line: TimeLine, make: Any) -> None:
        guest = make(line, -20 * SECOND)
        report = run(guest, backward="slew")
        assert (report.changed, report.within_tolerance, slews(guest)) == (True, True, 0)

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
        assert (report.status, report.message) == ("corrected", None)

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

    def test_an_agent_without_the_permission_is_an_error_with_the_figures(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        guest.handlers["guest-update-time"] = lambda _arguments: failed("The clock was not set: CAP_SYS_TIME")
        report = run(guest, backward="slew", attempts=2)
        assert figures(report) == (False, False, "extended", 2)
        assert isinstance(report.error, CommandFailedError)
        assert "CAP_SYS_TIME, and the guest's clock is still off by 0.2" in report.error.message

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

    @pytest.mark.parametrize(
        ("backward", "ahead_ns", "left_ns"),
        [
            *[(backward, -20 * SECOND, -100 * MILLISECOND) for backward in ("step", "slew", "leave")],
            ("step", 200 * MILLISECOND, -200 * MILLISECOND),
        ],
    )
    def test_a_step_ends_a_slew_that_is_under_way(
        self, line: TimeLine, backward: str, ahead_ns: int, left_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        guest.clock.slew(left_ns)
        report = run(guest, backward=backward)
        assert (report.changed, report.within_tolerance, report.slewing_ns, slews(guest)) == (True, True, 0, 0)
        line.now_ns += 200 * SECOND
        assert abs(guest.clock.offset_ns()) < MILLISECOND

    @pytest.mark.parametrize(
        ("ahead_ms", "left_ms", "within"), [(400, -100, False), (50, -300, True), (-50, -300, True)]
    )
    def test_a_slew_that_does_not_end_right_is_replaced(
        self, line: TimeLine, ahead_ms: int, left_ms: int, within: bool
    ) -> None:
        guest = extended(line, ahead_ms * MILLISECOND)
        guest.clock.slew(left_ms * MILLISECOND)
        report = run(guest, backward="slew")
        assert (figures(report), report.error) == ((True, within, "extended", 1), None)
        line.now_ns += 900 * SECOND
        assert abs(guest.clock.offset_ns()) < MILLISECOND

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

    def test_a_guest_that_is_lost_after_it_is_an_error(self, line: TimeLine) -> None:
        guest = extended(line, 200 * MILLISECOND)
        lost = {"guest-get-clock": lambda _arguments: disabled("guest-get-clock")}
        after(guest, "guest-update-time", lambda: guest.handlers.update(lost))
        report = run(guest, backward="slew")
        assert isinstance(report.error, CommandDisabledError)
        assert (report.changed, report.attempts) == (True, 1)

    def test_a_step_that_went_too_far_for_a_slew_is_left_with_the_reason(self, line: TimeLine) -> None:
        guest = extended(line, -20 * SECOND)
        never_back(guest, 900 * MILLISECOND)
        report = run(guest, backward="slew")
        assert (figures(report), report.error, slews(guest)) == ((True, False, "extended", 1), None, 0)
        assert "at most 0.5 s is slewed" in report.warnings[0]
