# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a fleet run: a page to look at, totals for a playbook, and a few lines for the terminal.

The page is one file that asks nothing of anybody: no script, style, font or picture comes from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta, timezone

from .assets import SCRIPT, STYLE
from .format import SECOND_NS, UNKNOWN, duration, visible
from .markup import NOTHING, Html, element, join, text
from .model import FACTS_STATUSES, STATUSES, Settings, all_guests, read_fleet, tally
from .overview import offsets, tiles, verdict
from .problems import problems
from .tables import guests_table, hypervisors_table
from .text import facts_summary, summary

_TITLE = 160

_GLOSSARY = (
    ("offset", "guest clock minus host clock; with a minus the guest is behind, with a plus it is ahead"),
    ("±", "uncertainty: the true offset is certainly no further away than this"),
    ("before", "as the guest was found"),
    ("after", "measured again once the clock was stepped; a dash: it was not stepped, or could not be read"),
    ("tolerance", "the largest offset that is left alone"),
    ("slewing", "the guest's kernel slows its clock down or speeds it up, until it is within tolerance"),
    ("unproven", "the uncertainty reaches beyond the tolerance: the clock may be within it or not"),
)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def render(
    hypervisors: object,
    *,
    title: str,
    made_at: int | str,
    play: str = "",
    tolerance_ns: int | None,
    check_mode: bool,
) -> str:
    """The page. ``made_at`` is nanoseconds since 1970, or a text that is shown as it is.

    :raises TypeError: ``hypervisors`` is no list
    """
    fleet = read_fleet(hypervisors)
    guests = all_guests(fleet)
    total = tally(guests)
    settings = Settings(tolerance_ns, check_mode)
    name = visible(title, _TITLE)
    body = (
        _header(name, _instant(made_at), play, settings),
        element(
            "main",
            verdict(fleet, total, guests, settings),
            tiles(fleet, total, guests, settings),
            offsets(guests, settings) if guests else NOTHING,
            problems(fleet, guests),
            hypervisors_table(fleet, settings),
            guests_table(guests, settings),
        ),
        _footer(),
        element("script", Html(SCRIPT)),
    )
    page = element("html", _head(name), element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def totals(hypervisors: object) -> dict[str, int | None]:
    """The figures of a run, for a playbook to test.

    The offsets keep their sign; the one of the largest size is told, and None if none was measured.

    :raises TypeError: ``hypervisors`` is no list
    """
    fleet = read_fleet(hypervisors)
    total = tally(all_guests(fleet))
    return {
        "hosts": len(fleet),
        "total": total.total,
        **{status: total.by_status[status] for status in STATUSES},
        "largest_offset_before_ns": total.largest_before_ns,
        "largest_offset_after_ns": total.largest_after_ns,
    }


def text_summary(hypervisors: object) -> list[str]:
    """The run in lines for a terminal: a table of the hypervisors, then what failed.

    :raises TypeError: ``hypervisors`` is no list
    """
    return summary(read_fleet(hypervisors))


def facts_text_summary(hypervisors: object) -> list[str]:
    """As :func:`text_summary`, of a run that gathered facts.

    :raises TypeError: ``hypervisors`` is no list
    """
    return facts_summary(read_fleet(hypervisors, FACTS_STATUSES))


def _instant(made_at: int | str) -> str:
    if isinstance(made_at, str):
        return visible(made_at, _TITLE)
    try:
        return f"{_EPOCH + timedelta(seconds=made_at // SECOND_NS):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return UNKNOWN


def _header(name: str, made_at: str, play: str, settings: Settings) -> Html:
    facts = [("made", made_at)]
    if play:
        facts.append(("play", visible(play, _TITLE)))
    if settings.tolerance_ns is not None:
        facts.append(("tolerance", f"±{duration(settings.tolerance_ns)}"))
    check = element("p", element("b", text("Check mode.")), text(" No clock was stepped."), class_="check")
    return element(
        "header",
        element("h1", text(name)),
        element("ul", *(element("li", text(f"{label} "), element("b", text(fact))) for label, fact in facts)),
        check if settings.check_mode else NOTHING,
    )


def _footer() -> Html:
    entries = [(element("dt", text(term)), element("dd", text(meaning))) for term, meaning in _GLOSSARY]
    return element("footer", element("dl", *(part for entry in entries for part in entry)))


def _head(name: str) -> Html:
    # The policy stands before all else. It lets nothing in from anywhere, and on the page itself only the style and the
    # script whose digests these are: mark-up that got past the escaping could still not run.
    policy = (
        f"default-src 'none'; style-src '{_digest(STYLE)}'; script-src '{_digest(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        join(
            Html(f"<meta {attributes}>")
            for attributes in (
                'charset="utf-8"',
                f'http-equiv="Content-Security-Policy" content="{policy}"',
                'name="referrer" content="no-referrer"',
                'name="robots" content="noindex"',
                'name="viewport" content="width=device-width, initial-scale=1"',
                'name="color-scheme" content="light dark"',
            )
        ),
        element("title", text(name)),
        element("style", Html(STYLE)),
    )


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
