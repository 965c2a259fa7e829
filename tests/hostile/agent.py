"""What an agent can do to a client, and an agent that plays one attack: bytes in, actions out. No I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .guest import Guest, encoded, not_found

_DECODER = json.JSONDecoder()


class Requests:
    """Hosts are honest, so a prefix that is no JSON yet is half a request, and 0xFF forgets it."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        _forgotten, delimiter, behind = data.rpartition(b"\xff")
        self._text = (behind.decode() if delimiter else self._text + data.decode()).lstrip()
        while self._text:
            try:
                value, end = _DECODER.raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            if isinstance(value, dict):
                yield value


@dataclass(frozen=True)
class Action:
    """One thing that is done to the peer."""


@dataclass(frozen=True)
class Send(Action):
    data: bytes


@dataclass(frozen=True)
class Pause(Action):
    seconds: float


@dataclass(frozen=True)
class HangUp(Action):
    """Close the connection; who connects again is served."""


@dataclass(frozen=True)
class Deaf(Action):
    """Read nothing more of what is sent, and keep the connection."""


@dataclass(frozen=True)
class Asked:
    """One request.

    ``number`` counts all of them since the agent started, ``nth`` those of this command, both from 0. ``answer`` is
    what the honest agent sends; calling it carries the command out, once: a step is taken then.
    """

    command: str
    arguments: Mapping[str, Any]
    number: int
    nth: int
    answer: Callable[[], bytes]


# Called for each request in turn. What it yields is done at once, so it may go on for ever.
Play = Callable[[Asked], Iterable[Action]]

Actions = Iterator[Action]


class HostileAgent:
    """``asked`` are the commands that came. ``greeting`` is done to whoever connects."""

    def __init__(self, guest: Guest, play: Play, greeting: Iterable[Action] = ()) -> None:
        self.guest = guest
        self.asked: list[str] = []
        self._play = play
        self._greeting = tuple(greeting)
        self._requests = Requests()
        self._counts: Counter[str] = Counter()

    def connected(self) -> Actions:
        self._requests = Requests()
        yield from self._greeting

    def received(self, data: bytes) -> Actions:
        for request in self._requests.feed(data):
            yield from self._play(self._as_asked(request))

    def _as_asked(self, request: dict[str, Any]) -> Asked:
        command = str(request.get("execute"))
        arguments = request.get("arguments", {})
        asked = Asked(command, arguments, len(self.asked), self._counts[command], lambda: self._reply(request))
        self.asked.append(command)
        self._counts[command] += 1
        return asked

    def _reply(self, request: dict[str, Any]) -> bytes:
        command = str(request.get("execute"))
        try:
            returned = self.guest.returned(command, request.get("arguments", {}))
        except KeyError:
            return encoded(not_found(command))
        return encoded({"return": returned}, command)


def honestly(asked: Asked) -> Iterable[Action]:
    """The play of an agent without malice."""
    yield Send(asked.answer())
