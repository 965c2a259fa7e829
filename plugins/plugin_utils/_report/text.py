# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as lines for a terminal, without control sequences."""

from __future__ import annotations

import unicodedata
from typing import Sequence

from .format import MINUS, UNKNOWN
from .model import (
    FACTS_STATUSES,
    STATUSES,
    Hypervisor,
    ReportedGuest,
    all_guests,
    label,
    read_fleet,
    shown,
    tally,
)
from .sentences import beyond_sentence, not_found_sentence, unproven_sentence, unsynchronized_sentence

_FAILURES = 20
_SENTENCE = 160


def summary(hypervisors: object) -> list[str]:
    """Return the lines for a run on clocks: a table of the hypervisors, then what was wrong, the most urgent first.

    :raises TypeError: ``hypervisors`` is not a list
    """
    fleet = read_fleet(hypervisors)
    return _summary(fleet, shown(STATUSES, tally(all_guests(fleet))), ("largest before", "largest left"))


def facts_summary(hypervisors: object) -> list[str]:
    """Return the same for a run that gathered facts.

    :raises TypeError: ``hypervisors`` is not a list
    """
    return _summary(read_fleet(hypervisors, FACTS_STATUSES), FACTS_STATUSES, ())


def _summary(fleet: Sequence[Hypervisor], statuses: Sequence[str], offsets: Sequence[str]) -> list[str]:
    def row(name: str, guests: Sequence[ReportedGuest]) -> Sequence[str]:
        total = tally(guests)
        counts = (f"{total.by_status[status]:,}" for status in statuses)
        largest = (total.largest_before, total.largest_left) if offsets else ()
        return (
            *(name, f"{total.total:,}", *counts),
            *(UNKNOWN if each is None else each[1].signed.replace(MINUS, "-") for each in largest),
        )

    guests = all_guests(fleet)
    rows = [
        ("hypervisor", "guests", *map(label, statuses), *offsets),
        *(row(item.host, item.guests) for item in fleet),
        row("total", guests),
    ]
    remarks = ["", *(f"  {_problem_line(item)}" if item.problem else "" for item in fleet), ""]
    widths = [max(map(_width, column)) for column in zip(*rows)]
    head, *lines = (_line(cells, widths) + remark for cells, remark in zip(rows, remarks))
    urgent = (beyond_sentence(fleet)[0], not_found_sentence(fleet))
    others = (unproven_sentence(guests), unsynchronized_sentence(fleet))
    return [
        *(head, "  ".join("-" * width for width in widths), *lines),
        *filter(None, urgent),
        *_failures(guests),
        *filter(None, others),
    ]


def _failures(guests: Sequence[ReportedGuest]) -> list[str]:
    failed = [guest for guest in guests if guest.status == "failed"]
    lines = [f"{guest.host}: {guest.label}: {_problem_line(guest)}" for guest in failed[:_FAILURES]]
    if len(failed) > _FAILURES:
        lines.append(f"and {len(failed) - _FAILURES:,} more")
    return lines


def _problem_line(one: ReportedGuest | Hypervisor) -> str:
    if one.problem is None:
        return UNKNOWN
    sentence = one.problem.message
    return f"{one.problem.code}: {sentence if len(sentence) <= _SENTENCE else f'{sentence[: _SENTENCE - 1]}…'}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (" " * (width - _width(cell)) for cell, width in zip(cells, widths))
    return "  ".join([cells[0] + first, *(pad + cell for pad, cell in zip(others, cells[1:]))])


def _width(text: str) -> int:
    """Return the number of terminal columns that the text takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
