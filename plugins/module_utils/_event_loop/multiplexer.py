# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event loop of many tasks, on one thread.

Theory of operation. A task is in one of these states, and its :class:`_Account` says which:

======== ============================================= ==================================== ============================
state    what it is                                    left when                            counts for ``concurrency``
======== ============================================= ==================================== ============================
upcoming not begun; made by the iterator, or added     there is room: it runs               no
running  the one that computes                         it awaits: waiting; returns: ended   yes
waiting  for its descriptor, or for its time           either comes: ready                  until it is parked
ready    waits for the thread                          no other has computed less: it runs  as while it waited
======== ============================================= ==================================== ============================

A round of the loop begins one task if there is room, makes those ready for which something came, and lets one run. What
arrives is read and stamped before any task goes on, and looked for again between any two: how long the others compute
must not count as the round trip of one.

A task that only waits is no work, so it is *parked* and makes room for the next one: a thousand silent guests take as
long as one of them. No guest can keep others waiting by what it sends, either. An operation, which all waits with one
deadline belong to, is parked when it has lasted for a while, be it that nothing comes, a byte now and then, or more
than can be read. And of those that are ready, the one runs first that has taken the least computing so far.

At the end of its time, the loop begins no more tasks, raises an error in each, and goes on for a moment, in which they
may give back what they hold. What has not ended then is closed where it waits.
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
from typing import Callable, Generic, Iterator, NamedTuple, TypeVar, Union

from .tasks import READING, WRITING, Received, Task, Wait, answer_to

Result = TypeVar("Result")


class Timings(NamedTuple):
    """How long an event loop waits for its tasks, in seconds.

    ``patience``: an operation that has lasted for this long is no longer counted as being worked on. ``most_waited``:
    nor is a task that has waited for so long in all, by whatever number of answers that are each a little slow.
    ``grace``: a task whose time is up may still give back what it holds.
    """

    patience: float = 0.05
    most_waited: float = 0.5
    grace: float = 1.0


TIMINGS = Timings()

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

# One-shot: a task that is not waiting any more does not hear of what comes.
_EPOLL_EVENTS = {READING: select.EPOLLIN | select.EPOLLONESHOT, WRITING: select.EPOLLOUT | select.EPOLLONESHOT}

_Answer = Union[Received, BaseException, None]


class _Account(Generic[Result]):
    """A task that was begun, what it waits for, and what it has used.

    ``since`` is when the operation that it waits for began. ``computed`` is for how many seconds it has kept the thread
    so far, less what it has made up for, and ``waited`` for how many it has waited. ``due_at`` is when it is looked at,
    if nothing comes.
    """

    __slots__ = (
        *("number", "task", "wait", "descriptor", "since", "computed", "waited", "wait_began_at"),
        *("due_at", "is_waiting", "is_parked"),
    )

    def __init__(self, number: int, task: Task[Result], since: float) -> None:
        self.number = number
        self.task = task
        self.wait = Wait(0.0)
        self.descriptor = -1
        self.since = since
        self.computed = 0.0
        self.waited = 0.0
        self.wait_began_at = 0.0
        self.due_at = math.inf
        self.is_waiting = False
        self.is_parked = False


