# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choosing the addresses at which a guest can be reached, by a rule, in canonical form.

The guest reports its addresses, and is not trusted: only what can be the address of a single other host is taken.

Interfaces of containers, nested guests and tunnels have addresses as well, which cannot be reached from outside. They
have many names. The host knows the MAC addresses of the devices that it gave the guest: an interface with one of them
is on the host's network. It is the device itself, or a bond, bridge, VLAN or Open vSwitch port with its MAC address.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any, Iterator, Mapping, NamedTuple, Sequence, Union

from .._agent import GuestAgent
from .._errors import HypervisorUnavailableError, InvalidOptionError
from .._fleet.results import GuestResult, Work
from .._protocol.errors import QgaError

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# IP versions by name.
FAMILIES: Mapping[str, tuple[int, ...]] = {"ipv4": (4,), "ipv6": (6,), "any": (4, 6)}

# "This network" (RFC 1122, section 3.2.1.3); ipaddress knows 0.0.0.0 only.
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")

# The default. Docker's bridges have twelve digits, and shell patterns cannot count.
DEFAULT_INTERFACES = (
    *("!docker*", "!br-" + 12 * "[0-9a-f]", "!veth*", "!podman*", "!nerdctl*"),
    # Nested guests: libvirt, LXC, LXD, Incus, Multipass, VMware, VirtualBox, Hyper-V.
    *("!virbr*", "!vnet*", "!lxc*", "!lxdbr*", "!incusbr*", "!mpqemubr*"),
    *("!vmnet*", "!VMware Network Adapter*", "!vboxnet*", "!VirtualBox Host-Only*", "!vEthernet*"),
    # Kubernetes and its networks.
    *("!kube-*", "!nodelocaldns*", "!cbr0", "!cni*", "!flannel*", "!cali*", "!*.cali*", "!vxlan-v6.calico", "!tunl0"),
    *("!cilium*", "!weave*", "!antrea-*", "!ovn*", "!genev_sys_*", "!vxlan_sys_*"),
)

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


class Rule(NamedTuple):
    """The addresses that are allowed, in order of preference; an entry with a leading ``!`` is refused.

    Without entries that have none, all else is allowed. ``families`` are names of :data:`FAMILIES`, ``interfaces`` are
    shell patterns. ``spares_own``: none of the patterns refuses an interface that is known to be on the host's network.
    """

    families: tuple[str, ...]
    networks: tuple[Network, ...]
    refused_networks: tuple[Network, ...]
    interfaces: tuple[str, ...]
    refused_interfaces: tuple[str, ...]
    spares_own: bool = False

    def choose(self, interfaces: Any, macs: Sequence[str] = ()) -> str | None:
        """Return the best of the addresses that the agent returned; None: none is allowed."""
        return next(iter(self.allowed(interfaces, macs)), None)

    def allowed(self, interfaces: Any, macs: Sequence[str] = ()) -> list[str]:
        """Return the allowed ones of the addresses that the agent returned, the best first. ``macs`` are those of the
        devices that the host gave the guest, in its order.

        The order of networks counts most, then that of interfaces, then whether the interface has one of ``macs``, then
        the order of families, then that of ``macs``, then the agent's order.
        """
        own = [mac for mac in map(_mac, macs) if mac]
        ranked = [
            (rank, str(address))
            for interface, address in _reported(interfaces)
            if (rank := self._rank(interface, address, own)) is not None
        ]
        return list(dict.fromkeys(address for _rank, address in sorted(ranked, key=lambda each: each[0])))

    def _rank(self, interface: _Interface, address: Address, own: Sequence[str]) -> tuple[int, ...] | None:
        """Return a rank, the lower the better; None: the address is not allowed."""
        is_own = interface.mac in own
        if any(address in network for network in self.refused_networks):
            return None
        if any(fnmatchcase(interface.name, pattern) for pattern in self.refused_interfaces) and not (
            is_own and self.spares_own
        ):
            return None
        network = _place([address in network for network in self.networks])
        pattern = _place([fnmatchcase(interface.name, pattern) for pattern in self.interfaces])
        family = _place([address.version in FAMILIES[family] for family in self.families])
        if network is None or pattern is None or family is None:
            return None
        return (network, pattern, not is_own, family, own.index(interface.mac) if is_own else 0)


