# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The strokes of the picture. Across, they are placed in percent of the width, so that it fits any window."""

from __future__ import annotations

from typing import Callable, Mapping

from ..format import with_uncertainty
from ..markup import NOTHING, Html, element, empty, text
from ..model import Guest, Settings


def _disc(x: str, y: float, radius: float, status: str, children: Html) -> Html:
    return element("circle", children, class_=status, cx=x, cy=f"{y:g}", r=f"{radius:g}")


def _outline(path: str) -> Callable[[str, float, float, str, Html], Html]:
    def mark(x: str, y: float, radius: float, status: str, children: Html) -> Html:
        # A path knows no percent, so it stands in a picture of its own that does. 1.3: of the same weight as a disc.
        r = radius * 1.3
        drawn = element("path", children, d=path.format(r=f"{r:.2f}", m=f"{-r:.2f}"))
        return element("svg", drawn, class_=f"mark {status}", x=x, y=f"{y:g}", overflow="visible")

    return mark


# Told apart by shape as well as by colour.
_MARKS: Mapping[str, Callable[[str, float, float, str, Html], Html]] = {
    "failed": _outline("M0 {m}L{r} 0 0 {r} {m} 0Z"),
    "skipped": _outline("M0 {m}L{r} {r}H{m}Z"),
    "corrected": _disc,
    "unchanged": _disc,
    "slewing": _disc,
    "any": _disc,
}


def mark(status: str, x: str, y: float, radius: float, children: Html = NOTHING, hollow: bool = False) -> Html:
    return _MARKS[status](x, y, radius, f"{status} hollow" if hollow else status, children)


def tooltip(sentence: str) -> Html:
    return element("title", text(sentence))


def upright(kind: str, percent: float, top: float, bottom: float) -> Html:
    return empty("line", class_=kind, x1=at(percent), x2=at(percent), y1=f"{top:g}", y2=f"{bottom:g}")


def at(percent: float) -> str:
    return f"{percent:.2f}%"


def across(kind: str, start: float, end: float, y: float) -> Html:
    return empty("line", class_=kind, x1=at(start), x2=at(end), y1=f"{y:g}", y2=f"{y:g}")


def described(guest: Guest, settings: Settings) -> str:
    """A guest and its figures, for a tooltip."""
    lines = [f"{guest.name} on {guest.host}", settings.label(guest.status)]
    for when, offset in (("before", guest.before), ("after", guest.after)):
        if offset is not None:
            lines.append(" ".join((when, *with_uncertainty(offset.ns, offset.uncertainty_ns))))
    return "\n".join(lines)
