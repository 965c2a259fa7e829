# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a fleet run as a page: one file that loads nothing from anywhere, not a script, style, font or picture.

Theory of operation: what was registered becomes a typed model (model.py), the model becomes sentences, figures and
positions (overview.py, chart/), and page.html.j2 draws them. Jinja2 escapes every value that it prints.
Only the files beside this one are templates. A guest's words are values, and Jinja2 never reads a value as a template.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from .chart.offsets import chart
from .format import SECOND_NS, UNKNOWN, counted, duration, printable
from .model import WORST_FIRST, Fleet, Hypervisor, Settings, Tally, read_fleet, shown, tally, worst_first
from .overview import problems, tiles, verdict

_HERE = Path(__file__).parent
_TITLE = 160
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Asset(NamedTuple):
    """A file that goes into the page as it is, and the digest by which the page's security policy knows it."""

    source: Markup
    digest: str


def render(
    hypervisors: object,
    *,
    title: str,
    made_at: int | str,
    play: str = "",
    tolerance_ns: int | None,
    check_mode: bool,
) -> str:
    """Return the page. ``made_at`` is nanoseconds since 1970, or a text that is shown as it is.

    :raises TypeError: ``hypervisors`` is not a list
    """
    settings = Settings(tolerance_ns, check_mode)
    fleet = Fleet.of(read_fleet(hypervisors), settings)
    page = _environment().get_template("page.html.j2")
    return page.render(
        style=_asset("page.css"),
        script=_asset("page.js"),
        settings=settings,
        title=printable(title, _TITLE),
        made_at=_instant(made_at),
        play=printable(play, _TITLE) if play else "",
        fleet=fleet,
        statuses=shown(WORST_FIRST, fleet.tally),
        verdict=verdict(fleet),
        tiles=tiles(fleet),
        chart=chart(fleet.guests, settings),
        problems=problems(fleet),
        hypervisors=_hypervisors(fleet),
        guests=worst_first(fleet.guests),
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        at="{:.2f}%".format,
        counted=counted,
        duration=duration,
        figure="{:,}".format,
        pixels="{:g}".format,
        shares=_shares,
        without_braces=_without_braces,
    )
    return environment


def _asset(name: str) -> Asset:
    source = (_HERE / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    # Ours, and written by nobody else: the only text that is not escaped.
    return Asset(Markup(source), f"sha256-{digest}")  # noqa: S704


def _instant(made_at: int | str) -> str:
    if isinstance(made_at, str):
        return printable(made_at, _TITLE)
    try:
        return f"{_EPOCH + timedelta(seconds=made_at // SECOND_NS):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return UNKNOWN


def _hypervisors(fleet: Fleet) -> list[tuple[Hypervisor, Tally]]:
    """Return them in the order in which they need a look."""
    tallies = [(hypervisor, tally(hypervisor.guests)) for hypervisor in fleet.hypervisors]
    return sorted(tallies, key=lambda item: (item[0].problem is None, -item[1].by_status["failed"], item[0].host))


# ----------------------------------------------------------------------------------------------- the templates' filters


def _shares(total: Tally) -> list[tuple[str, float, float]]:
    """Return the status, start and width of each part of a bar, in percent."""
    parts, start = [], 0.0
    for status in WORST_FIRST:
        width = 100 * total.by_status[status] / max(1, total.total)
        if width:
            parts.append((status, start, width))
            start += width
    return parts


def _without_braces(markup: str) -> Markup:
    """Return the same page without a brace that could begin a template, should the page be taken for one later."""
    return Markup(str(markup).replace("{", "&#123;"))  # noqa: S704