class Multiplexer(Generic[Result]):
    """Runs tasks, which must raise nothing but what they are thrown.

    ``concurrency`` bounds how many are worked on at the same time. ``on_ended`` is called with a task's number and what
    it returned, as soon as it has ended. ``clock`` is the monotonic clock that waits and computing are measured by;
    ``time.monotonic`` by default.
    """

    def __init__(
        self,
        concurrency: int,
        on_ended: Callable[[int, Result], None],
        timings: Timings = TIMINGS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._concurrency = concurrency
        self._on_ended = on_ended
        self._timings = timings
        self._clock = clock or time.monotonic
        self._epoll = select.epoll()
        self._accounts: set[_Account[Result]] = set()
        self._by_descriptor: dict[int, _Account[Result]] = {}
        # First those that have computed for the fewest steps, then the oldest.
        self._ready: list[tuple[int, int, _Account[Result], _Answer]] = []
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._upcoming: Task[Result] | None = None
        self._added: deque[Task[Result]] = deque()
        self._parked = 0
        # When a wait may end, or an operation be parked. Only the entry that an account has as its ``due_at`` counts.
        self._due: list[tuple[float, int, _Account[Result]]] = []
        self._most = _most_at_once()

    def add(self, task: Task[Result]) -> None:
        """Begin it after those that there are, as soon as there is room. For tasks that run here."""
        self._added.append(task)

    def run(
        self,
        tasks: Iterator[Task[Result]],
        until: float = math.inf,
        time_is_up: Callable[[], Exception] = TimeoutError,
    ) -> int:
        """Run them all, begun in their order; how many were begun.

        At ``until``, an instant of the monotonic clock, no more are begun, and ``time_is_up()`` is raised in those that
        are under way, once. Those that have not ended a moment later are closed, and ``on_ended`` is not called.
        """
        try:
            while self._has_upcoming(tasks) or self._accounts:
                if self._clock() >= until:
                    self._end(time_is_up)
                    break
                self._round(until)
        finally:
            for task in (*(account.task for account in self._accounts), *self._added):
                _close(task)
            self._epoll.close()
        return next(self._numbers)

    def _has_upcoming(self, tasks: Iterator[Task[Result]]) -> bool:
        if self._upcoming is None:
            self._upcoming = next(tasks, None)
        if self._upcoming is None and self._added:
            self._upcoming = self._added.popleft()
        return self._upcoming is not None

    def _end(self, time_is_up: Callable[[], Exception]) -> None:
        if self._upcoming is not None:
            self._upcoming.close()
            self._upcoming = None
        self._ready.clear()
        for account in list(self._accounts):
            account.is_waiting = False
            self._go_on(account, time_is_up())
        until = self._clock() + self._timings.grace
        while self._accounts and self._clock() < until:
            self._round(until)

    def _round(self, until: float) -> None:
        task = self._upcoming if self._upcoming is not None and self._has_room else None
        if task is not None:  # one at a time: what arrives meanwhile is not to be kept waiting
            self._upcoming = None
            account = _Account(next(self._numbers), task, self._clock())
            self._accounts.add(account)
            self._go_on(account, None)
        self._take_what_arrived(0.0 if task is not None or self._ready else until)
        if self._ready:
            _steps, _number, account, answer = heapq.heappop(self._ready)
            self._go_on(account, answer)

    @property
    def _has_room(self) -> bool:
        return len(self._accounts) - self._parked < self._concurrency and len(self._accounts) < self._most

    def _go_on(self, account: _Account[Result], answer: _Answer) -> None:
        """Let it run up to its next wait."""
        task = account.task
        began_at = self._clock()
        try:
            wait = task.throw(answer) if isinstance(answer, BaseException) else task.send(answer)
        except StopIteration as ended:
            self._forget(account)
            self._on_ended(account.number, ended.value)
        except BaseException:
            self._forget(account)
            raise
        else:
            now = self._clock()
            account.computed += now - began_at
            if account.waited >= self._timings.most_waited:
                self._park(account, True)
            elif wait.until != account.wait.until:  # another operation
                self._park(account, False)
                account.since = now
            account.wait_began_at = now
            self._wait_for(account, wait)

    def _forget(self, account: _Account[Result]) -> None:
        self._park(account, False)
        self._accounts.discard(account)
        account.due_at = math.nan

    def _park(self, account: _Account[Result], is_parked: bool) -> None:
        """Whether it makes room for another one."""
        self._parked += is_parked - account.is_parked
        account.is_parked = is_parked

    def _wait_for(self, account: _Account[Result], wait: Wait) -> None:
        account.wait = wait
        account.is_waiting = True
        self._look_later(account)
        if not wait.events:
            return
        self._by_descriptor[wait.descriptor] = account
        events = _EPOLL_EVENTS[wait.events]
        try:
            if wait.descriptor == account.descriptor:
                self._epoll.modify(wait.descriptor, events)
            else:
                self._epoll.register(wait.descriptor, events)
        except FileNotFoundError:  # closed and opened anew under the same number
            self._epoll.register(wait.descriptor, events)
        except FileExistsError:  # this task has waited for another one in between
            self._epoll.modify(wait.descriptor, events)
        account.descriptor = wait.descriptor

    def _look_later(self, account: _Account[Result]) -> None:
        """See that it is looked at when its wait ends, or it is to be parked, if nothing comes before."""
        due_at = account.wait.until if account.is_waiting else math.inf
        if not account.is_parked:
            due_at = min(due_at, account.since + self._timings.patience)
        # An entry that has become too early stays, and is looked at in vain: most operations are short.
        if due_at < account.due_at:
            account.due_at = due_at
            heapq.heappush(self._due, (due_at, next(self._order), account))

    def _take_what_arrived(self, until: float) -> None:
        """Read what there is; wait for it, at the most until then or until a wait is over."""
        look_at = min(self._due[0][0], until) if self._due else until
        seconds = max(0.0, look_at - self._clock())
        for descriptor, _events in self._epoll.poll(seconds):
            account = self._by_descriptor.get(descriptor)
            if account is None or not account.is_waiting or account.wait.descriptor != descriptor:
                continue
            answer: _Answer
            try:
                is_costly = account.computed >= _COSTLY_SECONDS
                answer = answer_to(account.wait, _COSTLY_CHUNK) if is_costly else answer_to(account.wait)
            except OSError as error:
                answer = error
            if answer is None:
                self._wait_for(account, account.wait)
            else:
                self._make_ready(account, answer)
        self._look(self._clock())

    def _make_ready(self, account: _Account[Result], answer: _Answer) -> None:
        account.is_waiting = False
        waited = self._clock() - account.wait_began_at
        account.waited += waited
        account.computed = max(0.0, account.computed - waited * _MADE_UP_FOR)
        steps = int(account.computed / _STEP_SECONDS)
        heapq.heappush(self._ready, (steps, next(self._order), account, answer))

    def _look(self, now: float) -> None:
        """Make those ready whose wait is over, and park those whose operation has lasted for long."""
        due = []
        while self._due and self._due[0][0] <= now:
            due.append(heapq.heappop(self._due))
        for due_at, _number, account in due:
            if due_at != account.due_at:
                continue
            account.due_at = math.inf
            if account.is_waiting and account.wait.until <= now:
                self._make_ready(account, None)
            elif account.since + self._timings.patience <= now:
                self._park(account, True)
            self._look_later(account)


def _most_at_once() -> int:
    """How many tasks this process has descriptors for; it allows itself what it may."""
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


def _close(task: Task[Result]) -> None:
    """End it where it waits. What it awaits while it gives back what it holds is not waited for either."""
    while True:
        try:
            task.close()
            return
        except RuntimeError:  # it awaited something: the next call ends that, too
            continue
