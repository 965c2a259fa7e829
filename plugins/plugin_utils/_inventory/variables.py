# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host variables of a guest: what is known of it, and how it is reached."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ...module_utils._untrusted import visible
from .._untrusted import untrusted
from .addresses import Rule
from .names import LONGEST
from .survey import Surveyed

CONNECTION_PLUGIN = "qemu.guest_agent.qga"


def _by_ssh(address: str | None) -> dict[str, str]:
    return {} if address is None else {"ansible_host": address}


# By the value of the option, from the guest's address.
CONNECTIONS: Mapping[str, Callable[[str | None], Mapping[str, str]]] = {
    "ssh": _by_ssh,
    "qga": lambda _address: {"ansible_connection": CONNECTION_PLUGIN},
    "none": lambda _address: {},
}


def variables_of(guest: Surveyed, prefix: str, rule: Rule, connection: str) -> dict[str, Any]:
    """The variables by name. What the guest has told is untrusted; its address is in this machine's own words."""
    address = rule.choose(guest.facts.get("network"), guest.macs)
    known: dict[str, Any] = {
        "uri": guest.uri,
        "uuid": guest.uuid,
        "name": untrusted(visible(guest.name, LONGEST)),
        "state": guest.state,
        "agent_status": guest.status,
    }
    if address is not None:
        known["address"] = address
    if guest.error is not None:
        known["error"] = untrusted(guest.error)
    # What is known here goes before what the guest has told, whatever an agent may be made to tell one day.
    told = {name: untrusted(value) for name, value in guest.facts.items() if name not in known}
    return {
        **{f"{prefix}{name}": value for name, value in {**told, **known}.items()},
        # Whatever the connection: `-c` on the command line may choose the plugin that reads these.
        "ansible_qga_domain": guest.uuid,
        "ansible_qga_uri": guest.uri,
        **CONNECTIONS[connection](address),
    }
