"""The decisions of a resync: which clocks are stepped, by which method, and how often."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Iterator
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
)
from tests.support.resyncs import extended, figures, is_set, resync, run, skewed, stock

BY_EACH_AGENT = pytest.mark.parametrize("make", [stock, extended])


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


class TestDeciding:
    @BY_EACH_AGENT
    @pytest.mark.parametrize("ahead_ns", [0, 99 * MILLISECOND, -99 * MILLISECOND])
    @pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"method": "extended"}], ids=str)
    def test_a_clock_within_tolerance_is_left_alone(
        self, line: TimeLine, make: Any, ahead_ns: int, options: dict[str, Any]
    ) -> None:
        guest = make(line, ahead_ns)
        report = run(guest, **options)
        assert (figures(report), report.after, report.error) == ((False, True, None, 0), None, None)
        assert report.guest_time_before_ns == report.guest_time_after_ns
        assert not is_set(guest)

    @pytest.mark.parametrize(("make", "method"), [(stock, "set_time"), (extended, "extended")])
    @pytest.mark.parametrize("ahead_ns", [-7 * 86_400 * SECOND, -20 * SECOND, -102 * MILLISECOND, 102 * MILLISECOND])
    def test_a_clock_beyond_tolerance_is_stepped_and_a_second_run_changes_nothing(
        self, line: TimeLine, make: Any, method: str, ahead_ns: int
    ) -> None:
        guest = make(line, ahead_ns)
        planned = run(guest, dry_run=True)
        assert (figures(planned), planned.after, is_set(guest)) == ((True, False, method, 0), None, False)
        assert abs(planned.guest_time_after_ns - line.time_ns()) < MICROSECOND
        assert abs(planned.guest_time_before_ns - guest.clock.true_ns()) < 300 * MICROSECOND

        began_ns = line.now_ns
        report = run(guest)
        assert figures(report) == (True, True, method, 1)
        assert (report.error, report.warnings, line.slept) == (None, (), [])
        assert report.duration_ns == line.now_ns - began_ns
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND
        # Both belong to the same instant.
        assert abs(report.guest_time_before_ns - (line.time_ns() + ahead_ns)) < 300 * MICROSECOND
        assert abs(report.guest_time_after_ns - guest.clock.true_ns()) < 300 * MICROSECOND
        again = run(guest)
        assert (again.changed, again.attempts, again.after) == (False, 0, None)

    @pytest.mark.usefixtures("without_collector")
    def test_nothing_is_left_to_the_garbage_collector(self, line: TimeLine) -> None:
        """In a fleet, garbage collection would take a tenth of the time."""
        guest = extended(line, -20 * SECOND)
        agent = GuestAgent(guest, 5.0)
        left = weakref.ref(agent)
        assert resync(agent, line.reference(), ResyncOptions()).changed
        del agent
        assert left() is None

    @pytest.mark.parametrize("ahead_us", [99_900, 100_200, -99_900, -100_200])
    def test_a_clock_close_to_the_tolerance_is_read_more_often_and_stepped_if_not_proven_within(
        self, line: TimeLine, ahead_us: int
    ) -> None:
        guest = stock(line, ahead_us * MICROSECOND)
        report = run(guest)
        asked = [name for name, _arguments in guest.requests]
        assert asked[: asked.index("guest-set-time")].count("guest-get-time") == 4 + 64
        assert (report.changed, report.within_tolerance, report.attempts, report.error) == (True, True, 1, None)

    def test_the_whole_interval_has_to_be_within_tolerance(self, line: TimeLine) -> None:
        began_ns = line.now_ns

        def found(ahead_ns: int, tolerance_ns: int) -> ResyncReport:
            # The same guest at the same time, so that each run finds the same offset.
            line.now_ns = began_ns
            return run(stock(line, ahead_ns), tolerance_ns=tolerance_ns, dry_run=True)

        for ahead_ns in (100 * MILLISECOND, -100 * MILLISECOND):
            most_ns = max(map(abs, found(ahead_ns, SECOND).before.interval))
            at, below = found(ahead_ns, most_ns), found(ahead_ns, most_ns - MICROSECOND)
            assert max(map(abs, at.before.interval)) == most_ns
            assert (at.within_tolerance, at.changed) == (True, False)
            assert (below.within_tolerance, below.changed, below.error) == (None, True, None)

    def test_tolerance_zero_always_steps_and_requires_no_proof(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        guest.handlers["guest-set-time"] = skewed(guest, [-3 * MILLISECOND, 0, 0])
        for attempts in (2, 1):
            report = run(guest, tolerance_ns=0)
            assert (figures(report), report.error) == ((True, None, "set_time", attempts), None)
            (warning,) = report.warnings  # once
            assert "smaller than the uncertainty" in warning

    def test_utc_offset_moves_the_target_and_samples_sets_the_number_of_exchanges(self, line: TimeLine) -> None:
        guest = stock(line, 0)
        report = run(guest, utc_offset_ns=3_600 * SECOND, samples=3)
        assert (report.changed, report.before.measurement.exchanges) == (True, 3)
        assert abs(guest.clock.offset_ns() - 3_600 * SECOND) < 300 * MICROSECOND

    @pytest.mark.parametrize("when", ["at first", "after the step"])
    def test_contradictory_readings_never_prove_a_clock_right(self, line: TimeLine, when: str) -> None:
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
        assert is_set(guest) is (when == "after the step")


class TestChoosingTheMethod:
    @pytest.mark.parametrize(
        ("commands", "method", "used", "command"),
        [
            (STOCK_COMMANDS, "auto", "set_time", "guest-set-time"),
            ((*STOCK_COMMANDS, "guest-get-clock"), "auto", "set_time", "guest-set-time"),
            (EXTENDED_COMMANDS, "auto", "extended", "guest-update-time"),
            (EXTENDED_COMMANDS, "extended", "extended", "guest-update-time"),
            (EXTENDED_COMMANDS, "set_time", "set_time", "guest-set-time"),
            (STOCK_COMMANDS, "rtc", "rtc", "guest-set-time"),
        ],
    )
    def test_it_depends_on_the_option_and_on_the_agents_commands(
        self, line: TimeLine, commands: tuple[str, ...], method: str, used: str, command: str
    ) -> None:
        guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), commands)
        report = run(guest, method=method, tolerance_ns=2 * SECOND)
        assert (report.method, report.changed, report.error) == (used, True, None)
        assert guest.asked(command)

    @pytest.mark.parametrize("dry_run", [False, True])
    @pytest.mark.parametrize(
        ("method", "error", "hint"),
        [("extended", CommandNotFoundError, "extended_agent"), ("set_time", CommandDisabledError, "block-rpcs")],
    )
    def test_a_method_that_the_agent_lacks_fails_with_the_measurement(
        self, line: TimeLine, method: str, error: type[Exception], hint: str, dry_run: bool
    ) -> None:
        guest = stock(line, -20 * SECOND)
        guest.commands["guest-set-time"]["enabled"] = False
        report = run(guest, method=method, dry_run=dry_run)
        assert (report.changed, report.within_tolerance, report.attempts) == (False, False, 0)
        assert isinstance(report.error, error)
        assert hint in report.error.hint
        assert abs(report.before.ns + 20 * SECOND) < MILLISECOND
        assert not is_set(guest)


class TestAttempts:
    @pytest.mark.parametrize("ahead_ns", [-8 * SECOND, 8 * SECOND])
    def test_a_concurrent_run_that_stepped_as_well_is_given_time_to_undo_it(
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
        assert (figures(report), report.error) == ((True, True, "extended", 1), None)
        assert len(guest.asked("guest-update-time")) == 1

    @pytest.mark.parametrize("looks", [1, 2])
    def test_a_guest_that_was_replaced_after_the_measurement_is_not_stepped(
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
        assert isinstance(report.error, GuestReplacedError)
        assert (report.changed, report.after) == (looks == 2, None)
        assert len(guest.asked("guest-update-time")) == looks - 1

    def test_a_drifting_clock_is_set_within_tolerance(self, line: TimeLine) -> None:
        assert run(stock(line, -20 * SECOND, drift_ppb=450_000)).within_tolerance

    @pytest.mark.parametrize(
        ("left_ns", "way_ns", "attempts", "taken"),
        [
            (-3 * MILLISECOND, 300_137, 3, 2),  # a second step improves it
            (300 * MICROSECOND, 300_137, 3, 1),
            (-500 * MICROSECOND, 300_137, 3, 1),
            (3 * MILLISECOND, 5_000_137, 3, 1),  # below the uncertainty
            # One attempt is kept to repair a clock that an improving step made worse.
            (-3 * MILLISECOND, 300_137, 1, 1),
            (-3 * MILLISECOND, 300_137, 2, 1),
            (-3 * MILLISECOND, 300_137, 5, 4),
        ],
    )
    def test_a_small_residual_is_stepped_again_only_if_that_improves_it(
        self, line: TimeLine, left_ns: int, way_ns: int, attempts: int, taken: int
    ) -> None:
        guest = stock(line, -20 * SECOND)
        guest.delays = lambda _command: (way_ns, way_ns)
        guest.handlers["guest-set-time"] = skewed(guest, [left_ns] * attempts)
        report = run(guest, attempts=attempts)
        assert (report.attempts, report.within_tolerance, report.error) == (taken, True, None)


class TestTheHostsClock:
    @pytest.mark.parametrize(("make", "command"), [(stock, "guest-set-time"), (extended, "guest-update-time")])
    @pytest.mark.parametrize("jump_ns", [-3_600 * SECOND, 5 * SECOND])
    def test_a_jump_during_the_step_is_a_warning_and_the_new_time_is_used(
        self, line: TimeLine, make: Any, command: str, jump_ns: int
    ) -> None:
        guest = make(line, -20 * SECOND)
        usual = guest.handlers[command]
        jumps = iter([jump_ns])

        def jumps_at_first(arguments: Any) -> Reply:
            line.step_host(next(jumps, 0))
            return usual(arguments)

        guest.handlers[command] = jumps_at_first
        report = run(guest)
        assert (report.attempts, report.within_tolerance, report.error) == (2, True, None)
        assert [w for w in report.warnings if "host's clock was stepped" in w]
        assert abs(guest.clock.offset_ns()) < 300 * MICROSECOND
        # guest_time_before is what the unstepped guest would show now, whatever the host's clock shows.
        untouched_ns = line.time_ns() - jump_ns - 20 * SECOND
        assert abs(report.guest_time_before_ns - untouched_ns) < 300 * MICROSECOND

    def test_a_jump_of_the_host_alone_is_not_a_change_of_the_guest(self, line: TimeLine) -> None:
        guest = stock(line, -20 * SECOND)
        guest.handlers["guest-set-time"] = lambda _arguments: line.step_host(5 * SECOND) or Returned({})
        report = run(guest)
        assert report.changed is False
        assert isinstance(report.error, NotConvergedError)
