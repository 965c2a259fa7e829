"""Tasks for the multiplexer, and the descriptors that they wait for."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import multiplexer, tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Received, Task

FOREVER = 60.0


class Pair:
    """Two ends of a socket: ours, which tasks wait for, and theirs."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def run(
    *given: Task[Any],
    concurrency: int = 20,
    timings: multiplexer.Timings = multiplexer.TIMINGS,
    clock: Callable[[], float] | None = None,
    **limits: Any,
) -> list[tuple[int, Any]]:
    ended: list[tuple[int, Any]] = []
    loop: multiplexer.Multiplexer[Any]
    loop = multiplexer.Multiplexer(concurrency, lambda *result: ended.append(result), timings, clock)
    loop.run(iter(given), **limits)
    return ended


async def returns(value: Any) -> Any:
    return value


async def pauses(seconds: float, value: Any = None) -> Any:
    await tasks.pause(seconds)
    return value


async def receives(pair: Pair, seconds: float = FOREVER) -> Received | None:
    return await tasks.received(pair.ours.fileno(), tasks.Deadline(seconds))


def fill(end: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(bytes(65536))
