"""The interval holds the truth, whatever the delays are, and however the guest's clock goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import (
    EXTENDED_RESOLUTION_NS,
    STOCK_RESOLUTION_NS,
    Interval,
    Reading,
    Slew,
    bridged,
    evaluate,
    intersection,
    seen_resolution,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import Clock
from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND, TimeLine

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


def take(line: TimeLine, clock: Clock, journeys: list[Way], claimed_ns: int) -> list[Reading]:
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


def against_monotonic(line: TimeLine, clock: Clock) -> int:
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
        clock = Clock(offset_ns, drift_ppb, tick_ns, host=line)
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
        readings = take(line, Clock(offset_ns, drift_ppb, tick_ns, host=line), journeys, claimed_ns)
        measurement = evaluate(readings)
        for reading in readings:
            explained_ns = (reading.round_trip_ns + measurement.resolution_ns + 1) // 2 + aged(line, reading)
            assert measurement.interval.half_width <= explained_ns

    @given(ways, offsets, drifts_ppb)
    def test_the_intersection_is_never_wider_than_the_best_aged_interval(
        self, journeys: list[Way], offset_ns: int, drift_ppb: int
    ) -> None:
        line = TimeLine()
        readings = take(line, Clock(offset_ns, drift_ppb, host=line), journeys, 1)
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
        clock = Clock(offset_ns, 0, TICK_NS, host=line)
        readings = take(line, clock, journeys, 100)
        measurement = evaluate(readings)
        if measurement.coarse and len({reading.guest_received_ns for reading in readings}) > 1:
            low, high = measurement.interval
            assert low <= against_monotonic(line, clock) <= high


def test_a_tick_of_15_625_ms_is_flagged_and_the_truth_is_held() -> None:
    line = TimeLine()
    clock = Clock(-40 * SECOND, 0, TICK_NS, host=line)
    measurement = evaluate(take(line, clock, [(0, 400_000, 0, 400_000)] * 50, STOCK_RESOLUTION_NS))
    assert measurement.coarse
    assert measurement.resolution_ns == TICK_NS + STOCK_RESOLUTION_NS
    assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high
    assert measurement.interval.half_width <= MILLISECOND


@pytest.mark.parametrize("tick_ns", [MILLISECOND, 10 * MILLISECOND, SECOND, 60 * SECOND])
def test_a_known_step_is_seen_and_is_no_contradiction(tick_ns: int) -> None:
    line = TimeLine()
    clock = Clock(7 * SECOND + 123_456_789, 0, tick_ns, host=line)
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
        clock = Clock(offset_ns, drift_ppb, host=line)
        slew = Slew(-1 if drift_ppb < 0 else 1, is_possible=True)
        readings = [replace(each, slew=slew) for each in take(line, clock, journeys, 1)]
        measurement = evaluate(readings)
        low, high = measurement.interval
        assert low <= against_monotonic(line, clock) <= high
        assert not measurement.coarse
        assert measurement.slew == slew

    def test_without_a_slew_the_interval_is_as_narrow_as_ever(self) -> None:
        line = TimeLine()
        readings = take(line, Clock(host=line), [(0, 300_000, 50_000, 200_000), (10 * SECOND, 900_000, 0, 900_000)], 1)
        none, idle, under_way = (
            evaluate([replace(each, slew=slew) for each in readings]).interval
            for slew in (None, Slew(0, is_possible=True), Slew(-5, is_possible=True))
        )
        assert none == idle
        assert under_way.width - idle.width > 0


class TestParts:
    def test_an_interval(self) -> None:
        interval = Interval(10, 21)
        assert (interval.middle, interval.half_width, interval.is_empty) == (15, 6, False)
        assert interval.shifted(-10) == (0, 11)
        assert interval.widened(2) == (8, 23)
        assert Interval(1, 0).is_empty
        assert not Interval(1, 1).is_empty

    @pytest.mark.parametrize(("low", "high", "overlaps"), [(5, 9, True), (-3, 0, True), (6, 9, False), (-3, -1, False)])
    def test_intervals_that_touch_have_an_offset_in_common(self, low: int, high: int, overlaps: bool) -> None:
        assert Interval(0, 5).overlaps(Interval(low, high)) is overlaps

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
        measurement = evaluate(take(line, Clock(offset_ns, host=line), journeys, 1))
        assert measurement.interval.low <= measurement.likely_ns <= measurement.interval.high

    def test_it_is_hit_where_the_way_there_takes_as_much_of_the_round_trip_as_it_mostly_does(self) -> None:
        line = TimeLine()
        clock = Clock(-20 * SECOND, host=line)
        measurement = evaluate(take(line, clock, [(0, 770_000, 0, 230_000)] * 8, 1))
        assert measurement.likely_ns == pytest.approx(against_monotonic(line, clock), abs=2_000)

    def test_it_is_the_middle_where_the_clock_ticks_more_coarsely_than_the_way_takes(self) -> None:
        line = TimeLine()
        journeys = [(7 * MILLISECOND, 1_000 * number, 0, 1_000) for number in range(1, 9)]
        measurement = evaluate(take(line, Clock(host=line, tick_ns=MILLISECOND), journeys, MILLISECOND))
        assert measurement.likely_ns == measurement.interval.middle


class TestWays:
    @given(st.integers(0, 10 * MILLISECOND), st.integers(0, 10 * MILLISECOND), offsets)
    def test_one_way_is_the_way_there_as_far_as_can_be_told(
        self, forward_ns: int, backward_ns: int, offset_ns: int
    ) -> None:
        line = TimeLine()
        clock = Clock(offset_ns, host=line)
        measurement = evaluate(take(line, clock, [(0, forward_ns, 50_000, backward_ns)] * 8, 1))
        assert measurement.round_trip_ns == forward_ns + backward_ns
        error_ns = measurement.likely_ns - against_monotonic(line, clock)
        assert measurement.one_way_ns == pytest.approx(max(0, forward_ns - error_ns), abs=20_000)

    def test_one_way_is_the_median(self) -> None:
        line = TimeLine()
        forwards = (3, 1_009, 2_003, 3_007, 4_001, 5_003, 6_011)
        journeys = [(0, forward, 0, forwards[-number]) for number, forward in enumerate(forwards, 1)]
        assert evaluate(take(line, Clock(host=line), journeys, 1)).one_way_ns == pytest.approx(3_007, abs=20)

    def test_round_trip_is_the_shortest_without_the_agents_own_time(self) -> None:
        line = TimeLine()
        journeys = [(0, 3_000, 70_000, 2_000), (0, 200, 90_000, 100), (0, 400, 0, 400)]
        assert evaluate(take(line, Clock(host=line), journeys, 1)).round_trip_ns == 300


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
