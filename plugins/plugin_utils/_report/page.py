# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a fleet run as a page: one file that loads no script, style, font or picture from anywhere.

Theory of operation: the results become a typed model (model.py), the model becomes sentences, figures and positions
(overview.py, chart/), and page.html.j2 draws them. Jinja2 escapes every value that it prints. Only the files in this
directory are templates. Text from a guest is a value, and Jinja2 never reads a value as a template.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from .chart.offsets import chart
from .format import counted, duration, utc
from .links import troubleshooting
from .model import WORST_FIRST, Fleet, Header, Hypervisor, Tally, label, shown, tally, worst_first
from .overview import failures, remarks, tiles, verdict
from .rerun import reruns

_HERE = Path(__file__).parent
_FITS = 14  # characters of a name that fit into a column
_TAIL = 6  # characters at the end of a longer one that always show


class Asset(NamedTuple):
    """A file that is put into the page unchanged, and its digest for the page's security policy."""

    source: Markup
    digest: str


def render(fleet: Fleet, header: Header) -> str:
    """Return the page."""
    page = _environment().get_template("page.html.j2")
    return page.render(
        style=_asset("page.css"),
        script=_asset("page.js"),
        header=header,
        settings=fleet.settings,
        fleet=fleet,
        statuses=shown(WORST_FIRST, fleet.tally),
        verdict=verdict(fleet),
        tiles=tiles(fleet),
        failures=failures(fleet),
        reruns=reruns(fleet, header),
        chart=chart(fleet.guests, fleet.settings),
        remarks=remarks(fleet),
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
        label=label,
        middle=_middle,
        pixels="{:g}".format,
        shares=_shares,
        troubleshooting=troubleshooting,
        utc=utc,
        without_braces=_without_braces,
    )
    return environment


def _asset(name: str) -> Asset:
    source = (_HERE / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    # The collection's own file: the only text that is not escaped.
    return Asset(Markup(source), f"sha256-{digest}")  # noqa: S704


def _hypervisors(fleet: Fleet) -> list[tuple[Hypervisor, Tally]]:
    """Return them with the most urgent first."""

    def urgency(item: tuple[Hypervisor, Tally]) -> tuple[bool, bool, int, str]:
        hypervisor, total = item
        is_fine = hypervisor.problem is None
        return is_fine, not hypervisor.is_unsynchronized, -total.by_status["failed"], hypervisor.host

    return sorted(((hypervisor, tally(hypervisor.guests)) for hypervisor in fleet.hypervisors), key=urgency)


# ----------------------------------------------------------------------------------------------- the templates' filters


def _shares(total: Tally) -> list[tuple[str, float, float]]:
    """Return the status of each part of a bar, and its start and width in percent."""
    parts, start = [], 0.0
    for status in WORST_FIRST:
        width = 100 * total.by_status[status] / max(1, total.total)
        if width:
            parts.append((status, start, width))
            start += width
    return parts


def _middle(name: str, beside: str = "") -> Markup:
    """Return a name that a column that is too narrow for it shortens in its middle; ``beside`` always shows.

    In the end of a path, the name of the file is shortened first: guests with directories have the same file names.
    """
    if not beside and len(name) <= _FITS:
        return Markup.escape(name)
    folder, slash, file = name.rpartition("/")
    head = folder or name
    cut = len(head) - _TAIL if len(head) > (_TAIL + 2 if folder else _FITS) else len(head)
    parts = [Markup("<b>{}</b>").format(part) for part in (head[:cut], head[cut:]) if part]
    if folder:
        parts.append(Markup('<b class="file">{}</b>').format(slash + file))
    if beside:
        # The space is not drawn. It separates the two in text that is filtered and copied.
        parts.append(Markup(" <i>{}</i>").format(beside))
    return Markup('<span class="m" dir="auto">{}</span>').format(Markup("").join(parts))


def _without_braces(markup: str) -> Markup:
    """Return the same page without braces that could begin a template, in case the page is read as one later."""
    return Markup(str(markup).replace("{", "&#123;"))  # noqa: S704
