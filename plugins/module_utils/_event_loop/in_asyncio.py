# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running a task in asyncio's event loop, for programs that have one anyway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TypeVar

from .tasks import READING, Received, Task, Wait, answer_to

Result = TypeVar("Result")


async def run(task: Task[Result]) -> Result:
    """Run a task and wait for it in asyncio's loop, where :func:`tasks.run` blocks."""
    answer: Received | OSError | None = None
    try:
        while True:
            wait = task.throw(answer) if isinstance(answer, OSError) else task.send(answer)
            try:
                answer = await _answer(wait)
            except OSError as error:  # raised where it is awaited
                answer = error
    except StopIteration as ended:
        result: Result = ended.value
        return result
    finally:
        task.close()


async def _answer(wait: Wait) -> Received | None:
    while await _is_ready(wait):
        answer = answer_to(wait)
        if answer is not None or time.monotonic() >= wait.until:
            return answer
    return None


async def _is_ready(wait: Wait) -> bool:
    """Wait until the descriptor is ready (True) or the time is up (False).

    Not by asyncio.wait_for, which before Python 3.12 could lose a cancellation.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def end(is_ready: bool) -> None:
        # Both may happen, and an interrupt may cancel it at any moment, so a check in advance would not help.
        with contextlib.suppress(asyncio.InvalidStateError):
            ready.set_result(is_ready)

    timer = loop.call_later(max(0.0, wait.until - time.monotonic()), end, False)
    is_for_reading = wait.events == READING
    try:
        if wait.events:
            (loop.add_reader if is_for_reading else loop.add_writer)(wait.descriptor, end, True)
        return bool(await ready)
    finally:
        timer.cancel()
        if wait.events:
            (loop.remove_reader if is_for_reading else loop.remove_writer)(wait.descriptor)
