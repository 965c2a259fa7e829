"""A malicious fake agent: it executes requests or not, and answers as its play defines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing

from tests.fakes.agent import Agent
from tests.fakes.clock import Clock
from tests.fakes.faults import Piece
from tests.fakes.kinds import KINDS, SECOND_NS

STOCK, EXTENDED = "stock", "extended"

# The commands of both agents that read the clock, and those that step it.
READS = ("guest-get-time", "guest-get-clock")
STEPS = ("guest-set-time", "guest-update-time")

BEHIND_NS = -3 * SECOND_NS
# seconds; every wait ends with the server
FOR_EVER = 3600.0


@dataclass(frozen=True)
class Asked:
    """One request.

    ``number`` counts all requests since the agent started, ``nth`` those for this command, both from 0. ``answer``
    executes the command once, including a step, and returns the honest agent's reply.
    """

    command: str
    arguments: Mapping[str, Any]
    number: int
    nth: int
    answer: Callable[[], bytes]


# Called for each request in turn. Each piece is sent at once, so a play may be endless.
Play = Callable[[Asked], Iterable[Piece]]


def honestly(asked: Asked) -> Iterable[Piece]:
    """Play an honest agent."""
    yield asked.answer()


class HostileAgent(Agent):
    """A malicious agent. ``kind`` is "stock" or "extended". Its clock is three seconds behind unless one is given."""

    def __init__(
        self, play: Play = honestly, kind: str = EXTENDED, clock: Clock | None = None, greeting: Iterable[Piece] = ()
    ) -> None:
        super().__init__(KINDS[kind], clock or Clock(BEHIND_NS), greeting=greeting)
        self._play = play

    def disconnected(self) -> None:
        self._decoder = None

    def _replies(self, event: framing.Event, received_ns: int) -> Iterator[Piece]:
        if isinstance(event, framing.Message):
            message = event.decode()
            command, arguments = message["execute"], message.get("arguments", {})
            asked = Asked(
                command, arguments, len(self.requests), self.commands[command], lambda: self._sent(message, received_ns)
            )
            self.commands[command] += 1
            self.requests.append((command, arguments))
            yield from self._play(asked)

    def _sent(self, message: Mapping[str, Any], received_ns: int) -> bytes:
        answer = self._answer(message, received_ns, lambda _seconds: None)
        return b"" if answer is None else self._encoded(message["execute"], answer)


def encoded(reply: Any, command: str = "") -> bytes:
    """Encode a reply like the stock agent: on one line, and after 0xFF if the command is guest-sync-delimited."""
    return (b"\xff" if command == "guest-sync-delimited" else b"") + json.dumps(reply).encode() + b"\n"
