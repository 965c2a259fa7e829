# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task in the event loop of asyncio, for programs that have one anyway."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TypeVar

from .tasks import Received, Task, Wait, answer_to

Result = TypeVar("Result")


async def run(task: Task[Result]) -> Result:
    """Do the waiting of one task, as :func:`tasks.run` does by blocking."""
    answer: Received | None = None
    try:
        while True:
            wait = task.send(answer)
            await _until_ready(wait)
            answer = answer_to(wait) if wait.events else None
    except StopIteration as ended:
        result: Result = ended.value
        return result
    finally:
        task.close()


async def _until_ready(wait: Wait) -> None:
    """Until there is something to read, or the time is up.

    Not by asyncio.wait_for, which before Python 3.12 could lose a cancellation.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()

    def be_ready() -> None:
        # Both may come, and an interrupt may cancel it at any moment: asking before would be too early.
        with contextlib.suppress(asyncio.InvalidStateError):
            ready.set_result(None)

    timer = loop.call_later(max(0.0, wait.until - time.monotonic()), be_ready)
    if wait.events:
        loop.add_reader(wait.descriptor, be_ready)
    try:
        await ready
    finally:
        timer.cancel()
        if wait.events:
            loop.remove_reader(wait.descriptor)
