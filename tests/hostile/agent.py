"""What an agent can do to a client, and an agent that plays one attack: bytes in, actions out. No I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .guest import Guest

_DECODER = json.JSONDecoder()

# Seconds; every wait ends with the server.
FOR_EVER = 3600.0


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
    """Close the connection; a client that connects again is served."""


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


def perform(actions: Iterable[Action], send: Callable[[bytes], object], pause: Callable[[float], object]) -> bool:
    """Do them in turn; false: hang up."""
    for action in actions:
        if isinstance(action, Send):
            send(action.data)
        elif isinstance(action, Pause):
            pause(action.seconds)
        elif isinstance(action, HangUp):
            return False
    return True


class HostileAgent:
    """``asked`` are the commands that came. ``greeting`` is done to every client that connects."""

    def __init__(self, guest: Guest, play: Play, greeting: Iterable[Action] = ()) -> None:
        self.guest = guest
        self.asked: list[str] = []
        self._play = play
        self._greeting = tuple(greeting)
        self._text = ""
        self._counts: Counter[str] = Counter()

    def connected(self) -> Actions:
        self._text = ""
        yield from self._greeting

    def received(self, data: bytes) -> Actions:
        for request in self._requests(data):
            command, arguments = str(request.get("execute")), request.get("arguments", {})
            number, nth = len(self.asked), self._counts[command]
            self.asked.append(command)
            self._counts[command] += 1
            yield from self._play(
                Asked(command, arguments, number, nth, lambda asked=(command, arguments): self.guest.reply(*asked))
            )

    def _requests(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Hosts are honest, so a prefix that is not JSON yet is half a request, and 0xFF forgets it."""
        _forgotten, delimiter, rest = data.rpartition(b"\xff")
        self._text = (rest.decode() if delimiter else self._text + data.decode()).lstrip()
        while self._text:
            try:
                value, end = _DECODER.raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            if isinstance(value, dict):
                yield value


def honestly(asked: Asked) -> Iterable[Action]:
    """The play of an agent without malice."""
    yield Send(asked.answer())
