# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel through libvirt, which owns the agent's socket of every domain it manages.

libvirt syncs with the agent by itself. A 0xFF byte must never go through it: the agent's answer begins with 0xFF then,
and libvirt gives the agent up for good (``qemuAgentIOProcessLine``, src/qemu/qemu_agent.c, libvirt 11.3.0).
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import re
import threading
import time
from types import ModuleType
from typing import Any, Callable, Mapping, NamedTuple, TypeVar

from .. import wire
from ..errors import (
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    MissingLibraryError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    PermissionDeniedError,
    QgaError,
    UnresponsiveError,
)
from .base import NO_REPLY, Channel, Deadline, Exchange, Request
from .bounded import BoundedCaller, StillBusyError

Result = TypeVar("Result")

# libvirt's error numbers (include/libvirt/virterror.h, libvirt 11.3.0), as numbers since old bindings lack the names.
_INTERNAL_ERROR = 1
_SYSTEM_ERROR = 38
_NO_DOMAIN = 42
_AUTH_FAILED = 45
_OPERATION_INVALID = 55
_OPERATION_TIMEOUT = 68
_ARGUMENT_UNSUPPORTED = 74
_AUTH_CANCELLED = 79
_AUTH_UNAVAILABLE = 80
_AGENT_UNRESPONSIVE = 86
_ACCESS_DENIED = 88
_AGENT_UNSYNCED = 97
_AGENT_COMMAND_TIMEOUT = 112  # since 11.2.0; before it 86
_AGENT_COMMAND_FAILED = 113  # since 11.2.0; before it 1

_AGENT_CHANNEL = "org.qemu.guest_agent.0"

# virDomainQemuAgentCommand takes whole seconds, and 0 gives up before the command is sent.
_SHORTEST_AGENT_TIMEOUT = 1

# virDomainState, and what an operator calls it.
_STATES: Mapping[int, str] = {
    0: "in no known state",
    3: "paused",
    4: "shutting down",
    5: "shut off",
    6: "crashed",
    7: "suspended by its power management",
}
_RUNNING = (1, 2)
_PAUSED = (3, 7)


# libvirt also takes a UUID without its hyphens (virUUIDParse, src/util/viruuid.c, libvirt 11.3.0).
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}\Z")


class _ChannelState(NamedTuple):
    configured: bool
    connected: bool | None  # None: this libvirt does not say
    resets_reinjection: bool  # the RTC injects lost ticks, and must be told when the clock is set


def _channel_state(domain_xml: str) -> _ChannelState:
    """What the live XML of a domain says about its agent (docs/formatdomain.html, libvirt 11.3.0)."""
    from xml.etree import ElementTree  # seldom needed, and slow to import

    root = ElementTree.fromstring(domain_xml)  # from libvirt, which made it: not from the guest
    target = root.find(f"./devices/channel/target[@name='{_AGENT_CHANNEL}']")
    state = None if target is None else target.get("state")
    catchup = root.find("./clock/timer[@name='rtc'][@tickpolicy='catchup']")
    return _ChannelState(target is not None, None if state is None else state == "connected", catchup is not None)


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
    _last_error.raw = raw


def _known(error: Any) -> Any:
    """``error`` with what libvirt said, which libvirt-python may have lost.

    It reads the thread's last error after the failed call. If Python collects garbage in between, the destructor of an
    old domain or connection makes a call too, and that one clears the error (``virResetLastError``).
    """
    if error.err is None:
        error.err = _last_error.raw
    return error


