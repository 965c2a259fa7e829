# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report in short: the verdict, figures in tiles, failed and skipped guests by error code, and warnings."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .format import UNKNOWN, counted
from .links import troubleshooting
from .model import (
    STATUSES,
    Fleet,
    Measured,
    Problem,
    ReportedGuest,
    label,
    shown,
)
from .sentences import beyond_sentence, not_found_sentence, unproven_sentence, unsynchronized_sentence

# Cases of one group that are shown; the others are folded.
_UNFOLDED = 12


class Sentence(NamedTuple):
    """``href``: the section that has the details, or empty. ``name``: the guest after the colon in the text, if any."""

    text: str
    href: str = ""
    name: str = ""


class Verdict(NamedTuple):
    """``tone`` is bad, fair, good or idle."""

    tone: str
    sentences: Sequence[Sentence]


class Tile(NamedTuple):
    """A figure with its name and notes. ``kind`` is for the page's style; ``is_named``: the notes are names."""

    name: str
    figure: str
    notes: Sequence[str]
    kind: str = ""
    is_named: bool = False


class Case(NamedTuple):
    """One problem of a guest on a hypervisor, or of a hypervisor. ``guest`` None: the hypervisor's."""

    guest: ReportedGuest | None
    host: str
    problem: Problem

    @property
    def order(self) -> tuple[str, str]:
        return self.host, self.guest.name if self.guest else ""


class Group(NamedTuple):
    """The cases of one code, and their number. ``hint`` is None if they have several; ``href`` explains the code.

    The cases of a warning have no code, and share their ``hint``.
    """

    code: str
    href: str
    size: str
    hint: str | None
    cases: Sequence[Case]
    folded: Sequence[Case]


class Section(NamedTuple):
    """A list of problems with its title. ``status`` is for the page's style."""

    title: str
    anchor: str
    status: str
    groups: Sequence[Group]


def verdict(fleet: Fleet) -> Verdict:
    """Return every sentence that holds, the most urgent first, in the tone of the first:

    ====  ======================================================================
    tone  when
    ====  ======================================================================
    bad   a guest was left beyond tolerance or not found, or a hypervisor or a
          guest failed
    idle  there were no guests
    fair  guests were skipped, would be corrected, may not be within tolerance,
          or are being slewed; or the clock of a hypervisor is not synchronized
    good  otherwise
    ====  ======================================================================
    """
    total = fleet.tally.total
    bad, fair = _bad(fleet), _fair(fleet)
    if bad:
        return Verdict("bad", [*bad, *fair])
    if not total:
        return Verdict("idle", [Sentence("There were no guests."), *fair])
    everyone = "The guest is" if total == 1 else f"All {total:,} guests are"
    is_everyone_within = all(guest.within for guest in fleet.guests)
    first = Sentence(f"{everyone} within tolerance." if is_everyone_within else "No guest failed.")
    return Verdict("fair" if fair else "good", [first, *fair])


def _bad(fleet: Fleet) -> list[Sentence]:
    failed = fleet.tally.by_status["failed"]
    beyond, worst = beyond_sentence(fleet.hypervisors)
    lost = f"{fleet.lost:,} of {counted(fleet.size, 'hypervisor')} failed."
    is_nothing = any(each.problem and each.problem.code == "not_found" for each in fleet.hypervisors)
    sentences = (
        Sentence(beyond, "#guests", worst),
        Sentence("No guests were found." if is_nothing and not fleet.guests else ""),
        Sentence(lost if fleet.lost else "", "#hypervisors-failed"),
        Sentence(not_found_sentence(fleet.hypervisors)),
        Sentence(f"{_of(failed, fleet)} failed." if failed else "", "#failed"),
        Sentence(unproven_sentence(fleet.guests), "#guests"),
    )
    return [sentence for sentence in sentences if sentence.text]


def _fair(fleet: Fleet) -> list[Sentence]:
    counts = fleet.tally.by_status
    skipped, pending, slewing = counts["skipped"], counts["would_correct"], counts["slewing"]
    unknown = sum(guest.within is None and guest.status in ("corrected", "unchanged") for guest in fleet.guests)
    sentences = (
        Sentence(f"{_those(skipped, fleet, 'was', 'were')} skipped." if skipped else "", "#skipped"),
        Sentence(f"{_of(pending, fleet)} would be corrected." if pending else ""),
        Sentence(f"{_those(unknown, fleet)} not known to be within tolerance." if unknown else ""),
        Sentence(f"{_those(slewing, fleet)} being slewed into tolerance." if slewing else ""),
        Sentence(unsynchronized_sentence(fleet.hypervisors), "#hypervisors"),
    )
    return [sentence for sentence in sentences if sentence.text]


