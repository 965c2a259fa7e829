# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsing the host's bytes into contents, each of which gets one reply. Repeated requests are parsed only once."""

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
# The cache holds this many entries (a request is cached with and without its newline), and no longer requests.
_KNOWN_REQUESTS = 128
_KNOWN_BYTES = 256


class Content(NamedTuple):
    """``refusal``: the reply, if this is not a request or must not be forwarded. ``is_own``: this agent answers it.
    ``echo``: members that the reply repeats. ``size``: in bytes, without a newline.
    """

    size: int
    command: str = ""
    arguments: Mapping[str, Any] = {}
    echo: Mapping[str, Any] = {}
    refusal: Refusal | None = None
    is_own: bool = False
    is_sync: bool = False


class Received(NamedTuple):
    """A content, and the line to forward to the stock agent."""

    content: Content
    line: bytes


class Reader:
    def __init__(self, policy: Policy, costs: Costs) -> None:
        self._policy = policy
        self._costs = costs
        self._known: dict[bytes, Received] = {}
        self.begin()

    def begin(self) -> None:
        """Discard an incomplete request."""
        self._decoder = framing.Decoder(Limits(size=self._costs.request_bytes, nesting=_NESTING))

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is left to read, not even an incomplete request."""
        return self._decoder.is_idle

    def known(self, data: bytes) -> Received | None:
        """Return the content, if the bytes are a cached request; otherwise, the caller must ``feed`` them."""
        known = self._known.get(data)
        return known if known is not None and self._decoder.is_idle else None

    def feed(self, data: bytes) -> None:
        self._decoder.feed(data)

    def next(self, is_answered: bool) -> Received | None:
        """Return the next content, or None if there is none yet. Unless ``is_answered``, input that is not a request is
        skipped: its error has no reader, and there may be hundreds of thousands.
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
            # The traceback would refer to this frame, and the frame to the error.
            return Received(Content(len(raw), echo=echo, refusal=error.with_traceback(None)), line)
        except RemoteProtocolError as error:
            return Received(Content(len(raw), echo=echo, refusal=_parse_error(error.message)), line)
        is_own = command in OWN_COMMANDS
        # The lists are fixed, so a refusal is final. Refusals of this agent's own commands depend on the current state.
        refusal = None if is_own else self._policy.refusal(command)
        received = Received(Content(len(raw), command, arguments, echo, refusal, is_own, command in _SYNCS), line)
        if refusal is None and not echo and not arguments and len(raw) <= _KNOWN_BYTES:
            if len(self._known) >= _KNOWN_REQUESTS:
                self._known.clear()
            self._known[raw] = self._known[line] = received
        return received


def _parse_error(what: str) -> Refusal:
    return Refusal(f"JSON parse error, {what}")
