# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Few guests: a row for each, with a line from where its clock was to where it is."""

from __future__ import annotations

from typing import Sequence

from ..format import counted
from ..markup import NOTHING, Html, element, join, text
from ..model import Guest, Offset, Settings
from .axes import FOOT, HEAD, ground, picture
from .marks import across, at, described, mark, tooltip
from .scale import Scale

_ROW = 22  # pixels; the page's style has the same for the names beside
_RADIUS = 4.5


def rows(guests: Sequence[Guest], scale: Scale, settings: Settings) -> Html:
    height = HEAD + _ROW * len(guests) + FOOT
    several = len({guest.host for guest in guests}) > 1
    names = [
        element(
            "li",
            element("b", text(guest.name)),
            element("span", text(guest.host)) if several else NOTHING,
            title=f"{guest.name} on {guest.host}",
        )
        for guest in guests
    ]
    lines = [_row(guest, scale, settings, HEAD + _ROW * (number + 0.5)) for number, guest in enumerate(guests)]
    drawn = picture(
        f"Offsets of {counted(len(guests), 'guest')}; the table of guests has the figures",
        height,
        ground(scale, settings.tolerance_ns, height),
        *lines,
    )
    return element("div", element("ol", *names), drawn, class_="chart rows")


def _row(guest: Guest, scale: Scale, settings: Settings, y: float) -> Html:
    told = tooltip(described(guest, settings))
    before, end = guest.before, guest.at_the_end
    stepped = before is not None and guest.after is not None
    parts = [across("row", 0, 100, y)]
    if before is not None and end is not None and stepped:
        parts.append(across(f"way {guest.status}", scale.percent(before.ns), scale.percent(end.ns), y))
    parts += [_whisker(offset, guest.status, scale, y) for offset in (before, guest.after) if offset is not None]
    if before is not None and (stepped or end is None):
        parts.append(mark(guest.status, at(scale.percent(before.ns)), y, _RADIUS, told, hollow=True))
    if end is not None:
        parts.append(mark(guest.status, at(scale.percent(end.ns)), y, _RADIUS, told))
    # Wherever on the row the pointer is.
    parts.append(element("rect", told, class_="hover", x="0", y=f"{y - _ROW / 2:g}", width="100%", height=_ROW))
    return join(parts)


def _whisker(offset: Offset, status: str, scale: Scale, y: float) -> Html:
    if not offset.uncertainty_ns:
        return NOTHING
    low, high = (scale.percent(offset.ns + sign * offset.uncertainty_ns) for sign in (-1, 1))
    return across(f"whisker {status}", low, high, y)
