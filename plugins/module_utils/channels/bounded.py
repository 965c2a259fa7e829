# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A time limit for calls that have none of their own."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Optional, Tuple, TypeVar

Result = TypeVar("Result")

_Outcome = Tuple[Optional[object], Optional[BaseException]]


class StillBusyError(Exception):
    """The call did not end in time; it goes on by itself, and its result is dropped."""


class BoundedCaller:
    """Runs blocking calls on a thread of its own, one at a time, and stops waiting for one when its time is up.

    A call into a C library cannot be interrupted. The thread is a daemon, so one that hangs keeps nobody from exiting.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], object], list[_Outcome], threading.Event] | None]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def run(self, function: Callable[[], Result], timeout: float) -> Result:
        """What ``function`` returns or raises.

        :raises StillBusyError: it, or a call before it that nobody waits for any more, takes longer than ``timeout`` s
        """
        outcomes: list[_Outcome] = []
        done = threading.Event()
        cancelled = threading.Event()
        self._calls.put((lambda: None if cancelled.is_set() else function(), outcomes, done))
        if not done.wait(timeout):
            cancelled.set()
            raise StillBusyError
        result, error = outcomes[0]
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def post(self, function: Callable[[], object]) -> None:
        """Run ``function`` behind the calls before it, and wait for nothing."""
        self._calls.put((function, [], threading.Event()))

    def stop(self) -> None:
        """End the thread as soon as its present call has ended."""
        self._calls.put(None)

    def _serve(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            function, outcomes, done = call
            try:
                outcomes.append((function(), None))
            except BaseException as error:  # pylint: disable=broad-exception-caught  # raised again by run()
                outcomes.append((None, error))
            done.set()
