# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to libvirt, and the threads that make calls on them.

libvirt's calls block, and some have no time limit. One connection carries five calls at once, and the daemon works on
twenty for all of its clients together (``max_client_requests`` and ``max_workers``, src/remote/libvirtd.conf.in,
libvirt 11.3.0). So the calls of a fleet share a few connections, and ``lanes.py`` has whose call gets a thread.

Calls that find their line held up are made by an idle thread of another one, or by the *reserve*: threads with a
connection each, so that an answer at which libvirt hangs up breaks nothing but its own. Suspects that may have broken
one are asked there.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import math
import threading
import time
from types import ModuleType
from typing import Any, Mapping, NamedTuple, Sequence

from .._errors import HypervisorUnavailableError, MissingLibraryError, NotConfiguredError, PermissionDeniedError
from .._event_loop.threads import Job, Workers
from .._protocol.errors import QgaError
from . import numbers
from .lanes import LANES, LANES_OF_RESERVE, PROVEN, Lane
from .large_texts import LARGE_TEXTS

_REFUSED = (numbers.AUTH_FAILED, numbers.AUTH_CANCELLED, numbers.AUTH_UNAVAILABLE, numbers.ACCESS_DENIED)

# Said by drivers that lack a function: of what is called here, QEMU's lacks none.
_UNSUPPORTED = (numbers.NO_SUPPORT, numbers.OPERATION_UNSUPPORTED)

CALLS_PER_CONNECTION = 5
# Three quarters of what the daemon works on: the rest is for others, or for an administrator who wants to know why.
FLEET_CONNECTIONS = 3
# With what new guests may hold of the others, one more than fifteen: that many silent guests leave a thread free.
RESERVE_THREADS = 4

# A call that takes longer holds its thread up, as far as others are concerned.
HELD_UP_SECONDS = 0.1

# Of what libvirt says, in characters: the rest of a longer message is a guest's own text.
LONGEST_MESSAGE = 4096

# libvirt's own limits are in whole seconds: a call that ends by one of them takes up to so much longer than it was
# meant to, and those that wait for its thread are not to give up just before.
_OVERTIME_SECONDS = 1.5


def import_libvirt() -> tuple[ModuleType, ModuleType]:
    """The modules ``libvirt`` and ``libvirt_qemu``, silenced: they would print every error to standard error.

    :raises MissingLibraryError: they are not installed
    """
    try:
        import libvirt
        import libvirt_qemu
    except ImportError as error:
        raise MissingLibraryError(f"the Python library libvirt-python cannot be imported: {error}") from error
    libvirt.registerErrorHandler(_remember, None)
    return libvirt, libvirt_qemu


# Of each thread: its ``line``, and its newest ``error`` as libvirt-python has it in ``libvirtError.err``.
_here = threading.local()


def _remember(_context: object, raw: tuple[Any, ...]) -> None:
    _here.error = _cut(raw)


def known(error: Any) -> Any:
    """Return ``error`` with what libvirt said, which libvirt-python may have lost, and which may be very long.

    libvirt-python reads the thread's last error after the failed call. If Python collects garbage in between, the
    destructor of an old domain or connection makes a call too, and that one clears the error (``virResetLastError``).

    libvirt quotes what it cannot read: of a reply of 4 MiB, it returns two copies, and each takes up to 16 MiB as a
    Python text. An error lives for as long as one that was raised from it, so it is cut here, for all who hold it.
    """
    error.err = getattr(_here, "error", None) if error.err is None else _cut(error.err)
    error.args = _cut(error.args)
    return error


def _cut(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part[:LONGEST_MESSAGE] if isinstance(part, str) else part for part in parts)


def without_agents(uri: str, reason: str) -> NotConfiguredError:
    """Return the error for a hypervisor whose guests have no agents, as far as libvirt knows."""
    return NotConfiguredError(
        f"libvirt's driver for {uri} has no guest agents: {reason}",
        "Name the uri of a hypervisor that runs QEMU, such as qemu:///system, or the agent's own socket or address.",
    )


class _Waiting(NamedTuple):
    """A job in its lane: first the one whose guest has ``held`` threads for the least seconds, then the oldest."""

    held: float
    number: int
    job: Job


def line_of_this_thread(line: Line) -> Line:
    """The line whose thread this is, by whose connection its calls are made: the job may be another line's."""
    found: Line = getattr(_here, "line", line)
    return found


