# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import measuring as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import (
    EXTENDED_RESOLUTION_NS,
    STOCK_RESOLUTION_NS,
    Interval,
    Measurement,
    Reading,
    Slew,
    bridged,
    evaluate,
    intersection,
    seen_resolution,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import decode
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
    SimulatedGuest,
    TimeLine,
)

measure, reader = blocking(module.measure), blocking(module.reader)

TICK_NS = 15_625_000  # Windows' clock

# From nothing to seconds, each size as likely as the others.
durations = st.one_of(
    st.integers(0, 10),
    st.integers(0, 10 * MICROSECOND),
    st.integers(0, 10 * MILLISECOND),
    st.integers(0, 5 * SECOND),
)
# The pause before an exchange, the way there, what the agent takes between its two stamps, and the way back.
Way = tuple[int, int, int, int]
ways = st.lists(st.tuples(durations, durations, durations, durations), min_size=1, max_size=20)
offsets = st.one_of(st.integers(-SECOND, SECOND), st.integers(-(10**18), 10**18))
drifts_ppb = st.one_of(st.sampled_from((-500_000, 0, 500_000)), st.integers(-500_000, 500_000))
claimed_and_true_resolution = st.sampled_from(
    ((EXTENDED_RESOLUTION_NS, 1), (STOCK_RESOLUTION_NS, 100), (STOCK_RESOLUTION_NS, 1_000), (1_000, 1_000_000))
)


def take(line: TimeLine, clock: GuestClock, journeys: list[Way], claimed_ns: int) -> list[Reading]:
    """What these journeys to that clock would give; the line stands at the last answer's arrival behind it."""
    readings = []
    for pause_ns, forward_ns, inside_ns, backward_ns in journeys:
        line.now_ns += pause_ns
        sent_ns = line.now_ns
        line.now_ns += forward_ns
        received = clock.read()
        line.now_ns += inside_ns
        transmitted = clock.read()
        line.now_ns += backward_ns
        readings.append(Reading(sent_ns, line.now_ns, received, transmitted, claimed_ns))
    return readings


def rewritten(reply: Reply, write: Callable[[int], str]) -> Reply:
    """The reply as an agent sends it that writes its times in another way."""
    assert isinstance(reply, Returned)
    if isinstance(reply.value, int):
        return Returned(decode(write(reply.value).encode()))
    times = {name: decode(write(reply.value[name]).encode()) for name in ("received", "transmitted")}
    return Returned({**reply.value, **times})


# How agents write nanoseconds that they keep as a double, and how far apart such numbers are.
WRITTEN: Mapping[str, tuple[Callable[[int], str], int]] = {
    "17 digits": (lambda time_ns: f"{float(time_ns):.16e}", 256),
    "17 digits, E": (lambda time_ns: f"{float(time_ns):.16E}", 256),
    "all digits": (lambda time_ns: f"{float(time_ns):.1f}", 256),
    "as many as tell it apart": (lambda time_ns: repr(float(time_ns)), 256),
    "16 digits": (lambda time_ns: f"{float(time_ns):.16g}", 1_000),
    "15 digits": (lambda time_ns: f"{float(time_ns):.15g}", 10_000),
    "14 digits": (lambda time_ns: f"{float(time_ns):.14g}", 100_000),
    "10 digits": (lambda time_ns: f"{float(time_ns):.10g}", 1_000_000_000),
}


def against_monotonic(line: TimeLine, clock: GuestClock) -> int:
    return clock.true_ns() - line.now_ns


def aged(line: TimeLine, reading: Reading) -> int:
    return (line.now_ns - reading.sent_ns) * 500 // 1_000_000 + 1


