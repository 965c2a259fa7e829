"""Many mixed requests to the extended agent, on this machine and with a fake clock.

Each request gets one reply, in order, and memory and descriptors stay flat.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.bench import Figures, Say
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import PATIENT, ExtendedAgent


@dataclass(frozen=True)
class Kind:
    """A request, and its answer: "return", or the class of the error."""

    request: dict[str, Any]
    answer: str = "return"


NOT_FOUND, GENERIC = "CommandNotFound", "GenericError"
KINDS = (
    Kind({"execute": "guest-ping"}),
    Kind({"execute": "guest-get-host-name"}),
    Kind({"execute": "guest-get-clock"}),
    Kind({"command": "guest-update-time", "arguments": {"seconds": 0, "nanoseconds": "1", "relative": True}}),
    # Answered only if it fails: here, the stock agent refuses it.
    Kind({"execute": "guest-shutdown", "arguments": {"mode": "halt"}}, NOT_FOUND),
    Kind({"execute": "guest-info"}),
    Kind({"execute": "guest-get-osinfo"}),
    Kind({"execute": "guest-no-such-command"}, NOT_FOUND),
    Kind({"execute": "guest-sync", "arguments": {"id": True}}, GENERIC),
    Kind({"execute": "guest-suspend-ram"}, NOT_FOUND),
    Kind({"execute": "guest-file-close", "arguments": {"handle": 1}}, GENERIC),
    Kind({"no": "command"}, GENERIC),
    Kind({"execute": "guest-get-command-info", "arguments": {"name": "guest-exec"}}),
)
REQUESTS = 100_000
REQUESTS_PER_CLIENT = 500
# Requests sent before their replies are read: more than the agent reads ahead.
PIPELINED = 100
ALLOWED_KIB = 512


class SoakError(Exception):
    """A reply is missing, wrong or superfluous."""


@dataclass(frozen=True)
class Soak:
    """Memory and descriptors after ``requests`` requests, each with one reply."""

    requests: int
    resident_kib: int
    grown_kib: int
    leaked_descriptors: int

    @property
    def is_flat(self) -> bool:
        return self.grown_kib <= ALLOWED_KIB and self.leaked_descriptors <= 0


def numbered() -> Iterator[tuple[int | None, Kind]]:
    """Yield all kinds in turn, alternately without and with an id."""
    # The number of kinds is odd, so each kind has an id every other time.
    for number, kind in enumerate(itertools.cycle(KINDS)):
        yield (number if number % 2 else None), kind


def exchange_all(path: str, requests: list[tuple[int | None, Kind]]) -> None:
    """Send the requests as one client, and read until the end.

    :raises SoakError: a request does not have exactly one correct reply, in order
    """
    with Client(path, seconds=PATIENT["alive_seconds"]) as client:
        for first in range(0, len(requests), PIPELINED):
            some = requests[first : first + PIPELINED]
            sent = [kind.request if number is None else {**kind.request, "id": number} for number, kind in some]
            client.send("".join(map(json.dumps, sent)).encode())
            for identity, kind in some:
                reply = client.reply()
                answer = "return" if "return" in reply else reply["error"]["class"]
                if (reply.get("id"), answer) != (identity, kind.answer):
                    raise SoakError(f"{kind.request} with id {identity} was answered with {reply}")
        client.socket.shutdown(socket.SHUT_WR)
        if line := client.line():
            raise SoakError(f"superfluous reply: {line!r}")


def soak(count: int, say: Say) -> Soak:
    """
    :raises SoakError: as ``exchange_all``
    """
    requests = numbered()
    with StockAgent(permits_time=True) as stock, ExtendedAgent(stock.socket, costs=PATIENT) as agent:

        def ask(number: int) -> None:
            while number > 0:
                some = list(itertools.islice(requests, min(number, REQUESTS_PER_CLIENT)))
                exchange_all(agent.socket, some)
                number -= len(some)

        def held() -> tuple[int, int]:
            """Return its memory in KiB and its descriptors with one client, after the previous one was released."""
            with Client(agent.socket) as client:
                client.execute("guest-ping")
                return agent.resident_kib(), agent.descriptors()

        ask(2 * REQUESTS_PER_CLIENT)  # until every code path has run and every cache is full
        start_kib, start_descriptors = held()
        for tenth in range(1, 11):
            ask(count // 10)
            say(f"{count * tenth // 10:>9} requests: {agent.resident_kib()} KiB, {agent.descriptors()} descriptors")
        resident_kib, descriptors = held()
        return Soak(count, resident_kib, resident_kib - start_kib, descriptors - start_descriptors)


def bench_soak(say: Say) -> Figures:
    return {f"soak_{name}": value for name, value in vars(soak(REQUESTS, say)).items()}
