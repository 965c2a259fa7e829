# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Framing: cuts a stream of bytes into messages, for both ends of the wire. No I/O, no clock, no threads.

The wire carries JSON values one after the other. A newline ends a value only by accident: an agent's request may come
without one, and two may come back to back. So values are told apart as QEMU does it, with its lexer's state table and
its way of counting brackets (``qobject/json-lexer.c`` and ``qobject/json-streamer.c``, QEMU 10.0.13), its recovery from
nonsense included: what is an error for the stock agent is the same number of errors here.

One addition to JSON: the byte 0xFF is never part of a value, and drops all that came before it. Either end may send it
to force the other one into a known state (``docs/interop/qmp-spec.rst``, "QGA Synchronization").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, NamedTuple, Pattern, Union

from .errors import RemoteProtocolError
from .values import USUAL_LIMITS, Limits, decode

DELIMITER = b"\xff"


# ---------------------------------------------------------------------------------------------------------- the lexer


class _State(NamedTuple):
    """One row of the lexer's table.

    ``run`` matches the bytes that stay in the state, ``step`` gives the next state for others. Where ``ends_token`` is
    true, any other byte ends the token and is looked at again from the start state; all else is an error.
    """

    run: Pattern[bytes]
    step: Mapping[int, str]
    ends_token: bool = False


def _steps(**classes: bytes) -> dict[int, str]:
    return {byte: state for state, members in classes.items() for byte in members}


_DIGITS = b"0123456789"
_NOTHING = re.compile(rb"")
_RUN_OF_DIGITS = re.compile(rb"[0-9]*")

# Repeated groups are bounded, here and below, since the matcher remembers every round of them.
# Bytes 0x80 to 0xFD may stand in a string, where decoding checks that they are UTF-8. Control characters may not.
_STATES: Mapping[str, _State] = {
    "start": _State(
        re.compile(rb"[ \t\r\n]*"),
        _steps(
            structure=b"{}[],:",
            double_quoted=b'"',
            single_quoted=b"'",
            sign=b"-",
            zero=b"0",
            digits=b"123456789",
            keyword=b"abcdefghijklmnopqrstuvwxyz",
        ),
    ),
    "double_quoted": _State(
        re.compile(rb'(?:[^"\\\x00-\x1f\xfe\xff]+|\\[\x20-\xfd]){0,256}'),
        _steps(double_quoted_escape=b"\\", end_of_string=b'"'),
    ),
    "single_quoted": _State(
        re.compile(rb"(?:[^'\\\x00-\x1f\xfe\xff]+|\\[\x20-\xfd]){0,256}"),
        _steps(single_quoted_escape=b"\\", end_of_string=b"'"),
    ),
    "double_quoted_escape": _State(_NOTHING, _steps(double_quoted=bytes(range(0x20, 0xFE)))),
    "single_quoted_escape": _State(_NOTHING, _steps(single_quoted=bytes(range(0x20, 0xFE)))),
    "sign": _State(_NOTHING, _steps(zero=b"0", digits=b"123456789")),
    "zero": _State(_NOTHING, _steps(mantissa=b".", error=_DIGITS), ends_token=True),
    "digits": _State(_RUN_OF_DIGITS, _steps(mantissa=b".", exponent=b"eE"), ends_token=True),
    "mantissa": _State(_NOTHING, _steps(mantissa_digits=_DIGITS)),
    "mantissa_digits": _State(_RUN_OF_DIGITS, _steps(exponent=b"eE"), ends_token=True),
    "exponent": _State(_NOTHING, _steps(exponent_sign=b"+-", exponent_digits=_DIGITS)),
    "exponent_sign": _State(_NOTHING, _steps(exponent_digits=_DIGITS)),
    "exponent_digits": _State(_RUN_OF_DIGITS, {}, ends_token=True),
    "keyword": _State(re.compile(rb"[a-z]*"), {}, ends_token=True),
    # After an error everything is skipped up to a byte from which a fresh start is promising; it is looked at again.
    "recovery": _State(re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff{}\[\],:]*"), {}),
    # After a broken limit the tail of the same message must not become errors of its own: skip to the line's end.
    "overflow": _State(re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff]*"), {}),
}