class TestTheIntervalHoldsTheTruth:
    @given(ways, offsets, drifts_ppb, claimed_and_true_resolution)
    def test_for_any_delays_offset_drift_and_resolution(
        self, journeys: list[Way], offset_ns: int, drift_ppb: int, resolutions: tuple[int, int]
    ) -> None:
        claimed_ns, tick_ns = resolutions
        line = TimeLine()
        clock = GuestClock(line, offset_ns, drift_ppb, tick_ns)
        measurement = evaluate(take(line, clock, journeys, claimed_ns))
        low, high = measurement.interval
        assert low <= against_monotonic(line, clock) <= high
        assert not measurement.coarse
        assert measurement.exchanges == len(journeys)

    @given(ways, offsets, drifts_ppb, claimed_and_true_resolution)
    def test_and_is_no_wider_than_any_one_exchange_explains(
        self, journeys: list[Way], offset_ns: int, drift_ppb: int, resolutions: tuple[int, int]
    ) -> None:
        claimed_ns, tick_ns = resolutions
        line = TimeLine()
        readings = take(line, GuestClock(line, offset_ns, drift_ppb, tick_ns), journeys, claimed_ns)
        measurement = evaluate(readings)
        for reading in readings:
            explained_ns = (reading.round_trip_ns + measurement.resolution_ns + 1) // 2 + aged(line, reading)
            assert measurement.interval.half_width <= explained_ns

    @given(ways, offsets, drifts_ppb)
    def test_the_intersection_is_never_wider_than_the_best_aged_interval(
        self, journeys: list[Way], offset_ns: int, drift_ppb: int
    ) -> None:
        line = TimeLine()
        readings = take(line, GuestClock(line, offset_ns, drift_ppb), journeys, 1)
        best = min(reading.interval.widened(aged(line, reading)).half_width for reading in readings)
        assert intersection(readings).half_width <= best

    @given(
        st.integers(0, TICK_NS),
        st.lists(st.tuples(st.integers(0, 3 * TICK_NS), durations, durations, durations), min_size=2, max_size=60),
        offsets,
    )
    def test_a_coarse_clock_that_was_seen_to_tick_is_no_further_off_than_a_tick(
        self, phase_ns: int, journeys: list[Way], offset_ns: int
    ) -> None:
        line = TimeLine()
        line.now_ns += phase_ns
        clock = GuestClock(line, offset_ns, 0, TICK_NS)
        readings = take(line, clock, journeys, 100)
        measurement = evaluate(readings)
        if measurement.coarse and len({reading.guest_received_ns for reading in readings}) > 1:
            low, high = measurement.interval
            assert low <= against_monotonic(line, clock) <= high


def test_a_tick_of_15_625_ms_is_flagged_and_the_truth_is_held() -> None:
    line = TimeLine()
    clock = GuestClock(line, -40 * SECOND, 0, TICK_NS)
    measurement = evaluate(take(line, clock, [(0, 400_000, 0, 400_000)] * 50, STOCK_RESOLUTION_NS))
    assert measurement.coarse
    assert measurement.resolution_ns == TICK_NS + STOCK_RESOLUTION_NS
    assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high
    assert measurement.interval.half_width <= MILLISECOND


@pytest.mark.parametrize("tick_ns", [MILLISECOND, 10 * MILLISECOND, SECOND, 60 * SECOND])
def test_a_known_step_is_seen_and_is_no_contradiction(tick_ns: int) -> None:
    line = TimeLine()
    clock = GuestClock(line, 7 * SECOND + 123_456_789, 0, tick_ns)
    measurement = evaluate(take(line, clock, [(0, 400_000, 0, 400_000)] * 16, STOCK_RESOLUTION_NS))
    assert not measurement.coarse
    assert measurement.resolution_ns == tick_ns
    assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high


