"""The fake clock, against a time line that a test moves by hand, and against this machine's."""

from __future__ import annotations

import time

from tests.fakes.clock import Clock
from tests.fakes.guest import TimeLine
from tests.fakes.kinds import MILLISECOND_NS, SECOND_NS, WINDOWS_TICK_NS


def test_it_starts_at_its_offset_and_runs_with_its_host() -> None:
    line = TimeLine()
    clock = Clock(-3 * SECOND_NS, host=line)
    assert clock.read() == line.time_ns() - 3 * SECOND_NS
    line.now_ns += 123_456_789
    assert clock.read() == line.time_ns() - 3 * SECOND_NS
    assert clock.offset_ns() == -3 * SECOND_NS


def test_it_drifts_and_is_set_and_stepped_exactly() -> None:
    line = TimeLine()
    clock = Clock(SECOND_NS, drift_ppb=-20_500, host=line)
    line.now_ns += 1000 * SECOND_NS
    assert clock.offset_ns() == SECOND_NS - 20_500_000
    clock.set(line.time_ns() + 42)
    assert clock.offset_ns() == 42
    assert clock.step(-50) == (line.time_ns() + 42, line.time_ns() - 8)
    assert clock.offset_ns() == -8
    line.now_ns += 10 * SECOND_NS
    assert clock.offset_ns() == -8 - 205_000
    assert clock.stepped_ns == -SECOND_NS + 20_500_000 + 42 - 50


def test_a_coarse_one_shows_whole_ticks_and_is_no_less_exact_below_them() -> None:
    line = TimeLine()
    clock = Clock(tick_ns=WINDOWS_TICK_NS, host=line)
    readings = set()
    for _millisecond in range(100):
        line.now_ns += MILLISECOND_NS
        assert 0 <= line.time_ns() - clock.read() < WINDOWS_TICK_NS
        readings.add(clock.read())
    assert len(readings) in (7, 8)
    assert all(reading % WINDOWS_TICK_NS == 0 for reading in readings)
    clock.step(1)
    assert clock.offset_ns() == 1


def test_the_truth_is_against_this_machines_clock_and_each_has_its_own() -> None:
    clock, other = Clock(-2 * SECOND_NS), Clock(5 * SECOND_NS)
    other.step(-SECOND_NS)
    seen_ns = min((clock.read() - time.time_ns() for _attempt in range(50)), key=lambda ns: abs(ns + 2 * SECOND_NS))
    assert abs(clock.offset_ns() - seen_ns) < MILLISECOND_NS
    assert abs(other.offset_ns() - 4 * SECOND_NS) < MILLISECOND_NS


def test_a_slew_goes_on_with_the_time_and_a_step_ends_it() -> None:
    line = TimeLine()
    clock = Clock(host=line)
    clock.slew(-MILLISECOND_NS)
    assert (clock.offset_ns(), clock.slewing_ns) == (0, -MILLISECOND_NS)
    line.now_ns += SECOND_NS
    assert (clock.offset_ns(), clock.slewing_ns) == (-500_000, -500_000)
    clock.step(0)
    line.now_ns += SECOND_NS
    assert (clock.offset_ns(), clock.slewing_ns) == (-500_000, 0)
