"""A fake of libvirt-python: ``libvirt`` and ``libvirt_qemu`` in one, and the hypervisors that they connect to.

It raises the errors that a test sets, counts calls and concurrent calls, and fires the events that a test requests.
As with libvirt, a process has one event loop for all connections: once something runs it, it also serves all later
connections.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import json
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.fakes.domains import BLOCKED, PAUSED, RUNNING, SHUT_OFF, Definition, Domain
from tests.fakes.libvirt_replies import (
    AGENT_UNRESPONSIVE,
    ARGUMENT_UNSUPPORTED,
    INTERNAL_ERROR,
    NO_DOMAIN,
    OPERATION_INVALID,
    SYSTEM_ERROR,
    LibvirtError,
    as_texts,
)
from tests.support.until import until

_LISTED = {0: None, 16: RUNNING, 32: PAUSED, 64: SHUT_OFF}  # flags of listAllDomains, and the state of each

# virDomainEventID, and virConnectCloseReason (include/libvirt/libvirt-domain.h and libvirt-host.h, libvirt 11.3.0).
LIFECYCLE, REBOOT, AGENT_LIFECYCLE = 0, 1, 18
END_OF_FILE = 1
AGENT_CONNECTED, AGENT_DISCONNECTED = 1, 2
BY_CHANNEL = 2  # the reason of an agent's event: its port was opened or closed in the guest


class _Loop:
    is_registered = False
    due: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    # The collection's code may be loaded twice, in place and assembled, and each copy runs the loop on a thread.
    running = threading.Lock()


def settle(seconds: float = 5.0) -> None:
    """Wait until the loop's thread has delivered all events that were fired."""
    delivered = threading.Event()
    _Loop.due.put(delivered.set)
    assert delivered.wait(seconds), "the event loop does not run"


def threads_of_lines() -> list[threading.Thread]:
    """Return the threads that make calls on connections to libvirt."""
    # A process has one event loop and never ends it.
    named = [thread for thread in threading.enumerate() if thread.name.startswith("libvirt ")]
    return [thread for thread in named if thread.name != "libvirt events"]


_ERROR_OF = {
    "listAllDomains": "list_error",
    "lookupByName": "lookup_error",
    "lookupByUUIDString": "lookup_error",
    "state": "state_error",
    "XMLDesc": "xml_error",
    "metadata": "metadata_error",
    "setTime": "set_time_error",
}


