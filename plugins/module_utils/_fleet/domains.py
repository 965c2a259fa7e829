# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Selecting domains of one hypervisor, and opening channels to their guests."""

from __future__ import annotations

from typing import Iterable, Sequence

from .._channels.libvirt import LibvirtChannel
from .._hypervisor.connections import Hypervisor
from .._hypervisor.domains import Domain, not_found, not_running
from .._protocol.errors import QgaError
from .._protocol.limits import Limits
from .runner import Guest
from .selection import Candidate, Selected, Selection, select


def select_domains(domains: Iterable[Domain], wanted: Iterable[str], excluded: Iterable[str]) -> Selection:
    """Select domains by name, UUID in any spelling, or pattern of names. A candidate's key is its domain's UUID."""
    candidates = [Candidate(domain.name, domain.uuid) for domain in domains]
    by_name = {candidate.name: candidate for candidate in candidates}
    by_hex = {candidate.key.replace("-", ""): candidate for candidate in candidates}

    def named(entry: str) -> Sequence[Candidate]:
        found = by_name.get(entry) or by_hex.get(entry.replace("-", "").lower())
        return () if found is None else (found,)

    def matching(pattern: str) -> Sequence[Candidate]:
        return [candidate for candidate in candidates if candidate.matches(pattern)]

    return select(wanted, excluded, named, matching)


def guest_of(
    selected: Selected, domain: Domain | None, hypervisor: Hypervisor, limits: Limits, is_optional: bool
) -> Guest:
    """Return the selected guest. Its problem is that it does not exist or does not run, if so."""
    uri = hypervisor.uri
    problem: QgaError | None = None
    if domain is None:
        problem = not_found(selected.name, uri)
    elif not domain.is_running:
        problem = not_running(selected.name, uri, domain.state, domain.uuid)
    return Guest(
        selected.name,
        lambda: LibvirtChannel(selected.name, uri, hypervisor.line(), limits),
        uuid=None if domain is None else domain.uuid,
        is_optional=is_optional,
        problem=problem,
        open_apart=lambda: LibvirtChannel(selected.name, uri, hypervisor.reserve, limits),
    )
