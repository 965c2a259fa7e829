# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shapes of replies, and converting replies to facts.

The guest is not trusted: where the documentation promises a string, a playbook must not get a list. A fact has the type
from the schema, and its text is printable.

Source of the shapes: ``qga/qapi-schema.json`` of QEMU 10.0.13. A fact may lack members that QAPI marks as optional, and
those that only some versions have. A newer or different agent may add members; plain values with well-formed names are
kept.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Tuple, Union

from .._protocol.errors import RemoteProtocolError
from .._protocol.numbers import whole
from .._untrusted import visible

# Names as in QAPI (docs/devel/qapi-code-gen.rst, QEMU 10.0.13), without those that are special variables of Ansible.
_MEMBER = re.compile(r"(?!(?i:ansible))[A-Za-z][A-Za-z0-9_-]{0,63}\Z")

# The longest path of Linux (PATH_MAX, limits.h); no other text of an agent is as long.
_LONGEST_TEXT = 4096


@dataclass(frozen=True)
class Leaf:
    """``name`` is the type's name in errors; ``read`` converts a valid value to a fact."""

    name: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = lambda value: value


# A tuple with one shape in it is a list of that shape.
Shape = Union[Leaf, Mapping[str, Any], Tuple[Any, ...]]


def _is_integer(value: Any) -> bool:
    return whole(value) is not None


def _integer(value: Any) -> Any:
    found = whole(value)
    return value if found is None else found.value


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


TEXT = Leaf("a string", lambda value: isinstance(value, str))
INTEGER = Leaf("an integer", _is_integer, _integer)
NUMBER = Leaf("a number", _is_number)
FLAG = Leaf("a boolean", lambda value: isinstance(value, bool))
TEXT_OR_INTEGER = Leaf("a string or an integer", lambda value: isinstance(value, str) or _is_integer(value), _integer)


def _each(leaf: Leaf, names: str) -> dict[str, Leaf]:
    return dict.fromkeys(names.split(), leaf)


_DISK_ADDRESS: Shape = {
    "pci-controller": _each(INTEGER, "domain bus slot function"),
    **_each(INTEGER, "bus target unit"),
    **_each(TEXT, "bus-type serial dev"),
    "ccw-address": _each(INTEGER, "cssid ssid subchno devno"),
}

_ONLINE = _each(FLAG, "online can-offline")

