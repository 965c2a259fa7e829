# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An event loop for many tasks, on one thread.

Theory of operation. A task is in one of these states, and its :class:`_Account` says which:

======== ============================================= ==================================== ============================
state    meaning                                       left when                            counts for ``concurrency``
======== ============================================= ==================================== ============================
upcoming not started; from the iterator, or added      there is room: running               no
running  the one task that computes                    it awaits: waiting; returns: ended   yes
waiting  for its descriptor, or until a time           either comes: ready                  until it is parked
ready    waits for the thread                          no other has computed less: running  as while it waited
======== ============================================= ==================================== ============================

A round of the loop starts one task if there is room, makes the tasks ready that have received something, and runs one.
Arriving bytes are read and stamped before any task runs, and again between any two: the time that other tasks compute
must not count toward a round trip.

A task that only waits does no work, so it is *parked* and makes room for the next one: a thousand silent guests take as
long as one. A guest cannot keep others waiting by sending, either. All waits with one deadline are one operation. An
operation is parked after a while, whether its guest sends nothing, a byte now and then, or more than can be read. Among
the ready tasks, the one that has computed the least runs first.

When its time is up, the loop starts no more tasks, raises an error in each, and runs a moment longer so that they can
release their resources. A task that has not ended by then is closed where it waits.
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
    """The times in seconds that an event loop waits for its tasks.

    ``patience``: an operation that takes longer no longer counts for ``concurrency``. ``most_waited``: nor does a task
    that has waited longer in total, for example for many answers that are each a little slow. ``grace``: the time to
    release resources after the task's time is up.
    """

    patience: float = 0.05
    most_waited: float = 0.5
    grace: float = 1.0


TIMINGS = Timings()

# Computing time is compared in steps of this size; equal tasks take turns. An honest resync computes for about 5 ms.
_STEP_SECONDS = 0.002
# This share of the waiting time is deducted from the computing time. Otherwise a task that lasts for days would come
# after all others.
_WAITING_CREDIT = 0.02
# A task that has computed for longer is given smaller chunks: any of them is decoded within 2 ms.
_COSTLY_SECONDS = 0.02
_COSTLY_CHUNK = 512
# A guest needs at most two descriptors; the process needs some for other purposes.
_DESCRIPTORS_EACH = 2
_DESCRIPTORS_KEPT = 64
_MOST_AT_ONCE = 2000

# One-shot: a task that no longer waits gets no events.
_EPOLL_EVENTS = {READING: select.EPOLLIN | select.EPOLLONESHOT, WRITING: select.EPOLLOUT | select.EPOLLONESHOT}

_Answer = Union[Received, BaseException, None]


class _Account(Generic[Result]):
    """A task that was started, what it waits for, and the time that it has used.

    ``since`` is the start of the operation that it waits for. ``computed`` is the time in seconds that it has used the
    thread, less the credit for waiting; ``waited`` is the time that it has waited. ``due_at`` is the time of the next
    check if nothing arrives.
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
    """Runs tasks, which must raise only errors that were thrown into them.

    ``concurrency`` is the maximum number of tasks worked on at the same time. ``on_ended`` is called with a task's
    number and its return value as soon as it ends. ``clock`` is the monotonic clock for waiting and computing times;
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
        # The fewest computing steps first, then the oldest.
        self._ready: list[tuple[int, int, _Account[Result], _Answer]] = []
        self._order = itertools.count()
        self._numbers = itertools.count()
        self._upcoming: Task[Result] | None = None
        self._added: deque[Task[Result]] = deque()
        self._parked = 0
        # When a wait ends or an operation is parked. Only an entry that equals its account's ``due_at`` counts.
        self._due: list[tuple[float, int, _Account[Result]]] = []
        self._most = _most_at_once()

    def add(self, task: Task[Result]) -> None:
        """Start ``task`` after the present ones, as soon as there is room. To be called by tasks of this loop."""
        self._added.append(task)

    def run(
        self,
        tasks: Iterator[Task[Result]],
        until: float = math.inf,
        time_is_up: Callable[[], Exception] = TimeoutError,
    ) -> int:
        """Run all tasks, started in order; return the number of tasks that were started.

        At ``until``, an instant of the monotonic clock, no more tasks are started, and ``time_is_up()`` is raised once
        in those that run. Tasks that have not ended a moment later are closed without a call of ``on_ended``.
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
        if task is not None:  # one at a time, so that arriving bytes are read soon
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
        """Run the task up to its next wait."""
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
        """Set whether the task makes room for another one."""
        self._parked += is_parked - account.is_parked
        account.is_parked = is_parked

    def _wait_for(self, account: _Account[Result], wait: Wait) -> None:
        account.wait = wait
        account.is_waiting = True
        self._schedule_check(account)
        if not wait.events:
            return
        self._by_descriptor[wait.descriptor] = account
        events = _EPOLL_EVENTS[wait.events]
        try:
            if wait.descriptor == account.descriptor:
                self._epoll.modify(wait.descriptor, events)
            else:
                self._epoll.register(wait.descriptor, events)
        except FileNotFoundError:  # closed and reopened under the same number
            self._epoll.register(wait.descriptor, events)
        except FileExistsError:  # this task has waited for another descriptor in between
            self._epoll.modify(wait.descriptor, events)
        account.descriptor = wait.descriptor

    def _schedule_check(self, account: _Account[Result]) -> None:
        """Schedule a check for when its wait ends or it is to be parked, whichever is first."""
        due_at = account.wait.until if account.is_waiting else math.inf
        if not account.is_parked:
            due_at = min(due_at, account.since + self._timings.patience)
        # An entry that has become too early stays and costs one useless check: most operations are short.
        if due_at < account.due_at:
            account.due_at = due_at
            heapq.heappush(self._due, (due_at, next(self._order), account))

    def _take_what_arrived(self, until: float) -> None:
        """Read what has arrived; wait for it at most until ``until`` or until the next check is due."""
        check_at = min(self._due[0][0], until) if self._due else until
        seconds = max(0.0, check_at - self._clock())
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
        self._check_due(self._clock())

    def _make_ready(self, account: _Account[Result], answer: _Answer) -> None:
        account.is_waiting = False
        waited = self._clock() - account.wait_began_at
        account.waited += waited
        account.computed = max(0.0, account.computed - waited * _WAITING_CREDIT)
        steps = int(account.computed / _STEP_SECONDS)
        heapq.heappush(self._ready, (steps, next(self._order), account, answer))

    def _check_due(self, now: float) -> None:
        """Make tasks ready whose wait is over, and park those whose operation takes long."""
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
            self._schedule_check(account)


def _most_at_once() -> int:
    """Return the number of tasks that this process has descriptors for, after raising its limit as far as allowed."""
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
    """End the task where it waits. Whatever it awaits during its cleanup is not waited for, either."""
    while True:
        try:
            task.close()
            return
        except RuntimeError:  # it awaited something in its cleanup: the next call ends that, too
            continue
