# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chart of offsets: positions and labels, which a template draws as SVG. It fits any width without a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

from ..model import STATUSES, ReportedGuest, Settings, label, tally, worst_first
from .dot_plot import DotPlot, Mark, described, dot_plot
from .scale import FOOT, HEAD, Axes, Scale, axes

ROWS_UP_TO = 24

_ROW = 22  # pixels; the page's style has the same height for the names
_RADIUS = 4.5


class Line(NamedTuple):
    """A horizontal line; ``start`` and ``end`` in percent."""

    kind: str
    start: float
    end: float
    y: float


class Row(NamedTuple):
    """One guest; ``top`` is the upper edge of its row."""

    guest: ReportedGuest
    top: float
    tooltip: str
    lines: Sequence[Line]
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Rows:
    """A row for each of few guests. ``several``: on more than one hypervisor, so rows name the hypervisor, too."""

    several: bool
    height: float
    row_height: int
    axes: Axes
    rows: Sequence[Row]


@dataclass(frozen=True)
class Chart:
    """The marks of the legend with their meanings, and rows for few guests or dots for many."""

    legend: Sequence[tuple[Mark, str]]
    rows: Rows | None
    dots: DotPlot | None


def chart(guests: Sequence[ReportedGuest], settings: Settings) -> Chart | None:
    """Return the chart of the guests whose clocks were measured; None if no clock was."""
    guests = [guest for guest in guests if guest.measured]
    if not guests:
        return None
    before = [(guest, guest.before) for guest in guests if guest.before is not None]
    after = [(guest, end) for guest, end in ((guest, guest.at_the_end) for guest in guests) if end is not None]
    scale = Scale.of([offset.ns for _guest, offset in (*before, *after)], settings.tolerance_ns)
    counts = tally(guests).by_status
    legend = [(_sample(status), f"{label(status)} {counts[status]:,}") for status in STATUSES if counts[status]]
    if len(guests) <= ROWS_UP_TO:
        legend += [(_sample("any", hollow=True), "before"), (_sample("any"), "after, or not stepped")]
        return Chart(legend, _rows(worst_first(guests), scale, settings.tolerance_ns), None)
    lanes = [("before", before)]
    if not settings.check_mode or any(guest.after is not None for guest in guests):
        lanes.append(("after", after))
    return Chart(legend, None, dot_plot(lanes, scale, settings.tolerance_ns))


def _sample(status: str, hollow: bool = False) -> Mark:
    return Mark(status, 50, 7, 4.5, hollow=hollow)


def _rows(guests: Sequence[ReportedGuest], scale: Scale, tolerance_ns: int | None) -> Rows:
    height = HEAD + _ROW * len(guests) + FOOT
    placed = [_row(guest, scale, HEAD + _ROW * number) for number, guest in enumerate(guests)]
    several = len({guest.host for guest in guests}) > 1
    return Rows(several, height, _ROW, axes(scale, tolerance_ns, height), placed)


def _row(guest: ReportedGuest, scale: Scale, top: float) -> Row:
    y, tooltip = top + _ROW / 2, described(guest)
    before, end = guest.before, guest.at_the_end
    stepped = before is not None and guest.after is not None
    lines = [Line("row", 0, 100, y)]
    if before is not None and end is not None and stepped:
        lines.append(Line(f"way {guest.status}", scale.percent(before.ns), scale.percent(end.ns), y))
    for offset in (before, guest.after):
        if offset is not None and offset.uncertainty_ns:
            low, high = (scale.percent(offset.ns + sign * offset.uncertainty_ns) for sign in (-1, 1))
            lines.append(Line(f"whisker {guest.status}", low, high, y))
    marks = []
    if before is not None and (stepped or end is None):
        marks.append(Mark(guest.status, scale.percent(before.ns), y, _RADIUS, tooltip, hollow=True))
    if end is not None:
        marks.append(Mark(guest.status, scale.percent(end.ns), y, _RADIUS, tooltip))
    return Row(guest, top, tooltip, lines, marks)
