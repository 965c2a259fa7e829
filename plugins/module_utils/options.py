# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules' options as typed values. What is wrong with one is said in one sentence, before anything is tried."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import Any, Callable, Mapping, NamedTuple, Optional

from .channels.base import Channel
from .channels.libvirt import LibvirtChannel
from .channels.stream import StreamChannel, TcpAddress, UnixAddress, VsockAddress
from .errors import HostClockUnsynchronizedError, InvalidOptionError
from .reference import HostReference, Reference, StatedReference, host_clock_is_synchronized
from .resync import ResyncOptions
from .timestamps import SECOND_NS, parse_instant

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """The guest that is addressed, and how to open the channel to its agent."""

    name: str
    open: Callable[[], Channel]


# ------------------------------------------------------------------------------------------------------------- targets


def _parse_port(text: str, option: str, value: str, highest: int) -> int:
    if not text.isdecimal() or not 0 < int(text) <= highest:
        raise InvalidOptionError("%s %s: %s is no port between 1 and %d" % (option, value, text or "''", highest))
    return int(text)


def parse_address(value: str) -> TcpAddress:
    """``host:port``, or ``[address]:port`` for IPv6.

    :raises InvalidOptionError: it is neither
    """
    found = re.match(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>.*)\Z", value)
    if found is None:
        raise InvalidOptionError(
            "address %s is not of the form host:port" % value, "Put an IPv6 address in brackets: [::1]:4444."
        )
    return TcpAddress(found.group("v6") or found.group("host"), _parse_port(found.group("port"), "address", value, 65535))


def parse_vsock(value: str) -> VsockAddress:
    """``cid:port``; both are 32-bit numbers, and the two highest are reserved (vsock(7)).

    :raises InvalidOptionError: it is not
    """
    cid, colon, port = value.partition(":")
    if not colon or not cid.isdecimal() or int(cid) >= 2**32 - 1:
        raise InvalidOptionError(
            "vsock %s is not of the form cid:port" % value,
            "The cid is in the domain's <vsock> element, or in guest-cid= of QEMU's command line.",
        )
    return VsockAddress(int(cid), _parse_port(port, "vsock", value, 2**32 - 2))


_TARGETS: Mapping[str, Callable[[str, Params], Target]] = {
    "domain": lambda value, params: Target(value, lambda: LibvirtChannel(value, params["uri"])),
    "socket": lambda value, _params: Target(value, lambda: StreamChannel(UnixAddress(value))),
    "address": lambda value, _params: _stream_target(value, parse_address(value)),
    "vsock": lambda value, _params: _stream_target(value, parse_vsock(value)),
}


def _stream_target(value: str, address: "TcpAddress | VsockAddress") -> Target:
    return Target(value, lambda: StreamChannel(address))


def target_of(params: Params) -> Target:
    """The one guest that the options name.

    :raises InvalidOptionError: they name none or several, or not in the right form
    """
    given = [option for option in _TARGETS if params.get(option) is not None]
    if len(given) != 1:
        what = "no guest is named" if not given else "several guests are named: %s" % ", ".join(given)
        raise InvalidOptionError(what, "Give exactly one of %s." % ", ".join(_TARGETS))
    option = given[0]
    value = params[option]
    if not value or "\0" in value:
        raise InvalidOptionError("%s is empty or has a NUL character in it" % option)
    return _TARGETS[option](value, params)


# ------------------------------------------------------------------------------------------------------------- numbers


class _Range(NamedTuple):
    """The values that an option may have; ``unit`` is for the reader."""

    lowest: float
    highest: float
    unit: str


_DAY = 86400.0
_RANGES: Mapping[str, _Range] = {
    "timeout": _Range(0.05, _DAY, " s"),
    "wait_timeout": _Range(0.0, _DAY, " s"),
    "tolerance": _Range(0.0, 366 * _DAY, " s"),
    "utc_offset": _Range(-2 * _DAY, 2 * _DAY, " s"),
    "attempts": _Range(1, 100, ""),
    "samples": _Range(1, 1000, ""),
}


def check_numbers(params: Params) -> None:
    """Hold the options that are numbers against their ranges.

    :raises InvalidOptionError: one is outside
    """
    for option, allowed in _RANGES.items():
        value = params.get(option)
        # Written so that NaN, which compares with nothing, is refused as well.
        if value is not None and not allowed.lowest <= value <= allowed.highest:
            raise InvalidOptionError(
                "%s is %g%s" % (option, value, allowed.unit),
                "Choose between %g and %g%s." % (allowed.lowest, allowed.highest, allowed.unit),
            )


def nanoseconds(seconds: float) -> int:
    return int(math.floor(seconds * SECOND_NS + 0.5))


# ---------------------------------------------------------------------------------------------------------- the resync


class ChosenReference(NamedTuple):
    """The reference, and what is to be said of it."""

    reference: Reference
    warning: Optional[str] = None


def reference_of(params: Params, is_synchronized: Callable[[], Optional[bool]] = host_clock_is_synchronized) -> ChosenReference:
    """The clock that the options compare the guest's with.

    :raises InvalidOptionError: ``time`` is no instant
    :raises HostClockUnsynchronizedError: ``require_synchronized_host``, and it is not
    """
    utc_offset_ns = nanoseconds(params.get("utc_offset") or 0.0)
    stated = params.get("time")
    if stated is not None:
        return ChosenReference(StatedReference(parse_instant(stated) + utc_offset_ns, time.monotonic_ns()))
    reference = HostReference(utc_offset_ns)
    synchronized = is_synchronized()
    if params.get("require_synchronized_host") and not synchronized:
        raise HostClockUnsynchronizedError(
            "the host's own clock is not synchronised"
            if synchronized is False
            else "the host's kernel does not tell whether its clock is synchronised"
        )
    warning = None
    if synchronized is False:
        warning = "the host's own clock is not synchronised; the guest is given the host's time all the same"
    return ChosenReference(reference, warning)


def resync_options(params: Params, dry_run: bool) -> ResyncOptions:
    return ResyncOptions(
        tolerance_ns=nanoseconds(params["tolerance"]),
        method=params["method"],
        attempts=params["attempts"],
        samples=params["samples"],
        allow_backward=params["allow_backward"],
        update_rtc=params["update_rtc"],
        dry_run=dry_run,
    )
