# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that name guests, as typed values."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

from ._channels.base import Channel
from ._errors import InvalidOptionError
from ._protocol.limits import Limits

Params = Mapping[str, Any]


class Target(NamedTuple):
    name: str
    open: Callable[[], Channel]


ONE = ("domain", "socket", "address", "vsock")
MANY = ("domains", "sockets")


def names_many(params: Params) -> bool:
    """Return whether the options name a fleet. Exactly one option must name guests.

    :raises InvalidOptionError: none of the options is set, or several are
    """
    options = (*ONE, *MANY)
    given = [option for option in options if params.get(option) is not None]
    if len(given) != 1:
        what = "no target given" if not given else "more than one target given: {}".format(", ".join(given))
        raise InvalidOptionError(what, "Give exactly one of {}.".format(", ".join(options)))
    return given[0] in MANY


def require_text(option: str, value: str) -> None:
    """Check that a value can be a name.

    :raises InvalidOptionError: it cannot
    """
    if not value or "\0" in value:
        raise InvalidOptionError(
            f"{option} is empty or contains a NUL character", f"Give {option} a value, or leave it out."
        )


def target_of(params: Params, limits: Limits) -> Target:
    """Return the one guest that the options name. ``limits`` apply to each of its messages.

    :raises InvalidOptionError: the name is unusable; opening the channel raises it if the value has the wrong form
    """
    option = next(option for option in ONE if params.get(option) is not None)
    value = params[option]
    require_text(option, value)
    return Target(value, lambda: _open(option, value, params, limits))


def _open(option: str, value: str, params: Params, limits: Limits) -> Channel:
    # A module is compiled again for every task, so each channel's modules are imported only if they are needed.
    if option == "domain":
        from ._channels.libvirt import LibvirtChannel

        return LibvirtChannel(value, params["uri"], limits=limits)
    from ._channels import addresses
    from ._channels.stream import StreamChannel

    read: Mapping[str, Callable[[str], addresses.Address]] = {
        "socket": addresses.UnixAddress,
        "address": addresses.parse_address,
        "vsock": addresses.parse_vsock,
    }
    return StreamChannel(read[option](value), limits)
