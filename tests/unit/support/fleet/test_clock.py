# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The simulated clock, against a monotonic clock that a test turns by hand."""

from __future__ import annotations

import time

from tests.fakes.agent import MILLISECOND_NS, SECOND_NS, WINDOWS_TICK_NS
from tests.fakes.fleet.clock import SimulatedClock
from tests.support.extended_agent import module

EPOCH_NS = 1_795_000_000 * SECOND_NS


class Monotonic:
    def __init__(self) -> None:
        self.reading_ns = 77 * SECOND_NS + 5

    def __call__(self) -> int:
        return self.reading_ns


def clock_and_time(offset_ns: int = 0, drift_ppm: float = 0.0, tick_ns: int = 1) -> tuple[SimulatedClock, Monotonic]:
    monotonic = Monotonic()
    return SimulatedClock(offset_ns, drift_ppm, tick_ns, epoch_ns=EPOCH_NS, monotonic_ns=monotonic), monotonic


def test_it_starts_at_its_offset_and_runs_with_the_machine() -> None:
    clock, monotonic = clock_and_time(-3 * SECOND_NS)
    assert clock.now_ns() == EPOCH_NS + monotonic.reading_ns - 3 * SECOND_NS
    monotonic.reading_ns += 123_456_789
    assert clock.now_ns() == EPOCH_NS + monotonic.reading_ns - 3 * SECOND_NS
    assert clock.offset_ns(EPOCH_NS) == -3 * SECOND_NS


def test_it_drifts() -> None:
    clock, monotonic = clock_and_time(SECOND_NS, drift_ppm=-20.5)
    monotonic.reading_ns += 1000 * SECOND_NS
    assert clock.offset_ns(EPOCH_NS) == SECOND_NS - 20_500_000


def test_setting_and_shifting_are_exact_and_it_drifts_on() -> None:
    clock, monotonic = clock_and_time(-SECOND_NS, drift_ppm=100)
    monotonic.reading_ns += 10 * SECOND_NS
    clock.set_ns(EPOCH_NS + monotonic.reading_ns + 42)
    assert clock.offset_ns(EPOCH_NS) == 42
    assert clock.now_ns() == EPOCH_NS + monotonic.reading_ns + 42
    clock.shift_ns(-50)
    assert clock.offset_ns(EPOCH_NS) == -8
    monotonic.reading_ns += 10 * SECOND_NS
    assert clock.offset_ns(EPOCH_NS) == -8 + MILLISECOND_NS


def test_it_adds_its_steps_up() -> None:
    clock, monotonic = clock_and_time()
    clock.shift_ns(-7)
    clock.set_ns(EPOCH_NS + monotonic.reading_ns + 3)
    assert clock.stepped_ns == 3


def test_a_coarse_one_shows_whole_ticks_and_is_no_less_exact_below_them() -> None:
    clock, monotonic = clock_and_time(tick_ns=WINDOWS_TICK_NS)
    readings = set()
    for _millisecond in range(100):
        monotonic.reading_ns += MILLISECOND_NS
        assert 0 <= EPOCH_NS + monotonic.reading_ns - clock.now_ns() < WINDOWS_TICK_NS
        readings.add(clock.now_ns())
    assert len(readings) in (7, 8)
    assert all(reading % WINDOWS_TICK_NS == 0 for reading in readings)
    clock.shift_ns(1)
    assert clock.offset_ns(EPOCH_NS) == 1


def test_two_are_independent() -> None:
    one, other = SimulatedClock(5 * SECOND_NS), SimulatedClock(-5 * SECOND_NS)
    one.shift_ns(-SECOND_NS)
    assert abs(one.offset_ns() - 4 * SECOND_NS) < MILLISECOND_NS
    assert abs(other.offset_ns() + 5 * SECOND_NS) < MILLISECOND_NS


def test_the_truth_is_against_this_machines_clock() -> None:
    clock = SimulatedClock(-2 * SECOND_NS)
    seen_ns = min((clock.now_ns() - time.time_ns() for _attempt in range(50)), key=lambda ns: abs(ns + 2 * SECOND_NS))
    assert abs(clock.offset_ns() - seen_ns) < MILLISECOND_NS


def test_nothing_keeps_it() -> None:
    assert clock_and_time()[0].discipline() == module("clock").Discipline(False, 16 * SECOND_NS)


def test_a_slew_goes_on_with_the_time_and_a_step_ends_it() -> None:
    clock, monotonic = clock_and_time()
    before_ns = clock.offset_ns(0)
    clock.slew_ns(-SECOND_NS // 1000)
    assert clock.offset_ns(0) == before_ns
    assert clock.discipline().slewing_ns == -SECOND_NS // 1000
    monotonic.reading_ns += SECOND_NS
    assert clock.offset_ns(0) == before_ns - 500_000
    assert clock.discipline().slewing_ns == -500_000
    clock.shift_ns(0)
    monotonic.reading_ns += SECOND_NS
    assert (clock.offset_ns(0), clock.discipline().slewing_ns) == (before_ns - 500_000, 0)
