# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests and their arguments, checked as the stock agent checks them (qapi/qmp-dispatch.c, QEMU 10.0.13)."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from guest_agent._protocol import values
from guest_agent._protocol.commands import CATALOG
from guest_agent._protocol.errors import LocalProtocolError

from .refusal import Refusal

_INT64 = range(-(2**63), 2**63)


def _seed_form(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Accept ``command`` for ``execute`` in this agent's own commands, as QEMU's wiki page "UsefulCommands" has it."""
    command = value.get("command")
    if isinstance(command, str):
        known = CATALOG.get(command)
        if known is not None and known.origin == "extended":
            return {"execute" if name == "command" else name: member for name, member in value.items()}
    return value


def require_affordable(raw: bytes, most: int) -> None:
    """Make sure that parsing a request, and repeating its parts, takes only a few times its length in memory.

    Python stores a string in four bytes per character if one is beyond the first 65,536 characters of Unicode; QEMU's
    single quotes are rewritten one by one; and in a reply, two bytes may become six. Data that is usually long
    (programs' input, contents of files) is base64.

    :raises Refusal: it is longer than ``most``, and not plain ASCII
    """
    if len(raw) > most and not (raw.isascii() and b"'" not in raw and b"\\u" not in raw):
        raise Refusal(
            f"JSON parse error, more than {most} bytes with non-ASCII characters, \\u escapes or single quotes"
        )


def read_request(value: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the command and its arguments.

    :raises Refusal: it is not a request
    """
    if not isinstance(value, dict):
        raise Refusal("QMP input must be a JSON object")
    members = value if "execute" in value else _seed_form(value)
    for name, member in members.items():
        if name == "execute":
            if not isinstance(member, str):
                raise Refusal("QMP input member 'execute' must be a string")
        elif name == "arguments":
            if not isinstance(member, dict):
                raise Refusal("QMP input member 'arguments' must be an object")
        elif name != "id":
            raise Refusal(f"QMP input member '{name}' is unexpected")
    if "execute" not in members:
        raise Refusal("QMP input lacks member 'execute'")
    return members["execute"], members.get("arguments", {})


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value in _INT64


# By QAPI's type names: the name in an error, and the check.
_TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("integer", _is_integer),
    "str": ("string", lambda value: isinstance(value, str)),
    "bool": ("boolean", lambda value: isinstance(value, bool)),
}


def check_arguments(command: str, given: Mapping[str, Any]) -> None:
    """Check names and types against the catalog.

    :raises Refusal: they do not match
    """
    arguments = CATALOG[command].arguments
    if not arguments and not given:
        return
    known = 0
    for argument in arguments:
        if argument.name not in given:
            if not argument.optional:
                raise Refusal(f"Parameter '{argument.name}' is missing")
            continue
        known += 1
        types = [_TYPES[name] for name in argument.type.split(" | ")]
        if not any(fits(given[argument.name]) for _name, fits in types):
            raise Refusal(f"Invalid parameter type for '{argument.name}', expected: {types[0][0]}")
    if known != len(given):
        names = [argument.name for argument in arguments]
        raise Refusal(f"Parameter '{next(name for name in given if name not in names)}' is unexpected")


def tail(echo: Mapping[str, Any]) -> bytes:
    """Return the rest of a reply's line, after its first member."""
    if echo:
        try:
            return b", " + values.encode(echo)[1:]
        except LocalProtocolError:
            pass  # a number out of range, such as 1e999, cannot be repeated
    return b"}\n"


def refusal_line(refusal: Refusal, echo: Mapping[str, Any]) -> bytes:
    error = values.encode({"error": {"class": refusal.kind, "desc": refusal.description}})
    return error[: -len(b"}\n")] + tail(echo)
