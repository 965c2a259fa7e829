# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.dot_plot import TOOLTIPS_UP_TO, stack
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.offsets import ROWS_UP_TO, chart, legend
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.chart.scale import Scale
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Guest, Offset, Settings

SETTINGS = Settings(tolerance_ns=100_000_000, check_mode=False)
CHECKING = Settings(tolerance_ns=100_000_000, check_mode=True)
MARK = re.compile(r'<circle class="(?:corrected|unchanged)|<svg class="mark')


def guest(number: int, before_ns: int | None, after_ns: int | None = None, status: str = "corrected") -> Guest:
    return Guest(
        name=f"web{number}",
        host="hv1",
        uuid="",
        status=status,
        within=True,
        method="set_time",
        attempts=1,
        before=None if before_ns is None else Offset(before_ns, 500_000),
        after=None if after_ns is None else Offset(after_ns, 500_000),
        round_trip_ns=1,
        duration_ns=1,
        problem=None,
    )


def fleet(number: int) -> list[Guest]:
    return [guest(index, -(10**9) - index * 10**8, index * 1_000) for index in range(number)]


@pytest.mark.parametrize("number", [1, 4, ROWS_UP_TO, ROWS_UP_TO + 1, 200, TOOLTIPS_UP_TO])
def test_every_guest_has_a_mark_before_and_one_after_with_its_name(number: int) -> None:
    picture = chart(fleet(number), SETTINGS)
    assert len(MARK.findall(picture)) == 2 * number
    titles = Counter(re.findall(r"<title>(\w+) on hv1\n", picture))
    assert set(titles) == {f"web{index}" for index in range(number)}
    assert min(titles.values()) >= 2


def test_a_tooltip_tells_name_status_and_figures() -> None:
    told = "<title>web0 on hv1\ncorrected\nbefore \u22121.00 s ±500 µs\nafter +7 ns ±500 µs</title>"
    assert told in chart([guest(0, -(10**9), 7)], SETTINGS)
    assert "<title>web0 on hv1\nto correct\n" in chart([guest(0, -(10**9))], CHECKING)


@pytest.mark.slow
def test_very_many_guests_are_a_few_bytes_each_and_columns_tell_their_names() -> None:
    few, many = chart(fleet(TOOLTIPS_UP_TO), SETTINGS), chart(fleet(10_000), SETTINGS)
    assert len(many) < 2 * len(few)
    assert not MARK.search(many)
    sizes = [int(size.replace(",", "")) for size in re.findall(r"<title>([\d,]+) guests?, ", many)]
    assert sum(sizes) == 20_000
    assert re.search(r"<title>1\d\d guests, .*\nweb\d+ on hv1: corrected, .*\n(.*\n){3}and \d+ more</title>", many)


def test_marks_of_a_hill_do_not_share_a_place() -> None:
    placed = stack([(item, Offset(5, 1)) for item in fleet(300)], Scale.of([5], None), 150.0)
    assert len({(item.percent, item.above) for item in placed}) == 300
    assert max(item.above for item in placed) <= 152.0


def test_the_same_guests_make_the_same_hill_in_whatever_order() -> None:
    guests = fleet(500)
    shuffled = random.Random(1).sample(guests, len(guests))
    assert chart(shuffled, SETTINGS) == chart(guests, SETTINGS)


def test_a_failure_stands_on_top_of_its_column() -> None:
    guests = [guest(0, 5, status="failed"), *(guest(index, 5, status="unchanged") for index in range(1, 30))]
    placed = stack([(item, Offset(5, 1)) for item in guests], Scale.of([5], None), 500.0)
    assert max(placed, key=lambda item: item.above).guest.status == "failed"


def test_a_guest_that_was_not_stepped_stands_in_both_hills() -> None:
    left_alone = [guest(index, 5 + index, status="unchanged") for index in range(50)]
    assert len(MARK.findall(chart(left_alone, SETTINGS))) == 100


def test_in_check_mode_there_is_no_hill_behind_it() -> None:
    found = [guest(index, 5 + index) for index in range(50)]
    picture = chart(found, CHECKING)
    assert len(MARK.findall(picture)) == 50
    assert ">before<" in picture
    assert ">after<" not in picture


def test_statuses_differ_in_shape() -> None:
    shapes = {
        status: re.sub(r'class="[^"]*"', "", legend([guest(0, 5, 5, status)], SETTINGS).split("</svg>")[0])
        for status in ("corrected", "skipped", "failed")
    }
    assert len(set(shapes.values())) == 3


def test_without_a_measurement_there_is_a_sentence() -> None:
    assert "No clock was measured." in chart([], SETTINGS)
