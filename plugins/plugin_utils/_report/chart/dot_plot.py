# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dot plot for many guests: a dot for each, in columns of guests with nearly the same offset.

Each dot has a tooltip. With very many guests, a dot is a few bytes of a path, and each column has a tooltip.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Mapping, NamedTuple, Sequence

from ..format import counted
from ..model import WORST_FIRST, Measured, Offset, ReportedGuest, label
from .scale import FOOT, HEAD, Axes, Scale, axes

TOOLTIPS_UP_TO = 1200

# Pixels, downwards.
_GAP = 20  # between the top of a lane and what is above it
_NAME = 40  # three lines beside a lane
_BELOW = 8  # below the last lane

# The width of the scale that dots are stacked for, in pixels. Other widths look nearly the same.
_WIDTH = 880.0
_DIAMETERS = (7.0, 6.0, 5.0, 4.0, 3.0)
_FILLED = 0.9  # of a dot's share of the width; the rest is the gap
_NAMED_IN_A_COLUMN = 4

# From the bottom of a column to its top, so that the most urgent is never covered.
_STACKING: Mapping[str, int] = {status: number for number, status in enumerate(reversed(WORST_FIRST))}


class Mark(NamedTuple):
    """One offset. Its shape follows from the status, so that statuses differ by more than their color."""

    status: str
    percent: float
    y: float
    radius: float
    tooltip: str = ""
    hollow: bool = False


class Placed(NamedTuple):
    """A guest's place in a lane: percent of the width, and pixels above the lane's foot."""

    guest: ReportedGuest
    offset: Offset
    column: int
    percent: float
    above: float


class Stroke(NamedTuple):
    """All dots of one status as one path: lines without length and with round ends, as wide as ``diameter``."""

    status: str
    path: str
    diameter: float


class Column(NamedTuple):
    """The area of a column that has its tooltip, in percent."""

    start: float
    width: float
    tooltip: str


@dataclass(frozen=True)
class Lane:
    """The dots of one measurement: ``marks``, or ``strokes`` and ``columns``, from ``foot`` up to ``height`` pixels."""

    name: str
    guests: int
    tallest: int
    foot: float
    height: float
    marks: Sequence[Mark] = ()
    strokes: Sequence[Stroke] = ()
    columns: Sequence[Column] = ()


@dataclass(frozen=True)
class DotPlot:
    """The lanes above each other, with one scale. ``guests``: the most that one lane has."""

    guests: int
    height: float
    axes: Axes
    lanes: Sequence[Lane]


def dot_plot(lanes: Sequence[tuple[str, Sequence[Measured]]], scale: Scale, tolerance_ns: int | None) -> DotPlot:
    most = max(len(guests) for _name, guests in lanes)
    tallest = min(200.0, 70 + 5 * most**0.5)
    foot = float(HEAD)
    drawn = []
    for name, guests in lanes:
        placed = stack(guests, scale, tallest)
        height = max((item.above for item in placed), default=0.0) + _radius(placed)
        foot += max(_NAME, height) + _GAP
        drawn.append(_lane(name, placed, foot, height))
    whole = foot + _BELOW + FOOT
    return DotPlot(most, whole, axes(scale, tolerance_ns, whole), drawn)


def stack(guests: Sequence[Measured], scale: Scale, tallest: float) -> list[Placed]:
    """Place guests with nearly the same offset above each other.

    The columns do not depend on the order of the guests.
    """
    places = [scale.percent(offset.ns) * _WIDTH / 100 for _guest, offset in guests]
    diameter, highest = _DIAMETERS[0], 0
    for diameter in _DIAMETERS:
        highest = max(Counter(int(place / diameter) for place in places).values(), default=1)
        if highest * diameter <= tallest:
            break
    # If even the smallest dots do not fit, they overlap, evenly in the whole lane.
    step = min(diameter, tallest / highest)
    columns: dict[int, list[Measured]] = {}
    for place, member in zip(places, guests):
        columns.setdefault(int(place / diameter), []).append(member)
    placed = []
    for column, members in sorted(columns.items()):
        members.sort(
            key=lambda member: (_STACKING[member[0].status], abs(member[1].ns), member[0].host, member[0].name)
        )
        percent = (column + 0.5) * diameter / _WIDTH * 100
        for number, (guest, offset) in enumerate(members):
            placed.append(Placed(guest, offset, column, percent, diameter / 2 + number * step))
    return placed


def _radius(placed: Sequence[Placed]) -> float:
    # The lowest dot of a column lies on the lane's foot.
    return min((item.above for item in placed), default=2.0) * _FILLED


def _lane(name: str, placed: Sequence[Placed], foot: float, height: float) -> Lane:
    radius = _radius(placed)
    columns: dict[int, list[Placed]] = {}
    for item in placed:
        columns.setdefault(item.column, []).append(item)
    tallest = max(map(len, columns.values()), default=0)
    if len(placed) <= TOOLTIPS_UP_TO:
        marks = [
            Mark(guest.status, percent, foot - above, radius, described(guest))
            for guest, _offset, _column, percent, above in placed
        ]
        return Lane(name, len(placed), tallest, foot, height, marks=marks)
    half = radius / _FILLED / _WIDTH * 100
    hovered = [Column(members[0].percent - half, 2 * half, _summary(members)) for members in columns.values()]
    return Lane(name, len(placed), tallest, foot, height, strokes=_strokes(placed, height, 2 * radius), columns=hovered)


def _strokes(placed: Sequence[Placed], height: float, diameter: float) -> list[Stroke]:
    """Return a path for each status, in tenths of a percent and in pixels below the lane's top."""
    # Dots in the same place, to a tenth of a pixel, are drawn once.
    paths: dict[str, dict[str, None]] = {status: {} for status in _STACKING}
    for item in placed:
        paths[item.guest.status][f"M{item.percent * 10:.1f} {height - item.above:.1f}h0"] = None
    return [Stroke(status, "".join(places), diameter) for status, places in paths.items() if places]


def _summary(members: Sequence[Placed]) -> str:
    """Return the tooltip of a column: the range, and the most urgent guests by name."""
    offsets = sorted((item.offset for item in members), key=lambda offset: offset.ns)
    lines = [f"{counted(len(members), 'guest')}, {offsets[0].signed} to {offsets[-1].signed}"]
    named = list(reversed(members))[:_NAMED_IN_A_COLUMN]
    lines += [
        f"{item.guest.label} on {item.guest.host}: {label(item.guest.status)}, {item.offset.signed}" for item in named
    ]
    if len(members) > len(named):
        lines.append(f"and {len(members) - len(named):,} more")
    return "\n".join(lines)


def described(guest: ReportedGuest) -> str:
    """Return the tooltip of a guest, with its figures."""
    lines = [f"{guest.label} on {guest.host}", label(guest.status)]
    for when, offset in (("before", guest.before), ("after", guest.after)):
        if offset is not None:
            lines.append(f"{when} {offset.signed} {offset.uncertain}")
    return "\n".join(lines)
