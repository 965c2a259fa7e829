# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The figures of all hypervisors and of all guests, in tables that the page's script can sort and filter."""

from __future__ import annotations

from typing import Iterable, Mapping, NamedTuple, Sequence

from .format import UNKNOWN, duration, signed, with_uncertainty
from .markup import NOTHING, Html, element, empty, escape, text
from .model import (
    WORST_FIRST,
    Guest,
    Hypervisor,
    Offset,
    Problem,
    Settings,
    Tally,
    all_guests,
    shown,
    tally,
    worst_first,
)

# A name of more characters than this may not fit its column.
_WIDE = 18


class Column(NamedTuple):
    """``numeric``: to the right, and sorted by the cells' data-n. One without title is not sorted by."""

    title: str
    numeric: bool = False


def _table(kind: str, columns: Sequence[Column], rows: Iterable[Html]) -> Html:
    head, body = element("thead", element("tr", *map(_heading, columns))), element("tbody", *rows)
    return element("div", element("table", head, body, class_=f"fleet sortable {kind}"), class_="wide")


def _heading(column: Column) -> Html:
    if not column.title:
        return element("td")
    return element("th", text(column.title), scope="col", class_="n" if column.numeric else None)


# ---------------------------------------------------------------------------------------------------------------- cells
# Put together without element(): they are by far most of the page.

_NO_WORDS = f'<td class="u">{UNKNOWN}</td>'
_NO_FIGURE = f'<td class="n u">{UNKNOWN}</td>'


def _name(value: str, kind: str = "", title: str = "") -> str:
    titles = [value] if len(value) > _WIDE else []
    titles += [title] if title else []
    told = ' title="{}"'.format(escape("\n".join(titles))) if titles else ""
    return f'<th scope="row"{kind}{told}>{escape(value)}</th>'


def _words(value: str) -> str:
    if value == UNKNOWN:
        return _NO_WORDS
    told = f' title="{escape(value)}"' if len(value) > _WIDE else ""
    return f"<td{told}>{escape(value)}</td>"


def _figure(value: int | None, shown: str, kind: str = "") -> str:
    return _NO_FIGURE if value is None else f'<td class="n{kind}" data-n="{value}">{shown}</td>'


def _count(number: int, kind: str = "") -> str:
    return _figure(number, f"{number:,}", kind if number else " u")


def _time(ns: int | None) -> str:
    return _NO_FIGURE if ns is None else _figure(ns, duration(ns))


def _size(ns: int | None) -> str:
    return _NO_FIGURE if ns is None else _figure(ns, signed(ns))


def _offset(offset: Offset | None, kind: str) -> str:
    if offset is None:
        return _NO_FIGURE
    shown, uncertainty = with_uncertainty(offset.ns, offset.uncertainty_ns)
    return _figure(offset.ns, f"{shown} <i>{uncertainty}</i>", kind)


# ---------------------------------------------------------------------------------------------------------- hypervisors

_HYPERVISOR = (Column("hypervisor"), Column("guests", numeric=True), Column(""))
_LARGEST = (Column("largest before", numeric=True), Column("largest after", numeric=True))


def hypervisors_table(fleet: Sequence[Hypervisor], settings: Settings) -> Html:
    if not fleet:
        return NOTHING
    tallies = [(hypervisor, tally(hypervisor.guests)) for hypervisor in fleet]
    tallies.sort(key=lambda item: (item[0].problem is None, -item[1].by_status["failed"], item[0].host))
    statuses = shown(WORST_FIRST, tally(all_guests(fleet)))
    titles = (*_HYPERVISOR, *(Column(status, numeric=True) for status in statuses), *_LARGEST)
    columns = [column._replace(title=settings.label(column.title).capitalize()) for column in titles]
    rows = [_hypervisor(hypervisor, counts, statuses) for hypervisor, counts in tallies]
    return element("section", element("h2", text("Hypervisors")), _table("hypervisors", columns, rows))