class TestSlewing:
    """The kernel slews at 500 ppm, and both clocks have errors of their own."""

    @given(ways, offsets, st.integers(-990_000, 990_000))
    def test_the_interval_holds_the_truth_of_a_clock_that_is_being_slewed(
        self, journeys: list[Way], offset_ns: int, drift_ppb: int
    ) -> None:
        line = TimeLine()
        clock = GuestClock(line, offset_ns, drift_ppb)
        slew = Slew(-1 if drift_ppb < 0 else 1, is_possible=True)
        readings = [replace(each, slew=slew) for each in take(line, clock, journeys, 1)]
        measurement = evaluate(readings)
        low, high = measurement.interval
        assert low <= against_monotonic(line, clock) <= high
        assert not measurement.coarse
        assert measurement.slew == slew

    def test_without_a_slew_the_interval_is_as_narrow_as_ever(self) -> None:
        line = TimeLine()
        readings = take(line, GuestClock(line), [(0, 300_000, 50_000, 200_000), (10 * SECOND, 900_000, 0, 900_000)], 1)
        none, idle, under_way = (
            evaluate([replace(each, slew=slew) for each in readings]).interval
            for slew in (None, Slew(0, is_possible=True), Slew(-5, is_possible=True))
        )
        assert none == idle
        assert under_way.width - idle.width > 0

    @pytest.mark.parametrize(
        ("members", "slew"),
        [
            ({}, None),
            ({"slewing": None, "slewable": None}, None),
            ({"slewable": True}, None),
            ({"slewing": 0, "slewable": True}, Slew(0, is_possible=True)),
            ({"slewing": -5, "slewable": False}, Slew(-5, is_possible=False)),
            ({"slewing": -5.0, "slewable": None}, Slew(-5, is_possible=False)),
            ({"slewing": 2**63 // 2000}, Slew(2**63 // 2000, is_possible=False)),
        ],
    )
    def test_what_an_agent_reports_of_it(
        self, monkeypatch: pytest.MonkeyPatch, members: dict[str, object], slew: Slew | None
    ) -> None:
        assert self.measured(monkeypatch, members).slew == slew

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"slewing": "0"}, "slewing as str"),
            ({"slewing": True}, "slewing as bool"),
            ({"slewing": 0.5}, "slewing as float"),
            ({"slewing": [0]}, "slewing as list"),
            ({"slewing": -(2**63) // 2000 - 1}, "slewing that would take more than 292 years"),
            ({"slewing": 0, "slewable": 1}, "slewable that is not a boolean"),
        ],
    )
    def test_what_is_nothing_of_the_kind_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, members: dict[str, object], said: str
    ) -> None:
        with pytest.raises(RemoteProtocolError, match=said):
            self.measured(monkeypatch, members)

    @staticmethod
    def measured(monkeypatch: pytest.MonkeyPatch, members: dict[str, object]) -> Measurement:
        line = TimeLine()
        line.install(monkeypatch)
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.slews = False

        def get_clock(arguments: Any) -> Any:
            usual = guest.get_clock(arguments)
            assert isinstance(usual, Returned)
            return Returned({**usual.value, **members})

        guest.handlers["guest-get-clock"] = get_clock
        agent = GuestAgent(guest, 5.0)
        measurement: Measurement = measure(reader(agent), 4)
        return measurement


class TestParts:
    def test_an_interval(self) -> None:
        interval = Interval(10, 21)
        assert (interval.middle, interval.half_width, interval.is_empty) == (15, 6, False)
        assert interval.shifted(-10) == (0, 11)
        assert interval.widened(2) == (8, 23)
        assert Interval(1, 0).is_empty
        assert not Interval(1, 1).is_empty

    def test_the_bound_of_one_reading(self) -> None:
        reading = Reading(1_000, 1_500, 9_000, 9_100, 10)
        assert reading.interval == (7_600, 8_010)
        assert reading.round_trip_ns == 400

    def test_older_readings_prove_less(self) -> None:
        old = Reading(0, 10, 100, 100)
        new = Reading(SECOND, SECOND + 10_000_000, SECOND + 5_000_000, SECOND + 5_000_000)
        # 500 ppm of 1.01 s, and one for rounding.
        assert intersection([old, new]) == old.interval.widened(505_001)

    def test_a_gap_is_bridged_upwards_and_downwards_from_the_largest_lower_bound(self) -> None:
        assert bridged(Interval(1_000, 700)) == (700, 1_300)

    @pytest.mark.parametrize(
        ("values", "claimed_ns", "seen_ns"),
        [
            ((60 * SECOND, 120 * SECOND), 1_000, 60 * SECOND),
            ((61 * SECOND, 120 * SECOND), 1_000, SECOND),
            ((1_100 * MILLISECOND, 7 * SECOND), 1_000, 100 * MILLISECOND),
            ((1_234_567_000, 2_000_001_000), 1_000, 1_000),
            ((1_234_567_001, 2_000_001_000), 1, 1),
            ((60 * SECOND, 60 * SECOND + 1), 1, 1),
        ],
    )
    def test_the_resolution_is_the_coarsest_step_that_all_readings_keep(
        self, values: tuple[int, ...], claimed_ns: int, seen_ns: int
    ) -> None:
        assert seen_resolution([Reading(0, 1, value, value, claimed_ns) for value in values]) == seen_ns


