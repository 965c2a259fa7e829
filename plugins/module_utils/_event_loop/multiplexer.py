# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The waiting of many conversations, on one thread.

What arrives is read and stamped before any conversation goes on, and looked for again between any two: how long the
others compute must not count as the round trip of one. A conversation that only waits is no work, so it makes room for
the next one: a thousand silent guests take as long as one of them.

A guest cannot keep others waiting by what it sends, either. An operation, which all waits with one deadline belong to,
is no longer counted as work when it has lasted for a while, be it that nothing comes, a byte now and then, or more than
can be read. And of those that can go on, the one goes first that has taken the least computing so far.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import resource
import select
import time
from collections import deque
from typing import Callable, Generic, Iterator, TypeVar, Union

from .tasks import READING, WRITING, Conversation, Received, Wait, outcome_of

Result = TypeVar("Result")

# What has lasted for this long is no longer counted as being worked on.
_PATIENCE_SECONDS = 0.05
# Nor is what has waited for so long in all, by whatever number of answers that are each a little slow.
_MOST_WAITED_SECONDS = 0.5
# Computing is compared in steps of this; what has taken the same is served in turn. An honest resync takes some 5 ms.
_STEP_SECONDS = 0.002
# Of what it waits, this share makes up for computing: one that lasts for days would come after all others otherwise.
_MADE_UP_FOR = 0.02
# Of what has taken so much, less is read at once: whatever it is, it is decoded within 2 ms.
_COSTLY_SECONDS = 0.02
_COSTLY_CHUNK = 512
# A guest takes two descriptors at most, and some are needed for other things.
_DESCRIPTORS_EACH = 2
_DESCRIPTORS_KEPT = 64
_MOST_AT_ONCE = 2000
# Who was told that the time is up may still give back what it holds.
_GRACE_SECONDS = 1.0

# One-shot: whoever is not waiting any more is not told of what comes.
_EPOLL_EVENTS = {READING: select.EPOLLIN | select.EPOLLONESHOT, WRITING: select.EPOLLOUT | select.EPOLLONESHOT}

_Outcome = Union[Received, BaseException, None]


class _Task(Generic[Result]):
    """A conversation under way. ``since`` is when the operation that it waits for began; parked: that was long ago.
    ``computed`` is for how many seconds it has kept the thread so far, less what it has made up for, and ``waited`` for
    how many it has waited.
    """

    __slots__ = (
        "computed",
        "conversation",
        "descriptor",
        "is_parked",
        "is_waiting",
        "number",
        "since",
        "wait",
        "wait_began_at",
        "waited",
    )

    def __init__(self, number: int, conversation: Conversation[Result]) -> None:
        self.number = number
        self.conversation = conversation
        self.wait = Wait(0.0)
        self.descriptor = -1
        self.since = 0.0
        self.computed = 0.0
        self.waited = 0.0
        self.wait_began_at = 0.0
        self.is_waiting = False
        self.is_parked = False