# Whole tokens inside of a container, many at a time: the same language as the table, at the speed of one match.
_STRING_OR_SCALAR = rb"""
    "[^"\\\x00-\x1f\xfe\xff]*" | (?: true | false | null | -?(?:0|[1-9][0-9]*) ) (?=[ \t\r\n,:\]}])
"""
_TOKENS = re.compile(rb"(?: [ \t\r\n,:]+ |" + _STRING_OR_SCALAR + rb"){0,256}", re.VERBOSE)

# A whole plain message, as nearly all are: an object, with at most one object in it. No repeated group begins as the
# one behind it does, or repeats a repetition: where this does not match, that must be known in linear time.
_FEW_TOKENS = rb"(?: [ \t\r\n,:] |" + _STRING_OR_SCALAR + rb"){0,64}"
_PLAIN_MESSAGE = re.compile(
    rb"[ \t\r\n]*( \{" + _FEW_TOKENS + rb"(?: \{" + _FEW_TOKENS + rb"\}" + _FEW_TOKENS + rb")? \} )[ \t\r\n]*",
    re.VERBOSE,
)
_PLAIN_NESTING = 2

_STRUCTURE: Mapping[int, tuple[int, int]] = {  # change of (braces, brackets)
    ord("{"): (1, 0),
    ord("}"): (-1, 0),
    ord("["): (0, 1),
    ord("]"): (0, -1),
    ord(","): (0, 0),
    ord(":"): (0, 0),
}


_BRACKETS = {byte: change for byte, change in _STRUCTURE.items() if any(change)}


class Message(NamedTuple):
    """One framed value. ``raw`` is what the peer sent, without the white space around it."""

    raw: bytes
    limits: Limits = USUAL_LIMITS

    def decode(self) -> Any:
        """The value in Python's types.

        :raises RemoteProtocolError: it is no JSON value, or holds more values than the limits allow
        """
        return decode(self.raw, self.limits)


@dataclass(frozen=True)
class Resync:
    """The peer sent 0xFF; ``dropped`` bytes of an unfinished value were forgotten."""

    dropped: int


@dataclass(frozen=True)
class Malformed:
    """The peer sent bytes which are no value. What follows is read as if they had not been there."""

    error: RemoteProtocolError


Event = Union[Message, Resync, Malformed]


