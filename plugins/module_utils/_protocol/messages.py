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
    """The agent carried the command out; ``value`` is what it returned, ``{}`` where a command returns nothing."""

    value: Any


@dataclass(frozen=True)
class Refused:
    """The agent's error; ``kind`` is "GenericError" or "CommandNotFound", the only two that qemu-ga uses."""

    kind: str
    description: str


Reply = Union[Returned, Refused]


def request(execute: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The request object. It carries no ``id``: replies come in order, and old agents refuse one."""
    message: dict[str, Any] = {"execute": execute}
    if arguments:
        message["arguments"] = dict(arguments)
    return message


def read_reply(value: Any) -> Reply:
    """Return what a decoded reply says. Members that are null count as absent, except for ``return``.

    :raises RemoteProtocolError: it has not the shape of a reply
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
    """Return whether it is one reply and can be passed on: all that ``read_reply(decode(raw))`` asks for, except that
    it does not look for duplicate keys and lone surrogates. No object and no number of it costs a call.
    """
    try:
        value = read_whole(CHECKER, raw.decode("utf-8"))
        if not (isinstance(value, dict) and "return" in value and value.get("error") is None):
            read_reply(value)
    except (ValueError, RecursionError, RemoteProtocolError):
        return False
    return True


def expect_object(value: Any, command: str) -> Mapping[str, Any]:
    """``value``, which ``command`` returned, if it is a JSON object; members that are null are left out.

    :raises RemoteProtocolError: it is not
    """
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"the agent returned {command} as {type(value).__name__}, not as an object")
    return {name: member for name, member in value.items() if member is not None}