class Connection:
    """``virConnect``. ``is_broken``: its daemon is gone, and every call on it or on its domains fails."""

    def __init__(self, hypervisor: FakeHypervisor) -> None:
        self.hypervisor = hypervisor
        self.is_broken = False
        self.is_closed = False
        self.alive_error: LibvirtError | None = None
        self.interrupted = threading.Event()  # makes hanging calls return
        self._has_loop = _Loop.is_registered
        self._numbers = itertools.count(1)
        self._registered: dict[int, tuple[Any, ...]] = {}  # event, callback, opaque
        self._on_closed: tuple[Callable[..., None], object] | None = None

    @contextlib.contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Make a call to the daemon, which occupies one of its threads and may fail."""
        with self.hypervisor.counted(self, name):
            self.require_alive()
            error = getattr(self.hypervisor, _ERROR_OF.get(name, ""), None)
            if error is not None:
                raise error
            yield

    def require_alive(self) -> None:
        if self.is_broken:
            raise LibvirtError(INTERNAL_ERROR, "internal error: client socket is closed")

    def isAlive(self) -> int:  # noqa: N802  # libvirt's name
        if self.alive_error is not None:
            raise self.alive_error
        return int(not self.is_broken)

    def listAllDomains(self, flags: int) -> list[Domain]:  # noqa: N802
        with self.call("listAllDomains"):
            state = _LISTED[flags]
            return [Domain(self, each) for each in self.hypervisor.definitions if state in (None, each.state)]

    def lookupByName(self, name: str) -> Domain:  # noqa: N802
        self.hypervisor.lookups.append(("name", name))
        return self._found("lookupByName", lambda each: each.name == name)

    def lookupByUUIDString(self, text: str) -> Domain:  # noqa: N802
        self.hypervisor.lookups.append(("uuid", text))
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

    @property
    def registered_events(self) -> list[int]:
        return sorted(event for event, _callback, _opaque in list(self._registered.values()))

    def setKeepAlive(self, _interval: int, _count: int) -> int:  # noqa: N802
        self._require_loop()
        return 0

    def registerCloseCallback(self, callback: Callable[..., None], opaque: object) -> int:  # noqa: N802
        self._on_closed = (callback, opaque)
        return 0

    def unregisterCloseCallback(self) -> int:  # noqa: N802
        self._on_closed = None
        return 0

    def domainEventRegisterAny(self, domain: object, *event: Any) -> int:  # noqa: N802
        assert domain is None, "this fake only supports events of all domains"
        self._require_loop()
        number = next(self._numbers)
        self._registered[number] = event
        return number

    def domainEventDeregisterAny(self, number: int) -> int:  # noqa: N802
        self.require_alive()
        del self._registered[number]
        return 0

    def _require_loop(self) -> None:
        self.require_alive()
        if not self._has_loop:
            raise LibvirtError(INTERNAL_ERROR, "the event loop was not registered before this connection was opened")

    # Called by its hypervisor on the loop's thread.

    def deliver(self, event: int, domain: object, what: tuple[object, ...]) -> None:
        if self.is_broken or self.is_closed:
            return
        for each, callback, opaque in list(self._registered.values()):
            if each == event:
                callback(self, domain, *what, opaque)

    def deliver_closed(self) -> None:
        if self._on_closed is not None and not self.is_closed:
            callback, opaque = self._on_closed
            callback(self, END_OF_FILE, opaque)


class FakeHypervisor:
    """``libvirt`` and ``libvirt_qemu`` in one, and the hypervisor that they connect to.

    ``at_agent_command`` maps numbers of agent commands, counted from one, to functions that are called when the command
    begins. ``at_break`` is called with a connection that an answer breaks.
    """

    libvirtError = LibvirtError  # noqa: N815  # libvirt's name
    VIR_DOMAIN_TIME_SYNC = 1

    # The errors of the next calls of each kind, and the events that they wait for first.
    open_error: LibvirtError | None = None
    list_error = lookup_error = state_error = xml_error = metadata_error = set_time_error = close_error = open_error
    open_waits_for: threading.Event | None = None
    close_waits_for = open_waits_for
    # Whether a command is refused because of its domain's state, not only by its answer.
    checks_states = True
    closed = property(lambda hypervisor: hypervisor.closed_connections)
    commands = property(lambda hypervisor: hypervisor.asked)

    def __init__(self, definitions: Iterable[Definition] = ()) -> None:
        self.definitions = list(definitions)
        self.at_agent_command: dict[int, Callable[[], None]] = {}
        self.at_break: Callable[[Connection], None] = self.hang_up
        self.connections: list[Connection] = []
        self.closed_connections: list[Connection] = []
        self.has_closed = threading.Event()  # any of them
        self.calls: Counter[str] = Counter()
        self.most_calls = 0
        self.most_calls_of_a_connection = 0
        self.uris: list[str] = []
        self.lookups: list[tuple[str, str]] = []
        self.asked_metadata: list[tuple[int, str]] = []
        self.asked: list[tuple[str, str]] = []  # domain, command
        self.sent: list[tuple[str, int, int]] = []  # text, timeout, flags
        self.set_times: list[tuple[dict[str, int], int]] = []
        self.log: list[str] = []  # commands and setTime
        self._calls_now: Counter[Connection] = Counter()
        self._refusals = 0.0
        self._error_handler: Callable[[tuple[Any, ...]], None] = lambda _raw: None
        # Guards all attributes above that calls write.
        self._lock = threading.Lock()

    def modules(self) -> tuple[FakeHypervisor, FakeHypervisor]:
        return self, self

    def break_connections(self) -> None:
        """The daemon exits and is back at once, without its connections."""
        for connection in list(self.connections):
            if not connection.is_broken:
                self.hang_up(connection)

    def hang_up(self, connection: Connection) -> None:
        """The daemon closes only this connection, even with calls under way on it."""
        with self._lock:
            connection.is_broken = True
            _Loop.due.put(connection.deliver_closed)
            connection.interrupted.set()

    def go_away(self, attempts: float = math.inf) -> None:
        """The daemon exits. It is back after that many connection attempts, or when it is started."""
        self._refusals = attempts
        self.break_connections()

    stop_daemon = go_away

    def refuse(self) -> None:
        """The daemon refuses new connections until it is started. Existing connections stay."""
        self._refusals = math.inf

    def start_daemon(self) -> None:
        self._refusals = 0

    def domain_of(self, connection: Connection, name: str) -> Domain:
        defined = next((each for each in self.definitions if each.name == name), None)
        return Domain(connection, defined or Definition(name))

    def release(self) -> None:
        """Make hanging calls return, as after a timeout."""
        for connection in list(self.connections):
            connection.interrupted.set()

    def wait_until_all_is_released(self, seconds: float = 5.0) -> None:
        """Wait until no thread is left and every connection is closed exactly once, unless it was lost before."""
        until(
            lambda: not threads_of_lines() and all(each.is_closed or each.is_broken for each in self.connections),
            lambda: f"{threads_of_lines()} of {len(self.connections)} connections are left",
            seconds,
        )
        assert len(self.closed_connections) == len(set(self.closed_connections))

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
            self.closed_connections.append(connection)
        self.has_closed.set()
        if self.close_waits_for is not None:
            self.close_waits_for.wait(10)
        if self.close_error is not None:
            raise self.close_error

    def registerErrorHandler(self, handler: Callable[..., None], context: object) -> None:  # noqa: N802  # libvirt's
        self._error_handler = lambda raw: handler(context, raw)

    def open(self, uri: str) -> Connection:
        self.uris.append(uri)
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

    def qemuAgentCommand(self, domain: Domain, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        definition, request = domain.definition, json.loads(text)
        with domain.connection.call("qemuAgentCommand"):
            with self._lock:
                self.sent.append((text, timeout, flags))
                self.log.append(request["execute"])
                self.asked.append((definition.name, request["execute"]))
                happens = self.at_agent_command.get(len(self.asked))
            if happens is not None:
                happens()
            if self.checks_states:
                self._require_connected(definition)
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
                self._error_handler(as_texts(error.err))
                error.err = as_texts(error.err)
                error.args = (error.err[2],)
                raise

    @staticmethod
    def _require_connected(definition: Definition) -> None:
        if definition.state not in (RUNNING, BLOCKED):
            raise LibvirtError(OPERATION_INVALID, "Requested operation is not valid: domain is not running")
        if definition.channel_state is None:
            raise LibvirtError(ARGUMENT_UNSUPPORTED, "argument unsupported: QEMU guest agent is not configured")
        if definition.channel_state != "connected":
            raise LibvirtError(AGENT_UNRESPONSIVE, "Guest agent is not responding: it is not connected")

    # Events: libvirt's loop, and methods that fire events. Tests set the state of a domain themselves.

    @staticmethod
    def virEventRegisterDefaultImpl() -> int:  # noqa: N802  # libvirt's name
        _Loop.is_registered = True
        return 0

    @staticmethod
    def virEventRunDefaultImpl() -> int:  # noqa: N802
        with _Loop.running:
            _Loop.due.get()()
        return 0

    def fire_lifecycle(self, name: str, event: int, detail: int) -> None:
        self._fire(LIFECYCLE, name, event, detail)

    def fire_agent(self, name: str, state: int, reason: int = BY_CHANNEL) -> None:
        self._fire(AGENT_LIFECYCLE, name, state, reason)

    def fire_reboot(self, name: str) -> None:
        self._fire(REBOOT, name)

    def _fire(self, event: int, name: str, *what: object) -> None:
        for connection in list(self.connections):
            _Loop.due.put(functools.partial(connection.deliver, event, self.domain_of(connection, name), what))