# By command.
SHAPES: Mapping[str, Shape] = {
    "guest-get-host-name": {"host-name": TEXT},
    "guest-get-osinfo": _each(
        TEXT,
        "kernel-release kernel-version machine id name pretty-name version version-id variant variant-id",
    ),
    "guest-get-timezone": {"zone": TEXT, "offset": INTEGER},
    "guest-network-get-interfaces": (
        {
            **_each(TEXT, "name hardware-address"),
            "ip-addresses": ({**_each(TEXT, "ip-address ip-address-type"), "prefix": INTEGER},),
            "statistics": _each(
                INTEGER, "rx-bytes rx-packets rx-errs rx-dropped tx-bytes tx-packets tx-errs tx-dropped"
            ),
        },
    ),
    "guest-network-get-route": (
        {
            **_each(TEXT, "iface destination gateway mask source nexthop"),
            **_each(INTEGER, "metric irtt flags refcnt use window mtu version"),
            **_each(TEXT_OR_INTEGER, "desprefixlen srcprefixlen"),
        },
    ),
    "guest-get-fsinfo": (
        {
            **_each(TEXT, "name mountpoint type"),
            **_each(INTEGER, "used-bytes total-bytes total-bytes-privileged"),
            "disk": (_DISK_ADDRESS,),
        },
    ),
    "guest-get-users": ({**_each(TEXT, "user domain"), "login-time": NUMBER},),
    "guest-get-vcpus": ({"logical-id": INTEGER, **_ONLINE},),
    "guest-get-memory-blocks": ({"phys-index": INTEGER, **_ONLINE},),
    "guest-get-memory-block-info": {"size": INTEGER},
    "guest-get-disks": (
        {
            **_each(TEXT, "name alias"),
            "partition": FLAG,
            "dependencies": (TEXT,),
            "address": _DISK_ADDRESS,
            "smart": {
                "type": TEXT,
                **_each(
                    INTEGER,
                    "critical-warning temperature available-spare available-spare-threshold percentage-used"
                    " data-units-read-lo data-units-read-hi data-units-written-lo data-units-written-hi"
                    " host-read-commands-lo host-read-commands-hi host-write-commands-lo host-write-commands-hi"
                    " controller-busy-time-lo controller-busy-time-hi power-cycles-lo power-cycles-hi"
                    " power-on-hours-lo power-on-hours-hi unsafe-shutdowns-lo unsafe-shutdowns-hi"
                    " media-errors-lo media-errors-hi number-of-error-log-entries-lo number-of-error-log-entries-hi",
                ),
            },
        },
    ),
    "guest-get-load": _each(NUMBER, "load1m load5m load15m"),
    "guest-get-cpustats": (
        {
            "type": TEXT,
            **_each(INTEGER, "cpu user nice system idle iowait irq softirq steal guest guestnice"),
        },
    ),
    "guest-get-diskstats": (
        {
            "name": TEXT,
            **_each(INTEGER, "major minor"),
            "stats": _each(
                INTEGER,
                "read-sectors read-ios read-merges write-sectors write-ios write-merges discard-sectors discard-ios"
                " discard-merges flush-ios read-ticks write-ticks discard-ticks flush-ticks ios-pgr total-ticks"
                " weight-ticks",
            ),
        },
    ),
    "guest-fsfreeze-status": TEXT,
    # The extended agent's commands (commands.py).
    "guest-get-clock": {
        **_each(INTEGER, "received transmitted max-error slewing"),
        **_each(FLAG, "synchronized slewable"),
        "source": TEXT,
    },
    "guest-get-command-info": {
        **_each(TEXT, "name since description returns origin"),
        **_each(FLAG, "enabled success-response"),
        "arguments": ({**_each(TEXT, "name type"), "optional": FLAG},),
    },
}


def facts_of(command: str, value: Any) -> Any:
    """Return what ``command`` returned, with members' names in snake_case and every text visible.

    A null counts as absent: null members and items are left out, and null instead of a list is an empty list (agents
    written in Go return it). Members that cannot be facts are left out, too: those with an ill-formed name, such as
    QAPI's downstream ``__org.example_more``, and unknown ones that are not a plain value. One value of the wrong type
    makes the whole reply invalid, because the other values may have another meaning as well.

    :raises RemoteProtocolError: the reply does not have the command's shape
    """
    return _read(value, SHAPES[command], f"from {command}")


def _read(value: Any, shape: Shape, where: str) -> Any:
    if isinstance(shape, Leaf):
        if not shape.fits(value):
            raise _unfit(value, where, shape.name)
        return _plain(shape.read(value), where)
    if isinstance(shape, tuple):
        items = [] if value is None else value
        if not isinstance(items, list):
            raise _unfit(value, where, "a list")
        return [_read(item, shape[0], where) for item in items if item is not None]
    if not isinstance(value, dict):
        raise _unfit(value, where, "an object")
    return _members(value, shape, where)


def _members(value: Mapping[str, Any], shapes: Mapping[str, Any], where: str) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, member in value.items():
        known = shapes.get(name)
        if member is None or not _MEMBER.match(name) or (known is None and isinstance(member, (dict, list))):
            continue
        key = name.replace("-", "_").lower()
        if key in members:
            raise RemoteProtocolError(f"the agent returned {where} an object with two members named {key}")
        members[key] = _plain(member, where) if known is None else _read(member, known, f"{where} ({name})")
    return members


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, str):
        return visible(value, _LONGEST_TEXT)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RemoteProtocolError(f"the agent returned {where} a number that is out of range")
        return float(value)  # as a plain float, which any cache plugin can serialize
    return value


_KINDS: tuple[tuple[type, str], ...] = (
    (dict, "an object"),
    (list, "a list"),
    (str, "a string"),
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a number"),
)


def _unfit(value: Any, where: str, wanted: str) -> RemoteProtocolError:
    kind = next((name for kind, name in _KINDS if isinstance(value, kind)), "null")
    return RemoteProtocolError(f"the agent returned {where} {kind} where {wanted} belongs")
