# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tasks, and the waits that an event loop does for them.

Everything that talks to an agent is a *task*: a coroutine that suspends only for a :class:`Wait`, which is for bytes,
for room to write, or for time to pass. :func:`run` waits for one task by blocking, ``multiplexer.py`` for many at once,
and ``in_asyncio.py`` in asyncio's loop. The code in between is the same for one guest and for a thousand.

This is not asyncio, because importing asyncio takes as long as resyncing a guest, and its loop does other guests' work
between the arrival of a reply and its stamp.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from typing import AsyncIterator, Coroutine, Generator, NamedTuple, Optional, TypeVar

Result = TypeVar("Result")

READING = select.POLLIN
WRITING = select.POLLOUT

# For a task that waits for something that may never come, and then waits again: this bounds only one wait.
LONG_SECONDS = 3600.0

# How soon a turn that ended early is taken.
_NEXT_TURN_SECONDS = 0.01

# Garbage is decoded at about 2 us a byte, and other guests have to wait for that.
_CHUNK = 4096


class Deadline:
    """The end of the time for a whole operation, however many waits it has."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.at = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at - time.monotonic())

    def expired(self) -> bool:
        return time.monotonic() >= self.at


# For an operation that is not part of a longer one.
NEVER = Deadline(math.inf)


class Received(NamedTuple):
    """The bytes read from a descriptor, empty at its end; and the host's monotonic clock right after the read."""

    data: bytes
    at_ns: int


class Wait(NamedTuple):
    """One reason to wait. ``until`` is an instant of the monotonic clock in seconds. Without ``events`` there is no
    descriptor, and the wait is for time only.
    """

    until: float
    descriptor: int = -1
    events: int = 0

    def __await__(self) -> Generator[Wait, Received | None, Received | None]:
        return (yield self)


Task = Coroutine[Wait, Optional[Received], Result]

_READY = Received(b"", 0)  # there is room to write


def received(descriptor: int, deadline: Deadline) -> Wait:
    """A wait for the next bytes; its result is None if there were none by the deadline.

    :raises OSError: reading failed
    """
    return Wait(deadline.at, descriptor, READING)


def writable(descriptor: int, deadline: Deadline) -> Wait:
    """A wait until the descriptor takes bytes; its result is None if it did not by the deadline."""
    return Wait(deadline.at, descriptor, WRITING)


def pause(seconds: float) -> Wait:
    return Wait(time.monotonic() + seconds)


class Turns:
    """Lets coroutines of one thread take turns.

    A turn ends with its block, or after ``seconds``: then the next one begins even if that block still runs.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._line: list[object] = []
        self._ends_at = 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        me = object()
        self._line.append(me)
        try:
            while self._line[0] is not me or time.monotonic() < self._ends_at:
                # The further back in the line, the less often it checks.
                await pause(_NEXT_TURN_SECONDS * (1 + self._line.index(me)))
        finally:
            self._line.remove(me)
        self._ends_at = ends_at = time.monotonic() + self._seconds
        try:
            yield
        finally:
            if self._ends_at == ends_at:
                self._ends_at = 0.0


def run(task: Task[Result]) -> Result:
    """Run one task, blocking while it waits; return or raise what it does."""
    answer: Received | BaseException | None = None
    try:
        while True:
            wait = task.throw(answer) if isinstance(answer, BaseException) else task.send(answer)
            try:
                answer = _block(wait)
            except BaseException as error:  # pylint: disable=broad-exception-caught  # raised where it is awaited
                answer = error
    except StopIteration as ended:
        result: Result = ended.value
        return result
    finally:
        task.close()


def _block(wait: Wait) -> Received | None:
    if not wait.events:
        time.sleep(max(0.0, wait.until - time.monotonic()))
        return None
    while is_ready(wait.descriptor, wait.events, wait.until):
        answer = answer_to(wait)
        if answer is not None or time.monotonic() >= wait.until:
            return answer
    return None


def is_ready(descriptor: int, events: int, until: float = 0.0) -> bool:
    """Return whether the descriptor is ready or becomes ready by ``until``, an instant of the monotonic clock."""
    # poll, not select: a fleet's process may have descriptors above 1023, the highest for select.
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(max(0.0, until - time.monotonic()) * 1000))


def answer_to(wait: Wait, most: int = _CHUNK) -> Received | None:
    """Return the answer to a wait whose descriptor was reported ready, with at most ``most`` bytes. None: it is not
    ready after all.

    :raises OSError: reading failed
    """
    if wait.events != READING:
        return _READY
    try:
        data = os.read(wait.descriptor, most)
    except (BlockingIOError, InterruptedError):
        return None
    return Received(data, time.monotonic_ns())
