# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Framing: cuts a stream of bytes into messages, for both ends of the wire. No I/O, no clock, no threads.

The wire carries JSON values one after the other. A newline does not separate them: a request may come without one, and
two may come back to back. So values are separated as in QEMU, with its lexer's state table and its way of counting
brackets (``qobject/json-lexer.c`` and ``qobject/json-streamer.c``, QEMU 10.0.13), including its recovery from errors:
the same bytes cause the same number of errors as in the stock agent.

One addition to JSON is the *delimiter*, the byte 0xFF. It is never part of a value, and drops all unfinished bytes
before it. Either end may send it to force the other one into a known state (``docs/interop/qmp-spec.rst``, "QGA
Synchronization").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Pattern, Union

from .errors import RemoteProtocolError
from .limits import USUAL_LIMITS, Limits
from .values import decode

DELIMITER = b"\xff"


class _State(NamedTuple):
    """One row of the lexer's table.

    ``run`` matches the bytes that stay in the state. ``step`` maps other bytes to a state or to one of the actions
    below; ``otherwise`` is the action for bytes that are not in it.
    """

    run: Pattern[bytes]
    step: Mapping[int, str]
    otherwise: str = "stray"


def _steps(**classes: bytes) -> dict[int, str]:
    return {byte: state for state, members in classes.items() for byte in members}


_DIGITS = b"0123456789"
_NOTHING = re.compile(rb"")
_RUN_OF_DIGITS = re.compile(rb"[0-9]*")

# Repeated groups are bounded, here and below, because the matcher keeps a record of every repetition.
# Bytes 0x80 to 0xFD are allowed in strings, where decoding checks that they are UTF-8. Control characters are not.
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
        _steps(double_quoted_escape=b"\\", end_string=b'"'),
    ),
    "single_quoted": _State(
        re.compile(rb"(?:[^'\\\x00-\x1f\xfe\xff]+|\\[\x20-\xfd]){0,256}"),
        _steps(single_quoted_escape=b"\\", end_string=b"'"),
    ),
    "double_quoted_escape": _State(_NOTHING, _steps(double_quoted=bytes(range(0x20, 0xFE)))),
    "single_quoted_escape": _State(_NOTHING, _steps(single_quoted=bytes(range(0x20, 0xFE)))),
    "sign": _State(_NOTHING, _steps(zero=b"0", digits=b"123456789")),
    "zero": _State(_NOTHING, _steps(mantissa=b".", stray=_DIGITS), otherwise="end_token"),
    "digits": _State(_RUN_OF_DIGITS, _steps(mantissa=b".", exponent=b"eE"), otherwise="end_token"),
    "mantissa": _State(_NOTHING, _steps(mantissa_digits=_DIGITS)),
    "mantissa_digits": _State(_RUN_OF_DIGITS, _steps(exponent=b"eE"), otherwise="end_token"),
    "exponent": _State(_NOTHING, _steps(exponent_sign=b"+-", exponent_digits=_DIGITS)),
    "exponent_sign": _State(_NOTHING, _steps(exponent_digits=_DIGITS)),
    "exponent_digits": _State(_RUN_OF_DIGITS, {}, otherwise="end_token"),
    "keyword": _State(re.compile(rb"[a-z]*"), {}, otherwise="end_token"),
    # After an error, everything is skipped up to a byte that may begin a value; that byte is read again.
    "recovery": _State(re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff{}\[\],:]*"), {}, otherwise="look_again"),
    # After a limit was exceeded, the rest of the message must not cause errors of its own: skip to the line's end.
    "overflow": _State(re.compile(rb"[^\x00-\x08\x0a-\x1f\xfe\xff]*"), {}, otherwise="look_again"),
}

# Whole tokens inside a container, many at a time: the same language as the table, at the speed of one match.
_TOKENS = re.compile(
    rb"""(?:
        [ \t\r\n,:]+
      | "[^"\\\x00-\x1f\xfe\xff]*"
      | (?: true | false | null | -?(?:0|[1-9][0-9]*) ) (?=[ \t\r\n,:\]}])
    ){0,256}""",
    re.VERBOSE,
)

