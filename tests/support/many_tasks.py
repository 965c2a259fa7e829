"""Tasks for the event loop of many, and the descriptors that they wait for."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import (
    TIMINGS,
    Multiplexer,
    Timings,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import (
    Deadline,
    Received,
    Task,
    pause,
    received,
)

FOREVER = 60.0


class Pair:
    """Two ends of a socket: ours, which tasks wait on, and theirs."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def run(*tasks: Task[Any], concurrency: int = 20, timings: Timings = TIMINGS, **limits: Any) -> list[tuple[int, Any]]:
    """What they returned, in the order in which they ended."""
    ended: list[tuple[int, Any]] = []
    multiplexer: Multiplexer[Any] = Multiplexer(
        concurrency, lambda number, result: ended.append((number, result)), timings
    )
    multiplexer.run(iter(tasks), **limits)
    return ended


async def returns(value: Any) -> Any:
    return value


async def pauses(seconds: float, value: Any = None) -> Any:
    await pause(seconds)
    return value


async def receives(pair: Pair, seconds: float = FOREVER) -> Received | None:
    return await received(pair.ours.fileno(), Deadline(seconds))


def fill(end: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(bytes(65536))
