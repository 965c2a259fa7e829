# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guests of several hypervisors are called, so that no two of them bear the same name."""

from __future__ import annotations

from collections import Counter
from typing import Callable, Container, Mapping, NamedTuple, Sequence
from urllib.parse import urlsplit

from ...module_utils._untrusted import visible

# Characters; a domain's name may have as many as a file's, and a URI more.
LONGEST = 1000


class Located(NamedTuple):
    """A domain and where it is."""

    name: str
    uuid: str
    uri: str


class Names(NamedTuple):
    """``of`` is in the order of the domains. ``warnings`` tell of those that are called by less than was asked for."""

    of: tuple[str, ...]
    warnings: tuple[str, ...]


_Spelling = Callable[[Located], str]


def _host(uri: str) -> str:
    """The machine that a libvirt URI names; of one that names none, this one."""
    try:
        return urlsplit(uri).hostname or "localhost"
    except ValueError:
        return uri


def _uuid_at_uri(domain: Located) -> str:
    return f"{domain.uuid}@{domain.uri}"


# From what is asked for to what is called like nothing else: within one URI, UUIDs are unique.
SPELLINGS: Mapping[str, tuple[_Spelling, ...]] = {
    "name": (
        lambda domain: domain.name,
        lambda domain: f"{domain.name}@{_host(domain.uri)}",
        lambda domain: f"{domain.name}@{domain.uri}",
        _uuid_at_uri,
    ),
    "uuid": (
        lambda domain: domain.uuid,
        lambda domain: f"{domain.uuid}@{_host(domain.uri)}",
        _uuid_at_uri,
    ),
    "name@host": (
        lambda domain: f"{domain.name}@{_host(domain.uri)}",
        lambda domain: f"{domain.name}@{domain.uri}",
        _uuid_at_uri,
    ),
}


def name_hosts(domains: Sequence[Located], how: str, taken: Container[str] = ()) -> Names:
    """Names for the domains, by the first of their spellings that none of the others shares. ``how`` is a key of
    :data:`SPELLINGS`; names that are ``taken`` are nobody's.
    """
    spellings = SPELLINGS[how]
    levels = [0] * len(domains)
    while True:
        # Host names are templates to some versions of Ansible, and are shown everywhere.
        names = [visible(spellings[level](domain), LONGEST) for level, domain in zip(levels, domains)]
        often = Counter(names)
        shared = [
            place
            for place, name in enumerate(names)
            if (often[name] > 1 or name in taken) and levels[place] < len(spellings) - 1
        ]
        if not shared:
            break
        for place in shared:
            levels[place] += 1
    warnings = tuple(
        f"the host name {visible(spellings[0](domain))} is not free for one domain alone; at {domain.uri} it is {name}"
        for name, domain, level in zip(names, domains, levels)
        if level
    )
    return Names(tuple(names), warnings)
