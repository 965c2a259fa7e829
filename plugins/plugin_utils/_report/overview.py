# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report in short: the verdict in a sentence, the figures in tiles, and the failures and skipped guests by code."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .format import UNKNOWN, counted
from .model import STATUSES, Fleet, Measured, Problem, shown, unproven_sentence

# How many cases of one group are shown before the rest is folded away.
_UNFOLDED = 12


class Sentence(NamedTuple):
    """``href``: what explains it; empty: nothing does."""

    text: str
    href: str = ""


class Verdict(NamedTuple):
    """``tone`` is bad, fair, good or idle."""

    tone: str
    sentences: Sequence[Sentence]


class Tile(NamedTuple):
    """A figure, and below it what it is of. ``kind`` is for the page's style."""

    name: str
    figure: str
    note: str
    kind: str = ""


class Case(NamedTuple):
    """One problem, and whose: the guest's and its hypervisor's name, or the hypervisor's alone."""

    names: tuple[str, ...]
    problem: Problem


class Group(NamedTuple):
    """The cases of one code, and how many they are. ``hint`` is None where they have several."""

    code: str
    size: str
    hint: str | None
    cases: Sequence[Case]
    folded: Sequence[Case]


class Section(NamedTuple):
    title: str
    anchor: str
    status: str
    groups: Sequence[Group]


def verdict(fleet: Fleet) -> Verdict:
    """Return the sentence of the first of these that holds, or all that are bad:

    ====  ====================================================================
    tone  when
    ====  ====================================================================
    bad   a hypervisor could not be worked on, or a guest failed
    idle  there was no guest
    fair  guests were skipped; or would be corrected; or may not be within
          tolerance; or are being slewed into it
    good  else
    ====  ====================================================================
    """
    total, counts = fleet.tally.total, fleet.tally.by_status
    bad = _bad(fleet)
    if bad:
        return Verdict("bad", bad)
    if not total:
        return Verdict("idle", [Sentence("There was no guest to work on.")])
    skipped, slewing = counts["skipped"], counts["slewing"]
    if skipped:
        return _fair(f"No guest failed, but {_those(skipped, total, 'was', 'were')} skipped.", "#skipped")
    if fleet.settings.check_mode and counts["corrected"]:
        return _fair(f"{_of(counts['corrected'], total)} would be corrected.")
    beyond = sum(guest.within is not True and not guest.is_slewing for guest in fleet.guests)
    if beyond:
        return _fair(f"No guest failed, but {_those(beyond, total)} not known to be within tolerance.")
    if slewing:
        return _fair(f"No guest failed, and {_those(slewing, total)} being slewed into tolerance.")
    everyone = "The guest is" if total == 1 else f"All {total:,} guests are"
    return Verdict("good", [Sentence(f"{everyone} within tolerance.")])


def _fair(text: str, href: str = "") -> Verdict:
    return Verdict("fair", [Sentence(text, href)])


def _bad(fleet: Fleet) -> list[Sentence]:
    failed, unproven = fleet.tally.by_status["failed"], unproven_sentence(fleet.guests)
    sentences = []
    if fleet.lost:
        whole = counted(len(fleet.hypervisors), "hypervisor")
        sentences.append(Sentence(f"{fleet.lost:,} of {whole} could not be worked on.", "#hypervisors-failed"))
    if failed:
        sentences.append(Sentence(f"{_of(failed, fleet.tally.total)} failed.", "#failed"))
    if unproven:
        sentences.append(Sentence(unproven, "#guests"))
    return sentences


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {counted(whole, 'guest')}"


def _those(part: int, whole: int, one: str = "is", many: str = "are") -> str:
    return f"{_of(part, whole)} {one if part == 1 else many}"


def tiles(fleet: Fleet) -> list[Tile]:
    total, whole = fleet.tally, len(fleet.hypervisors)
    return [
        Tile("Guests", f"{total.total:,}", _but(fleet.unmeasured, total.total, "measured")),
        *(_status(status, fleet) for status in shown(STATUSES, total)),
        _largest("Largest before", total.largest_before),
        _largest("Largest after", total.largest_after),
        Tile("Hypervisors", f"{whole:,}", _but(fleet.lost, whole, "worked on")),
    ]


def _but(missing: int, whole: int, done: str) -> str:
    if missing:
        return f"{missing:,} not {done}"
    return f"all {done}" if whole else "none"


def _status(status: str, fleet: Fleet) -> Tile:
    number = fleet.tally.by_status[status]
    kind = status if number else f"{status} nil"
    return Tile(fleet.settings.label(status).capitalize(), f"{number:,}", share(number, fleet.tally.total), kind)


def _largest(name: str, largest: Measured | None) -> Tile:
    if largest is None:
        return Tile(name, UNKNOWN, "not measured", "nil long")
    guest, offset = largest
    return Tile(name, offset.signed, f"{guest.name} on {guest.host}", "long")


def share(part: int, whole: int) -> str:
    """Return it in percent; never all of a fleet from which one is missing, and never nothing of what is there."""
    if not part:
        return "none"
    if part == whole:
        return "all"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.3g} %"


def problems(fleet: Fleet) -> list[Section]:
    """Return the sections that have cases."""
    lost = [Case((item.host,), item.problem) for item in fleet.hypervisors if item.problem is not None]
    failed, skipped = (_cases(fleet, status) for status in ("failed", "skipped"))
    sections = [
        Section("Hypervisors that could not be worked on", "hypervisors-failed", "failed", _groups(lost, "hypervisor")),
        Section("Failed guests", "failed", "failed", _groups(failed, "guest")),
        Section("Skipped guests", "skipped", "skipped", _groups(skipped, "guest")),
    ]
    return [section for section in sections if section.groups]


def _cases(fleet: Fleet, status: str) -> list[Case]:
    return [
        Case((guest.name, guest.host), guest.problem)
        for guest in fleet.guests
        if guest.status == status and guest.problem is not None
    ]


def _groups(cases: Sequence[Case], what: str) -> list[Group]:
    by_code: dict[str, list[Case]] = {}
    for case in cases:
        by_code.setdefault(case.problem.code, []).append(case)
    # The most frequent first.
    ordered = sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0]))
    return [_group(code, members, what) for code, members in ordered]


def _group(code: str, cases: Sequence[Case], what: str) -> Group:
    hints = {case.problem.hint for case in cases}
    ordered = sorted(cases, key=lambda case: case.names[::-1])
    # One more line takes no more room than saying that there is one more.
    cut = len(ordered) if len(ordered) <= _UNFOLDED + 1 else _UNFOLDED
    hint = hints.pop() if len(hints) == 1 else None
    return Group(code, counted(len(cases), what), hint, ordered[:cut], ordered[cut:])