_BRACKETS: Mapping[int, tuple[int, int]] = {  # change of (braces, brackets)
    ord("{"): (1, 0),
    ord("}"): (-1, 0),
    ord("["): (0, 1),
    ord("]"): (0, -1),
}


class Message(NamedTuple):
    """One framed value. ``raw`` is what the peer sent, without the white space around it."""

    raw: bytes
    limits: Limits = USUAL_LIMITS

    def decode(self) -> Any:
        """Return the value in Python's types.

        :raises RemoteProtocolError: it is not a JSON value, or holds more values than the limits allow
        """
        return decode(self.raw, self.limits)


@dataclass(frozen=True)
class Delimiter:
    """The peer sent 0xFF; ``dropped`` bytes of an unfinished value were forgotten."""

    dropped: int


@dataclass(frozen=True)
class Malformed:
    """The peer sent bytes that are not a value. The bytes after them are read as if these had not been there."""

    error: RemoteProtocolError


Event = Union[Message, Delimiter, Malformed]


class Decoder:
    """Cuts a stream of bytes into messages: ``feed`` the received bytes, then ask for events until there are no more.

    Theory of operation. The buffer begins with the value that is being read; ``_position`` is how far it has been read.
    Each step reads one byte and looks it up in the row of ``_STATES`` for the present state. The result is one of:

    ============== ===================================================================================================
    another state  go there, past the byte; a value has begun
    ``structure``  past the byte; count the bracket (none for a comma or a colon), then as ``end_string``
    ``end_string`` past the byte; the token has ended, and the value with it if no bracket is open: a :class:`Message`
    ``end_token``  the same, but the byte is not part of the token: read it again in the state ``start``
    ``look_again`` the byte may begin a value: read it again in the state ``start``
    ``stray``      past the byte; drop the value: a :class:`Delimiter` for 0xFF, else a :class:`Malformed`; recover
    ============== ===================================================================================================

    A value that exceeds a limit is also dropped as a :class:`Malformed`, and skipped to the end of its line. After a
    value's first bracket, ``_skip_tokens`` does the work of many steps at once, with the same result.

    Bytes are read only when an event is asked for, so a caller that gives up on a peer does not pay for the rest.
    Memory is bounded by the size limit of a message plus the bytes fed since the last event was None. Time is linear in
    the bytes fed, however they are cut into pieces.
    """

    def __init__(self, limits: Limits = USUAL_LIMITS) -> None:
        self._limits = limits
        self._found: Event | None = None
        self._buffer = bytearray()
        self._position = 0
        self._state = "start"
        self._begin_value()

    def _begin_value(self) -> None:
        del self._buffer[: self._position]
        self._position = 0
        self._in_value = False
        self._braces = 0
        self._brackets = 0

    @property
    def is_idle(self) -> bool:
        """True if nothing is left in the decoder, so that the next bytes are read as if they were the first ones."""
        return self._state == "start" and not self._buffer

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_event(self) -> Event | None:
        """Return the next event in the bytes that were fed; None: they hold no further complete one."""
        while self._position < len(self._buffer):
            if not self._in_value:
                self._begin_value()  # bytes between values are never read again
            if self._state == "start" and (self._in_value or self._buffer[0] in b"{["):
                self._skip_tokens()
            if self._found is None and self._position < len(self._buffer) and self._position <= self._limits.size:
                self._step()
            if self._in_value and self._position > self._limits.size:
                self._overflow(f"is longer than {self._limits.size} bytes")
            if self._found is not None:
                found, self._found = self._found, None
                return found
        if not self._in_value:
            self._begin_value()
        return None

    def __iter__(self) -> Iterator[Event]:
        return iter(self.next_event, None)

    def _skip_tokens(self) -> None:
        """Skip whole tokens and brackets, to the end of the value, or up to a byte that would exceed a limit.

        Most replies end here. Lists of objects, mostly brackets, take a quarter of the time that single steps take.
        """
        buffer, size, nesting = self._buffer, self._limits.size, self._limits.nesting
        position, braces, brackets = self._position, self._braces, self._brackets
        length = len(buffer)
        while True:
            position = _TOKENS.match(buffer, position, size + 1).end()  # type: ignore[union-attr]  # it matches emptiness
            change = _BRACKETS.get(buffer[position]) if position < length and position < size else None
            if change is None:
                break
            more_braces, more_brackets = braces + change[0], brackets + change[1]
            if more_braces < 0 or more_brackets < 0 or more_braces + more_brackets > nesting:
                break
            braces, brackets = more_braces, more_brackets
            position += 1
            if not braces and not brackets:
                self._position = position
                self._end_value()
                return
        self._position, self._braces, self._brackets = position, braces, brackets
        self._in_value = position > 0

    def _step(self) -> None:
        """Skip the run of the present state, or take one step through the table if there is none."""
        row = _STATES[self._state]
        # A run ends at the first byte over the limit: the way the bytes were cut must not matter.
        end = row.run.match(self._buffer, self._position, self._limits.size + 1).end()  # type: ignore[union-attr]  # as above
        if end > self._position:
            self._position = end
            return
        byte = self._buffer[end]
        following = row.step.get(byte, row.otherwise)
        if following in _STATES:
            self._position, self._state, self._in_value = end + 1, following, True
        else:
            takes_byte, act = _ACTIONS[following]
            self._position += takes_byte
            act(self, byte)

    def _structure(self, byte: int) -> None:
        self._in_value = True
        braces, brackets = _BRACKETS.get(byte, (0, 0))
        self._braces += braces
        self._brackets += brackets
        if self._braces + self._brackets > self._limits.nesting:
            self._overflow(f"is nested deeper than {self._limits.nesting} levels")
        else:
            self._end_token(byte)

    def _end_token(self, _byte: int) -> None:
        self._state = "start"
        # QEMU counts `{]` as complete (decoding it is an error), and also a lone `}` or `:`.
        is_open = (self._braces > 0 or self._brackets > 0) and self._braces >= 0 and self._brackets >= 0
        if self._position > self._limits.size:
            self._overflow(f"is longer than {self._limits.size} bytes")
        elif not is_open:
            self._end_value()

    def _end_value(self) -> None:
        self._found = Message(bytes(self._buffer[: self._position]), self._limits)
        self._position = _STATES["start"].run.match(self._buffer, self._position).end()  # type: ignore[union-attr]
        self._begin_value()

    def _look_again(self, _byte: int) -> None:
        self._state = "start"

    def _stray(self, byte: int) -> None:
        dropped = self._position - 1 if self._in_value else 0
        # QEMU recovers from 0xFF as from any other error: it skips to a brace or the like.
        self._state = "recovery"
        if byte == 0xFF:
            self._found = Delimiter(dropped)
        else:
            self._found = Malformed(
                RemoteProtocolError(f"the peer sent a stray byte 0x{byte:02X} where JSON does not allow it")
            )
        self._begin_value()

    def _overflow(self, what: str) -> None:
        self._found = Malformed(RemoteProtocolError(f"the peer sent a message that {what}"))
        self._state = "overflow"
        self._begin_value()


# The function of each action, and whether the byte belongs to the value that it ends.
_ACTIONS: Mapping[str, tuple[bool, Callable[[Decoder, int], None]]] = {
    "structure": (True, Decoder._structure),
    "end_string": (True, Decoder._end_token),
    "end_token": (False, Decoder._end_token),
    "look_again": (False, Decoder._look_again),
    "stray": (True, Decoder._stray),
}


def whole_message(data: bytes, limits: Limits = USUAL_LIMITS) -> Message:
    """Return the bytes as one message, for a channel that receives messages already separated.

    :raises RemoteProtocolError: they are not exactly one message, or exceed the limits
    """
    decoder = Decoder(limits)
    decoder.feed(data + b"\n")  # ends a number
    event, more = decoder.next_event(), decoder.next_event()
    if isinstance(event, Malformed):
        raise event.error
    if not isinstance(event, Message) or more is not None or not decoder.is_idle:
        raise RemoteProtocolError("the peer sent something other than one JSON value")
    return event
