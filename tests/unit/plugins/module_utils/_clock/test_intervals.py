"""The interval contains the true offset, whatever the delays are and however the guest's clock runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import (
    EXTENDED_RESOLUTION_NS,
    STOCK_RESOLUTION_NS,
    Interval,
    Measurement,
    Reading,
    Slew,
    evaluate,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import Clock
from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND, TimeLine

WINDOWS_TICK_NS = 15_625_000

# From zero to seconds; each order of magnitude is equally likely.
durations = st.one_of(
    st.integers(0, 10),
    st.integers(0, 10 * MICROSECOND),
    st.integers(0, 10 * MILLISECOND),
    st.integers(0, 5 * SECOND),
)
# The pause before an exchange, the way there, the time between the agent's two stamps, and the way back.
Way = tuple[int, int, int, int]
ways = st.lists(st.tuples(durations, durations, durations, durations), min_size=1, max_size=20)
offsets = st.one_of(st.integers(-SECOND, SECOND), st.integers(-(10**18), 10**18))
drifts_ppb = st.one_of(st.sampled_from((-500_000, 0, 500_000)), st.integers(-500_000, 500_000))
claimed_and_true_resolution = st.sampled_from(
    ((EXTENDED_RESOLUTION_NS, 1), (STOCK_RESOLUTION_NS, 100), (STOCK_RESOLUTION_NS, 1_000), (1_000, 1_000_000))
)


def take(line: TimeLine, clock: Clock, journeys: list[Way], claimed_ns: int = 1) -> list[Reading]:
    """Return a reading of the clock for each journey. The time line is left at the arrival of the last answer."""
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


def holds_the_truth(measurement: Measurement, line: TimeLine, clock: Clock) -> bool:
    return measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high


class TestTheIntervalContainsTheTrueOffset:
    @given(ways, offsets, drifts_ppb, claimed_and_true_resolution)
    def test_and_is_no_wider_than_each_exchange_explains(
        self, journeys: list[Way], offset_ns: int, drift_ppb: int, resolutions: tuple[int, int]
    ) -> None:
        claimed_ns, tick_ns = resolutions
        line = TimeLine()
        clock = Clock(offset_ns, drift_ppb, tick_ns, host=line)
        readings = take(line, clock, journeys, claimed_ns)
        measurement = evaluate(readings)
        assert holds_the_truth(measurement, line, clock)
        assert measurement.interval.low <= measurement.likely_ns <= measurement.interval.high
        assert (measurement.coarse, measurement.exchanges) == (False, len(journeys))
        for reading in readings:
            aged_ns = (line.now_ns - reading.sent_ns) * 500 // 1_000_000 + 1
            explained_ns = (reading.round_trip_ns + measurement.resolution_ns + 1) // 2 + aged_ns
            assert measurement.interval.half_width <= explained_ns

    @given(
        st.integers(0, WINDOWS_TICK_NS),
        st.lists(
            st.tuples(st.integers(0, 3 * WINDOWS_TICK_NS), durations, durations, durations), min_size=2, max_size=60
        ),
        offsets,
    )
    def test_for_a_coarse_clock_that_was_seen_to_tick(self, phase_ns: int, journeys: list[Way], offset_ns: int) -> None:
        line = TimeLine()
        line.now_ns += phase_ns
        clock = Clock(offset_ns, 0, WINDOWS_TICK_NS, host=line)
        readings = take(line, clock, journeys, 100)
        measurement = evaluate(readings)
        if measurement.coarse and len({reading.guest_received_ns for reading in readings}) > 1:
            assert holds_the_truth(measurement, line, clock)

    @given(ways, offsets, st.integers(-990_000, 990_000))
    def test_for_a_clock_that_is_slewed_and_drifts(self, journeys: list[Way], offset_ns: int, drift_ppb: int) -> None:
        line = TimeLine()
        clock = Clock(offset_ns, drift_ppb, host=line)
        slew = Slew(-1 if drift_ppb < 0 else 1, is_possible=True)
        measurement = evaluate([replace(each, slew=slew) for each in take(line, clock, journeys)])
        assert holds_the_truth(measurement, line, clock)
        assert (measurement.coarse, measurement.slew) == (False, slew)


@pytest.mark.parametrize(
    ("tick_ns", "coarse", "resolution_ns"),
    [
        *((tick_ns, False, tick_ns) for tick_ns in (MILLISECOND, 10 * MILLISECOND, SECOND, 60 * SECOND)),
        (WINDOWS_TICK_NS, True, WINDOWS_TICK_NS + STOCK_RESOLUTION_NS),
    ],
)
def test_a_known_tick_is_taken_as_the_resolution_and_any_other_makes_the_clock_coarse(
    tick_ns: int, coarse: bool, resolution_ns: int
) -> None:
    line = TimeLine()
    clock = Clock(7 * SECOND + 123_456_789, 0, tick_ns, host=line)
    measurement = evaluate(take(line, clock, [(0, 400_000, 0, 400_000)] * 50, STOCK_RESOLUTION_NS))
    assert (measurement.coarse, measurement.resolution_ns) == (coarse, resolution_ns)
    assert holds_the_truth(measurement, line, clock)


def test_the_likely_offset_is_the_middle_if_a_tick_is_longer_than_the_way() -> None:
    line = TimeLine()
    journeys = [(7 * MILLISECOND, 1_000 * number, 0, 1_000) for number in range(1, 9)]
    measurement = evaluate(take(line, Clock(host=line, tick_ns=MILLISECOND), journeys, MILLISECOND))
    assert measurement.likely_ns == measurement.interval.middle


def test_one_way_is_the_median_and_the_round_trip_is_the_shortest_less_the_agents_time() -> None:
    line = TimeLine()
    forwards = (3, 1_009, 2_003, 3_007, 4_001, 5_003, 6_011)
    journeys = [(0, forward, 10, forwards[-number]) for number, forward in enumerate(forwards, 1)]
    measurement = evaluate(take(line, Clock(host=line), journeys))
    assert measurement.one_way_ns == pytest.approx(3_007, abs=20)
    assert measurement.round_trip_ns == 2_003 + 4_001


def test_intervals_that_touch_overlap() -> None:
    others = (Interval(5, 9), Interval(-3, 0), Interval(6, 9), Interval(-3, -1))
    assert [Interval(0, 5).overlaps(other) for other in others] == [True, True, False, False]


class TestALyingGuest:
    times = st.integers(0, 2**63 - 1)

    @given(
        st.lists(st.tuples(durations, durations, times, times), min_size=1, max_size=20), st.sampled_from([1, 1_000])
    )
    def test_any_readings_give_an_interval_and_plausible_delays(
        self, answers: list[tuple[int, int, int, int]], claimed_ns: int
    ) -> None:
        readings, now_ns = [], 10**15
        for pause_ns, elapsed_ns, *stamps in answers:
            now_ns += pause_ns
            readings.append(Reading(now_ns, now_ns + elapsed_ns, min(stamps), max(stamps), claimed_ns))
            now_ns += elapsed_ns
        measurement = evaluate(readings)
        assert not measurement.interval.is_empty
        assert measurement.interval.low <= measurement.likely_ns <= measurement.interval.high
        assert 0 <= measurement.one_way_ns <= max(reading.elapsed_ns for reading in readings)
        assert measurement.round_trip_ns >= 0
        assert measurement.resolution_ns > 0

    def test_stamps_further_apart_than_the_exchange_took_are_a_contradiction(self) -> None:
        measurement = evaluate([Reading(1_000, 2_000, 10**18, 10**18 + 50_000)])
        assert (measurement.coarse, measurement.round_trip_ns) == (True, 0)
        assert measurement.interval.width >= 49_000
