# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for libvirt-python: a hypervisor with many domains, that counts what it is asked by how many at once.

For a single domain that fails in every way there is, see :mod:`tests.fakes.one_domain`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.events import ConnectionEvents, HypervisorEvents
from tests.fakes.one_domain import (
    BLOCKED,
    INTERNAL_ERROR,
    NO_DOMAIN,
    PAUSED,
    RUNNING,
    SHUT_OFF,
    LibvirtError,
    agent_says,
    as_texts,
)

SYSTEM_ERROR = 38
OPERATION_INVALID = 55
ARGUMENT_UNSUPPORTED = 74
NO_DOMAIN_METADATA = 80
AGENT_UNRESPONSIVE = 86

_LISTED = {0: None, 16: RUNNING, 32: PAUSED, 64: SHUT_OFF}  # flags of listAllDomains, and the state of each


def uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def threads_of_lines() -> list[threading.Thread]:
    """Those that make calls on connections to libvirt."""
    # A process has one event loop, and never gives it back.
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("libvirt ") and thread.name != "libvirt events"
    ]


@dataclass
class Definition:
    """A domain, and how its agent behaves. ``is_silent``: every command takes all of the time that it is given.

    ``channel_state``: "connected", "disconnected", or None without a channel for an agent. ``agent``: answers whatever
    ``replies`` do not. ``macs`` are the addresses of its network devices. ``takes`` has the seconds that a request
    takes. ``breaks``: whether the daemon hangs up on its client at the answer.
    """

    name: str
    uuid: str = ""
    state: int = RUNNING
    channel_state: str | None = "connected"
    metadata: str | None = None
    macs: tuple[str, ...] = ()
    is_silent: bool = False
    replies: dict[str, Callable[[dict[str, Any]], str]] = field(default_factory=dict)
    agent: Callable[[dict[str, Any]], str] = field(default_factory=lambda: agent_says({}))
    takes: Callable[[dict[str, Any]], float] = lambda _request: 0.0
    breaks: Callable[[dict[str, Any]], bool] = lambda _request: False

    def __post_init__(self) -> None:
        self.uuid = self.uuid or uuid_of(self.name)

    @property
    def xml(self) -> str:
        target = f"<target type='virtio' name='org.qemu.guest_agent.0' state='{self.channel_state}'/>"
        channel = "" if self.channel_state is None else f"<channel type='unix'>{target}</channel>"
        devices = "".join(f"<interface type='network'><mac address='{mac}'/></interface>" for mac in self.macs)
        return f"<domain><clock offset='utc'/><devices>{devices}{channel}</devices></domain>"


class Connection(ConnectionEvents):
    """``virConnect``."""

    def __init__(self, hypervisor: FakeHypervisor) -> None:
        super().__init__()
        self.hypervisor = hypervisor
        self.is_broken = False
        self.is_closed = False
        self.interrupted = threading.Event()  # what hangs on it comes back

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """A call to the daemon, which takes one of its threads."""
        with self.hypervisor.counted(self, name):
            self.require_alive()
            yield

    def require_alive(self) -> None:
        if self.is_broken:
            raise LibvirtError(INTERNAL_ERROR, "internal error: client socket is closed")

    def isAlive(self) -> int:  # noqa: N802  # libvirt's name
        return int(not self.is_broken)

    def listAllDomains(self, flags: int) -> list[Domain]:  # noqa: N802
        with self.call("listAllDomains"):
            if self.hypervisor.list_error is not None:
                raise self.hypervisor.list_error
            state = _LISTED[flags]
            return [Domain(self, each) for each in self.hypervisor.definitions if state in (None, each.state)]

    def lookupByName(self, name: str) -> Domain:  # noqa: N802
        return self._found("lookupByName", lambda each: each.name == name)

    def lookupByUUIDString(self, text: str) -> Domain:  # noqa: N802
        plain = text.replace("-", "").lower()
        return self._found("lookupByUUIDString", lambda each: each.uuid.replace("-", "") == plain)

    def close(self) -> None:
        self.hypervisor.note_closed(self)

    def _found(self, call: str, is_it: Callable[[Definition], bool]) -> Domain:
        with self.call(call):
            for each in self.hypervisor.definitions:
                if is_it(each):
                    return Domain(self, each)
            raise LibvirtError(NO_DOMAIN, "Domain not found")


class Domain:
    """``virDomain``. Its name and its UUID are known here; all else is a call."""

    def __init__(self, connection: Connection, definition: Definition) -> None:
        self.connection = connection
        self.definition = definition

    def name(self) -> str:
        return self.definition.name

    def UUIDString(self) -> str:  # noqa: N802
        return self.definition.uuid

    def ID(self) -> int:  # noqa: N802
        return 1

    def state(self) -> list[int]:
        with self.connection.call("state"):
            return [self.definition.state, 0]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        with self.connection.call("XMLDesc"):
            return self.definition.xml

    def metadata(self, _kind: int, namespace: str, _flags: int) -> str:
        with self.connection.call("metadata"):
            if self.definition.metadata is None or namespace not in self.definition.metadata:
                raise LibvirtError(NO_DOMAIN_METADATA, "Requested metadata element is not present")
            return self.definition.metadata