class LibvirtChannel(Channel):
    """The agent of one domain, by name or UUID, on the hypervisor behind a libvirt URI."""

    def __init__(self, domain: str, uri: str) -> None:
        self._libvirt, self._libvirt_qemu = import_libvirt()
        self._name = domain
        self._uri = uri
        self._caller = BoundedCaller(f"libvirt {domain}")
        self._connection: Any = None
        self._domain: Any = None
        self._state: _ChannelState | None = None
        self._answered = False

    def __str__(self) -> str:
        return f"domain {self._name} at {self._uri}"

    def call(self, request: Request, timeout: float) -> Exchange:
        deadline = Deadline(timeout)
        if self._domain is None:
            self._bounded(self._open, deadline, timeout, HypervisorUnavailableError, f"libvirt at {self._uri}")
        return self._bounded(
            lambda: self._exchange(request, deadline),
            deadline,
            timeout,
            ExchangeTimeoutError if self._answered else UnresponsiveError,
            f"the agent of {self}",
            request.execute,
        )

    def close(self) -> None:
        connection, self._connection, self._domain = self._connection, None, None
        if connection is not None:
            # On the thread too: closing waits for a call that still hangs.
            self._caller.post(lambda: self._close_quietly(connection))
        self._caller.stop()

    def _bounded(
        self,
        function: Callable[[], Result],
        deadline: Deadline,
        timeout: float,
        kind: type[QgaError],
        who: str,
        what: str = "",
    ) -> Result:
        try:
            return self._caller.run(function, deadline.remaining())
        except StillBusyError:
            raise kind("{} did not answer{} within {:g} s".format(who, what and " " + what, timeout)) from None

    def _close_quietly(self, connection: Any) -> None:
        # The daemon may have gone already: nothing is left to close then.
        with contextlib.suppress(self._libvirt.libvirtError):
            connection.close()

    # All below runs on the caller's thread.

    def _open(self) -> None:
        try:
            connection = self._libvirt.open(self._uri)
        except self._libvirt.libvirtError as error:
            raise self._connection_error(error) from error
        self._connection = connection
        self._domain = self._look_up(connection)
        self._require_running()

    def _look_up(self, connection: Any) -> Any:
        lookups: list[Callable[[], Any]] = [lambda: connection.lookupByName(self._name)]
        if _UUID.match(self._name):
            lookups.insert(0, lambda: connection.lookupByUUIDString(self._name))
        for look_up in lookups:
            try:
                return look_up()
            except self._libvirt.libvirtError as error:
                if _known(error).get_error_code() != _NO_DOMAIN:
                    raise self._connection_error(error) from error
        raise NotFoundError(f"there is no domain {self._name} at {self._uri}")

    def _require_running(self) -> None:
        try:
            state = self._domain.state()[0]
        except self._libvirt.libvirtError as error:
            raise self._agent_error(error) from error
        if state not in _RUNNING:
            command = "resume" if state in _PAUSED else "start"
            raise NotRunningError(
                f"{self} is {_STATES.get(state, 'not running')}",
                f"Run `virsh {command} {self._name}` first; an agent answers only while its guest runs.",
            )

    def _exchange(self, request: Request, deadline: Deadline) -> Exchange:
        if request.execute == "guest-set-time" and self._channel_state().resets_reinjection:
            return self._set_time(request, deadline)
        if not callable(request.arguments):
            prepared = json.dumps(wire.request(request.execute, request.arguments))
        agent_command = self._libvirt_qemu.qemuAgentCommand
        limit = max(_SHORTEST_AGENT_TIMEOUT, math.ceil(deadline.remaining()))
        if not request.expects_reply:
            # Syncing first tells a dead agent from one that is busy with what it was told.
            self._exchange(Request("guest-ping"), deadline)
            limit = _SHORTEST_AGENT_TIMEOUT
        sent_ns = time.monotonic_ns()
        if callable(request.arguments):
            prepared = json.dumps(wire.request(request.execute, request.arguments_at(sent_ns)))
        try:
            text = agent_command(self._domain, prepared, limit, 0)
        except self._libvirt.libvirtError as error:
            received_ns = time.monotonic_ns()
            refusal = _refusal(error, request.execute)
            if refusal is not None:
                self._answered = True
                return Exchange(refusal, sent_ns, received_ns)
            if not request.expects_reply and error.get_error_code() in (_AGENT_UNRESPONSIVE, _AGENT_COMMAND_TIMEOUT):
                return Exchange(NO_REPLY, sent_ns, received_ns)
            raise self._agent_error(error, request.execute) from error
        received_ns = time.monotonic_ns()
        self._answered = True
        return Exchange(wire.read_reply(wire.decode(text.encode("utf-8", "surrogatepass"))), sent_ns, received_ns)

    def _set_time(self, request: Request, deadline: Deadline) -> Exchange:
        """``guest-set-time`` for a guest whose RTC makes up for lost ticks: they must not be injected on top of it.

        virDomainSetTime resets the reinjection behind the agent's command (``qemuDomainSetTime``, libvirt 11.3.0). It
        has no time limit of its own, so a ping that has one goes before it.
        """
        self._exchange(Request("guest-ping"), deadline)
        sent_ns = time.monotonic_ns()
        arguments = request.arguments_at(sent_ns)
        flags = 0 if "time" in arguments else self._libvirt.VIR_DOMAIN_TIME_SYNC
        seconds, nanoseconds = divmod(arguments.get("time", 0), 10**9)
        try:
            self._domain.setTime({"seconds": seconds, "nseconds": nanoseconds}, flags)
        except self._libvirt.libvirtError as error:
            refusal = _refusal(error, request.execute)
            if refusal is None:
                raise self._agent_error(error, request.execute) from error
            return Exchange(refusal, sent_ns, time.monotonic_ns())
        return Exchange(wire.Returned({}), sent_ns, time.monotonic_ns())

    def _channel_state(self) -> _ChannelState:
        if self._state is None:
            try:
                self._state = _channel_state(self._domain.XMLDesc(0))
            except self._libvirt.libvirtError as error:
                raise self._agent_error(error) from error
        return self._state

    def _connection_error(self, error: Any) -> QgaError:
        code = _known(error).get_error_code()
        reason = error.get_error_message()
        denied = code == _SYSTEM_ERROR and error.get_int1() in (errno.EACCES, errno.EPERM)
        if denied or code in (_AUTH_FAILED, _AUTH_CANCELLED, _AUTH_UNAVAILABLE, _ACCESS_DENIED):
            return PermissionDeniedError(f"libvirt at {self._uri} refused the connection: {reason}")
        return HypervisorUnavailableError(f"cannot connect to libvirt at {self._uri}: {reason}")

    def _agent_error(self, error: Any, execute: str = "the request") -> QgaError:
        """What an error of a domain's call means.

        Told by the number and by the state of the domain; the text depends on the daemon's language.
        """
        code = _known(error).get_error_code()
        reason = error.get_error_message()
        if code == _OPERATION_INVALID:
            try:
                self._require_running()
            except QgaError as stopped:
                return stopped
            return NotRunningError(f"{self} cannot take {execute}: {reason}")
        if code == _NO_DOMAIN:
            return NotFoundError(f"{self} is gone: {reason}")
        if code == _ARGUMENT_UNSUPPORTED:
            return NotConfiguredError(f"{self} has no guest agent channel")
        if code == _ACCESS_DENIED:
            return PermissionDeniedError(f"libvirt does not allow agent commands to {self}: {reason}")
        if code == _OPERATION_TIMEOUT:
            return UnresponsiveError(
                f"the agent of {self} is held by another client: {reason}",
                "Wait until the other agent command has ended, and run the task again.",
            )
        if code in (_AGENT_UNRESPONSIVE, _AGENT_UNSYNCED, _AGENT_COMMAND_TIMEOUT):
            return self._silence(code, execute, reason)
        return HypervisorUnavailableError(f"libvirt at {self._uri} failed at {execute}: {reason}")

    def _silence(self, code: int, execute: str, reason: str) -> QgaError:
        try:
            connected = _channel_state(self._domain.XMLDesc(0)).connected
        except self._libvirt.libvirtError:
            connected = None
        if connected is False:
            return NotConnectedError(f"no guest agent runs in {self}")
        if code == _AGENT_COMMAND_TIMEOUT or (self._answered and code == _AGENT_UNRESPONSIVE):
            return ExchangeTimeoutError(f"the agent of {self} did not answer {execute} in time: {reason}")
        return UnresponsiveError(f"the agent of {self} does not answer: {reason}")


# What qemu-ga says of a command that it does not have, or that is disabled (qapi/qmp-dispatch.c, QEMU 10.0.13).
_COMMAND_NOT_FOUND = re.compile(
    r"[Tt]he command \S+ has (?:not been found|been disabled)|Command \S+ has been disabled"
)
_BEHIND_COLON = re.compile("[:\uff1a]\\s*(?P<description>.+)\\Z", re.DOTALL)


def _refusal(error: Any, execute: str) -> wire.Refused | None:
    """The agent's own error, if that is what libvirt reports.

    libvirt keeps the agent's description only, behind a sentence of its own (``qemuAgentCheckError``, libvirt 11.3.0).
    The sentence may be translated, quotes and word order included; the command's name and the description are not.
    """
    code = _known(error).get_error_code()
    if code not in (_AGENT_COMMAND_FAILED, _INTERNAL_ERROR):
        return None
    message = error.get_error_message() or ""
    found = _BEHIND_COLON.search(message.partition(execute)[2])
    if found is None and code == _INTERNAL_ERROR:
        return None
    description = message if found is None else found.group("description")
    kind = "CommandNotFound" if _COMMAND_NOT_FOUND.search(description) else "GenericError"
    return wire.Refused(kind, description)
