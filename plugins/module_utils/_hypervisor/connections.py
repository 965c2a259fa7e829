# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to libvirt, and the threads that make calls on them.

libvirt's calls block, and some have no timeout. One connection carries five calls at once, and the daemon runs twenty
for all of its clients (``max_client_requests`` and ``max_workers``, src/remote/libvirtd.conf.in, libvirt 11.3.0). So
the calls of a fleet share a few connections, and ``lanes.py`` decides which guest's call gets a thread.

If a line is held up, an idle thread of another line makes its calls, or the *reserve* does: threads that each have
their own connection, so that a reply at which libvirt hangs up breaks only that one. Suspects are asked there.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import math
import sys
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
from .virsh import connect_hint

_REFUSED = (numbers.AUTH_FAILED, numbers.AUTH_CANCELLED, numbers.AUTH_UNAVAILABLE, numbers.ACCESS_DENIED)

# Errors of drivers that lack a function; QEMU's driver has all functions that are called here.
_UNSUPPORTED = (numbers.NO_SUPPORT, numbers.OPERATION_UNSUPPORTED)

CALLS_PER_CONNECTION = 5
# Three quarters of the calls that the daemon runs at once: the rest is for other clients, such as an administrator.
FLEET_CONNECTIONS = 3
# With the twelve threads of the lines that new guests may hold, this makes 16: fifteen silent guests leave one free.
RESERVE_THREADS = 4

# A call that takes longer holds its thread up.
HELD_UP_SECONDS = 0.1

# In characters. The rest of a longer error message of libvirt is a guest's own text.
LONGEST_MESSAGE = 4096

# libvirt's own timeouts are in whole seconds, so a call may take this much longer than its timeout here. Calls that
# wait for its thread must not give up right before it ends.
_OVERTIME_SECONDS = 1.5


def import_libvirt() -> tuple[ModuleType, ModuleType]:
    """Return the modules ``libvirt`` and ``libvirt_qemu``, silenced: they would print every error to standard error.

    :raises MissingLibraryError: they are not installed
    """
    try:
        import libvirt
        import libvirt_qemu
    except ImportError as error:
        raise MissingLibraryError(
            f"the library libvirt-python cannot be imported by {sys.executable}: {error}"
        ) from error
    libvirt.registerErrorHandler(_remember, None)
    return libvirt, libvirt_qemu


# Each thread's ``line``, and its latest ``error`` in the form of libvirt-python's ``libvirtError.err``.
_here = threading.local()


def _remember(_context: object, raw: tuple[Any, ...]) -> None:
    _here.error = _truncated(raw)


def known(error: Any) -> Any:
    """Return ``error`` with libvirt's details, which libvirt-python may have lost, and with its texts truncated.

    libvirt-python reads the thread's last error after the failed call. If Python collects garbage in between, the
    destructor of an old domain or connection makes a call as well, which clears the error (``virResetLastError``).

    libvirt quotes a reply that it cannot read: an error for a reply of 4 MiB has two copies of it, each up to 16 MiB as
    a Python string. An error lives as long as the errors that were raised from it, so it is truncated in place.
    """
    error.err = getattr(_here, "error", None) if error.err is None else _truncated(error.err)
    error.args = _truncated(error.args)
    return error


