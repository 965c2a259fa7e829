# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One simulated agent without any I/O: the client's bytes in; the reply's bytes, and pauses before them, out."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from tests.fakes.agent import Pause, Piece, Pieces
from tests.fakes.fleet import stock_side
from tests.fakes.fleet.clock import SimulatedClock
from tests.fakes.fleet.faults import FAULTS, Sending
from tests.fakes.fleet.profile import Profile
from tests.fakes.fleet.reading import Asked, Reader
from tests.support.extended_agent import module

own_commands: Any = module("own_commands")
requests: Any = module("requests")
framing: Any = module("_protocol.framing", "guest_agent")
values: Any = module("_protocol.values", "guest_agent")
_OWN_COMMANDS: frozenset[str] = module("policy").OWN_COMMANDS
_Refusal: Any = module("refusal").Refusal
_answers_on_success: Any = module("_protocol.commands", "guest_agent").answers_on_success

_INFO = "guest-info"
_SETTING = "guest-set-time"
_STEPPING = frozenset((_SETTING, "guest-update-time"))
# As in QEMU (qobject/json-streamer.c).
_LIMITS: Any = values.Limits(nesting=1024)


@functools.cache
def _own_info(is_frozen: bool) -> bytes:
    """What takes longest to make, and is the same from every extended agent in that state."""
    side = stock_side.stock_side(is_frozen)
    context = own_commands.Context(None, side.known, side.policy, lambda: None)
    encoded: bytes = own_commands.carry_out(context, _INFO, {}, 0)
    return encoded


class SimulatedAgent:
    """``commands`` counts what has been asked for. One ``reader`` serves all agents of a fleet."""

    __slots__ = (
        "_context",
        "_decoder",
        "_fault",
        "_reader",
        "_replies",
        "_stock",
        "clock",
        "commands",
        "name",
        "profile",
    )

    def __init__(self, name: str, profile: Profile, clock: SimulatedClock, reader: Reader) -> None:
        self.name = name
        self.profile = profile
        self.clock = clock
        self.commands: dict[str, int] = {}
        self._reader = reader
        self._fault = FAULTS[profile.fault]
        self._replies = 0
        self._stock = stock_side.stock_side(self._fault.is_frozen)
        self._context: Any = None
        if profile.kind == "extended":
            self._context = own_commands.Context(clock, self._stock.known, self._stock.policy, lambda: None)
        # Made for the first client that needs it: ten thousand idle ones are megabytes.
        self._decoder: Any = None

    @property
    def host_name(self) -> str:
        """``host01/guest0001`` is guest0001.host01."""
        return ".".join(reversed(self.name.split("/")))

    def disconnected(self) -> None:
        """The client has gone. Half a request of it stays in a stock agent's parser, the extended agent forgets it."""
        if self._decoder is None:
            return
        for _event in self._decoder:
            pass  # asked for behind what it has hung up on
        if self._context is not None or self._decoder.is_idle:
            self._decoder = None

    def received(self, data: bytes) -> Iterator[Piece]:
        """What it does about these bytes, piece by piece: each thing is done when its piece is asked for, and a
        ``Pause`` has to be waited for before the next one is.
        """
        received_ns = self.clock.now_ns()  # before anything else: a client measures with it
        for asked in self._read(data):
            yield from self._answer(asked, received_ns)

    def _read(self, data: bytes) -> Iterable[Asked]:
        decoder = self._decoder
        known = self._reader.known.get(data)
        if known is not None and (decoder is None or decoder.is_idle):
            return (known,)
        if decoder is None:
            decoder = self._decoder = framing.Decoder(_LIMITS)
        decoder.feed(data)
        return map(self._reader.read, decoder)

    def _answer(self, asked: Asked, received_ns: int) -> Pieces:
        command = asked.command
        if command:
            self.commands[command] = self.commands.get(command, 0) + 1
        pieces = self._pieces(asked, received_ns)
        if self._fault.replies is None:
            return pieces
        steps = sum(self.commands.get(name, 0) for name in _STEPPING)
        nth = self.commands.get(command, 0) - 1
        sending = Sending(command, self._replies, nth, steps)
        self._replies += 1
        return self._fault.replies(sending, pieces)

    def _pieces(self, asked: Asked, received_ns: int) -> Pieces:
        command, _arguments, echo, refusal = asked
        if refusal is not None:
            return (requests.refusal_line(refusal, echo),)
        try:
            value = self._carry_out(asked, received_ns)
        except _Refusal as error:
            return (requests.refusal_line(error, echo),)
        if not _answers_on_success(command):
            return ()
        delimiter = framing.DELIMITER if command == "guest-sync-delimited" else b""
        line = b'%b{"return": %b%b' % (delimiter, value, requests.tail(echo))
        if command == _SETTING and self.profile.set_seconds:
            return Pause(self.profile.set_seconds), line
        return (line,)

    def _carry_out(self, asked: Asked, received_ns: int) -> bytes:
        stepped_ns = self.clock.stepped_ns
        value: bytes
        if self._context is not None and asked.command in _OWN_COMMANDS:
            refusal = self._stock.policy.refusal(asked.command)
            if refusal is not None:
                raise refusal
            if asked.command == _INFO and not asked.arguments:
                return _own_info(self._fault.is_frozen)
            value = own_commands.carry_out(self._context, asked.command, asked.arguments, received_ns)
        else:
            call = stock_side.Call(self._stock.kind, self.clock, self.host_name, asked.arguments)
            value = stock_side.carry_out(asked.command, call)
        if self._fault.claims_only:
            self.clock.shift_ns(stepped_ns - self.clock.stepped_ns)
        return value
