"""The figure is drawn from what was recorded, and shows what the code makes of it."""

from __future__ import annotations

import re
from itertools import pairwise

from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import Interval

from tests.docs.figure import PICTURE, Bounds, draw, intersections, load


def test_the_picture_is_that_of_the_recorded_data() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(load())


def test_the_truth_lies_in_every_interval() -> None:
    for each in load():
        assert each.low <= 0 <= each.high


def test_what_is_proven_together_never_gets_wider() -> None:
    agreed = intersections(load())
    for earlier, later in pairwise(agreed):
        assert earlier.low <= later.low <= later.high <= earlier.high


def test_what_it_tells_is_the_middle_and_half_the_width() -> None:
    last = Interval(*intersections(load())[-1])
    told = re.search(r"Told: (\S+) µs, uncertain by (\S+) µs", PICTURE.read_text(encoding="utf-8"))
    assert told is not None
    assert abs(float(told[1].replace("\u2212", "-")) * 1000 - last.middle) <= 51
    assert abs(float(told[2]) * 1000 - last.half_width) <= 51


def test_intervals_narrow_to_what_they_share() -> None:
    assert intersections([Bounds(-9, 5), Bounds(-4, 8), Bounds(-20, 2)]) == [
        Bounds(-9, 5),
        Bounds(-4, 5),
        Bounds(-4, 2),
    ]
