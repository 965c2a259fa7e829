# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way between a client and an agent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class DelayLine(Generic[T]):
    """Delivers what is put in after so many seconds, in the same order; after none, at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, deliver: Callable[[T], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._deliver = deliver
        self._items: deque[T] = deque()

    @property
    def is_empty(self) -> bool:
        return not self._items

    def put(self, item: T) -> None:
        if not self._seconds:
            self._deliver(item)
            return
        self._items.append(item)
        self._loop.call_later(self._seconds, self._arrive)

    def _arrive(self) -> None:
        # Two timers of one moment may ring in either order; what they deliver may not.
        self._deliver(self._items.popleft())
