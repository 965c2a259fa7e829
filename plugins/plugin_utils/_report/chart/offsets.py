# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The offsets as a chart: positions and labels, which a template draws as SVG. It fits any width, without a script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from ..model import STATUSES, Guest, Settings, tally, worst_first
from .dot_plot import DotPlot, dot_plot
from .marks import Mark
from .rows import Rows, rows
from .scale import Scale

ROWS_UP_TO = 24


@dataclass(frozen=True)
class Chart:
    """The marks of the legend with their meanings, and below it the rows of few guests or the dots of many."""

    legend: Sequence[tuple[Mark, str]]
    rows: Rows | None
    dots: DotPlot | None


def chart(guests: Sequence[Guest], settings: Settings) -> Chart | None:
    """Return the chart of the guests whose clocks were measured; None if there is none."""
    guests = [guest for guest in guests if guest.measured]
    if not guests:
        return None
    before = [(guest, guest.before) for guest in guests if guest.before is not None]
    after = [(guest, end) for guest, end in ((guest, guest.at_the_end) for guest in guests) if end is not None]
    scale = Scale.of([offset.ns for _guest, offset in (*before, *after)], settings.tolerance_ns)
    counts = tally(guests).by_status
    legend = [
        (_sample(status), f"{settings.label(status)} {counts[status]:,}") for status in STATUSES if counts[status]
    ]
    if len(guests) <= ROWS_UP_TO:
        legend += [(_sample("any", hollow=True), "before"), (_sample("any"), "after, or not stepped")]
        return Chart(legend, rows(worst_first(guests), scale, settings), None)
    lanes = [("before", before)]
    if not settings.check_mode or any(guest.after is not None for guest in guests):
        lanes.append(("after", after))
    return Chart(legend, None, dot_plot(lanes, scale, settings))


def _sample(status: str, hollow: bool = False) -> Mark:
    return Mark(status, 50, 7, 4.5, hollow=hollow)
