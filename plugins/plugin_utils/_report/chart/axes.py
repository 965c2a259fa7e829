# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the marks of the picture lie on: the band of the tolerance, the grid, and the labels around it."""

from __future__ import annotations

from ..format import duration
from ..markup import Html, element, empty, join, text
from .marks import at, upright
from .scale import Scale

HEAD = 22  # pixels for the label of the tolerance
FOOT = 36  # for the labels of the scale, and which side is which

# Nearer to an end than this, in percent, the label of the tolerance would run out of a narrow picture.
_NEAR = 22


def ground(scale: Scale, tolerance_ns: int | None, height: float) -> Html:
    """For a picture of that height, the labels included."""
    bottom = height - FOOT
    parts = []
    if tolerance_ns is not None:
        low, high = scale.percent(-tolerance_ns), scale.percent(tolerance_ns)
        parts.append(empty("rect", class_="band", x=at(low), y=HEAD, width=at(high - low), height=bottom - HEAD))
        parts += [upright("edge", place, HEAD, bottom) for place in (low, high)]
        parts.append(_tolerance(f"tolerance ±{duration(tolerance_ns)}", (low + high) / 2))
    for tick in scale.ticks():
        # The tick of zero has its own colour.
        kind = "zero" if tick.label == "0" else "grid"
        parts.append(upright(kind, tick.percent, HEAD, bottom + 4))
        parts.append(element("text", text(tick.label), class_=f"tick t{tick.level}", x=at(tick.percent), y=bottom + 17))
    parts.append(element("text", text("◂ behind"), class_="side", x="0", y=bottom + 32))
    parts.append(element("text", text("ahead ▸"), class_="side end", x="100%", y=bottom + 32))
    return join(parts)


def _tolerance(label: str, middle: float) -> Html:
    place, kind = at(middle), "tolerance"
    if middle < _NEAR:
        place, kind = "0", "tolerance start"
    elif middle > 100 - _NEAR:
        place, kind = "100%", "tolerance end"
    return element("text", text(label), class_=kind, x=place, y=HEAD - 8)


def picture(label: str, height: float, *children: Html) -> Html:
    return element("svg", *children, role="img", aria_label=label, width="100%", height=f"{height:g}")