class TestTheLikelyOffset:
    """A guess where in the interval the offset is; a step goes by it, and what is reported does not."""

    @given(ways, offsets)
    def test_it_never_leaves_the_interval(self, journeys: list[Way], offset_ns: int) -> None:
        line = TimeLine()
        measurement = evaluate(take(line, GuestClock(line, offset_ns), journeys, 1))
        assert measurement.interval.low <= measurement.likely_ns <= measurement.interval.high

    def test_it_is_hit_where_the_way_there_takes_as_much_of_the_round_trip_as_it_mostly_does(self) -> None:
        line = TimeLine()
        clock = GuestClock(line, -20 * SECOND)
        measurement = evaluate(take(line, clock, [(0, 770_000, 0, 230_000)] * 8, 1))
        assert measurement.likely_ns == pytest.approx(against_monotonic(line, clock), abs=2_000)

    def test_it_is_the_middle_where_the_clock_ticks_more_coarsely_than_the_way_takes(self) -> None:
        line = TimeLine()
        journeys = [(7 * MILLISECOND, 1_000 * number, 0, 1_000) for number in range(1, 9)]
        measurement = evaluate(take(line, GuestClock(line, tick_ns=MILLISECOND), journeys, MILLISECOND))
        assert measurement.likely_ns == measurement.interval.middle


class TestWays:
    @given(st.integers(0, 10 * MILLISECOND), st.integers(0, 10 * MILLISECOND), offsets)
    def test_one_way_is_the_way_there_as_far_as_can_be_told(
        self, forward_ns: int, backward_ns: int, offset_ns: int
    ) -> None:
        line = TimeLine()
        clock = GuestClock(line, offset_ns)
        measurement = evaluate(take(line, clock, [(0, forward_ns, 50_000, backward_ns)] * 8, 1))
        assert measurement.round_trip_ns == forward_ns + backward_ns
        error_ns = measurement.likely_ns - against_monotonic(line, clock)
        assert measurement.one_way_ns == pytest.approx(max(0, forward_ns - error_ns), abs=20_000)

    def test_one_way_is_the_median(self) -> None:
        line = TimeLine()
        forwards = (3, 1_009, 2_003, 3_007, 4_001, 5_003, 6_011)
        journeys = [(0, forward, 0, forwards[-number]) for number, forward in enumerate(forwards, 1)]
        assert evaluate(take(line, GuestClock(line), journeys, 1)).one_way_ns == pytest.approx(3_007, abs=20)

    def test_round_trip_is_the_shortest_without_the_agents_own_time(self) -> None:
        line = TimeLine()
        journeys = [(0, 3_000, 70_000, 2_000), (0, 200, 90_000, 100), (0, 400, 0, 400)]
        assert evaluate(take(line, GuestClock(line), journeys, 1)).round_trip_ns == 300


class TestWhatALyingGuestMakesOfIt:
    """It can say what it likes of its own clock, and nothing that the arithmetic would not stand."""

    times = st.integers(0, 2**63 - 1)

    @given(
        st.lists(st.tuples(durations, durations, times, times), min_size=1, max_size=20),
        st.sampled_from([1, 1_000]),
    )
    def test_any_readings_give_an_interval_and_possible_ways(
        self, answers: list[tuple[int, int, int, int]], claimed_ns: int
    ) -> None:
        readings, now_ns = [], 10**15
        for pause_ns, elapsed_ns, received, transmitted in answers:
            now_ns += pause_ns
            received, transmitted = sorted((received, transmitted))
            readings.append(Reading(now_ns, now_ns + elapsed_ns, received, transmitted, claimed_ns))
            now_ns += elapsed_ns
        measurement = evaluate(readings)
        assert not measurement.interval.is_empty
        assert measurement.interval.low <= measurement.likely_ns <= measurement.interval.high
        assert 0 <= measurement.one_way_ns <= max(reading.elapsed_ns for reading in readings)
        assert measurement.round_trip_ns >= 0
        assert measurement.resolution_ns > 0

    def test_to_have_worked_for_longer_than_the_exchange_took_is_a_contradiction(self) -> None:
        measurement = evaluate([Reading(1_000, 2_000, 10**18, 10**18 + 50_000)])
        assert measurement.coarse
        assert measurement.round_trip_ns == 0
        assert measurement.interval.width >= 49_000


