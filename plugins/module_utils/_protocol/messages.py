# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests, and replies as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Union

from .errors import RemoteProtocolError
from .values import CHECKER, read_whole


@dataclass(frozen=True)
class Returned:
    """The agent ran the command; ``value`` is its result, ``{}`` if the command returns nothing."""

    value: Any


@dataclass(frozen=True)
class Refused:
    """The agent's error; ``kind`` is "GenericError" or "CommandNotFound", the only two classes of qemu-ga."""

    kind: str
    description: str


Reply = Union[Returned, Refused]


def request(execute: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the request object. It has no ``id``: replies come in order, and old agents refuse one."""
    message: dict[str, Any] = {"execute": execute}
    if arguments:
        message["arguments"] = dict(arguments)
    return message


def read_reply(value: Any) -> Reply:
    """Return a decoded reply as a typed value. Members that are null count as absent, except for ``return``.

    :raises RemoteProtocolError: it does not have the shape of a reply
    """
    if isinstance(value, dict):
        error = value.get("error")
        if "return" in value and error is None:
            return Returned(value["return"])
        if value.get("return") is None and isinstance(error, dict) and isinstance(error.get("desc"), str):
            kind = error.get("class")
            return Refused(kind if isinstance(kind, str) else "GenericError", error["desc"])
    raise RemoteProtocolError("the peer sent a JSON value that is not an agent's reply")


def is_reply(raw: bytes | bytearray) -> bool:
    """Return whether ``raw`` is one reply that can be passed on. The checks are those of ``read_reply(decode(raw))``,
    except for duplicate keys and lone surrogates, but without a Python call for each object and number.
    """
    try:
        value = read_whole(CHECKER, raw.decode("utf-8"))
        if not (isinstance(value, dict) and "return" in value and value.get("error") is None):
            read_reply(value)
    except (ValueError, RecursionError, RemoteProtocolError):
        return False
    return True


def expect_object(value: Any, command: str) -> Mapping[str, Any]:
    """Return the result of ``command`` if it is a JSON object, without the members that are null.

    :raises RemoteProtocolError: it is not an object
    """
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"the agent returned {command} as {type(value).__name__}, not as an object")
    return {name: member for name, member in value.items() if member is not None}
