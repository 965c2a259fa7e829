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


class Target(NamedTuple):
    name: str
    open: Callable[[], Channel]


ONE = ("domain", "socket", "address", "vsock")
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
    return Target(value, lambda: _open(option, value, params, limits))


def _open(option: str, value: str, params: Params, limits: Limits) -> Channel:
    # A module is compiled anew for every task, so each way to a guest imports only what it needs itself.
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
