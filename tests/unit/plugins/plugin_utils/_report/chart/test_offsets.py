from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.dot_plot import TOOLTIPS_UP_TO, Mark, stack
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.offsets import ROWS_UP_TO, Chart, chart
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.scale import Scale
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import (
    Offset,
    ReportedGuest,
    Settings,
    read_fleet,
)

from tests.support.fleet_results import corrected, host

SETTINGS = Settings(tolerance_ns=100_000_000, check_mode=False)
CHECKING = Settings(tolerance_ns=100_000_000, check_mode=True)


def guest(number: int, before_ns: int | None, after_ns: int | None = None, status: str = "corrected") -> ReportedGuest:
    sure = {"uncertainty_before_ns": 500_000, "uncertainty_after_ns": 500_000}
    result = {**corrected(f"web{number}", after_ns=after_ns, status=status, **sure), "offset_before_ns": before_ns}
    ((read,),) = (hypervisor.guests for hypervisor in read_fleet([host("hv1", result)]))
    return read


def fleet(number: int) -> list[ReportedGuest]:
    return [guest(index, -(10**9) - index * 10**8, index * 1_000) for index in range(number)]


def drawn(guests: list[ReportedGuest], settings: Settings = SETTINGS) -> Chart:
    made = chart(guests, settings)
    assert made is not None
    return made


def marks(made: Chart) -> list[Mark]:
    if made.rows is not None:
        return [mark for row in made.rows.rows for mark in row.marks]
    assert made.dots is not None
    return [mark for lane in made.dots.lanes for mark in lane.marks]


@pytest.mark.parametrize("number", [1, 4, ROWS_UP_TO, ROWS_UP_TO + 1, 200, TOOLTIPS_UP_TO])
def test_every_guest_has_a_mark_before_and_one_after_with_its_name(number: int) -> None:
    made = drawn(fleet(number))
    assert (made.rows is None, made.dots is None) == (number > ROWS_UP_TO, number <= ROWS_UP_TO)
    names = Counter(mark.tooltip.partition(" on hv1\n")[0] for mark in marks(made))
    assert names == {f"web{index}": 2 for index in range(number)}


def test_a_tooltip_has_name_status_and_figures() -> None:
    tooltip = "web0 on hv1\ncorrected\nbefore \u22121.00 s ±500 µs\nafter +7 ns ±500 µs"
    assert [mark.tooltip for mark in marks(drawn([guest(0, -(10**9), 7)]))] == [tooltip, tooltip]
    pending = guest(0, -(10**9), status="would_correct")
    assert marks(drawn([pending], CHECKING))[0].tooltip.startswith("web0 on hv1\nwould correct\n")


def test_a_row_has_a_line_for_its_step_and_one_for_each_uncertainty() -> None:
    made = drawn([guest(0, -(10**9), 7), guest(1, 5, status="unchanged")]).rows
    assert [([line.kind for line in row.lines], [mark.hollow for mark in row.marks]) for row in made.rows] == [
        (["row", "way corrected", "whisker corrected", "whisker corrected"], [True, False]),
        (["row", "whisker unchanged"], [False]),
    ]


@pytest.mark.slow
def test_with_very_many_guests_columns_have_the_names() -> None:
    made = drawn(fleet(10_000)).dots
    assert made is not None
    assert marks(drawn(fleet(10_000))) == []
    assert all(stroke.path for lane in made.lanes for stroke in lane.strokes)
    tooltips = [column.tooltip for lane in made.lanes for column in lane.columns]
    assert sum(int(re.sub(r" guests?, [^¶]*", "", tooltip).replace(",", "")) for tooltip in tooltips) == 20_000
    several = re.compile(r"1\d\d guests, .*\nweb\d+ on hv1: corrected, .*\n(.*\n){3}and \d+ more")
    assert any(several.fullmatch(tooltip) for tooltip in tooltips)


def test_the_chart_does_not_depend_on_the_order_of_the_guests() -> None:
    guests = fleet(500)
    assert drawn(random.Random(1).sample(guests, len(guests))) == drawn(guests)


def test_dots_have_different_places_and_a_failure_is_on_top_of_its_column() -> None:
    guests = [guest(0, 5, status="failed"), *(guest(index, 5, status="unchanged") for index in range(1, 300))]
    placed = stack([(item, Offset(5, 1)) for item in guests], Scale.of([5], None), 150.0)
    assert len({(item.percent, item.above) for item in placed}) == 300
    top = max(placed, key=lambda item: item.above)
    assert (top.guest.status, top.above <= 152.0) == ("failed", True)


def test_a_guest_that_was_not_stepped_is_in_both_lanes_except_in_check_mode() -> None:
    guests = [guest(index, 5 + index, status="unchanged") for index in range(50)]
    lanes = {settings: drawn(guests, settings).dots.lanes for settings in (SETTINGS, CHECKING)}
    assert [(lane.name, len(lane.marks)) for lane in lanes[SETTINGS]] == [("before", 50), ("after", 50)]
    assert [(lane.name, len(lane.marks)) for lane in lanes[CHECKING]] == [("before", 50)]


def test_the_legend_counts_measured_guests_and_explains_the_marks_of_rows() -> None:
    few = drawn([guest(0, 5, 5), guest(1, 5, 5, "failed"), guest(2, None)])
    assert [meaning for _mark, meaning in few.legend] == ["corrected 1", "failed 1", "before", "after, or not stepped"]
    assert [meaning for _mark, meaning in drawn(fleet(1_000)).legend] == ["corrected 1,000"]
    assert chart([guest(0, None)], SETTINGS) is None
