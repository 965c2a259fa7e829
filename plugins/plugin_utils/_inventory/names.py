# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of hosts: no two guests have the same one.

=====================================================  ================================================================
the name that ``hostnames`` asks for                   the host is called
=====================================================  ================================================================
no other guest's, and free                             by that name
another guest's too, or taken by a group or by this    ``name@URI``, with a warning; within one hypervisor, names of
machine                                                domains are unique
and that one is another's as well, or taken            nothing: the guest is left out, with a warning. Either guest
                                                       could be meant by the name, and a task would reach the wrong one
=====================================================  ================================================================
"""

from __future__ import annotations

from collections import Counter
from typing import Callable, Container, Mapping, Sequence
from urllib.parse import urlsplit

from ...module_utils._untrusted import visible
from .listing import ListedGuest

# Characters; a domain's name may have as many as a file's, and a URI more.
LONGEST = 1000


def _host(uri: str) -> str:
    """The machine that a libvirt URI names; this one, if it names none."""
    try:
        return urlsplit(uri).hostname or "localhost"
    except ValueError:
        return uri


# By the value of the option.
SPELLINGS: Mapping[str, Callable[[ListedGuest], str]] = {
    "name": lambda guest: guest.name,
    "uuid": lambda guest: guest.uuid,
    "name@host": lambda guest: f"{guest.name}@{_host(guest.uri)}",
}


def name_hosts(guests: Sequence[ListedGuest], how: str, taken: Container[str]) -> tuple[list[str | None], list[str]]:
    """Return the names of the guests by the table above, in their order, and the warnings. None: it has no name.

    ``how`` is a key of :data:`SPELLINGS`.
    """
    # Host names are templates to some versions of Ansible, and are shown everywhere.
    short = [visible(SPELLINGS[how](guest), LONGEST) for guest in guests]
    long = [visible(f"{guest.name}@{guest.uri}", LONGEST) for guest in guests]
    names = list(short)
    while True:
        often = Counter(names)
        shared = {place for place, name in enumerate(names) if often[name] > 1 or name in taken}
        to_lengthen = [place for place in shared if names[place] != long[place]]
        if not to_lengthen:
            break
        for place in to_lengthen:
            names[place] = long[place]
    warnings = []
    for place, guest in enumerate(guests):
        if place in shared:
            warnings.append(f"the host name {names[place]} is not free for one domain alone; the domain is left out")
        elif names[place] != short[place]:
            warnings.append(
                f"the host name {short[place]} is not free for one domain alone; at {guest.uri} it is {names[place]}"
            )
    return [None if place in shared else name for place, name in enumerate(names)], warnings
