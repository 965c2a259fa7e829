# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The offsets as a picture: SVG that fits any width, without a script."""

from __future__ import annotations

from typing import Callable, Sequence

from ..markup import Html, element, text
from ..model import STATUSES, Guest, Offset, Settings, tally, worst_first
from .dot_plot import Lane, hills
from .marks import across, mark
from .rows import rows
from .scale import Scale

ROWS_UP_TO = 24


def chart(guests: Sequence[Guest], settings: Settings) -> Html:
    """The picture of guests whose clocks were measured, or a sentence if there is none."""
    before = _measured(guests, lambda guest: guest.before)
    after = _measured(guests, lambda guest: guest.at_the_end)
    if not guests:
        return element("p", text("No clock was measured."), class_="none")
    scale = Scale.of([offset.ns for _guest, offset in (*before, *after)], settings.tolerance_ns)
    if len(guests) <= ROWS_UP_TO:
        return rows(worst_first(guests), scale, settings)
    lanes = [Lane("before", before)]
    if not settings.check_mode or any(guest.after is not None for guest in guests):
        lanes.append(Lane("after", after))
    return hills(lanes, scale, settings)


def legend(guests: Sequence[Guest], settings: Settings) -> Html:
    """What the marks of that picture mean."""
    counts = tally(guests).by_status
    entries = [
        _entry(mark(status, "7", 7, 4.5), f"{settings.label(status)} {counts[status]:,}")
        for status in STATUSES
        if counts[status]
    ]
    if len(guests) <= ROWS_UP_TO:
        entries += [
            _entry(mark("any", "7", 7, 4.5, hollow=True), "before"),
            _entry(mark("any", "7", 7, 4.5), "after, or not stepped"),
            _entry(across("whisker any", 0, 100, 7), "uncertainty"),
        ]
    return element("ul", *entries, class_="legend")


def _entry(drawn: Html, meaning: str) -> Html:
    return element("li", element("svg", drawn, aria_hidden="true"), text(meaning))


def _measured(guests: Sequence[Guest], measurement: Callable[[Guest], Offset | None]) -> list[tuple[Guest, Offset]]:
    taken = ((guest, measurement(guest)) for guest in guests)
    return [(guest, offset) for guest, offset in taken if offset is not None]
