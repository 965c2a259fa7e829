# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures and skipped guests, grouped by code, with what to do about them."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .format import counted
from .model import Fleet, Problem

# How many cases of one group are shown before the rest is folded away.
_UNFOLDED = 12


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
