# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What went wrong and what was left out, grouped by its code, with what to do about it."""

from __future__ import annotations

from typing import Iterable, NamedTuple, Sequence

from .format import counted
from .markup import NOTHING, Html, element, join, text
from .model import Guest, Hypervisor, Problem

# How many lines of one group are shown before the rest is folded away.
_UNFOLDED = 12


class Case(NamedTuple):
    """One problem, and whose: the guest's and its hypervisor's name, or the hypervisor's alone."""

    names: tuple[str, ...]
    problem: Problem


def problems(fleet: Sequence[Hypervisor], guests: Sequence[Guest]) -> Html:
    lost = [Case((item.host,), item.problem) for item in fleet if item.problem is not None]
    failed, skipped = (_cases(guests, status) for status in ("failed", "skipped"))
    return join(
        (
            _section("Hypervisors that could not be worked on", "hypervisors-failed", "failed", "hypervisor", lost),
            _section("Failed guests", "failed", "failed", "guest", failed),
            _section("Skipped guests", "skipped", "skipped", "guest", skipped),
        )
    )


def _cases(guests: Iterable[Guest], status: str) -> list[Case]:
    return [
        Case((guest.name, guest.host), guest.problem)
        for guest in guests
        if guest.status == status and guest.problem is not None
    ]


def _section(title: str, anchor: str, status: str, what: str, cases: Sequence[Case]) -> Html:
    if not cases:
        return NOTHING
    by_code: dict[str, list[Case]] = {}
    for case in cases:
        by_code.setdefault(case.problem.code, []).append(case)
    # The most frequent first.
    ordered = sorted(by_code.items(), key=lambda item: (-len(item[1]), item[0]))
    groups = [_group(code, members, status, what) for code, members in ordered]
    return element("section", element("h2", text(title)), *groups, id=anchor)


def _group(code: str, cases: Sequence[Case], status: str, what: str) -> Html:
    hints = {case.problem.hint for case in cases}
    shared = hints.pop() if len(hints) == 1 else None
    head = element("h3", element("code", text(code)), text(counted(len(cases), what)))
    advice = element("p", text(shared)) if shared else NOTHING
    ordered = sorted(cases, key=lambda case: case.names[::-1])
    lines = [_line(case, with_hint=shared is None) for case in ordered]
    # One more line takes no more room than saying that there is one more.
    cut = len(lines) if len(lines) <= _UNFOLDED + 1 else _UNFOLDED
    rest = lines[cut:]
    folded = element("details", element("summary", text(f"and {len(rest):,} more")), _table(rest)) if rest else NOTHING
    return element("div", head, advice, _table(lines[:cut]), folded, class_=f"group {status}")


def _table(lines: Sequence[Html]) -> Html:
    return element("table", element("tbody", *lines))


def _line(case: Case, with_hint: bool) -> Html:
    names = [element("td", text(name), class_=kind) for name, kind in zip(case.names, ("who", "where"))]
    hint = element("i", text(case.problem.hint)) if with_hint and case.problem.hint else NOTHING
    return element("tr", *names, element("td", text(case.problem.message), hint))