def rule(families: Sequence[str], networks: Sequence[str], interfaces: Sequence[str]) -> Rule:
    """
    :raises InvalidOptionError: a network cannot be one
    """
    allowed, refused = _parted(networks)
    return Rule(
        tuple(families),
        tuple(map(_network, allowed)),
        tuple(map(_network, refused)),
        *_parted(interfaces),
        spares_own=tuple(interfaces) == DEFAULT_INTERFACES,
    )


def _parted(entries: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (
        tuple(entry for entry in entries if not entry.startswith("!")),
        tuple(entry[1:] for entry in entries if entry.startswith("!")),
    )


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidOptionError(
            f"address_networks has an entry {text!r}, which is not a network",
            "Write networks as 192.0.2.0/24 or 2001:db8::/32, each with or without a leading '!'.",
        ) from None


def _place(fits: Sequence[bool]) -> int | None:
    """Return the place of the first that fits; 0 without any entries, None if none fits."""
    return next((place for place, does_fit in enumerate(fits) if does_fit), None) if fits else 0


class _Interface(NamedTuple):
    name: str
    mac: str


def _reported(interfaces: Any) -> Iterator[tuple[_Interface, Address]]:
    """Yield the usable addresses with their interfaces, in the agent's order."""
    for interface in interfaces if isinstance(interfaces, list) else ():
        for entry in interface.get("ip_addresses", ()):
            address = usable(entry.get("ip_address"))
            if address is not None:
                yield _Interface(interface.get("name", ""), _mac(interface.get("hardware_address"))), address


def _mac(text: Any) -> str:
    """Return the MAC address in one spelling; empty: it is not one."""
    spelled = text.lower().replace("-", ":") if isinstance(text, str) else ""
    return spelled if _MAC.match(spelled) and spelled.strip("0:") else ""


def usable(text: Any) -> Address | None:
    """Return the address if it can be that of another host; None otherwise."""
    # After a percent sign, an IPv6 address may have any text (RFC 4007, section 11).
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if (
        address.is_unspecified
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        # Before Python 3.13, ::ffff:127.0.0.1 does not count as a loopback address.
        or getattr(address, "ipv4_mapped", None) is not None
        or address in _THIS_NETWORK
    ):
        return None
    return address


DEFAULT = rule(("ipv4", "ipv6"), (), DEFAULT_INTERFACES)

# The member of an entry with the MAC addresses of the guest's devices.
MACS = "macs"


def with_macs(gathered: Work) -> Work:
    """Return the same work, which also asks the hypervisor for the network devices of guests that report their network.

    Its entries have :data:`MACS` beside the facts.
    """

    async def work(agent: GuestAgent) -> GuestResult:
        result = await gathered(agent)
        if "network" not in result.entry:
            return result
        try:
            macs = await agent.macs()
        except HypervisorUnavailableError:
            raise  # the guest is asked again: without them it may have another address
        except QgaError:
            macs = ()  # the guest was stopped meanwhile; the facts are there
        return replace(result, entry={**result.entry, MACS: macs})

    return work


def with_addresses(gathered: Work) -> Work:
    """Return the same work, whose entries have ``addresses`` and ``address`` by the default rule beside ``network``."""
    gathered_with_macs = with_macs(gathered)

    async def work(agent: GuestAgent) -> GuestResult:
        result = await gathered_with_macs(agent)
        entry = dict(result.entry)
        if MACS in entry:
            addresses = DEFAULT.allowed(entry["network"], entry.pop(MACS))
            entry.update(addresses=addresses, address=next(iter(addresses), None))
        return replace(result, entry=entry)

    return work