def _hypervisor(hypervisor: Hypervisor, counts: Tally, statuses: Sequence[str]) -> Html:
    problem = hypervisor.problem
    cells = (
        _name(hypervisor.host) if problem is None else _name(hypervisor.host, ' class="off"', problem.message),
        _count(counts.total),
        _spread(counts) if counts.total or problem is None else f'<td class="bar off">{escape(problem.code)}</td>',
        *(_count(counts.by_status[status], " off" if status == "failed" else "") for status in statuses),
        _size(counts.largest_before_ns),
        _size(counts.largest_after_ns),
    )
    return Html("<tr>{}</tr>".format("".join(cells)))


def _spread(counts: Tally) -> str:
    """What the guests of one hypervisor came to, as a bar."""
    parts, start = [], 0.0
    for status in WORST_FIRST:
        share = 100 * counts.by_status[status] / max(1, counts.total)
        if share:
            parts.append(empty("rect", class_=status, x=f"{start:.2f}%", width=f"{share:.2f}%", height="100%"))
            start += share
    return '<td class="bar">{}</td>'.format(element("svg", *parts, class_="share", aria_hidden="true"))


# --------------------------------------------------------------------------------------------------------------- guests

# The page's style has a width for each.
_GUEST = (
    Column("Guest"),
    Column("Hypervisor"),
    Column("Status"),
    Column("Offset before", numeric=True),
    Column("Offset after", numeric=True),
    Column("Within"),
    Column("Method"),
    Column("Round trip", numeric=True),
    Column("Took", numeric=True),
    Column("Code"),
)

_WITHIN: Mapping[bool | None, str] = {True: "<td>yes</td>", False: '<td class="off">no</td>', None: _NO_WORDS}
_UNPROVEN = '<td class="off">unproven</td>'
_NOT_YET = "<td>not yet</td>"


def guests_table(guests: Sequence[Guest], settings: Settings) -> Html:
    if not guests:
        return NOTHING
    find = element(
        "div",
        element("label", text("Filter"), **{"for": "filter"}),
        empty("input", id="filter", type="search", placeholder="name, hypervisor, status, code", autocomplete="off"),
        element("output", **{"for": "filter"}),
        element("small", text("A click on a heading sorts by it.")),
        class_="find",
        hidden="",  # until the script that makes it work is there
    )
    rows = [_guest(guest, settings) for guest in worst_first(guests)]
    return element("section", element("h2", text("Guests")), find, _table("guests", _GUEST, rows), id="guests")


def _guest(guest: Guest, settings: Settings) -> Html:
    off = " off" if guest.within is False and not guest.is_slewing else ""
    cells = (
        _name(guest.name, title="" if guest.uuid == UNKNOWN else guest.uuid),
        _words(guest.host),
        f'<td class="s {guest.status}">{settings.label(guest.status)}</td>',
        # Only the last measurement tells whether the clock is within tolerance.
        _offset(guest.before, off if guest.after is None else ""),
        _offset(guest.after, off),
        _within(guest),
        _words(_method(guest)),
        _time(guest.round_trip_ns),
        _time(guest.duration_ns),
        _code(guest.problem),
    )
    return Html("<tr>{}</tr>".format("".join(cells)))


def _within(guest: Guest) -> str:
    if guest.is_slewing:
        return _NOT_YET
    return _UNPROVEN if guest.unproven else _WITHIN[guest.within]


def _method(guest: Guest) -> str:
    several = guest.attempts is not None and guest.attempts > 1
    return f"{guest.method} \u00d7{guest.attempts}" if several and guest.method != UNKNOWN else guest.method


def _code(problem: Problem | None) -> str:
    if problem is None or problem.code == UNKNOWN:
        return _NO_WORDS
    return '<td title="{}">{}</td>'.format(escape(f"{problem.code}\n{problem.message}"), escape(problem.code))