class Line:
    """One connection with its threads. It is opened by the first call, and again by the next one after it was lost.

    ``held_back_until`` is the instant of the monotonic clock at which guests that did not answer are given up. The
    ``reserve`` makes the calls for which it has no thread, and so do its ``peers``: lines whose idle threads make each
    other's calls that are held up.
    """

    def __init__(
        self,
        uri: str,
        calls: int = 1,
        reserve: Reserve | None = None,
        held_up_seconds: float = HELD_UP_SECONDS,
    ) -> None:
        self.uri = uri
        self.libvirt, self.libvirt_qemu = import_libvirt()
        self.is_shared = calls > 1
        self.reserve = reserve
        self.peers: Sequence[Line] = ()
        self._calls = calls
        self._held_up_seconds = held_up_seconds
        self._opening = threading.Lock()
        self._connections: dict[int, Any] = {}  # by what _whose says
        self.held_back_until = math.inf
        # All below is guarded by this.
        self._changed = threading.Condition()
        self._jobs: Mapping[Lane, list[_Waiting]] = {lane: [] for lane in LANES}
        self._numbers = itertools.count()
        self._began_at: dict[int, float] = {}  # by thread, of those that do a job
        self._threads = 0
        self._is_closed = False
        self._progressed_at = time.monotonic()

    def workers(self, lane: Lane = PROVEN, held: float = 0.0) -> Workers:
        """``held`` is for how many seconds the guest's calls have held threads so far."""
        return _LaneWorkers(self, lane, held)

    @property
    def load(self) -> int:
        """How many jobs wait or are being done."""
        with self._changed:
            return sum(map(len, self._jobs.values())) + len(self._began_at)

    def close(self) -> None:
        """Close the connection after the calls that are still made on it, and end the threads. Waits for nothing."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # On a thread of this line.

    def disconnect(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        with self._opening:
            connections = list(self._connections.values())
            self._connections.clear()
        for connection in connections:
            # The daemon may have gone already: nothing is left to close then.
            with contextlib.suppress(self.libvirt.libvirtError):
                connection.close()

    def connection(self) -> Any:
        """The connection; opened, if there is none that lives.

        :raises QgaError: it cannot be opened
        """
        whose = self._whose()
        with self._opening:
            connection = self._connections.pop(whose, None)
            if connection is None or not self.is_alive(connection):
                try:
                    connection = self.libvirt.open(self.uri)
                except self.libvirt.libvirtError as error:
                    raise self.connection_error(error) from error
            self._connections[whose] = connection
            return connection

    def _whose(self) -> int:
        """Which of its connections this thread uses."""
        return 0

    def is_alive(self, connection: Any) -> bool:
        """Return whether the daemon at its other end is still there; asks nobody."""
        try:
            return bool(connection.isAlive())
        except self.libvirt.libvirtError as error:
            return known(error).get_error_code() in _UNSUPPORTED  # a driver that cannot tell

    def connection_error(self, error: Any) -> QgaError:
        code = known(error).get_error_code()
        reason = error.get_error_message()
        # The second, of a libvirt that was built without the URI's driver, such as that for hyperv://.
        if code in _UNSUPPORTED or code == numbers.CONFIG_UNSUPPORTED:
            return without_agents(self.uri, reason)
        denied = code == numbers.SYSTEM_ERROR and error.get_int1() in (errno.EACCES, errno.EPERM)
        if denied or code in _REFUSED:
            return PermissionDeniedError(f"libvirt at {self.uri} refused the connection: {reason}")
        return HypervisorUnavailableError(f"cannot connect to libvirt at {self.uri}: {reason}")

    # The threads.

    def submit(self, lane: Lane, job: Job, held: float = 0.0) -> None:
        with self._changed:
            heapq.heappush(self._jobs[lane], _Waiting(held, next(self._numbers), job))
            waiting, busy = sum(map(len, self._jobs.values())), len(self._began_at)
            if self._threads < self._calls and self._threads - busy < waiting:
                self._start_thread()
            self._changed.notify()
            has_to_wait = waiting > self._calls - busy - self._spared(lane)
        if has_to_wait:
            for line in self.peers:
                line.look_around()

    def are_stuck(self, seconds: float) -> bool:
        overtime = _OVERTIME_SECONDS if self.is_shared else 0.0
        return time.monotonic() - self._progressed_at >= seconds + overtime

    def job_held_up(self, lane: Lane) -> Job | None:
        """For another line's thread: a job that waits for threads which calls have held for long.

        That thread has its own line's lock. So this one's is not waited for: two lines may look at each other.
        """
        since = time.monotonic() - self._held_up_seconds
        if not self._jobs[lane] or not self._changed.acquire(blocking=False):
            return None
        try:
            held_up = sum(began_at <= since for began_at in self._began_at.values())
            if not self._jobs[lane] or held_up < self._calls - self._spared(lane):
                return None
            self._progressed_at = time.monotonic()
            return heapq.heappop(self._jobs[lane]).job
        finally:
            self._changed.release()

    def look_around(self) -> None:
        """A job of one of its peers has to wait."""
        with self._changed:
            self._provide_idle_thread(len(self._began_at))
            self._changed.notify()

    def _provide_idle_thread(self, busy: int) -> None:
        if busy == self._threads < self._calls and not self._is_closed:
            self._start_thread()

    def _start_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._serve, name=f"libvirt {self.uri}", daemon=True).start()

    def _serve(self) -> None:
        _here.line = self
        thread = threading.get_ident()
        while True:
            with self._changed:
                job = self._awaited_job()
                if job is None:
                    self._threads -= 1
                    is_last = not self._threads
                    self._changed.notify()
                    break
                self._progressed_at = self._began_at[thread] = time.monotonic()
            job()
            del job  # an idle thread keeps nothing of what it did
            with self._changed:
                del self._began_at[thread]
                self._progressed_at = time.monotonic()
                self._changed.notify()
        if is_last:
            # Closing waits for a call that still hangs.
            self.disconnect()

    def _awaited_job(self) -> Job | None:
        """Return the next job, once there is one that may be done. None: there will be none."""
        while True:
            job = self._next_job()
            if job is not None or (self._is_closed and not any(self._jobs.values())):
                return job
            may_help = not self._is_closed and any(line._jobs[lane] for line in self.peers for lane in LANES_OF_RESERVE)
            self._changed.wait(self._held_up_seconds / 2 if may_help else None)

    def _next_job(self) -> Job | None:
        for lane in LANES:
            if self._jobs[lane] and self._may_take(lane):
                return heapq.heappop(self._jobs[lane]).job
        return None if self._is_closed else self._job_of_peers()

    def _job_of_peers(self) -> Job | None:
        for lane in filter(self._may_take, LANES_OF_RESERVE):
            for line in self.peers:
                job = line.job_held_up(lane)
                if job is not None:  # another one may wait as well
                    self._provide_idle_thread(len(self._began_at) + 1)
                    return job
        return None

    def _may_take(self, lane: Lane) -> bool:
        return self._calls - len(self._began_at) > self._spared(lane)

    def _spared(self, lane: Lane) -> int:
        return min(lane.spared, self._calls - 1)


class Reserve(Line):
    """Threads that each have a connection of their own, for what is held up elsewhere."""

    def __init__(self, uri: str, held_up_seconds: float) -> None:
        super().__init__(uri, RESERVE_THREADS, held_up_seconds=held_up_seconds)

    def _whose(self) -> int:
        return threading.get_ident()

    def _spared(self, lane: Lane) -> int:
        # The others' is to be done, also if they are new and some of them silent.
        return 0 if lane in LANES_OF_RESERVE else super()._spared(lane)


class _LaneWorkers(NamedTuple):
    """The threads of a line, as its jobs of one kind see them."""

    line: Line
    lane: Lane
    held: float

    def submit(self, job: Job) -> None:
        self.line.submit(self.lane, job, self.held)

    def are_stuck(self, seconds: float) -> bool:
        return self.line.are_stuck(seconds)


class Hypervisor:
    """All lines to one libvirt, for a fleet."""

    def __init__(self, uri: str, held_up_seconds: float = HELD_UP_SECONDS) -> None:
        self.uri = uri
        self.reserve = Reserve(uri, held_up_seconds)
        self.lines = tuple(
            Line(uri, CALLS_PER_CONNECTION, self.reserve, held_up_seconds) for _connection in range(FLEET_CONNECTIONS)
        )
        for line in (*self.lines, self.reserve):
            line.peers = tuple(other for other in (self.reserve, *self.lines) if other is not line)
        self._is_closed = False
        LARGE_TEXTS.begin()

    def line(self) -> Line:
        """The one with the least to do."""
        return min(self.lines, key=lambda line: line.load)

    def give_up_held_back_at(self, instant: float) -> None:
        """Do not wait for silent guests after that instant of the monotonic clock, whatever time they have left.

        More of them than there are threads would otherwise take turns, each with a time limit of its own.
        """
        for line in (*self.lines, self.reserve):
            line.held_back_until = instant

    def close(self) -> None:
        for line in (*self.lines, self.reserve):
            line.close()
        if not self._is_closed:
            self._is_closed = True
            LARGE_TEXTS.end()
