# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as lines for a terminal, with nothing in them that a terminal would obey."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import Callable, Sequence

from .format import MINUS, UNKNOWN, signed
from .model import FACTS_STATUSES, STATUSES, Guest, Hypervisor, all_guests, read_fleet, shown, tally, unproven_sentence

_FAILURES = 20
_SENTENCE = 160

# The cells after a hypervisor's name, or after "total", from its guests.
Cells = Callable[[Sequence[Guest]], Sequence[str]]


def summary(hypervisors: object) -> list[str]:
    """Return a run on clocks in lines: a table of the hypervisors, then what failed.

    :raises TypeError: ``hypervisors`` is not a list
    """
    fleet = read_fleet(hypervisors)
    statuses = shown(STATUSES, tally(all_guests(fleet)))
    return _summary(fleet, (*statuses, "largest before", "largest after"), lambda guests: _clocks(guests, statuses))


def facts_summary(hypervisors: object) -> list[str]:
    """Return the same of a run that gathered facts.

    :raises TypeError: ``hypervisors`` is not a list
    """
    return _summary(read_fleet(hypervisors, FACTS_STATUSES), FACTS_STATUSES, _facts)


def _summary(fleet: Sequence[Hypervisor], titles: Sequence[str], cells: Cells) -> list[str]:
    guests = all_guests(fleet)
    head = ("hypervisor", "guests", *titles)
    rows = [
        *(((item.host, f"{len(item.guests):,}", *cells(item.guests)), _remark(item)) for item in fleet),
        (("total", f"{len(guests):,}", *cells(guests)), ""),
    ]
    widths = [max(_width(row[column]) for row, _remark in ((head, ""), *rows)) for column in range(len(head))]
    lines = [_line(head, widths), "  ".join("-" * width for width in widths)]
    lines += [f"{_line(row, widths)}{remark}" for row, remark in rows]
    return lines + _failures(guests)


def _clocks(guests: Sequence[Guest], statuses: Sequence[str]) -> Sequence[str]:
    counts = tally(guests)
    return (
        *(f"{counts.by_status[status]:,}" for status in statuses),
        _offset(counts.largest_before_ns),
        _offset(counts.largest_after_ns),
    )


def _facts(guests: Sequence[Guest]) -> Sequence[str]:
    counts = Counter(guest.status for guest in guests)
    return [f"{counts[status]:,}" for status in FACTS_STATUSES]


def _failures(guests: Sequence[Guest]) -> list[str]:
    failed = [guest for guest in guests if guest.status == "failed"]
    lines = [_failure(guest) for guest in failed[:_FAILURES]]
    if len(failed) > _FAILURES:
        lines.append(f"and {len(failed) - _FAILURES:,} more")
    unproven = unproven_sentence(guests)
    return [*lines, unproven] if unproven else lines


def _failure(guest: Guest) -> str:
    problem = guest.problem
    code, message = (problem.code, problem.message) if problem is not None else (UNKNOWN, UNKNOWN)
    return f"{guest.host}: {guest.name}: {code}: {_short(message)}"


def _remark(hypervisor: Hypervisor) -> str:
    problem = hypervisor.problem
    return "" if problem is None else f"  {problem.code}: {_short(problem.message)}"


def _offset(ns: int | None) -> str:
    return UNKNOWN if ns is None else signed(ns).replace(MINUS, "-")


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= _SENTENCE else f"{sentence[: _SENTENCE - 1]}…"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (" " * (width - _width(cell)) for cell, width in zip(cells, widths))
    return "  ".join([cells[0] + first, *(pad + cell for pad, cell in zip(others, cells[1:]))])


def _width(text: str) -> int:
    """Return how many columns of a terminal the text takes: some characters take two, and accents none of their own."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
