from __future__ import annotations

from itertools import pairwise

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.scale import Scale
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import MINUS, SECOND_NS
from hypothesis import given
from hypothesis import strategies as st

LARGEST_NS = 2**63 - 1
offsets = st.integers(-LARGEST_NS, LARGEST_NS) | st.integers(-(10**6), 10**6)
tolerances = st.none() | st.integers(0, 366 * 86400 * SECOND_NS)


@given(st.lists(offsets), tolerances)
def test_offsets_are_in_order_on_both_sides_of_zero(values: list[int], tolerance_ns: int | None) -> None:
    scale = Scale.of(values, tolerance_ns)
    places = [scale.percent(ns) for ns in sorted([*values, 0])]
    assert all(0 <= place <= 100 for place in places)
    assert places == sorted(places)
    # Zero is the middle of the band.
    zero, left, right = (scale.percent(ns) for ns in (0, -(10**4), 10**4))
    if left > 3.01 and right < 96.99:
        assert zero - left == pytest.approx(right - zero)


@given(st.lists(offsets), tolerances)
def test_labels_do_not_overlap(values: list[int], tolerance_ns: int | None) -> None:
    ticks = Scale.of(values, tolerance_ns).ticks()
    assert [tick.label for tick in ticks if tick.level == 0].count("0") == 1
    for level, width in enumerate((185, 250, 480, 950)):
        shown = [tick.percent for tick in ticks if tick.level <= level]
        assert all((right - left) * width / 100 >= 47.9 for left, right in pairwise(shown))


def test_the_scale_counts_as_people_do() -> None:
    ticks = Scale.of([-3600 * SECOND_NS, 50_000, 100_000], 100_000_000).ticks()
    labels = [tick.label for tick in ticks]
    assert labels[:4] == [f"{MINUS}{label}" for label in ("1 h", "10 min", "1 min", "10 s")]
    assert labels[-1] == "+100 ms"


def test_the_tolerance_is_shown_whole_unless_it_leaves_no_room_for_the_offsets() -> None:
    scale = Scale.of([-20 * SECOND_NS, 1_000], 100_000_000)
    assert 3 < scale.percent(-100_000_000) < scale.percent(100_000_000) < 97
    scale = Scale.of([-2_000, 1_000], 86400 * SECOND_NS)
    assert scale.percent(86400 * SECOND_NS) == 97
    assert scale.percent(1_000) - scale.percent(-2_000) > 5


def test_there_is_a_scale_for_nothing_and_a_few_next_to_nothing_do_not_stretch_it() -> None:
    assert Scale.of([], None).percent(0) == Scale.of([0, 0], 0).percent(0) == 50
    assert Scale.of([1, *[200_000] * 99], None).floor_ns == 100_000
