# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that the modules share, as typed values. What is wrong with one is said in one sentence."""

from __future__ import annotations

from typing import Any, Callable, Mapping, NamedTuple

from ._channels.base import Channel
from ._errors import InvalidOptionError
from ._protocol.limits import Limits

Params = Mapping[str, Any]


# ------------------------------------------------------------------------------------------------------------- targets


class Target(NamedTuple):
    """The guest that is addressed, and how to open the channel to its agent."""

    name: str
    open: Callable[[], Channel]


# A module is compiled anew for every task, so each way to a guest imports only what it needs itself.


def _domain(value: str, params: Params, limits: Limits) -> Channel:
    from ._channels.libvirt import LibvirtChannel

    return LibvirtChannel(value, params["uri"], limits=limits)


def _socket(value: str, _params: Params, limits: Limits) -> Channel:
    from ._channels.addresses import UnixAddress
    from ._channels.stream import StreamChannel

    return StreamChannel(UnixAddress(value), limits)


def _address(value: str, _params: Params, limits: Limits) -> Channel:
    from ._channels.addresses import parse_address
    from ._channels.stream import StreamChannel

    return StreamChannel(parse_address(value), limits)


def _vsock(value: str, _params: Params, limits: Limits) -> Channel:
    from ._channels.addresses import parse_vsock
    from ._channels.stream import StreamChannel

    return StreamChannel(parse_vsock(value), limits)


_CHANNELS: Mapping[str, Callable[[str, Params, Limits], Channel]] = {
    "domain": _domain,
    "socket": _socket,
    "address": _address,
    "vsock": _vsock,
}


ONE = tuple(_CHANNELS)
MANY = ("domains", "sockets")


def names_many(params: Params) -> bool:
    """Return whether the options name a fleet; exactly one option has to name guests.

    :raises InvalidOptionError: none does, or several
    """
    options = (*ONE, *MANY)
    given = [option for option in options if params.get(option) is not None]
    if len(given) != 1:
        what = "no guest is named" if not given else "several options name guests: {}".format(", ".join(given))
        raise InvalidOptionError(what, "Give exactly one of {}.".format(", ".join(options)))
    return given[0] in MANY


def require_text(option: str, value: str) -> None:
    """
    :raises InvalidOptionError: it is no text that could name something
    """
    if not value or "\0" in value:
        raise InvalidOptionError(
            f"{option} is empty or has a NUL character in it", f"Give {option} a value, or leave it out."
        )


def target_of(params: Params, limits: Limits) -> Target:
    """The one guest that the options name. ``limits`` are on each of its messages.

    :raises InvalidOptionError: its name cannot be one; opening the channel raises it for a value in a wrong form
    """
    option = next(option for option in ONE if params.get(option) is not None)
    value = params[option]
    require_text(option, value)
    return Target(value, lambda: _CHANNELS[option](value, params, limits))


# ------------------------------------------------------------------------------------------------------------- numbers
