# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event loop of the only thread: descriptors, timers and signals. It sleeps until there is work to do."""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from typing import Callable

Action = Callable[[], None]

# Edge-triggered: the virtio console reports POLLHUP for as long as the host is away, so the loop would never sleep.
_READING = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_WRITING = _READING | select.EPOLLOUT
_NEVER = float("inf")
# Python allocates space for this many in each round. There are only a few descriptors; others follow in the next round.
_EVENTS_AT_ONCE = 8


class Timer:
    """An action to run once, at a time of the monotonic clock."""

    def __init__(self, at: float, action: Action) -> None:
        self.at = at
        self.action = action


class Loop:
    """``now`` is when the loop last woke up, by the monotonic clock: reading it for each request would cost more."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: set[Timer] = set()  # only a few
        self._next_at = _NEVER  # when the first of them is due
        self._soon: deque[Action] = deque()
        self._signals: dict[int, Action] = {}
        self._wakeup: int | None = None
        self._status: int | None = None

    def watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Call the handler with epoll's mask on each event; it must read until nothing is left."""
        self._epoll.register(descriptor, _READING)
        self._handlers[descriptor] = handler

    def watch_writing(self, descriptor: int, wanted: bool) -> None:
        self._epoll.modify(descriptor, _WRITING if wanted else _READING)

    def unwatch(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)
        del self._handlers[descriptor]

    def look_at_clock(self) -> None:
        """Update ``now`` after something that may have taken time."""
        self.now = time.monotonic()

    def later(self, seconds: float, action: Action) -> Timer:
        timer = Timer(time.monotonic() + seconds, action)
        self._timers.add(timer)
        self._next_at = min(self._next_at, timer.at)
        return timer

    def cancel(self, timer: Timer) -> None:
        self._timers.discard(timer)
        self._next_at = min((other.at for other in self._timers), default=_NEVER)

    def soon(self, action: Action) -> None:
        """Run the action in the loop's next round, after the events of other descriptors."""
        self._soon.append(action)

    def on_signal(self, number: int, action: Action) -> None:
        if self._wakeup is None:
            self._wakeup, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            self.watch(self._wakeup, self._take_signals)
        self._signals[number] = action
        signal.signal(number, lambda _number, _frame: None)  # the wake-up descriptor wakes the loop

    def _take_signals(self, _mask: int) -> None:
        assert self._wakeup is not None  # noqa: S101  # only called for this descriptor
        for number in sorted(set(os.read(self._wakeup, 4096))):
            if number in self._signals:
                self._signals[number]()

    def stop(self, status: int = 0) -> None:
        self._status = status

    def run(self) -> int:
        """Run until ``stop`` is called; return its status."""
        handlers = self._handlers
        while self._status is None:
            waiting = len(self._soon)  # actions that are added in this round wait for the next
            # A negative timeout means no timeout.
            timeout = 0 if waiting else -1 if self._next_at == _NEVER else max(self._next_at - self.now, 0)
            events = self._epoll.poll(timeout, _EVENTS_AT_ONCE)
            self.now = time.monotonic()
            for descriptor, mask in events:
                handler = handlers.get(descriptor)  # an earlier handler of this round may have closed it
                if handler is not None:
                    handler(mask)
            if self.now >= self._next_at:
                self._run_due_timers()
            for _action in range(waiting):
                self._soon.popleft()()
        status, self._status = self._status, None
        return status

    def _run_due_timers(self) -> None:
        due = (timer for timer in self._timers if timer.at <= self.now)
        for timer in sorted(due, key=lambda timer: timer.at):
            if timer in self._timers:
                self.cancel(timer)
                timer.action()

    def close(self) -> None:
        self._epoll.close()
