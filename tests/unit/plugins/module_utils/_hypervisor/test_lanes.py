"""Lanes: which guest's call gets a thread, and which lane a guest is in."""

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

from tests.support.line_jobs import Jobs
from tests.support.until import until


class TestLanes:
    def test_proven_guests_go_first_and_may_take_all_threads_and_other_lanes_spare_some(self, jobs: Jobs) -> None:
        jobs.submit(PROVEN, *"12345")
        jobs.settle(*"12345")
        jobs.submit(HELD_BACK, "held back", "held back, too")
        jobs.submit(SLOW, "slow")
        jobs.submit(NEW, "new")
        jobs.submit(PROVEN, "proven", "also proven")
        begun = [*"12345"]
        for ended, follow in (
            ("1", ["proven"]),
            ("2", ["also proven"]),
            ("3", []),  # the last thread is for proven guests
            ("4", ["new"]),
            ("5", ["slow"]),
            ("proven", []),  # the last two threads are not for guests that are held back
            ("also proven", ["held back"]),
            ("new", ["held back, too"]),
        ):
            jobs.let_go(ended)
            begun += follow
            jobs.settle(*begun)

    @pytest.mark.parametrize(("lane", "held"), [(HELD_BACK, "abc"), (SLOW, "abcd")])
    def test_within_a_lane_the_guest_that_has_held_threads_for_the_shortest_time_goes_first(
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


@pytest.mark.parametrize(
    ("answers", "lane"),  # the durations of a guest's calls in seconds, or "silent"; and its final lane
    [
        ((), NEW),
        ((0.1, 0.1), PROVEN),
        ((0.2, 0.2), SLOW),
        ((0.2, 0.2, 0.0), SLOW),
        ((0.3,), HELD_BACK),
        ((0.3, 0.0, 0.0), HELD_BACK),
        (("silent",), HELD_BACK),
        ((0.1, "silent"), HELD_BACK),
        (("silent", 0.0), PROVEN),
        (("silent", 1.1), HELD_BACK),
    ],
)
def test_a_guests_lane_depends_on_how_its_agent_has_answered(answers: tuple[Any, ...], lane: Lane) -> None:
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


def test_the_usual_time_for_setting_the_hardware_clock_does_not_count() -> None:
    pace = Pace(is_shared=True, probe=1.0, most_held=0.25)
    pace.took("guest-set-time", 2.2)
    pace.answered()
    assert pace.lane is PROVEN
