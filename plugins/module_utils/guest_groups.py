# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The groups that a guest belongs to, by what it is.

Each has its kind in its name, so a guest that lies about its system only gets into another group of systems.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, Mapping

from .survey import Surveyed

# Characters of a guest's own in the name of a group.
_LONGEST = 100


def _of_system(guest: Surveyed, *members: str) -> str:
    facts: Mapping[str, Any] = guest.facts.get("os") or {}
    told = [facts.get(member) for member in members]
    return "_".join(text[:_LONGEST] for text in told if isinstance(text, str)) if all(told) else ""


# What is behind the kind in the name of the group; nothing: the guest is in none.
KINDS: Mapping[str, Callable[[Surveyed], str]] = {
    "os": lambda guest: _of_system(guest, "id"),
    "os_version": lambda guest: _of_system(guest, "id", "version_id"),
    "agent": lambda guest: str((guest.facts.get("agent") or {}).get("kind", "")),
    "status": lambda guest: guest.status,
    "state": lambda guest: guest.state,
    "uri": lambda guest: guest.uri,
}


def groups_of(guest: Surveyed, kinds: Iterable[str], prefix: str) -> Iterator[str]:
    """The names, with whatever characters the guest told."""
    for kind in kinds:
        value = KINDS[kind](guest)
        if value:
            yield f"{prefix}{kind}_{value}"
