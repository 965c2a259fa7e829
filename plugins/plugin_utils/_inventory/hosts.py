# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts from listed guests: their variables, and the filters that leave guests out."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible import constants
from ansible.module_utils.parsing.convert_bool import boolean

from ...module_utils._errors import InvalidOptionError
from ...module_utils._untrusted import visible
from .._untrusted import untrusted
from .listing import ListedGuest
from .names import LONGEST, name_hosts
from .options import CONNECTIONS, Filter, Settings
from .uris import host_of, local_uri

# Returns the value of an expression with these variables, or raises any exception.
Evaluate = Callable[[str, Mapping[str, Any]], Any]


class Host(NamedTuple):
    name: str
    guest: ListedGuest
    variables: dict[str, Any]


def hosts_of(
    guests: Sequence[ListedGuest], settings: Settings, groups: Iterable[str], evaluate: Evaluate, is_strict: bool
) -> tuple[list[Host], list[str]]:
    """Return the hosts that pass the filters, and warnings. ``groups`` are names of groups: Ansible would set the
    variables of a host with such a name on the group.

    :raises InvalidOptionError: a filter fails, and ``is_strict``
    """
    names, warnings = name_hosts(guests, settings.hostnames, {*groups, *constants.LOCALHOST})
    hosts = []
    for name, guest in zip(names, guests):
        if name is None:
            continue
        variables = variables_of(guest, settings)
        if passes_filters(settings.filters, {**variables, "inventory_hostname": name}, evaluate, is_strict):
            hosts.append(Host(name, guest, variables))
    return hosts, warnings


def variables_of(guest: ListedGuest, settings: Settings) -> dict[str, Any]:
    """Return a guest's variables by name. Its own facts are marked as untrusted; its address was parsed here."""
    address = settings.address.choose(guest.facts.get("network"), guest.macs)
    known: dict[str, Any] = {
        "uri": guest.uri,
        "hypervisor": settings.hypervisors.get(guest.uri) or host_of(guest.uri),
        "local_uri": local_uri(guest.uri),
        "uuid": guest.uuid,
        "name": untrusted(visible(guest.name, LONGEST)),
        "state": guest.state,
        "agent_status": guest.status,
    }
    if address is not None:
        known["address"] = address
    if guest.error is not None:
        known["error"] = untrusted(guest.error)
    # These names take precedence over facts, whatever an agent may report in the future.
    reported = {name: untrusted(value) for name, value in guest.facts.items() if name not in known}
    return {
        **{f"{settings.prefix}{name}": value for name, value in {**reported, **known}.items()},
        # For any connection: `-c` on the command line can select the plugin that reads these.
        "ansible_qga_domain": guest.uuid,
        "ansible_qga_uri": guest.uri,
        **CONNECTIONS[settings.connection](address),
    }


def passes_filters(
    filters: Iterable[Filter], variables: Mapping[str, Any], evaluate: Evaluate, is_strict: bool
) -> bool:
    """Return whether a host with these variables is included: the first filter whose condition is true decides. Without
    one, the host is included.

    A condition that fails, as it does for a guest without facts, is not true.

    :raises InvalidOptionError: a condition fails, and ``is_strict``
    """
    for each in filters:
        try:
            condition = each.condition
            is_true = boolean(condition if isinstance(condition, bool) else evaluate(condition, variables))
        except Exception as error:  # pylint: disable=broad-exception-caught  # an expression can raise anything
            if is_strict:
                raise InvalidOptionError(
                    f"the filter {each.condition!r} fails for '{variables.get('inventory_hostname')}': "
                    f"{visible(str(error), 500)}",
                    "Correct it, test optional facts with `is defined`, or do not set strict.",
                ) from error
            continue
        if is_true:
            return each.is_included
    return True