class TestMeasuring:
    @pytest.fixture
    def line(self, monkeypatch: pytest.MonkeyPatch) -> TimeLine:
        line = TimeLine()
        line.install(monkeypatch)
        return line

    @pytest.mark.parametrize("commands", [STOCK_COMMANDS, EXTENDED_COMMANDS])
    def test_each_agent_is_read_in_its_own_way(self, line: TimeLine, commands: tuple[str, ...]) -> None:
        guest = SimulatedGuest(line, GuestClock(line, -20 * SECOND), commands)
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16)
        extended = commands is EXTENDED_COMMANDS
        asked = {name: len(guest.asked(name)) for name in ("guest-get-clock", "guest-get-time")}
        assert asked == {"guest-get-clock": 4 if extended else 0, "guest-get-time": 0 if extended else 4}
        assert measurement.resolution_ns == (1 if extended else 1_000)
        assert measurement.round_trip_ns == 500_356
        assert measurement.interval.low <= against_monotonic(line, guest.clock) <= measurement.interval.high

    def test_it_goes_on_as_long_as_that_narrows_the_interval(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line)
        ways = iter([1_800_137 - 200_000 * number for number in range(8)] + [400_137] * 92)
        guest.delays = lambda _command: (next(ways), 200_219)
        assert measure(reader(GuestAgent(guest, 5.0)), 100).exchanges == 7 + 3  # the first way was that of guest-info

    @pytest.mark.parametrize(("least", "taken"), [(1, 3), (4, 4)])
    def test_what_they_agree_on_may_suffice_but_not_of_two(self, line: TimeLine, least: int, taken: int) -> None:
        guest = SimulatedGuest(line)
        guest.delays = lambda _command: (5_000_000, 1_500_000)
        read = reader(GuestAgent(guest, 5.0))
        assert measure(read, 16, least, suffices=lambda agreed: agreed.width > 0).exchanges == taken

    @pytest.mark.parametrize(("most", "least", "taken"), [(2, 4, 2), (16, 16, 16), (16, 4, 4)])
    def test_it_takes_as_many_readings_as_it_is_told(self, line: TimeLine, most: int, least: int, taken: int) -> None:
        assert measure(reader(GuestAgent(SimulatedGuest(line), 5.0)), most, least).exchanges == taken

    @pytest.mark.parametrize("step_ns", [-3_600 * SECOND, -MILLISECOND, MILLISECOND, 20 * SECOND])
    @pytest.mark.parametrize("at", [1, 3, 15])
    def test_a_step_between_exchanges_starts_it_again(self, line: TimeLine, step_ns: int, at: int) -> None:
        guest = SimulatedGuest(line)
        answer = guest.handlers["guest-get-time"]

        def step_once(arguments: Any) -> Any:
            if len(guest.asked("guest-get-time")) == at + 1:
                guest.clock.add(step_ns)
            return answer(arguments)

        guest.handlers["guest-get-time"] = step_once
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16, 16)
        assert len(guest.asked("guest-get-time")) == at + 1 + 16
        assert not measurement.coarse
        assert measurement.interval.low <= against_monotonic(line, guest.clock) <= measurement.interval.high
        assert measurement.interval.half_width <= 300 * MICROSECOND

    def test_a_coarse_clock_stays_coarse_and_is_still_told(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, GuestClock(line, 3 * SECOND, 0, TICK_NS))
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16)
        assert measurement.coarse
        assert measurement.interval.low <= against_monotonic(line, guest.clock) <= measurement.interval.high
        assert measurement.interval.half_width <= TICK_NS

    @pytest.mark.parametrize("phase_ns", range(0, TICK_NS, TICK_NS // 10))
    def test_a_clock_that_stands_still_in_few_quick_readings_is_read_for_longer(
        self, line: TimeLine, phase_ns: int
    ) -> None:
        line.now_ns += phase_ns
        clock = GuestClock(line, 3 * SECOND, 0, TICK_NS)
        guest = SimulatedGuest(line, clock, delays=lambda _command: (20 * MICROSECOND, 20 * MICROSECOND))
        measurement = measure(reader(GuestAgent(guest, 5.0)), 4)
        assert measurement.coarse
        assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high

    @pytest.mark.parametrize(
        "value", [-1, 2**63, 10**30, True, False, 1.5, 1e19, -0.0, "1795406706000000000", None, [], {}, [1]]
    )
    @pytest.mark.parametrize("member", ["time", "received", "transmitted"])
    def test_what_is_no_time_is_refused(self, line: TimeLine, value: object, member: str) -> None:
        guest = SimulatedGuest(line, commands=STOCK_COMMANDS if member == "time" else EXTENDED_COMMANDS)
        clock = {"received": 1, "transmitted": 1, member: value}
        guest.handlers["guest-get-time"] = lambda _arguments: Returned(value)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned(clock)
        with pytest.raises(RemoteProtocolError, match="the agent returned"):
            measure(reader(GuestAgent(guest, 5.0)), 1)

    @pytest.mark.parametrize("written", WRITTEN)
    @pytest.mark.parametrize("commands", [STOCK_COMMANDS, EXTENDED_COMMANDS], ids=["stock", "extended"])
    def test_a_clock_written_as_a_double_is_as_fine_as_its_digits(
        self, line: TimeLine, commands: tuple[str, ...], written: str
    ) -> None:
        write, least_ns = WRITTEN[written]
        clock = GuestClock(line, 3 * SECOND)
        guest = SimulatedGuest(line, clock, commands, delays=lambda _command: (40_137, 20_219))
        as_integers = dict(guest.handlers)
        for command in ("guest-get-time", "guest-get-clock"):
            guest.handlers[command] = lambda arguments, command=command: rewritten(
                as_integers[command](arguments), write
            )
        for _phase in range(50):
            line.now_ns += 12_345_677
            measurement = measure(reader(GuestAgent(guest, 5.0)), 4)
            assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high
            assert measurement.resolution_ns >= least_ns
        assert measurement.resolution_ns <= 2 * least_ns + 2 * STOCK_RESOLUTION_NS

    @pytest.mark.parametrize("value", [None, 1, [], "now"])
    def test_a_clock_that_is_no_object_is_refused(self, line: TimeLine, value: object) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned(value)
        with pytest.raises(RemoteProtocolError, match="no object"):
            measure(reader(GuestAgent(guest, 5.0)), 1)

    def test_a_reply_that_left_before_its_request_came_is_refused(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned({"received": 2, "transmitted": 1})
        with pytest.raises(RemoteProtocolError, match="before it was received"):
            measure(reader(GuestAgent(guest, 5.0)), 1)

    def test_a_reply_may_leave_in_the_nanosecond_in_which_its_request_came(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned(
            {"received": line.now_ns, "transmitted": line.now_ns}
        )
        assert measure(reader(GuestAgent(guest, 5.0)), 1).interval.width >= 0

    @pytest.mark.parametrize(("earlier", "later"), [(1, 1), (0, 10**15), (10**18, 0)])
    def test_an_agent_that_worked_for_longer_than_it_was_asked_for_is_refused(
        self, line: TimeLine, earlier: int, later: int
    ) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)

        def lie(_arguments: Any) -> Any:
            now_ns = guest.clock.read()
            return Returned(
                {"received": now_ns - earlier * MILLISECOND % now_ns, "transmitted": now_ns + later + SECOND}
            )

        guest.handlers["guest-get-clock"] = lie
        with pytest.raises(RemoteProtocolError, match="for longer than its exchange took"):
            measure(reader(GuestAgent(guest, 5.0)), 16)

    def test_but_not_one_whose_clock_was_set_just_then(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        answer = guest.handlers["guest-get-clock"]
        jumps = iter([20 * SECOND])

        def set_meanwhile(arguments: Any) -> Any:
            value = dict(answer(arguments).value)
            value["transmitted"] += next(jumps, 0)
            return Returned(value)

        guest.handlers["guest-get-clock"] = set_meanwhile
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16)
        assert not measurement.coarse

    @pytest.mark.parametrize("tick_ns", [1, 60 * SECOND])
    @pytest.mark.parametrize("jumps_ns", [0, 3_600 * SECOND])
    def test_a_guest_that_is_slow_on_purpose_is_not_asked_on(self, line: TimeLine, tick_ns: int, jumps_ns: int) -> None:
        clock = GuestClock(line, 3 * SECOND, 0, tick_ns)
        guest = SimulatedGuest(line, clock, delays=lambda _command: (2_400 * MILLISECOND, 2_500 * MILLISECOND))
        answer = guest.handlers["guest-get-time"]

        def jump(arguments: Any) -> Any:
            clock.add(jumps_ns)
            return answer(arguments)

        guest.handlers["guest-get-time"] = jump
        started_ns = line.now_ns
        measure(reader(GuestAgent(guest, 5.0)), 64, 64, 5 * SECOND)
        assert len(guest.asked("guest-get-time")) == 2
        assert line.now_ns - started_ns < 15 * SECOND

    @pytest.mark.parametrize("value", [0, 2**63 - 1])
    def test_the_ends_of_time_are_taken(self, line: TimeLine, value: int) -> None:
        guest = SimulatedGuest(line)
        guest.handlers["guest-get-time"] = lambda _arguments: Returned(value)
        assert blocking(reader(GuestAgent(guest, 5.0)))().guest_received_ns == value
