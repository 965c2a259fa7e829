# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What clients ask for, read as the in-guest agent reads it, once for all agents of a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.support.extended_agent import module

requests: Any = module("requests")
framing: Any = module("_protocol.framing", "guest_agent")
values: Any = module("_protocol.values", "guest_agent")
_Refusal: Any = module("refusal").Refusal
_RemoteProtocolError: Any = module("_protocol.errors", "guest_agent").RemoteProtocolError

# As in the in-guest agent (dispatch.py).
_KNOWN_REQUESTS = 128
_KNOWN_BYTES = 256


class Asked(NamedTuple):
    """One request; ``refusal``: it is answered with that, being none."""

    command: str
    arguments: Mapping[str, Any]
    echo: Mapping[str, Any]
    refusal: Any = None


def _no_request(what: str, echo: Mapping[str, Any]) -> Asked:
    return Asked("", {}, echo, _Refusal(what))


class Reader:
    """``known``: requests without arguments by their bytes, which are the same from every client and to every agent."""

    def __init__(self) -> None:
        self.known: dict[bytes, Asked] = {}

    def read(self, event: Any) -> Asked:
        if isinstance(event, framing.Malformed):
            return _no_request(f"JSON parse error, {event.error.message}", {})
        if isinstance(event, framing.Delimiter):
            # The real agents complain of a 0xFF byte as of any other stray one, before they obey it.
            return _no_request("JSON parse error, stray '\ufffd'", {})
        try:
            value = values.decode(event.raw, event.limits)
        except _RemoteProtocolError as error:
            return _no_request(f"JSON parse error, {error.message}", {})
        echo = requests.echo_of(value)
        try:
            command, arguments = requests.read_request(value)
        except _Refusal as error:
            return _no_request(error.description, echo)
        asked = Asked(command, arguments, echo)
        if not arguments and not echo and len(event.raw) <= _KNOWN_BYTES:
            self._get_to_know(event.raw, asked)
        return asked

    def _get_to_know(self, raw: bytes, asked: Asked) -> None:
        if len(self.known) >= _KNOWN_REQUESTS:
            self.known.clear()
        self.known[raw] = self.known[raw + b"\n"] = asked
