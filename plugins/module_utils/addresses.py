# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of a guest's addresses it is reached at, by a rule, and in the form that this machine gives it.

The guest tells its addresses, and is not trusted: what is no address of a single other host is none here.
"""

from __future__ import annotations

import ipaddress
from fnmatch import fnmatchcase
from typing import Any, Iterator, Mapping, NamedTuple, Sequence, Union

from .errors import InvalidOptionError

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

# IP versions by name.
FAMILIES: Mapping[str, tuple[int, ...]] = {"ipv4": (4,), "ipv6": (6,), "any": (4, 6)}

# "This network" (RFC 1122, section 3.2.1.3), of which ipaddress only knows 0.0.0.0.
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")


class Rule(NamedTuple):
    """What is allowed, in order of preference; what has a leading ``!`` is not. Without entries that have none, all
    else is allowed. ``families`` are names of :data:`FAMILIES`, ``interfaces`` shell patterns.
    """

    families: tuple[str, ...]
    networks: tuple[Network, ...]
    refused_networks: tuple[Network, ...]
    interfaces: tuple[str, ...]
    refused_interfaces: tuple[str, ...]

    def choose(self, interfaces: Any) -> str | None:
        """The best address of these, as the agent told them; None: there is none that is allowed.

        The order of networks counts most, then that of interfaces, then that of families. Of equals it is the first.
        """
        ranked = [
            (rank, str(address))
            for name, address in _told(interfaces)
            for rank in [self._rank(name, address)]
            if rank is not None
        ]
        return min(ranked, key=lambda each: each[0])[1] if ranked else None

    def _rank(self, interface: str, address: Address) -> tuple[int, int, int] | None:
        """The lower, the better; None: it is not allowed."""
        if any(address in network for network in self.refused_networks):
            return None
        if any(fnmatchcase(interface, pattern) for pattern in self.refused_interfaces):
            return None
        places = (
            _place([address in network for network in self.networks]),
            _place([fnmatchcase(interface, pattern) for pattern in self.interfaces]),
            _place([address.version in FAMILIES[family] for family in self.families]),
        )
        return None if None in places else places  # type: ignore[return-value]  # there is no None in it


def rule(families: Sequence[str], networks: Sequence[str], interfaces: Sequence[str]) -> Rule:
    """
    :raises InvalidOptionError: an entry cannot be one
    """
    for family in families:
        if family not in FAMILIES:
            raise InvalidOptionError(
                f"address_family has an entry {family!r}", "Choose from {}.".format(", ".join(FAMILIES))
            )
    allowed, refused = _parted(networks)
    return Rule(
        tuple(families),
        tuple(map(_network, allowed)),
        tuple(map(_network, refused)),
        *_parted(interfaces),
    )


def _parted(entries: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those that are allowed, and those that are not."""
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


def _told(interfaces: Any) -> Iterator[tuple[str, Address]]:
    """The usable addresses with the names of their interfaces, in the agent's order."""
    for interface in interfaces if isinstance(interfaces, list) else ():
        for told in interface.get("ip_addresses", ()):
            address = usable(told.get("ip_address"))
            if address is not None:
                yield interface.get("name", ""), address


def usable(text: Any) -> Address | None:
    """The address that this is, if it may be one of another host's own; None otherwise."""
    # Behind a percent sign, an IPv6 address has whatever text one likes (RFC 4007, section 11).
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
