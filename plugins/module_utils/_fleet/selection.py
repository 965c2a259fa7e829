# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selecting guests by name, UUID and shell pattern, with exclusions."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Callable, Iterable, NamedTuple, Sequence

_MAGIC = re.compile(r"[*?\[]")
_EVERYTHING = "*"  # never a name
_DIGITS = re.compile(r"([0-9]+)")


class Candidate(NamedTuple):
    """A guest that can be selected. ``key`` identifies it, ``aliases`` are other names for it."""

    name: str
    key: str
    aliases: tuple[str, ...] = ()

    def matches(self, pattern: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in (self.name, *self.aliases))


class Selected(NamedTuple):
    """``candidate`` is None if there is no guest of that name. ``by_name``: selected by its name, not by a pattern."""

    name: str
    candidate: Candidate | None
    by_name: bool


class Selection(NamedTuple):
    """``guests`` are in the order of their entries, and by name for one pattern. ``unmatched`` are patterns without a
    match, ``repeated`` the names of guests that are listed more than once.
    """

    guests: tuple[Selected, ...]
    unmatched: tuple[str, ...]
    repeated: tuple[str, ...]


Find = Callable[[str], Sequence[Candidate]]


def is_pattern(text: str) -> bool:
    return _MAGIC.search(text) is not None


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts web2 before web10."""
    return tuple(
        (1, len(part.lstrip("0")), part.lstrip("0")) if part.isdigit() else (0, 0, part) for part in _DIGITS.split(name)
    )


def select(wanted: Iterable[str], excluded: Iterable[str], named: Find, matching: Find) -> Selection:
    """Select guests. ``named`` finds the guest of a name, ``matching`` all guests that match a pattern.

    An entry of ``wanted`` with a leading ``!`` excludes. If there are only such entries, all other guests are selected.
    """
    entries = list(wanted)
    positive = [entry for entry in entries if not entry.startswith("!")]
    negative = [entry for entry in entries if entry.startswith("!")]
    # An entry of excluded may have the mark too. It must not be read as excluding nothing.
    is_left_out = _left_out([entry[entry.startswith("!") :] for entry in (*negative, *excluded)], named)
    if entries and not positive:
        positive = [_EVERYTHING]
    selected: dict[str, Selected] = {}
    unmatched: list[str] = []
    repeated: list[str] = []
    for entry in positive:
        found = () if entry == _EVERYTHING else named(entry)
        by_name = bool(found) or not is_pattern(entry)
        if not by_name:
            # Names that differ only in leading zeros have the same natural key.
            found = sorted(matching(entry), key=lambda candidate: (natural_key(candidate.name), candidate.name))
            unmatched += [] if found else [entry]
        elif not found and not is_left_out(Candidate(entry, entry)):
            selected.setdefault(entry, Selected(entry, None, True))
        for candidate in found:
            if is_left_out(candidate):
                continue
            before = selected.get(candidate.key)
            if by_name and before is not None and before.by_name:
                repeated.append(entry)
            elif by_name or before is None:  # a name has precedence over a pattern
                selected[candidate.key] = Selected(candidate.name, candidate, by_name)
    return Selection(tuple(selected.values()), tuple(unmatched), tuple(repeated))


def _left_out(without: Sequence[str], named: Find) -> Callable[[Candidate], bool]:
    keys = {candidate.key for entry in without for candidate in named(entry)}
    return lambda candidate: (
        candidate.key in keys
        or any(entry in (candidate.name, *candidate.aliases) or candidate.matches(entry) for entry in without)
    )
