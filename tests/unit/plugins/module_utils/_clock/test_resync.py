"""The decisions of a resync: which clocks are left, which are stepped, by which method, and how often."""

from __future__ import annotations

import random
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandNotFoundError,
    GuestReplacedError,
    NotConvergedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned

from tests.fakes.clock import Clock
from tests.fakes.guest import (
    EXTENDED_COMMANDS,
    MICROSECOND,
    MILLISECOND,
    SECOND,
    STOCK_COMMANDS,
    SimulatedGuest,
    TimeLine,
    disabled,
    not_found,
)
from tests.support.resyncs import (
    extended,
    is_set,
    resync,
    run,
    skewed,
    stock,
)


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

    def test_the_reference_may_differ_from_utc(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        report = run(guest, utc_offset_ns=3_600 * SECOND)
        assert report.changed
        assert abs(guest.clock.offset_ns() - 3_600 * SECOND) < 300 * MICROSECOND


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
        guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), commands)
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


class TestAttempts:
    @pytest.mark.parametrize("ahead_ns", [-8 * SECOND, 8 * SECOND])
    def test_another_run_that_added_the_same_is_given_time_to_take_it_back(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch, ahead_ns: int
    ) -> None:
        guest = extended(line, ahead_ns)
        monkeypatch.setattr(random, "uniform", lambda _low, high: high)

        def step_twice(arguments: Any) -> Reply:
            guest.clock.step(-ahead_ns)
            return guest.update_time(arguments)

        def sleep_while_it_is_taken_back(seconds: float) -> None:
            assert seconds > 0
            guest.clock.step(ahead_ns)
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

    @pytest.mark.parametrize(
        ("left_ns", "way_ns", "attempts", "taken"),
        [
            (-3 * MILLISECOND, 300_137, 3, 2),  # to come nearer
            (300 * MICROSECOND, 300_137, 3, 1),
            (-500 * MICROSECOND, 300_137, 3, 1),
            (3 * MILLISECOND, 5_000_137, 3, 1),  # that is below the uncertainty
            # One attempt is left to repair what coming nearer may spoil.
            (-3 * MILLISECOND, 300_137, 1, 1),
            (-3 * MILLISECOND, 300_137, 2, 1),
            (-3 * MILLISECOND, 300_137, 5, 4),
        ],
    )
    def test_how_many_steps_a_small_residual_is_worth(
        self, line: TimeLine, left_ns: int, way_ns: int, attempts: int, taken: int
    ) -> None:
        guest = stock(line, -20 * SECOND)
        guest.delays = lambda _command: (way_ns, way_ns)
        guest.handlers["guest-set-time"] = skewed(guest, [left_ns] * attempts)
        report = run(guest, attempts=attempts)
        assert (report.attempts, report.within_tolerance, report.error) == (taken, True, None)


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
