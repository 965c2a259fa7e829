"""Lanes: whose call gets a thread, and which lane is whose."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import (
    HELD_BACK,
    NEW,
    PROVEN,
    SLOW,
    Lane,
    Pace,
)

from tests.support.line_jobs import URI, Jobs
from tests.support.until import until


class TestLanes:
    @pytest.mark.parametrize("lane", [NEW, SLOW])
    def test_new_and_slow_ones_never_take_all_threads(self, jobs: Jobs, lane: Lane) -> None:
        jobs.submit(lane, "a", "b", "c", "d", "e", "f")
        jobs.settle("a", "b", "c", "d")
        jobs.submit(PROVEN, "proven")
        jobs.settle("a", "b", "c", "d", "proven")
        jobs.let_go("proven")
        jobs.settle("a", "b", "c", "d", "proven")
        jobs.let_go("a")
        jobs.settle("a", "b", "c", "d", "proven", "e")

    def test_those_held_back_spare_two(self, jobs: Jobs) -> None:
        jobs.submit(HELD_BACK, "a", "b", "c", "d", "e")
        jobs.settle("a", "b", "c")
        jobs.submit(NEW, "new", "newer")
        jobs.settle("a", "b", "c", "new")
        jobs.submit(PROVEN, "proven")
        jobs.settle("a", "b", "c", "new", "proven")
        jobs.let_go("new", "proven")
        jobs.settle("a", "b", "c", "new", "proven", "newer")
        jobs.let_go("newer")
        jobs.let_go("b")
        jobs.settle("a", "b", "c", "new", "proven", "newer", "d")

    def test_proven_ones_may_take_all(self, jobs: Jobs) -> None:
        jobs.submit(PROVEN, "a", "b", "c", "d", "e")
        jobs.settle("a", "b", "c", "d", "e")

    def test_proven_ones_go_first_and_those_held_back_last(self, jobs: Jobs) -> None:
        jobs.submit(PROVEN, "1", "2", "3", "4", "5")
        jobs.settle("1", "2", "3", "4", "5")
        jobs.submit(HELD_BACK, "held back")
        jobs.submit(SLOW, "slow")
        jobs.submit(NEW, "new")
        jobs.submit(PROVEN, "proven", "also proven")
        jobs.let_go("1", "2")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven")
        jobs.let_go("3")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven")
        jobs.let_go("4")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven", "new")
        jobs.let_go("5")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven", "new", "slow")
        jobs.let_go("proven", "also proven")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven", "new", "slow", "held back")
        assert jobs.begun[5:] == ["proven", "also proven", "new", "slow", "held back"]

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("lane", [PROVEN, NEW, SLOW, HELD_BACK])
    def test_within_a_lane_who_comes_first_goes_first(self, lane: Lane) -> None:
        line = Line(URI)
        ran: list[int] = []
        for number in range(20):
            line.submit(lane, lambda number=number: ran.append(number))
        line.close()
        until(lambda: line.load == 0, "the line is still busy")
        assert ran == list(range(20))

    def test_all_that_was_submitted_is_done_in_the_end(self, line: Line) -> None:
        ran: list[tuple[Lane, int]] = []
        for number in range(50):
            for lane in (HELD_BACK, SLOW, NEW, PROVEN):
                line.submit(lane, lambda what=(lane, number): ran.append(what))
        until(lambda: len(ran) == 200, "not all ran")
        assert len(set(ran)) == 200

    @pytest.mark.parametrize(("lane", "held"), [(HELD_BACK, "abc"), (SLOW, "abcd")])
    def test_within_a_lane_the_one_goes_first_that_has_held_threads_for_the_shortest_time(
        self, line: Line, jobs: Jobs, lane: Lane, held: str
    ) -> None:
        jobs.submit(lane, *held)
        jobs.settle(*held)
        ran: list[str] = []
        for name, seconds in (("long", 9.0), ("short", 0.5), ("longer", 20.0), ("as short", 0.5)):
            line.workers(lane, seconds).submit(lambda name=name: ran.append(name))
        jobs.let_go("a")
        until(lambda: len(ran) == 4, "not all ran")
        assert ran == ["short", "as short", "long", "longer"]


# How long the calls of a guest took, in seconds, or "silent"; and its lane in the end.
ANSWERS = [
    ((), NEW),
    ((0.1,), PROVEN),
    ((0.1, 0.1), PROVEN),
    ((0.2, 0.2), SLOW),
    ((0.2, 0.2, 0.0), SLOW),
    ((0.3,), HELD_BACK),
    ((0.3, 0.0, 0.0), HELD_BACK),
    (("silent",), HELD_BACK),
    (("silent", 0.0), PROVEN),
    (("silent", 1.1), HELD_BACK),
]


@pytest.mark.parametrize(("answers", "lane"), ANSWERS)
def test_a_guests_lane_follows_from_how_its_agent_has_answered(answers: tuple[Any, ...], lane: Lane) -> None:
    shared, own = (Pace(is_shared, probe=1.0, most_held=0.25) for is_shared in (True, False))
    for pace in (shared, own):
        for answer in answers:
            if answer == "silent":
                pace.silent()
            else:
                pace.took("guest-ping", answer)
                pace.answered()
    assert shared.lane is lane
    assert own.lane is PROVEN
    is_given_up = answers[-1:] in (("silent",), (1.1,))
    assert shared.given_up_at(5.0) == (5.0 if is_given_up else math.inf)
    assert own.given_up_at(5.0) == math.inf


def test_setting_the_hardware_clock_takes_as_long_as_it_takes() -> None:
    pace = Pace(is_shared=True, probe=1.0, most_held=0.25)
    pace.took("guest-set-time", 2.2)
    pace.answered()
    assert pace.lane is PROVEN
