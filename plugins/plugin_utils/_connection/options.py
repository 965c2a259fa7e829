# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the connection plugin, as typed values."""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple

from ...module_utils._errors import InvalidOptionError
from ...module_utils._protocol.limits import USUAL_LIMITS
from ...module_utils._ranges import Range, check_numbers
from ...module_utils._targets import ONE, Target, target_of
from .files import is_utf8
from .results import SessionLimits

_KIB = 1024
_MIB = 1024 * _KIB

# Bytes for one request and for one reply. All channels but vsock use a virtio port: with QEMU 7.2 a line of 256 KiB
# never arrives, and after that the agent receives nothing more. For replies, libvirt's limit is 4 MiB.
_VIRTIO = (96 * _KIB, 512 * _KIB)
_VSOCK = (_MIB, _MIB)

_DAY = 86400
_RANGES: Mapping[str, Range] = {
    "exec_timeout": Range(0, 30 * _DAY),
    "reconnect_timeout": Range(0, _DAY),
    "become_success_timeout": Range(1, _DAY),
    "max_output": Range(1, 1024),
    "max_fetch": Range(1, _MIB),
}


class Settings(NamedTuple):
    """``timeout`` is for one exchange, in seconds. ``executable`` is the shell for commands. ``places`` are directories
    in the guest, and the first usable one is used. ``module_cache`` is whether compiled code of Ansible's modules is
    kept in one of them.
    """

    target: Target
    timeout: float
    executable: str
    places: tuple[str, ...]
    module_cache: bool
    limits: SessionLimits


def settings_of(params: Mapping[str, Any]) -> Settings:
    """
    :raises InvalidOptionError: a value cannot be used
    """
    way, target = _target(params)
    _check(params)
    request, reply = _VSOCK if way == "vsock" else _VIRTIO
    limits = SessionLimits(
        request=request,
        reply=reply,
        output=params["max_output"] * _MIB,
        exec_timeout=params["exec_timeout"] or math.inf,
        patience=params["reconnect_timeout"],
        fetch=params["max_fetch"] * _MIB,
    )
    return Settings(
        target,
        params["timeout"],
        params["executable"],
        tuple(params["guest_directories"]),
        params["module_cache"],
        limits,
    )


def _target(params: Mapping[str, Any]) -> tuple[str, Target]:
    given = [way for way in ONE if params[way] is not None]
    if len(given) > 1:
        raise InvalidOptionError(
            "more than one target given: {}".format(", ".join(given)),
            "Set one of {}, or none of them: then the inventory hostname is the domain's name.".format(", ".join(ONE)),
        )
    way = given[0] if given else "domain"
    value = params[way] if given else params["remote_addr"]
    if value is None:
        raise InvalidOptionError("no target given", "Set one of {}.".format(", ".join(ONE)))
    return way, target_of({way: value, "uri": params["uri"]}, USUAL_LIMITS)


def _check(params: Mapping[str, Any]) -> None:
    check_numbers({"timeout": params["timeout"]})
    check_numbers(params, _RANGES)
    for option, paths in (("executable", [params["executable"]]), ("guest_directories", params["guest_directories"])):
        if not paths or not all(path.startswith("/") and "\0" not in path for path in paths):
            raise InvalidOptionError(f"{option} must be absolute paths in the guest", "Begin each path with a slash.")
    # The agent opens files there, and JSON carries Unicode only.
    if not all(map(is_utf8, params["guest_directories"])):
        raise InvalidOptionError("guest_directories has a path that is not UTF-8", "Use a UTF-8 path or a link to it.")
