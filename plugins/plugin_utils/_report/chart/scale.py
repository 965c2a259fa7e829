# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A scale for offsets from nanoseconds to years, and the axes of a chart: the band of the tolerance, ticks and labels.

The scale is logarithmic on both sides of zero, with clocks that are behind on the left and clocks that are ahead on the
right. It is linear between minus and plus ``floor_ns``, as a logarithm has no zero. All positions are percent of the
width, so the chart fits any window without a script.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable, NamedTuple, Sequence

from ..format import MINUS, SECOND_NS, duration

# The width of the linear part on either side of zero, in decades.
_LINEAR = 0.6
# Room for half a label at both ends, in percent.
_MARGIN = 3.0
# The whole tolerance is shown, up to this many times the largest offset: offsets need room, too.
_WIDEST_TOLERANCE = 1000

_DAY_NS = 86400 * SECOND_NS
_TICKS: Sequence[tuple[int, str]] = (
    *((10**power, f"{10**power} ns") for power in range(3)),
    *((10 ** (power + 3), f"{10**power} µs") for power in range(3)),
    *((10 ** (power + 6), f"{10**power} ms") for power in range(3)),
    (SECOND_NS, "1 s"),
    (10 * SECOND_NS, "10 s"),
    (60 * SECOND_NS, "1 min"),
    (600 * SECOND_NS, "10 min"),
    (3600 * SECOND_NS, "1 h"),
    *((10**power * _DAY_NS, f"{10**power:,} d") for power in range(6)),
)

# Widths of the scale in pixels that labels are chosen for, the narrowest first. The page's style shows the labels of a
# width in windows in which the scale is at least as wide.
_WIDTHS = (185, 250, 480, 950)
_LABEL = 48  # pixels that one label takes
_OVERHANG = 14  # pixels that it may overhang an end of the scale


HEAD = 22  # pixels for the label of the tolerance
FOOT = 36  # pixels for the labels of the scale, and of its sides

# Closer to an end than this, in percent, the label of the tolerance would overflow a narrow chart.
_NEAR = 22


@dataclass(frozen=True)
class Tick:
    """``level`` 0: the label fits on every screen; 1: on all but the smallest; and so on; 4: on none."""

    percent: float
    label: str
    level: int


@dataclass(frozen=True)
class Scale:
    """``behind`` and ``ahead``: decades from the floor to the left and the right end."""

    floor_ns: int
    behind: float
    ahead: float

    @classmethod
    def of(cls, offsets_ns: Iterable[int], tolerance_ns: int | None) -> Scale:
        """Return the scale that shows all of these offsets and the ends of the tolerance."""
        offsets = list(offsets_ns)
        sizes = sorted(abs(ns) for ns in offsets if ns)
        floor_ns = _floor(sizes, tolerance_ns)
        tolerance = 0 if tolerance_ns is None else tolerance_ns
        largest = sizes[-1] if sizes else tolerance
        # Three times, so that both ends of the band are visible.
        least = min(3 * tolerance, largest * _WIDEST_TOLERANCE)
        behind = max([least, *(-ns for ns in offsets)])
        ahead = max([least, *offsets])
        return cls(floor_ns, _decades(behind, floor_ns), _decades(ahead, floor_ns))

    def percent(self, ns: float) -> float:
        """Return the position of an offset. One beyond an end of the scale is at the end."""
        size = abs(ns) / self.floor_ns
        decades = size * _LINEAR if size < 1 else _LINEAR + math.log10(size)
        along = math.copysign(decades, ns) + self.behind + _LINEAR
        whole = self.behind + self.ahead + 2 * _LINEAR
        return _MARGIN + min(1.0, max(0.0, along / whole)) * (100 - 2 * _MARGIN)

    def ticks(self) -> list[Tick]:
        """Return zero and round steps on either side, from left to right."""
        # Large steps first: the ends of the scale get their labels before what lies between.
        steps = [(size, label) for size, label in reversed(_TICKS) if size >= self.floor_ns]
        places = [(0.0, "0")]
        places += [(-float(size), MINUS + label) for size, label in steps if self._reaches(size, self.behind)]
        places += [(float(size), "+" + label) for size, label in steps if self._reaches(size, self.ahead)]
        levels = _levels([self.percent(ns) for ns, _label in places])
        ticks = [Tick(self.percent(ns), label, level) for (ns, label), level in zip(places, levels)]
        return sorted(ticks, key=lambda tick: tick.percent)

    def _reaches(self, size: int, decades: float) -> bool:
        return math.log10(size / self.floor_ns) <= decades


def _floor(sizes: Sequence[int], tolerance_ns: int | None) -> int:
    """Return the power of ten below nearly all sizes: a few tiny ones must not stretch the scale."""
    small = sizes[len(sizes) // 20] if sizes else (tolerance_ns or SECOND_NS) // 100
    return int("1" + "0" * (len(str(small)) - 1))


def _decades(size: int, floor_ns: int) -> float:
    # A tenth of a decade more, so that no mark is at the very end.
    return max(0.4, math.log10(size / floor_ns) + 0.1) if size else 0.4


def _levels(places: Sequence[float]) -> list[int]:
    """Return for each place, in order of importance, the first width at which its label fits beside the others."""
    levels = [len(_WIDTHS)] * len(places)
    for level, width in enumerate(_WIDTHS):
        apart = 100 * _LABEL / width
        inset = 100 * (_LABEL / 2 - _OVERHANG) / width
        for number, place in enumerate(places):
            shown = (other for other, its in zip(places, levels) if its <= level)
            fits = inset <= place <= 100 - inset and all(abs(place - other) >= apart for other in shown)
            if fits and levels[number] > level:
                levels[number] = level
    return levels


class Band(NamedTuple):
    """The tolerance from ``low`` to ``high``, and where its label begins, ends (``anchor``) or is centered."""

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
