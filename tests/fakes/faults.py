"""Faults of fake agents. A fault changes a reply before it is sent; the command itself was executed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing import TypeAlias


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Forever:
    """Send this repeatedly until the peer disconnects."""

    data: bytes


@dataclass(frozen=True)
class HangUp:
    """Close the connection."""


# Strings, for the Python of the oldest guests.
Piece: TypeAlias = "bytes | Pause | Forever | HangUp"
Pieces: TypeAlias = "tuple[Piece, ...]"


@dataclass(frozen=True)
class Sent:
    """One reply before it is sent: the ``number``-th since the agent started, and the ``nth`` to this command.

    ``asked`` counts all commands so far, including this one. An error about stray bytes has no ``command``; only faults
    with ``covers_complaints`` see it.
    """

    command: str
    number: int
    nth: int
    asked: Counter[str]


# Returns the pieces to send in place of a reply.
Fault: TypeAlias = "Callable[[Sent, Pieces], Pieces]"


@dataclass(frozen=True)
class On:
    """``fault``, but only for replies to ``command``; with ``nth``, only for that reply (counted from 0)."""

    command: str
    fault: Fault
    nth: int | None = None

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        applies = sent.command == self.command and self.nth in (None, sent.nth)
        return self.fault(sent, pieces) if applies else pieces


@dataclass(frozen=True)
class Late:
    seconds: float

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return (Pause(self.seconds), *pieces)


@dataclass(frozen=True)
class Silent:
    """Stops answering after so many replies."""

    after: int = 0
    covers_complaints: ClassVar[bool] = True

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        return pieces if sent.number < self.after else ()


class SilentFrom:
    """Stops answering at the first request for one of the commands."""

    covers_complaints = True

    def __init__(self, *commands: str) -> None:
        self._commands = commands

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        return () if any(sent.asked[command] for command in self._commands) else pieces


@dataclass(frozen=True)
class HangUpAfter:
    """Closes the connection after so many replies and ``size`` bytes of the next one."""

    replies: int = 0
    size: int = 0

    def __call__(self, sent: Sent, pieces: Pieces) -> Pieces:
        return pieces if sent.number < self.replies else (_joined(pieces)[: self.size], HangUp())


@dataclass(frozen=True)
class _Changed:
    change: Callable[[Pieces, Pieces], Pieces]
    others: Pieces

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return self.change(self.others, pieces)


# Send other pieces in place of the reply, or after it.
Instead = partial(_Changed, lambda others, _reply: others)
Appended = partial(_Changed, lambda others, reply: (*reply, *others))


@dataclass(frozen=True)
class Drip:
    """Sends one byte at a time."""

    seconds: float

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        return tuple(piece for byte in _joined(pieces) for piece in (bytes((byte,)), Pause(self.seconds)))


def _joined(pieces: Pieces) -> bytes:
    return b"".join(piece for piece in pieces if isinstance(piece, bytes))


@dataclass(frozen=True)
class Delays:
    """Seconds on the way there and back, one pair for each exchange, in a cycle."""

    forward: tuple[float, ...] = (0.0,)
    backward: tuple[float, ...] = (0.0,)
