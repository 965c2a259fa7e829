# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Few guests: a row for each, with a line from where its clock was to where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Sequence

from ..model import Guest, Settings
from .axes import FOOT, HEAD, Axes, axes
from .marks import Line, Mark, described
from .scale import Scale

_ROW = 22  # pixels; the page's style has the same for the names beside
_RADIUS = 4.5


class Row(NamedTuple):
    """One guest, from ``top`` on."""

    guest: Guest
    top: float
    tooltip: str
    lines: Sequence[Line]
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Rows:
    """``several``: the guests are on more than one hypervisor, so each name has its hypervisor's."""

    several: bool
    height: float
    row_height: int
    axes: Axes
    rows: Sequence[Row]


def rows(guests: Sequence[Guest], scale: Scale, settings: Settings) -> Rows:
    height = HEAD + _ROW * len(guests) + FOOT
    placed = [_row(guest, scale, settings, HEAD + _ROW * number) for number, guest in enumerate(guests)]
    several = len({guest.host for guest in guests}) > 1
    return Rows(several, height, _ROW, axes(scale, settings.tolerance_ns, height), placed)


def _row(guest: Guest, scale: Scale, settings: Settings, top: float) -> Row:
    y, tooltip = top + _ROW / 2, described(guest, settings)
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
