# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hypervisors for processes of their own, by functions that such a process calls."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tests.hostile.guest import FACTS
from tests.support.bait import KEYS, baits, halves, said
from tests.support.fake_hypervisor import Definition, FakeHypervisor, uuid_of
from tests.support.fake_libvirt import PAUSED, SHUT_OFF, fails
from tests.support.hypervisors_by_uri import HypervisorsByUri, Reply, telling

HERE, THERE = "qemu:///system", "qemu+tls://hv2/system"

_COMMAND_FAILED = 113  # VIR_ERR_AGENT_COMMAND_FAILED


def interfaces(*addresses: str, name: str = "eth0") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "ip-addresses": [{"ip-address": each, "ip-address-type": "ipv4", "prefix": 24} for each in addresses],
        }
    ]


def two_hypervisors() -> HypervisorsByUri:
    """With guests of all kinds."""
    lo = interfaces("127.0.0.1", name="lo")
    fedora = telling(
        guest_get_osinfo={"id": "fedora", "version-id": "41"},
        guest_get_host_name={"host-name": "web2.example"},
        guest_network_get_interfaces=[
            *lo,
            *interfaces("172.17.0.1", name="docker0"),
            *interfaces("fe80::1", "2001:db9::2", "10.1.0.2", name="ens3"),
            *interfaces("192.168.5.2", name="ens4"),
        ],
    )
    here = [
        Definition("web1", replies=telling()),
        Definition("web2", replies=fedora),
        Definition("lonely", replies=telling(guest_network_get_interfaces=lo)),
        Definition("silent", is_silent=True),
        Definition("agentless", channel_state="disconnected"),
        Definition("off", state=SHUT_OFF),
    ]
    there = [Definition("web1", uuid=uuid_of("another"), replies=telling()), Definition("resting", state=PAUSED)]
    return HypervisorsByUri({HERE: FakeHypervisor(here), THERE: FakeHypervisor(there)})


def none_at_all() -> HypervisorsByUri:
    return HypervisorsByUri({})


def many(count: int, silent: int, latency_s: float = 0.0) -> HypervisorsByUri:
    """So many guests, of which so many, spread evenly, keep silent; the others take their time for each reply."""
    replies = {command: _after(latency_s, reply) for command, reply in telling().items()}
    return HypervisorsByUri(
        {
            HERE: FakeHypervisor(
                [
                    Definition(
                        f"web{number}",
                        is_silent=number * silent // count != (number - 1) * silent // count,
                        replies=replies,
                    )
                    for number in range(1, count + 1)
                ]
            )
        }
    )


def _after(seconds: float, reply: Reply) -> Reply:
    def late(request: dict[str, Any]) -> str:
        time.sleep(seconds)
        return reply(request)

    return late if seconds else reply


def baited(canaries: str, is_inert: bool = True) -> HypervisorsByUri:
    """Guests whose every word is bait. Not ``is_inert``: nothing is made of it before Ansible gets it; so Ansible's
    own marks are all that there is.
    """
    if not is_inert:
        from ansible_collections.qemu.guest_agent.plugins.module_utils import untrusted

        untrusted.inert = lambda text: text
    texts = baits(Path(canaries))
    guests = [
        *(_telling(f"telling-{name}", text) for name, text in texts.items()),
        *(_refusing(f"refusing-{name}", text) for name, text in texts.items() if name != "surrogates"),
        *(
            Definition(f"keyed-{key}", replies=telling(guest_get_osinfo={"id": "debian", key: texts["expression"]}))
            for key in KEYS
        ),
        *(
            Definition(f"twice-{name}", replies=telling(guest_get_osinfo={"id": first, "name": second}))
            for name, (first, second) in halves(Path(canaries)).items()
        ),
        _addressed("addressed", texts["expression"]),
    ]
    # A domain's name is its hypervisor's word; it is bait as well where all texts are made inert.
    named = (
        [Definition(texts[name], replies=telling()) for name in ("expression", "screen", "shell")] if is_inert else []
    )
    return HypervisorsByUri({HERE: FakeHypervisor([*guests, *named])})


def _telling(name: str, text: str) -> Definition:
    commands = [{"name": each, "enabled": True, "success-response": True} for each in (*FACTS, text)]
    told = {command.replace("-", "_"): said(value, text) for command, value in FACTS.items()}
    return Definition(name, replies=telling(**told, guest_info={"version": text, "supported_commands": commands}))


def _refusing(name: str, text: str) -> Definition:
    message = f"internal error: unable to execute QEMU agent command 'x': {text}"
    commands = [{"name": each, "enabled": True, "success-response": True} for each in FACTS]
    refusals = {command: fails(_COMMAND_FAILED, message) for command in FACTS}
    return Definition(
        name,
        replies={**telling(guest_info={"version": "1", "supported_commands": commands}), **refusals},
    )


def _addressed(name: str, text: str) -> Definition:
    """It has an address, and bait beside it."""
    told = [*interfaces(text, f"fd00::1%{text}", name=text), *interfaces("10.1.0.9", name=text)]
    return Definition(name, replies=telling(guest_network_get_interfaces=told))
