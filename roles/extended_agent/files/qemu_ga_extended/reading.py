# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the host's bytes to contents: each is one thing that gets one reply. Repeated requests are read only once."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from guest_agent._protocol import framing, values
from guest_agent._protocol.errors import RemoteProtocolError
from guest_agent._protocol.limits import Limits

from . import requests
from .limits import Costs
from .policy import OWN_COMMANDS, Policy
from .refusal import Refusal

# Nesting as in QEMU (qobject/json-streamer.c).
_NESTING = 1024
_SYNCS = frozenset(("guest-sync", "guest-sync-delimited"))
_SHORTEST_REQUEST = len('{"execute":""}')
# So many requests are remembered, with and without their newline, and none that is longer.
_KNOWN_REQUESTS = 128
_KNOWN_BYTES = 256


class Content(NamedTuple):
    """``refusal``: the reply, where it is not a request or may not be passed on. ``is_own``: it is answered here.
    ``echo``: what its reply repeats. ``size``: its bytes, without a newline.
    """

    size: int
    command: str = ""
    arguments: Mapping[str, Any] = {}
    echo: Mapping[str, Any] = {}
    refusal: Refusal | None = None
    is_own: bool = False
    is_sync: bool = False


class Received(NamedTuple):
    """A content, and the line that passes it on to the stock agent."""

    content: Content
    line: bytes


class Reader:
    def __init__(self, policy: Policy, costs: Costs) -> None:
        self._policy = policy
        self._costs = costs
        self._known: dict[bytes, Received] = {}
        self.begin()

    def begin(self) -> None:
        """Forget half a request."""
        self._decoder = framing.Decoder(Limits(size=self._costs.request_bytes, nesting=_NESTING))

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is left to be read, and nothing has begun."""
        return self._decoder.is_idle

    def known(self, data: bytes) -> Received | None:
        """Return what the bytes are, if they are a request that is remembered; else ``feed`` them."""
        known = self._known.get(data)
        return known if known is not None and self._decoder.is_idle else None

    def feed(self, data: bytes) -> None:
        self._decoder.feed(data)

    def next(self, is_answered: bool) -> Received | None:
        """Return the next one; None: there is none yet. Unless it ``is_answered``, what is no request is left out: its
        error has no reader, and there may be hundreds of thousands.
        """
        while True:
            event = self._decoder.next_event()
            if event is None:
                return None
            if isinstance(event, framing.Message):
                if is_answered or len(event.raw) >= _SHORTEST_REQUEST:
                    return self._known.get(event.raw) or self._read(event)
            elif is_answered:
                is_delimiter = isinstance(event, framing.Delimiter)
                error = "stray '\ufffd'" if isinstance(event, framing.Delimiter) else event.error.message
                return Received(Content(0, refusal=_parse_error(error), is_sync=is_delimiter), b"\n")

    def _read(self, message: framing.Message) -> Received:
        raw, line = message.raw, message.raw + b"\n"
        echo: Mapping[str, Any] = {}
        try:
            requests.require_affordable(raw, self._costs.fancy_bytes)
            value = values.decode(raw, message.limits)
            echo = {"id": value["id"]} if isinstance(value, dict) and "id" in value else {}
            command, arguments = requests.read_request(value)
        except Refusal as error:
            # Its traceback would hold this call's frame, and that one holds it.
            return Received(Content(len(raw), echo=echo, refusal=error.with_traceback(None)), line)
        except RemoteProtocolError as error:
            return Received(Content(len(raw), echo=echo, refusal=_parse_error(error.message)), line)
        is_own = command in OWN_COMMANDS
        # By fixed lists: what is refused stays refused. For this agent's own commands that depends on the moment.
        refusal = None if is_own else self._policy.refusal(command)
        received = Received(Content(len(raw), command, arguments, echo, refusal, is_own, command in _SYNCS), line)
        if refusal is None and not echo and not arguments and len(raw) <= _KNOWN_BYTES:
            if len(self._known) >= _KNOWN_REQUESTS:
                self._known.clear()
            self._known[raw] = self._known[line] = received
        return received


def _parse_error(what: str) -> Refusal:
    return Refusal(f"JSON parse error, {what}")