def _of(part: int, fleet: Fleet) -> str:
    return f"{part:,} of {counted(fleet.tally.total, 'guest')}"


def _those(part: int, fleet: Fleet, one: str = "is", many: str = "are") -> str:
    return f"{_of(part, fleet)} {one if part == 1 else many}"


def tiles(fleet: Fleet) -> list[Tile]:
    total = fleet.tally
    return [
        Tile("Guests", f"{total.total:,}", [_but(fleet.unmeasured, total.total, "measured")]),
        *(_status(status, fleet) for status in shown(STATUSES, total)),
        _largest("Largest before", total.largest_before),
        _largest("Largest left", total.largest_left),
        Tile("Hypervisors", f"{fleet.size:,}", [_lost(fleet.lost, fleet.size)]),
    ]


def _but(missing: int, whole: int, done: str) -> str:
    if missing:
        return f"{missing:,} not {done}"
    return f"all {done}" if whole else "none"


def _lost(lost: int, whole: int) -> str:
    if lost:
        return f"{lost:,} failed"
    return "none failed" if whole else "none"


def _status(status: str, fleet: Fleet) -> Tile:
    number = fleet.tally.by_status[status]
    kind = status if number else f"{status} nil"
    return Tile(label(status).capitalize(), f"{number:,}", [share(number, fleet.tally.total)], kind)


def _largest(name: str, largest: Measured | None) -> Tile:
    if largest is None:
        return Tile(name, UNKNOWN, ["not measured"], "nil long")
    guest, offset = largest
    return Tile(name, offset.signed, [guest.label, guest.host], "long", True)


def share(part: int, whole: int) -> str:
    """Return the part in percent: "all" only for the whole, and "none" only for nothing."""
    if not part:
        return "none"
    if part == whole:
        return "all"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.3g} %"


def failures(fleet: Fleet) -> list[Section]:
    """Return the sections on what failed that have cases."""
    lost = [Case(None, item.host, item.problem) for item in fleet.hypervisors if item.problem is not None]
    return _sections(
        Section("Failed hypervisors", "hypervisors-failed", "failed", _groups(lost, "hypervisor")),
        Section("Failed guests", "failed", "failed", _groups(_cases(fleet, "failed"), "guest")),
    )


def remarks(fleet: Fleet) -> list[Section]:
    """Return the sections on skipped guests and on warnings that have cases."""
    return _sections(
        Section("Skipped guests", "skipped", "skipped", _groups(_cases(fleet, "skipped"), "guest")),
        Section("Warnings", "warnings", "skipped", _warnings(fleet.guests)),
    )


def _sections(*sections: Section) -> list[Section]:
    return [section for section in sections if section.groups]


def _cases(fleet: Fleet, status: str) -> list[Case]:
    return [
        Case(guest, guest.host, guest.problem)
        for guest in fleet.guests
        if guest.status == status and guest.problem is not None
    ]


def _groups(cases: Sequence[Case], noun: str) -> list[Group]:
    by_code: dict[str, list[Case]] = {}
    for case in cases:
        by_code.setdefault(case.problem.code, []).append(case)
    return [_group(code, members, noun) for code, members in _largest_first(by_code)]


def _group(code: str, cases: Sequence[Case], noun: str) -> Group:
    hints = {case.problem.hint for case in cases}
    hint = hints.pop() if len(hints) == 1 else None
    return Group(code, troubleshooting(code), counted(len(cases), noun), hint, *_folded(cases))


def _warnings(guests: Sequence[ReportedGuest]) -> list[Group]:
    """Return a group for each text that several guests share, and one for all others."""
    by_text: dict[str, list[Case]] = {}
    for guest in guests:
        for text in guest.warnings:
            by_text.setdefault(text, []).append(Case(guest, guest.host, Problem("", "")))
    shared = {text: cases for text, cases in by_text.items() if len(cases) > 1}
    groups = [
        Group("", "", counted(len(cases), "guest"), text, *_folded(cases)) for text, cases in _largest_first(shared)
    ]
    single = [case._replace(problem=Problem("", text)) for text, (case, *others) in by_text.items() if not others]
    return [*groups, Group("", "", counted(len(single), "warning"), None, *_folded(single))] if single else groups


def _largest_first(groups: dict[str, list[Case]]) -> list[tuple[str, list[Case]]]:
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


def _folded(cases: Sequence[Case]) -> tuple[Sequence[Case], Sequence[Case]]:
    """Return the cases that are shown, and those that are folded."""
    ordered = sorted(cases, key=lambda case: case.order)
    # Folding a single row would save no room.
    cut = len(ordered) if len(ordered) <= _UNFOLDED + 1 else _UNFOLDED
    return ordered[:cut], ordered[cut:]
