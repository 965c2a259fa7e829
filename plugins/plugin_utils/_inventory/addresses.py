# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Choosing the address at which a guest is reached, by a rule, in this machine's own form.

The guest reports its addresses, and is not trusted: only what can be an address of a single other host is one.

Interfaces of containers, of guests in the guest and of tunnels have addresses as well, which cannot be reached from
outside. They have many names. What the host knows is the MAC addresses of the devices that it gave the guest: an
interface with one of them is on the host's network, be it the device itself, or a bond, a bridge, a VLAN or an Open
vSwitch port that took its MAC address over.
"""

from __future__ import annotations

import ipaddress
import re
from fnmatch import fnmatchcase
from typing import Any, Iterator, Mapping, NamedTuple, Sequence, Union

from ...module_utils._errors import InvalidOptionError

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# IP versions by name.
FAMILIES: Mapping[str, tuple[int, ...]] = {"ipv4": (4,), "ipv6": (6,), "any": (4, 6)}

# "This network" (RFC 1122, section 3.2.1.3), of which ipaddress only knows 0.0.0.0.
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")

# Where the user names no interfaces. Docker's bridges have twelve digits, for which shell patterns have no count.
DEFAULT_INTERFACES = (
    *("!docker*", "!br-" + 12 * "[0-9a-f]", "!veth*", "!podman*", "!nerdctl*"),
    # Of guests in the guest: libvirt, LXC, LXD, Incus, Multipass, VMware, VirtualBox, Hyper-V.
    *("!virbr*", "!vnet*", "!lxc*", "!lxdbr*", "!incusbr*", "!mpqemubr*"),
    *("!vmnet*", "!VMware Network Adapter*", "!vboxnet*", "!VirtualBox Host-Only*", "!vEthernet*"),
    # Of Kubernetes, and of its networks.
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
        """Return the best address of these, which the agent returned; None: none is allowed. ``macs`` are those of the
        devices that the host gave the guest, in its order.

        The order of networks counts most, then that of interfaces, then whether it is one with such a MAC address, then
        the order of families, then that of ``macs``. Of equals it is the first.
        """
        own = [mac for mac in map(_mac, macs) if mac]
        ranked = [
            (rank, str(address))
            for interface, address in _reported(interfaces)
            if (rank := self._rank(interface, address, own)) is not None
        ]
        return min(ranked, key=lambda each: each[0])[1] if ranked else None

    def _rank(self, interface: _Interface, address: Address, own: Sequence[str]) -> tuple[int, ...] | None:
        """The lower, the better; None: it is not allowed."""
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
            f"address_networks has an entry {text!r}, which is no network",
            "Write networks as 192.0.2.0/24 or 2001:db8::/32, each with or without a leading '!'.",
        ) from None


def _place(fits: Sequence[bool]) -> int | None:
    """Where the first is that fits; 0 if there is nothing to fit, None if nothing fits."""
    return next((place for place, does_fit in enumerate(fits) if does_fit), None) if fits else 0


class _Interface(NamedTuple):
    name: str
    mac: str


def _reported(interfaces: Any) -> Iterator[tuple[_Interface, Address]]:
    """The usable addresses with their interfaces, in the agent's order."""
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
    """The address that this is, if it may be one of another host's own; None otherwise."""
    # After a percent sign, an IPv6 address has whatever text one likes (RFC 4007, section 11).
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
        # ::ffff:127.0.0.1 is not said to be a loopback address before Python 3.13.
        or getattr(address, "ipv4_mapped", None) is not None
        or address in _THIS_NETWORK
    ):
        return None
    return address