class Multiplexer(Generic[Result]):
    """Runs conversations, which must raise nothing but what they are thrown.

    ``concurrency`` bounds how many are worked on at the same time. ``on_ended`` is called with a conversation's number
    and what it returned, as soon as it has ended.
    """

    def __init__(self, concurrency: int, on_ended: Callable[[int, Result], None]) -> None:
        self._concurrency = concurrency
        self._on_ended = on_ended
        self._epoll = select.epoll()
        self._tasks: set[_Task[Result]] = set()
        self._by_descriptor: dict[int, _Task[Result]] = {}
        # First those that have computed for the fewest steps, then the oldest.
        self._ready: list[tuple[int, int, _Task[Result], _Outcome]] = []
        self._order = itertools.count()
        self._added: deque[Conversation[Result]] = deque()
        self._parked = 0
        self._look_at = math.inf  # when somebody's wait ends, or somebody's patience
        self._most = _most_at_once()

    def add(self, conversation: Conversation[Result]) -> None:
        """Begin it behind those that there are, as soon as there is room. For conversations that run here."""
        self._added.append(conversation)

    def run(
        self,
        conversations: Iterator[Conversation[Result]],
        until: float = math.inf,
        time_is_up: Callable[[], Exception] = TimeoutError,
    ) -> int:
        """Run them all, begun in their order; how many were begun.

        At ``until``, an instant of the monotonic clock, no more are begun, and ``time_is_up()`` is raised in those that
        are under way, once. Those that have not ended a moment later are closed, and ``on_ended`` is not called.
        """
        begun = 0
        is_over = False
        upcoming = self._upcoming(conversations)
        try:
            while self._tasks or upcoming is not None or (self._added and not is_over):
                if upcoming is None and not is_over:
                    upcoming = self._upcoming(conversations)
                if time.monotonic() >= until:
                    if is_over:
                        break
                    is_over, until = True, time.monotonic() + _GRACE_SECONDS
                    if upcoming is not None:
                        upcoming.close()
                        upcoming = None
                    self._throw_to_all(time_is_up)
                if upcoming is not None and self._has_room:
                    # One at a time: what arrives meanwhile is not to be kept waiting.
                    self._begin(begun, upcoming)
                    begun += 1
                    upcoming = self._upcoming(conversations)
                may_sleep = bool(self._tasks) and not self._ready and (upcoming is None or not self._has_room)
                self._take_what_arrived(until if may_sleep else 0.0)
                if self._ready:
                    _steps, _number, task, outcome = heapq.heappop(self._ready)
                    self._go_on(task, outcome)
        finally:
            for conversation in (*(task.conversation for task in self._tasks), *self._added):
                _close(conversation)
            self._epoll.close()
        return begun

    def _upcoming(self, conversations: Iterator[Conversation[Result]]) -> Conversation[Result] | None:
        upcoming = next(conversations, None)
        return self._added.popleft() if upcoming is None and self._added else upcoming

    @property
    def _has_room(self) -> bool:
        return len(self._tasks) - self._parked < self._concurrency and len(self._tasks) < self._most

    def _begin(self, number: int, conversation: Conversation[Result]) -> None:
        task = _Task(number, conversation)
        task.since = time.monotonic()
        self._tasks.add(task)
        self._go_on(task, None)

    def _go_on(self, task: _Task[Result], outcome: _Outcome) -> None:
        conversation = task.conversation
        began_at = time.monotonic()
        try:
            wait = conversation.throw(outcome) if isinstance(outcome, BaseException) else conversation.send(outcome)
        except StopIteration as ended:
            self._forget(task)
            self._on_ended(task.number, ended.value)
        except BaseException:
            self._forget(task)
            raise
        else:
            now = time.monotonic()
            task.computed += now - began_at
            if task.waited >= _MOST_WAITED_SECONDS:
                self._park(task)
            elif wait.until != task.wait.until:
                self._count(task)
                task.since = now
            task.wait_began_at = now
            self._wait_for(task, wait)

    def _forget(self, task: _Task[Result]) -> None:
        self._count(task)
        self._tasks.discard(task)

    def _count(self, task: _Task[Result]) -> None:
        """As worked on."""
        if task.is_parked:
            task.is_parked = False
            self._parked -= 1

    def _park(self, task: _Task[Result]) -> None:
        """It makes room for another one."""
        if not task.is_parked:
            task.is_parked = True
            self._parked += 1

    def _wait_for(self, task: _Task[Result], wait: Wait) -> None:
        task.wait = wait
        task.is_waiting = True
        patience_ends = math.inf if task.is_parked else task.since + _PATIENCE_SECONDS
        self._look_at = min(self._look_at, wait.until, patience_ends)
        if not wait.events:
            return
        self._by_descriptor[wait.descriptor] = task
        events = _EPOLL_EVENTS[wait.events]
        try:
            if wait.descriptor == task.descriptor:
                self._epoll.modify(wait.descriptor, events)
            else:
                self._epoll.register(wait.descriptor, events)
        except FileNotFoundError:  # closed and opened anew under the same number
            self._epoll.register(wait.descriptor, events)
        except FileExistsError:  # this task has waited for another one in between
            self._epoll.modify(wait.descriptor, events)
        task.descriptor = wait.descriptor

    def _take_what_arrived(self, until: float) -> None:
        """Read what there is; wait for it, at the most until then or until somebody's wait is over."""
        seconds = max(0.0, min(self._look_at, until) - time.monotonic())
        for descriptor, _events in self._epoll.poll(seconds):
            task = self._by_descriptor.get(descriptor)
            if task is None or not task.is_waiting or task.wait.descriptor != descriptor:
                continue
            outcome: _Outcome
            try:
                is_costly = task.computed >= _COSTLY_SECONDS
                outcome = outcome_of(task.wait, _COSTLY_CHUNK) if is_costly else outcome_of(task.wait)
            except OSError as error:
                outcome = error
            if outcome is None:
                self._wait_for(task, task.wait)
            else:
                self._make_ready(task, outcome)
        now = time.monotonic()
        if now >= self._look_at:
            self._look(now)

    def _make_ready(self, task: _Task[Result], outcome: _Outcome) -> None:
        task.is_waiting = False
        waited = time.monotonic() - task.wait_began_at
        task.waited += waited
        task.computed = max(0.0, task.computed - waited * _MADE_UP_FOR)
        steps = int(task.computed / _STEP_SECONDS)
        heapq.heappush(self._ready, (steps, next(self._order), task, outcome))

    def _look(self, now: float) -> None:
        """Wake those whose wait is over, and count no more on those whose operation has lasted for long."""
        self._look_at = math.inf
        for task in self._tasks:
            if task.is_waiting and task.wait.until <= now:
                self._make_ready(task, None)
            elif not task.is_parked and task.since + _PATIENCE_SECONDS <= now:
                self._park(task)
            wait_ends = task.wait.until if task.is_waiting else math.inf
            patience_ends = math.inf if task.is_parked else task.since + _PATIENCE_SECONDS
            self._look_at = min(self._look_at, wait_ends, patience_ends)

    def _throw_to_all(self, time_is_up: Callable[[], Exception]) -> None:
        self._ready.clear()
        for task in list(self._tasks):
            task.is_waiting = False
            self._go_on(task, time_is_up())


def _most_at_once() -> int:
    """How many conversations this process has descriptors for; it allows itself what it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_AT_ONCE * _DESCRIPTORS_EACH + _DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY:
        return _MOST_AT_ONCE
    return max(1, min(_MOST_AT_ONCE, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_EACH))


def _close(conversation: Conversation[Result]) -> None:
    """End it where it waits. What it awaits while it gives back what it holds is not waited for either."""
    while True:
        try:
            conversation.close()
            return
        except RuntimeError:  # it awaited something: the next call ends that, too
            continue
