# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The axes of a chart: the band of the tolerance, the ticks of the scale, and the labels around it."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from ..format import duration
from .scale import Scale, Tick

HEAD = 22  # pixels for the label of the tolerance
FOOT = 36  # for the labels of the scale, and which side is which

# Nearer to an end than this, in percent, the label of the tolerance would run out of a narrow chart.
_NEAR = 22


class Band(NamedTuple):
    """The tolerance from ``low`` to ``high``, and where its label begins, ends (``anchor``) or has its middle."""

    low: float
    high: float
    label: str
    place: float
    anchor: str


class Axes(NamedTuple):
    """``top`` and ``bottom`` of its lines, in pixels from the chart's upper edge; ``band`` None: no known tolerance."""

    top: int
    bottom: float
    band: Band | None
    ticks: Sequence[Tick]


def axes(scale: Scale, tolerance_ns: int | None, height: float) -> Axes:
    """Return the axes of a chart of that height, the labels included."""
    band = None if tolerance_ns is None else _band(scale, tolerance_ns)
    return Axes(HEAD, height - FOOT, band, scale.ticks())


def _band(scale: Scale, tolerance_ns: int) -> Band:
    low, high = scale.percent(-tolerance_ns), scale.percent(tolerance_ns)
    place, anchor = (low + high) / 2, ""
    if place < _NEAR:
        place, anchor = 0.0, "start"
    elif place > 100 - _NEAR:
        place, anchor = 100.0, "end"
    return Band(low, high, f"tolerance ±{duration(tolerance_ns)}", place, anchor)