def _truncated(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(part[:LONGEST_MESSAGE] if isinstance(part, str) else part for part in parts)


def without_agents(uri: str, reason: str) -> NotConfiguredError:
    """Return the error for a hypervisor whose driver has no agent commands."""
    return NotConfiguredError(
        f"libvirt's driver for {uri} has no guest agents: {reason}",
        "Set uri to that of a QEMU hypervisor, such as qemu:///system, or use the agent's own socket or address.",
    )


class _Waiting(NamedTuple):
    """A job in its lane, ordered by the seconds for which its guest has ``held`` threads, then by age."""

    held: float
    number: int
    job: Job


def line_of_this_thread(line: Line) -> Line:
    """Return the line of this thread, whose connection its calls use. The job may belong to another line."""
    found: Line = getattr(_here, "line", line)
    return found


class Line:
    """One connection with its threads. The first call opens it, and the next call after it was lost reopens it.

    ``held_back_until`` is the instant of the monotonic clock at which silent guests are given up. The ``reserve`` makes
    calls for which this line has no free thread. So do its ``peers``: lines whose idle threads make each other's calls
    that are held up.
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
        self._connections: dict[int, Any] = {}  # by _connection_key()
        self.held_back_until = math.inf
        # Guards everything below.
        self._changed = threading.Condition()
        self._jobs: Mapping[Lane, list[_Waiting]] = {lane: [] for lane in LANES}
        self._numbers = itertools.count()
        self._began_at: dict[int, float] = {}  # by thread, for those that run a job
        self._threads = 0
        self._is_closed = False
        self._progressed_at = time.monotonic()

    def workers(self, lane: Lane = PROVEN, held: float = 0.0) -> Workers:
        """Return the threads for a guest whose calls have held threads for ``held`` seconds so far."""
        return _LaneWorkers(self, lane, held)

    @property
    def load(self) -> int:
        """The number of jobs that wait or run."""
        with self._changed:
            return sum(map(len, self._jobs.values())) + len(self._began_at)

    def close(self) -> None:
        """Close the connection after its pending calls, and end the threads. Does not wait."""
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
            # The daemon may have gone already: then there is nothing to close.
            with contextlib.suppress(self.libvirt.libvirtError):
                connection.close()

    def connection(self) -> Any:
        """Return the connection, after opening it if none is alive.

        :raises QgaError: it cannot be opened
        """
        key = self._connection_key()
        with self._opening:
            connection = self._connections.pop(key, None)
            if connection is None or not self.is_alive(connection):
                try:
                    connection = self.libvirt.open(self.uri)
                except self.libvirt.libvirtError as error:
                    raise self.connection_error(error) from error
            self._connections[key] = connection
            return connection

    def _connection_key(self) -> int:
        """Return the key of the connection that this thread uses."""
        return 0

    def is_alive(self, connection: Any) -> bool:
        """Return whether the connection to the daemon is still open, without a call to the daemon."""
        try:
            return bool(connection.isAlive())
        except self.libvirt.libvirtError as error:
            return known(error).get_error_code() in _UNSUPPORTED  # the driver does not have this function

    def connection_error(self, error: Any) -> QgaError:
        code = known(error).get_error_code()
        reason = error.get_error_message()
        # CONFIG_UNSUPPORTED: libvirt was built without the URI's driver, such as that for hyperv://.
        if code in _UNSUPPORTED or code == numbers.CONFIG_UNSUPPORTED:
            return without_agents(self.uri, reason)
        denied = code == numbers.SYSTEM_ERROR and error.get_int1() in (errno.EACCES, errno.EPERM)
        if denied or code in _REFUSED:
            return PermissionDeniedError(f"libvirt at {self.uri} refused the connection: {reason}")
        return HypervisorUnavailableError(f"cannot connect to libvirt at {self.uri}: {reason}", connect_hint(self.uri))

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
                line.help_peers()

    def are_stuck(self, seconds: float) -> bool:
        overtime = _OVERTIME_SECONDS if self.is_shared else 0.0
        return time.monotonic() - self._progressed_at >= seconds + overtime

    def job_held_up(self, lane: Lane) -> Job | None:
        """Return a job for another line's thread, if it waits for threads that long calls hold.

        The caller has its own line's lock, so it must not block on this one: two lines may check each other.
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

    def help_peers(self) -> None:
        """Have an idle thread check the peers: a job of one of them has to wait."""
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
            del job  # an idle thread must not keep its last job
            with self._changed:
                del self._began_at[thread]
                self._progressed_at = time.monotonic()
                self._changed.notify()
        if is_last:
            # Not before: closing a connection waits for a call that still hangs.
            self.disconnect()

    def _awaited_job(self) -> Job | None:
        """Return the next job, as soon as one may be run. None: there will be none."""
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
                if job is not None:  # another job may wait as well
                    self._provide_idle_thread(len(self._began_at) + 1)
                    return job
        return None

    def _may_take(self, lane: Lane) -> bool:
        return self._calls - len(self._began_at) > self._spared(lane)

    def _spared(self, lane: Lane) -> int:
        return min(lane.spared, self._calls - 1)


class Reserve(Line):
    """Threads that each have their own connection, for jobs that are held up elsewhere."""

    def __init__(self, uri: str, held_up_seconds: float) -> None:
        super().__init__(uri, RESERVE_THREADS, held_up_seconds=held_up_seconds)

    def _connection_key(self) -> int:
        return threading.get_ident()

    def _spared(self, lane: Lane) -> int:
        # Jobs of the other lanes must be run here even if their guests are new and some of them silent.
        return 0 if lane in LANES_OF_RESERVE else super()._spared(lane)


class _LaneWorkers(NamedTuple):
    """The threads of a line, for one guest's jobs in one lane."""

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
        """Return the line with the smallest load."""
        return min(self.lines, key=lambda line: line.load)

    def give_up_held_back_at(self, instant: float) -> None:
        """Stop waiting for silent guests at that instant of the monotonic clock, even if their timeouts end later.

        If there are more of them than threads, they would otherwise take turns, each with its full timeout.
        """
        for line in (*self.lines, self.reserve):
            line.held_back_until = instant

    def close(self) -> None:
        for line in (*self.lines, self.reserve):
            line.close()
        if not self._is_closed:
            self._is_closed = True
            LARGE_TEXTS.end()