class Decoder:
    """Cuts a stream of bytes into messages: ``feed`` what was received, then ask for events until there are no more.

    Bytes are looked at when an event is asked for: who has had enough of a peer does not pay for the rest.

    Memory is bounded by the limit on a message's size plus what was fed since the last event was None; time is linear
    in the bytes fed, however they are cut into pieces.
    """

    def __init__(self, limits: Limits = USUAL_LIMITS) -> None:
        self._limits = limits
        self._plain: Message | None = None  # taken whole, ahead of the buffer
        self._found: Event | None = None
        self._buffer = bytearray()
        self._position = 0  # all before it has been scanned
        self._begin_value()
        self._state = "start"

    @property
    def is_idle(self) -> bool:
        """What was fed has been taken out, to the last byte; what is fed next is read as if it were the first."""
        return self._state == "start" and not self._buffer and self._plain is None

    def feed(self, data: bytes) -> None:
        if not (self.is_idle and self._take_plain(data)):
            self._buffer += data

    def next_event(self) -> Event | None:
        """What comes next in the bytes that were fed; None: they hold no more that is whole."""
        if self._plain is not None:
            plain, self._plain = self._plain, None
            return plain
        return self._scan() if self._buffer else None

    def __iter__(self) -> Iterator[Event]:
        return iter(self.next_event, None)

    def _take_plain(self, data: bytes) -> bool:
        """Take a whole message in one match, where the bytes are that and no more."""
        match = _PLAIN_MESSAGE.fullmatch(data)
        if match is None:
            return False
        raw = match[1]
        if len(raw) > self._limits.size or self._limits.nesting < _PLAIN_NESTING:
            return False
        self._plain = Message(raw, self._limits)
        return True

    def _begin_value(self) -> None:
        self._in_value = False
        self._braces = 0
        self._brackets = 0

    def _scan(self) -> Event | None:
        buffer = self._buffer
        while self._position < len(buffer):
            if not self._in_value:
                # What lies between values is never looked at again.
                del buffer[: self._position]
                self._position = 0
            elif self._state == "start":
                self._skim()
            if self._position < len(buffer) and self._position <= self._limits.size:
                self._advance()
            if self._in_value and self._position > self._limits.size:
                self._overflow(f"is longer than {self._limits.size} bytes")
            if self._found is not None:
                found, self._found = self._found, None
                return found
        if not self._in_value:
            buffer.clear()
            self._position = 0
        return None

    def _skim(self) -> None:
        """Go over whole tokens and brackets, as far as that neither ends the value nor breaks a limit.

        It is what ``_advance`` does step by step, in a quarter of the time: lists of objects are mostly brackets.
        """
        buffer, run, size, nesting = self._buffer, _TOKENS, self._limits.size, self._limits.nesting
        position, braces, brackets = self._position, self._braces, self._brackets
        length = len(buffer)
        while True:
            position = run.match(buffer, position, size + 1).end()  # type: ignore[union-attr]  # it matches emptiness
            if position >= length or position > size:
                break
            change = _BRACKETS.get(buffer[position])
            if change is None:
                break
            more_braces, more_brackets = braces + change[0], brackets + change[1]
            depth = more_braces + more_brackets
            if more_braces < 0 or more_brackets < 0 or not 0 < depth <= nesting:
                break
            braces, brackets = more_braces, more_brackets
            position += 1
        self._position, self._braces, self._brackets = position, braces, brackets

    def _advance(self) -> None:
        """Take one step through the table, from the byte at the scanner's position."""
        buffer = self._buffer
        state = _STATES[self._state]
        at_start = self._state == "start"
        run = _TOKENS if at_start and self._in_value else state.run
        # No run goes further than to the first byte over the limit: how the bytes were cut must not matter.
        last = self._limits.size + 1
        end = run.match(buffer, self._position, last).end()  # type: ignore[union-attr]  # all of them match emptiness
        if end > self._position:
            self._position = end
            return
        byte = buffer[end]
        following = state.step.get(byte)
        if following == "structure":
            self._position += 1
            self._in_value = True
            self._count(byte)
        elif following == "end_of_string":
            self._position += 1
            self._end_token()
        elif following is not None and following != "error":
            self._position += 1
            self._in_value = True
            self._state = following
        elif self._state in ("recovery", "overflow"):
            self._state = "start"
        elif following is None and state.ends_token:
            self._end_token()
        else:
            self._position += 1
            self._stray(byte)

    def _count(self, byte: int) -> None:
        braces, brackets = _STRUCTURE[byte]
        self._braces += braces
        self._brackets += brackets
        if self._braces + self._brackets > self._limits.nesting:
            self._overflow(f"is nested deeper than {self._limits.nesting} levels")
        else:
            self._end_token()

    def _end_token(self) -> None:
        self._state = "start"
        # As QEMU counts, `{]` is complete (and an error when it is decoded), and so is a lone `}` or `:`.
        is_open = (self._braces > 0 or self._brackets > 0) and self._braces >= 0 and self._brackets >= 0
        if self._position > self._limits.size:
            self._overflow(f"is longer than {self._limits.size} bytes")
        elif not is_open:
            self._found = Message(bytes(self._buffer[: self._position]), self._limits)
            self._forget()

    def _stray(self, byte: int) -> None:
        dropped = self._position - 1 if self._in_value else 0
        # QEMU recovers after 0xFF as after any other error: what comes next counts from a brace or the like onwards.
        self._state = "recovery"
        if byte == 0xFF:
            self._found = Resync(dropped)
        else:
            self._found = Malformed(
                RemoteProtocolError(f"the peer sent a stray byte 0x{byte:02X} where JSON does not allow it")
            )
        self._forget()

    def _overflow(self, what: str) -> None:
        self._found = Malformed(RemoteProtocolError(f"the peer sent a message that {what}"))
        self._state = "overflow"
        self._forget()

    def _forget(self) -> None:
        del self._buffer[: self._position]
        self._position = 0
        self._begin_value()


# --------------------------------------------------------------------------------------------------- decode and encode


def whole_message(data: bytes, limits: Limits = USUAL_LIMITS) -> Message:
    """The one message that the bytes are, from a peer whose messages are cut out by somebody else.

    :raises RemoteProtocolError: they are none, or more than the limits allow
    """
    decoder = Decoder(limits)
    decoder.feed(data + b"\n")  # ends a number
    event, more = decoder.next_event(), decoder.next_event()
    if isinstance(event, Malformed):
        raise event.error
    if not isinstance(event, Message) or more is not None or not decoder.is_idle:
        raise RemoteProtocolError("the peer sent something other than one JSON value")
    return event


# ------------------------------------------------------------------------------------------------ requests and replies