class FakeHypervisor(HypervisorEvents):
    """``libvirt`` and ``libvirt_qemu`` in one, and the hypervisor behind them.

    ``at_agent_command`` has what happens when the agent command of that number begins, counted from one; ``at_break``
    what happens to the connection over which an answer comes that breaks it.
    """

    libvirtError = LibvirtError  # noqa: N815  # libvirt's name
    VIR_DOMAIN_TIME_SYNC = 1

    def __init__(self, definitions: Iterable[Definition] = ()) -> None:
        self.definitions = list(definitions)
        self.open_error: LibvirtError | None = None
        self.list_error: LibvirtError | None = None
        self.open_waits_for: threading.Event | None = None
        self.at_agent_command: dict[int, Callable[[], None]] = {}
        self.at_break: Callable[[Connection], None] = self.hang_up
        self.connections: list[Connection] = []
        self.closed: list[Connection] = []
        self.calls: Counter[str] = Counter()
        self.most_calls = 0
        self.most_calls_of_a_connection = 0
        self.commands: list[tuple[str, str]] = []  # domain, command
        self._calls_now: Counter[Connection] = Counter()
        self._refusals = 0.0
        self._error_handler: Callable[[tuple[Any, ...]], None] = lambda _raw: None
        # Guards all of the above that is written by calls.
        self._lock = threading.Lock()

    def modules(self) -> tuple[FakeHypervisor, FakeHypervisor]:
        """In place of ``hypervisor.import_libvirt``."""
        return self, self

    def break_connections(self) -> None:
        """The daemon ends, and is there again at once: what was connected to it is not."""
        with self._lock:
            for connection in self.connections:
                if not connection.is_broken:
                    connection.is_broken = True
                    connection.tell_closed()
                connection.interrupted.set()

    def hang_up(self, connection: Connection) -> None:
        """The daemon closes this one connection, whatever calls are under way on it."""
        with self._lock:
            connection.is_broken = True
            connection.tell_closed()
            connection.interrupted.set()

    def go_away(self, attempts: float = math.inf) -> None:
        """The daemon ends, and is there again after that many attempts to connect to it."""
        with self._lock:
            self._refusals = attempts
        self.break_connections()

    def stop_daemon(self) -> None:
        """The daemon ends, and is not there again before it is started."""
        self.go_away()

    def refuse(self) -> None:
        """The daemon takes no other connection before it is started; those that there are stay."""
        with self._lock:
            self._refusals = math.inf

    def start_daemon(self) -> None:
        with self._lock:
            self._refusals = 0

    def domain_of(self, connection: Connection, name: str) -> Domain:
        defined = next((each for each in self.definitions if each.name == name), None)
        return Domain(connection, defined or Definition(name))

    def release(self) -> None:
        """What hangs comes back, as if its time were up."""
        with self._lock:
            for connection in self.connections:
                connection.interrupted.set()

    def wait_until_all_is_given_back(self, seconds: float = 5.0) -> None:
        """Every connection is closed, once, if it was not lost before; and no thread is left."""
        until = time.monotonic() + seconds
        while threads_of_lines() or any(not each.is_closed for each in self.connections if not each.is_broken):
            assert time.monotonic() < until, f"{threads_of_lines()} of {len(self.connections)} connections are left"
            time.sleep(0.005)
        assert len(self.closed) == len(set(self.closed))

    @contextlib.contextmanager
    def counted(self, connection: Connection, name: str) -> Iterator[None]:
        with self._lock:
            self.calls[name] += 1
            self._calls_now[connection] += 1
            self.most_calls = max(self.most_calls, sum(self._calls_now.values()))
            self.most_calls_of_a_connection = max(self.most_calls_of_a_connection, self._calls_now[connection])
        try:
            yield
        finally:
            with self._lock:
                self._calls_now[connection] -= 1

    def note_closed(self, connection: Connection) -> None:
        with self._lock:
            connection.is_closed = True
            self.closed.append(connection)

    # libvirt

    def registerErrorHandler(self, handler: Callable[..., None], context: object) -> None:  # noqa: N802  # libvirt's
        self._error_handler = lambda raw: handler(context, raw)

    def open(self, _uri: str) -> Connection:
        if self.open_waits_for is not None:
            self.open_waits_for.wait(10)
        if self.open_error is not None:
            raise self.open_error
        with self._lock:
            if self._refusals > 0:
                self._refusals -= 1
                raise LibvirtError(SYSTEM_ERROR, "Failed to connect socket: Connection refused", errno.ECONNREFUSED)
            self.connections.append(Connection(self))
            return self.connections[-1]

    # libvirt_qemu

    def qemuAgentCommand(self, domain: Domain, text: str, timeout: int, _flags: int) -> str:  # noqa: N802
        definition, request = domain.definition, json.loads(text)
        with domain.connection.call("qemuAgentCommand"):
            with self._lock:
                self.commands.append((definition.name, request["execute"]))
                happens = self.at_agent_command.get(len(self.commands))
            if happens is not None:
                happens()
            if definition.state not in (RUNNING, BLOCKED):
                raise LibvirtError(OPERATION_INVALID, "Requested operation is not valid: domain is not running")
            if definition.channel_state is None:
                raise LibvirtError(ARGUMENT_UNSUPPORTED, "argument unsupported: QEMU guest agent is not configured")
            if definition.channel_state != "connected":
                raise LibvirtError(AGENT_UNRESPONSIVE, "Guest agent is not responding: it is not connected")
            seconds = math.inf if definition.is_silent else definition.takes(request)
            if seconds:
                domain.connection.interrupted.wait(min(seconds, timeout))
            domain.connection.require_alive()
            if definition.breaks(request):
                self.at_break(domain.connection)
                raise LibvirtError(SYSTEM_ERROR, "End of file while reading data: Input/output error")
            if seconds >= timeout:
                raise LibvirtError(AGENT_UNRESPONSIVE, "Guest agent is not responding: it did not answer in time")
            try:
                return definition.replies.get(request["execute"], definition.agent)(request)
            except LibvirtError as error:
                raw = error.err
                self._error_handler(as_texts(raw))
                error.err = as_texts(raw)
                error.args = (error.err[2],)
                raise
