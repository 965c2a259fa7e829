# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many guests: those with nearly the same offset stand on each other, and so make hills.

A mark has a tooltip of its own. With very many it is a few bytes of a path instead, and a column has one tooltip.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Mapping, Sequence

from ..format import counted, signed
from ..markup import Html, element, empty, join, text
from ..model import WORST_FIRST, Guest, Offset, Settings
from .axes import FOOT, HEAD, ground, picture
from .marks import across, at, described, mark, tooltip
from .scale import Scale

TOOLTIPS_UP_TO = 1200

# Pixels, downwards.
_GAP = 20  # between the top of a hill and what is above it
_NAME = 40  # the three lines beside a hill
_BELOW = 8  # the last hill

# The width of the scale that hills are stacked for, in pixels. Others are near enough.
_WIDTH = 880.0
_DIAMETERS = (7.0, 6.0, 5.0, 4.0, 3.0)
_FILLED = 0.9  # of the room that a mark has; the rest is between it and the next
_NAMED_IN_A_COLUMN = 4

# From the bottom of a column to its top: what needs a look is the last to be covered.
_STACKING: Mapping[str, int] = {status: number for number, status in enumerate(reversed(WORST_FIRST))}


@dataclass(frozen=True)
class Lane:
    """One hill: its name, and each of its guests with the offset to show."""

    name: str
    guests: Sequence[tuple[Guest, Offset]]


@dataclass(frozen=True)
class Placed:
    """A guest's place in a hill: percent of the width, and pixels above the ground."""

    guest: Guest
    offset: Offset
    column: int
    percent: float
    above: float


def hills(lanes: Sequence[Lane], scale: Scale, settings: Settings) -> Html:
    """The lanes above each other, with one scale."""
    most = max(len(lane.guests) for lane in lanes)
    tall = min(200.0, 70 + 5 * most**0.5)
    foot = float(HEAD)
    names, drawn = [], []
    for lane in lanes:
        placed = stack(lane.guests, scale, tall)
        top = max((item.above for item in placed), default=0.0) + _radius(placed)
        foot += max(_NAME, top) + _GAP
        hill = _path if len(placed) > TOOLTIPS_UP_TO else _marks
        drawn.append(across("row", 0, 100, foot))
        drawn.append(hill(placed, foot, top, settings))
        names.append(_name(lane.name, placed, foot))
    height = foot + _BELOW + FOOT
    label = f"Offsets of {counted(most, 'guest')}; the table of guests has the figures"
    whole = picture(label, height, ground(scale, settings.tolerance_ns, height), *drawn)
    beside = element("svg", *names, class_="names", height=f"{height:g}", aria_hidden="true")
    return element("div", beside, whole, class_="chart hills")


def _name(name: str, placed: Sequence[Placed], foot: float) -> Html:
    sizes = Counter(item.column for item in placed)
    lines = (
        element("text", text(name), class_="lane", y=f"{foot - 28:g}"),
        element("text", text(counted(len(placed), "guest")), y=f"{foot - 14:g}"),
        element("text", text(f"tallest column {max(sizes.values(), default=0):,}"), class_="more", y=f"{foot - 1:g}"),
    )
    return join(lines)


def stack(guests: Sequence[tuple[Guest, Offset]], scale: Scale, tall: float) -> list[Placed]:
    """Guests with nearly the same offset above each other. The same guests give the same hill, in whatever order."""
    columns: dict[int, list[tuple[Guest, Offset]]] = {}
    diameter = _DIAMETERS[-1]
    for diameter in _DIAMETERS:
        columns = {}
        for guest, offset in guests:
            columns.setdefault(int(scale.percent(offset.ns) * _WIDTH / 100 / diameter), []).append((guest, offset))
        if max((len(column) for column in columns.values()), default=0) * diameter <= tall:
            break
    highest = max((len(column) for column in columns.values()), default=1)
    # Where even the smallest do not fit, they overlap: all of the hill in the same measure.
    step = min(diameter, tall / highest)
    placed = []
    for column, members in sorted(columns.items()):
        members.sort(
            key=lambda member: (_STACKING[member[0].status], abs(member[1].ns), member[0].host, member[0].name)
        )
        percent = (column + 0.5) * diameter / _WIDTH * 100
        for number, (guest, offset) in enumerate(members):
            placed.append(Placed(guest, offset, column, percent, diameter / 2 + number * step))
    return placed


def _marks(placed: Sequence[Placed], foot: float, _tall: float, settings: Settings) -> Html:
    """One element with a tooltip for each guest."""
    radius = _radius(placed)
    return join(
        mark(item.guest.status, at(item.percent), foot - item.above, radius, tooltip(described(item.guest, settings)))
        for item in placed
    )


def _radius(placed: Sequence[Placed]) -> float:
    # The lowest mark of a column lies on the ground.
    return min((item.above for item in placed), default=2.0) * _FILLED


def _path(placed: Sequence[Placed], foot: float, tall: float, settings: Settings) -> Html:
    """One path for each status, in which a mark is a line without length and with round ends: a few bytes each."""
    top = foot - tall
    paths = []
    for status in sorted(_STACKING, key=lambda status: _STACKING[status]):
        # Marks that fall on each other to a tenth of a pixel are one mark.
        places = dict.fromkeys(
            f"M{item.percent * 10:.1f} {tall - item.above:.1f}h0" for item in placed if item.guest.status == status
        )
        if places:
            width = f"{_radius(placed) * 2:.1f}"
            paths.append(empty("path", class_=status, d="".join(places), stroke_width=width))
    # Stretched to the width of the window; the marks are not, by vector-effect.
    stretched = element(
        "svg",
        *paths,
        class_="path",
        y=f"{top:g}",
        width="100%",
        height=f"{tall:g}",
        viewBox=f"0 0 1000 {tall:g}",
        preserveAspectRatio="none",
    )
    return join([stretched, *_columns(placed, top, tall, settings)])


def _columns(placed: Sequence[Placed], top: float, tall: float, settings: Settings) -> list[Html]:
    columns: dict[int, list[Placed]] = {}
    for item in placed:
        columns.setdefault(item.column, []).append(item)
    half = _radius(placed) / _FILLED / _WIDTH * 100
    return [
        element(
            "rect",
            tooltip(_told(members, settings)),
            class_="hover",
            x=at(members[0].percent - half),
            y=f"{top:g}",
            width=at(2 * half),
            height=f"{tall:g}",
        )
        for members in columns.values()
    ]


def _told(members: Sequence[Placed], settings: Settings) -> str:
    """What a column holds: the range, and by name those that need a look first."""
    offsets = sorted(item.offset.ns for item in members)
    lines = [f"{counted(len(members), 'guest')}, {signed(offsets[0])} to {signed(offsets[-1])}"]
    named = list(reversed(members))[:_NAMED_IN_A_COLUMN]
    lines += [
        f"{item.guest.name} on {item.guest.host}: {settings.label(item.guest.status)}, {signed(item.offset.ns)}"
        for item in named
    ]
    if len(members) > len(named):
        lines.append(f"and {len(members) - len(named):,} more")
    return "\n".join(lines)
