# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making hosts and groups of the guests that were found."""

from __future__ import annotations

from typing import Any, Callable, Container, Iterable, NamedTuple, Sequence

from ansible import constants

from .filters import Evaluate, is_taken
from .groups import groups_of
from .names import Located, name_hosts
from .options import Settings
from .survey import Surveyed
from .variables import variables_of


class Host(NamedTuple):
    """A guest under its name in the inventory, and its variables."""

    name: str
    guest: Surveyed
    variables: dict[str, Any]


class Constructed(NamedTuple):
    """What users have hosts and groups made from: the methods of Ansible's ``Constructable`` with their options."""

    compose: Callable[[Host], None]
    add_to_groups: Callable[[Host], None]
    add_to_keyed_groups: Callable[[Host], None]


def hosts_of(
    guests: Sequence[Surveyed], settings: Settings, taken: Container[str], evaluate: Evaluate, is_strict: bool
) -> tuple[list[Host], tuple[str, ...]]:
    """The hosts that the filters leave, and warnings. ``taken`` are names of groups: Ansible would give the variables
    of a host of such a name to the group.

    :raises InvalidOptionError: a filter fails, and ``is_strict``
    """
    located = [Located(guest.name, guest.uuid, guest.uri) for guest in guests]
    names = name_hosts(located, settings.hostnames, _Taken(taken))
    hosts = []
    for name, guest in zip(names.of, guests):
        variables = variables_of(guest, settings.prefix, settings.address, settings.connection)
        if is_taken(settings.filters, {**variables, "inventory_hostname": name}, evaluate, is_strict):
            hosts.append(Host(name, guest, variables))
    return hosts, names.warnings


class _Taken:
    """Names that no guest may have: those of groups, and those that stand for the machine on which Ansible runs."""

    def __init__(self, groups: Container[str]) -> None:
        self._groups = groups

    def __contains__(self, name: object) -> bool:
        return name in self._groups or name in constants.LOCALHOST


def populate(
    inventory: Any, hosts: Iterable[Host], settings: Settings, sanitize: Callable[[str], str], constructed: Constructed
) -> None:
    """Add the hosts and their groups.

    A guest may tell what makes a group of the name of another guest, and Ansible looks for groups first wherever it is
    given a name. So all is done by steps, and groups that guests can name come last.
    """
    hosts = list(hosts)
    for host in hosts:
        inventory.add_host(host.name)
        for name, value in host.variables.items():
            inventory.set_variable(host.name, name, value)
    for host in hosts:
        constructed.compose(host)
    for host in hosts:
        constructed.add_to_groups(host)
    for host in hosts:
        for name in groups_of(host.guest, settings.group_by, settings.group_prefix):
            inventory.add_host(host.name, group=inventory.add_group(sanitize(name)))
        constructed.add_to_keyed_groups(host)
