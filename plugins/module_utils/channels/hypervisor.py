# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to libvirt, and the threads that make calls on them.

libvirt's calls block, and some have no time limit. One connection carries five calls at once, and the daemon works on
twenty for all of its clients together (``max_client_requests`` and ``max_workers``, src/remote/libvirtd.conf.in,
libvirt 11.3.0). So the calls of a fleet share a few connections, and guests that keep silent may not hold all of their
threads.
"""

from __future__ import annotations

import contextlib
import errno
import math
import threading
import time
from collections import deque
from types import ModuleType
from typing import Any, Mapping, NamedTuple

from ..errors import (
    HypervisorUnavailableError,
    MissingLibraryError,
    NotConfiguredError,
    PermissionDeniedError,
    QgaError,
)
from . import libvirt_numbers as numbers
from .bounded import Job, Workers
from .large_texts import LARGE_TEXTS

_REFUSED = (numbers.AUTH_FAILED, numbers.AUTH_CANCELLED, numbers.AUTH_UNAVAILABLE, numbers.ACCESS_DENIED)

# Said by drivers that lack a function: of what is called here, QEMU's lacks none.
_UNSUPPORTED = (numbers.NO_SUPPORT, numbers.OPERATION_UNSUPPORTED)

CALLS_PER_CONNECTION = 5
# Three quarters of what the daemon works on: the rest is for others, or for an administrator who wants to know why.
FLEET_CONNECTIONS = 3


# Of what libvirt says, in characters: the rest of a longer message is a guest's own text.
LONGEST_MESSAGE = 4096

# libvirt's own limits are in whole seconds: a call that ends by one of them takes up to so much longer than it was
# meant to, and those that wait for its thread are not to give up just before.
_OVERTIME_SECONDS = 1.5


# ------------------------------------------------------------------------------------------------------------ libvirt


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


class _LastError(threading.local):
    """The newest error of each thread, as libvirt-python has it in ``libvirtError.err``."""

    raw: tuple[Any, ...] | None = None


_last_error = _LastError()


def _remember(_context: object, raw: tuple[Any, ...]) -> None:
    _last_error.raw = _cut(raw)


def known(error: Any) -> Any:
    """Return ``error`` with what libvirt said, which libvirt-python may have lost, and which may be very long.

    libvirt-python reads the thread's last error after the failed call. If Python collects garbage in between, the
    destructor of an old domain or connection makes a call too, and that one clears the error (``virResetLastError``).

    libvirt quotes what it cannot read: of a reply of 4 MiB, it returns two copies, and each takes up to 16 MiB as a
    Python text. An error lives for as long as one that was raised from it, so it is cut here, for all who hold it.
    """
    error.err = _last_error.raw if error.err is None else _cut(error.err)
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


# ---------------------------------------------------------------------------------------------------------- the lanes


class Lane(NamedTuple):
    """Jobs of one kind. ``spared`` threads of a line are never taken by them, if it has that many and one more."""

    name: str
    spared: int


# In the order in which free threads take from them.
PROVEN = Lane("of guests whose agent has answered", 0)
NEW = Lane("of guests that have not been asked before", 1)
SUSPECT = Lane("of guests that did not answer", 2)
_LANES = (PROVEN, NEW, SUSPECT)


class Line:
    """One connection with its threads. It is opened by the first call, and again by the next one after it was lost.

    ``suspects_until`` is the instant of the monotonic clock at which guests that did not answer are given up.
    """

    def __init__(self, uri: str, calls: int = 1) -> None:
        self.uri = uri
        self.libvirt, self.libvirt_qemu = import_libvirt()
        self.is_shared = calls > 1
        self._calls = calls
        self._opening = threading.Lock()
        self._connection: Any = None
        self.suspects_until = math.inf
        # All below is guarded by this.
        self._changed = threading.Condition()
        self._jobs: Mapping[Lane, deque[Job]] = {lane: deque() for lane in _LANES}
        self._busy: dict[Lane, int] = dict.fromkeys(_LANES, 0)
        self._threads = 0
        self._is_closed = False
        self._progressed_at = time.monotonic()

    def workers(self, lane: Lane = PROVEN) -> Workers:
        return _LaneWorkers(self, lane)

    @property
    def load(self) -> int:
        """How many jobs wait or are being done."""
        with self._changed:
            return sum(map(len, self._jobs.values())) + sum(self._busy.values())

    def close(self) -> None:
        """Close the connection behind the calls that are still made on it, and end the threads. Waits for nothing."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()

    # On a thread of this line.

    def disconnect(self) -> None:
        """Close the connection, if there is one; the next call opens another."""
        with self._opening:
            connection, self._connection = self._connection, None
        if connection is not None:
            # The daemon may have gone already: nothing is left to close then.
            with contextlib.suppress(self.libvirt.libvirtError):
                connection.close()

    def connection(self) -> Any:
        """The connection; opened, if there is none that lives.

        :raises QgaError: it cannot be opened
        """
        with self._opening:
            if self._connection is None or not self.is_alive(self._connection):
                self._connection = None
                try:
                    self._connection = self.libvirt.open(self.uri)
                except self.libvirt.libvirtError as error:
                    raise self.connection_error(error) from error
            return self._connection

    def is_alive(self, connection: Any) -> bool:
        """Whether the daemon at its other end is still there; asks nobody."""
        try:
            return bool(connection.isAlive())
        except self.libvirt.libvirtError as error:
            return known(error).get_error_code() in _UNSUPPORTED  # a driver that cannot tell

    def connection_error(self, error: Any) -> QgaError:
        code = known(error).get_error_code()
        reason = error.get_error_message()
        if code in _UNSUPPORTED:
            return without_agents(self.uri, reason)
        denied = code == numbers.SYSTEM_ERROR and error.get_int1() in (errno.EACCES, errno.EPERM)
        if denied or code in _REFUSED:
            return PermissionDeniedError(f"libvirt at {self.uri} refused the connection: {reason}")
        return HypervisorUnavailableError(f"cannot connect to libvirt at {self.uri}: {reason}")

    # The threads.

    def submit(self, lane: Lane, job: Job) -> None:
        with self._changed:
            self._jobs[lane].append(job)
            waiting, busy = sum(map(len, self._jobs.values())), sum(self._busy.values())
            if self._threads < self._calls and self._threads - busy < waiting:
                self._threads += 1
                threading.Thread(target=self._serve, name=f"libvirt {self.uri}", daemon=True).start()
            self._changed.notify()

    def are_stuck(self, seconds: float) -> bool:
        overtime = _OVERTIME_SECONDS if self.is_shared else 0.0
        return time.monotonic() - self._progressed_at >= seconds + overtime

    def _serve(self) -> None:
        while True:
            with self._changed:
                lane = self._awaited_lane()
                if lane is None:
                    self._threads -= 1
                    is_last = not self._threads
                    self._changed.notify()
                    break
                job = self._jobs[lane].popleft()
                self._busy[lane] += 1
                self._progressed_at = time.monotonic()
            job()
            del job  # not to be held until the next one comes
            with self._changed:
                self._busy[lane] -= 1
                self._progressed_at = time.monotonic()
                self._changed.notify()
        if is_last:
            # Closing waits for a call that still hangs.
            self.disconnect()

    def _awaited_lane(self) -> Lane | None:
        """The lane of the next job, once there is one that may be done. None: there will be none."""
        lane = self._next_lane()
        while lane is None:
            if self._is_closed and not any(self._jobs.values()):
                return None
            self._changed.wait()
            lane = self._next_lane()
        return lane

    def _next_lane(self) -> Lane | None:
        free = self._calls - sum(self._busy.values())
        for lane in _LANES:
            if self._jobs[lane] and free > min(lane.spared, self._calls - 1):
                return lane
        return None


class _LaneWorkers(NamedTuple):
    """The threads of a line, as its jobs of one kind see them."""

    line: Line
    lane: Lane

    def submit(self, job: Job) -> None:
        self.line.submit(self.lane, job)

    def are_stuck(self, seconds: float) -> bool:
        return self.line.are_stuck(seconds)


class Hypervisor:
    """All lines to one libvirt, for a fleet."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.lines = tuple(Line(uri, CALLS_PER_CONNECTION) for _connection in range(FLEET_CONNECTIONS))
        self._is_closed = False
        LARGE_TEXTS.begin()

    def line(self) -> Line:
        """The one with the least to do."""
        return min(self.lines, key=lambda line: line.load)

    def give_up_suspects_at(self, instant: float) -> None:
        """Do not wait for silent guests behind that instant of the monotonic clock, whatever time they have left.

        More of them than there are threads would otherwise take turns, each with a time limit of its own.
        """
        for line in self.lines:
            line.suspects_until = instant

    def close(self) -> None:
        for line in self.lines:
            line.close()
        if not self._is_closed:
            self._is_closed = True
            LARGE_TEXTS.end()
