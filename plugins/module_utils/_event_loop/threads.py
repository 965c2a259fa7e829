# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Timeouts for blocking calls that have none of their own: they run on other threads, which are not waited for."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
import time
from typing import Callable, Generic, Protocol, TypeVar

from .tasks import Deadline, received

Result = TypeVar("Result")

Job = Callable[[], None]


class StillBusyError(Exception):
    """The call did not end in time. It continues on its thread, and its result is dropped."""


class Workers(Protocol):
    """Other threads, which run jobs."""

    def submit(self, job: Job) -> None:
        """Have the job run when a thread is free. Does not wait."""

    def are_stuck(self, seconds: float) -> bool:
        """Return whether no job has begun or ended for ``seconds``: then waiting jobs wait for threads that hang."""


class Worker:
    """A thread that runs one job after the other.

    A call into a C library cannot be interrupted. The thread is a daemon, so that a program can exit while it hangs.
    """

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._progressed_at = time.monotonic()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def are_stuck(self, seconds: float) -> bool:
        return time.monotonic() - self._progressed_at >= seconds

    def stop(self) -> None:
        """End the thread after the jobs that were submitted."""
        self._jobs.put(None)

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._progressed_at = time.monotonic()
            job()
            del job  # must not be kept until the next one comes
            self._progressed_at = time.monotonic()


class BoundedCaller:
    """Runs blocking calls on other threads, one at a time, each with a timeout."""

    def __init__(self) -> None:
        self._bell = Bell()

    async def run(
        self, function: Callable[[], Result], timeout: float, workers: Workers, until: float = math.inf
    ) -> Result:
        """Return or raise what ``function`` does. Its timeout starts when it does; waiting for a thread does not count.

        At ``until``, an instant of the monotonic clock, its time is up even if it has not begun.

        :raises StillBusyError: it takes longer than ``timeout`` s, or all threads have hung for so long before it
        """
        call = _Call(function, self._bell, timeout, until)
        workers.submit(call.perform)
        try:
            while not call.is_done:
                has_rung = await received(self._bell.descriptor, call.deadline) is not None
                has_begun = call.has_begun  # read before the deadline: perform() moves the deadline before it sets this
                if not has_rung and call.deadline.expired():
                    if has_begun or time.monotonic() >= until or workers.are_stuck(timeout):
                        raise StillBusyError
                    call.deadline = call.new_deadline()
        finally:
            call.is_canceled = True
        return call.result()

    def close(self) -> None:
        self._bell.close()


class _Call(Generic[Result]):
    """A call on another thread. That one sets each attribute in a single assignment, so no half of one is ever seen."""

    def __init__(self, function: Callable[[], Result], bell: Bell, timeout: float, until: float) -> None:
        self._function: Callable[[], Result] | None = function
        self._bell = bell
        self._timeout = timeout
        self._until = until
        self._value: Result | None = None
        self._error: BaseException | None = None
        self.deadline = self.new_deadline()
        self.has_begun = False
        self.is_done = False
        self.is_canceled = False

    def new_deadline(self) -> Deadline:
        return Deadline(min(self._timeout, self._until - time.monotonic()))

    def perform(self) -> None:
        """Run the function once, on the other thread."""
        function, self._function = self._function, None
        if self.is_canceled or function is None:
            return
        self.deadline = self.new_deadline()
        self.has_begun = True
        try:
            value = function()
        except BaseException as error:  # pylint: disable=broad-exception-caught  # raised again by result()
            if not self.is_canceled:
                self._error = error
        else:
            if not self.is_canceled:
                self._value = value
        self.is_done = True
        self._bell.ring()

    def result(self) -> Result:
        """Return or raise what the function did, without keeping a reference to it."""
        error, self._error = self._error, None
        if error is None:
            return self._value  # type: ignore[return-value]  # the function's own
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame: a reference cycle


class Bell:
    """Wakes a task that waits on a descriptor, from another thread. Ringing a closed bell does nothing."""

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        for end in (self.descriptor, self._writer):
            os.set_blocking(end, False)
        self._lock = threading.Lock()
        self._is_open = True

    def ring(self) -> None:
        # A closed descriptor's number may belong to another file by now: a late ring must not write into it.
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._is_open:
                os.write(self._writer, b"\0")

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._is_open = False
                os.close(self.descriptor)
                os.close(self._writer)
