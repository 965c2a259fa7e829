# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of hosts. No two guests get the same name.

=====================================================  ================================================================
the name that ``hostnames`` asks for                   the host's name
=====================================================  ================================================================
is free                                                this name
also belongs to another guest, to a group or to this   ``name@URI``, with a warning; within one hypervisor, names of
machine                                                domains are unique
and so does ``name@URI``                               none: the guest is left out with a warning, because a task could
                                                       reach the wrong guest
=====================================================  ================================================================
"""

from __future__ import annotations

from collections import Counter
from typing import Callable, Container, Mapping, Sequence

from ...module_utils._untrusted import visible
from .listing import ListedGuest
from .uris import host_of

# Characters. A domain's name can be as long as a file's name, and a URI longer.
LONGEST = 1000

# By the value of the option "hostnames".
HOSTNAME_FORMS: Mapping[str, Callable[[ListedGuest], str]] = {
    "name": lambda guest: guest.name,
    "uuid": lambda guest: guest.uuid,
    "name@host": lambda guest: f"{guest.name}@{host_of(guest.uri)}",
}


def name_hosts(guests: Sequence[ListedGuest], how: str, taken: Container[str]) -> tuple[list[str | None], list[str]]:
    """Return the guests' names in their order, by the table above, and warnings. A guest that is left out has None.

    ``how`` is a key of :data:`HOSTNAME_FORMS`.
    """
    # Some versions of Ansible treat hostnames as templates, and hostnames are shown everywhere.
    short = [visible(HOSTNAME_FORMS[how](guest), LONGEST) for guest in guests]
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
            warnings.append(f"the hostname '{names[place]}' is already in use; the domain is left out")
        elif names[place] != short[place]:
            warnings.append(
                f"the hostname '{short[place]}' is not unique; the domain at {guest.uri} is named '{names[place]}'"
            )
    return [None if place in shared else name for place, name in enumerate(names)], warnings
