# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel through libvirt, which owns the agent's socket of every domain it manages.

libvirt syncs with the agent by itself. A 0xFF byte must never go through it: the agent's answer begins with 0xFF then,
and libvirt gives the agent up for good (``qemuAgentIOProcessLine``, src/qemu/qemu_agent.c, libvirt 11.3.0).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from typing import Any, Callable, Mapping, TypeVar

from .. import _refusals as refusals
from .._errors import (
    ExchangeTimeoutError,
    GuestReplacedError,
    HypervisorUnavailableError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    PermissionDeniedError,
    UnresponsiveError,
)
from .._event_loop.tasks import Deadline, pause
from .._event_loop.threads import BoundedCaller, StillBusyError
from .._hypervisor import numbers
from .._hypervisor.connections import NEW, PROVEN, SLOW, SUSPECT, Lane, Line, known, line_of_this_thread, without_agents
from .._hypervisor.domains import ChannelState, channel_state, macs_of
from .._hypervisor.virsh import list_hint, not_found, not_running, unmistakable, virsh
from .._protocol import framing, messages, values
from .._protocol.errors import QgaError, RemoteProtocolError
from .._untrusted import visible
from .base import NO_REPLY, Channel, Exchange, Request

Result = TypeVar("Result")


# virDomainQemuAgentCommand takes whole seconds, and 0 gives up before the command is sent.
_SHORTEST_AGENT_TIMEOUT = 1

# What libvirt says of an agent that did not answer a command.
_SILENCE = (numbers.AGENT_UNRESPONSIVE, numbers.AGENT_COMMAND_TIMEOUT)

_PING = Request("guest-ping")

# A guest of many that does not answer by then has to wait for those that do.
_PROBE_SECONDS = 1.0
# As does one with an answer that has taken longer than that. One whose answers have taken longer only together waits
# for all but those: some sixty exchanges of a resync take less, on a busy host.
_MOST_HELD_SECONDS = 0.25
# The stock agent answers when its hwclock has ended: after half a second to a second (QEMU 7.2 and 10.0), or two.
_USUAL_SECONDS: Mapping[str, float] = {"guest-set-time": 2.0}

# A daemon that was started under its guests finds their agents one by one: some 20 ms for one guest, longer for many or
# on a busy host. Until then it says by its record that an agent is connected, and refuses every command for it.
_REACH_SECONDS = 5.0
# An agent is waited for longer than that, a whole second at least: it has not been asked.
_AT_ONCE_NS = 900_000_000
_REACH_PAUSE_SECONDS = 0.1
# What a conversation begins with, and what does no harm if it was carried out after all.
_REPEATABLE = ("guest-ping", "guest-info")

# No JSON, or nested too deeply; longer than 10 MiB (QEMU_AGENT_MAX_RESPONSE); longer than the 4 MiB that libvirt's own
# protocol carries (REMOTE_STRING_MAX, src/remote/remote_protocol.x).
_OF_THE_REPLY = (numbers.INTERNAL_ERROR, numbers.SYSTEM_ERROR, numbers.RPC)

# Not of QEMU's driver, as an answer to an agent command: others, such as those for lxc:///, xen:/// and
# test:///default, have none (src/libvirt-qemu.c, libvirt 11.3.0).
_OF_A_DRIVER_WITHOUT_AGENTS = (
    numbers.NO_SUPPORT,
    numbers.INVALID_ARG,
    numbers.OPERATION_FAILED,
    numbers.OPERATION_DENIED,
    numbers.OPERATION_UNSUPPORTED,
)

# Named, in whatever language, by what libvirt forbids over its socket for reading only (virCheckReadOnlyGoto).
_AGENT_CALL = "virDomainQemuAgentCommand"

# What libvirt-python raises for a reply or an error's text that is not UTF-8. The second, when it first meets it on the
# way to an error handler.
_NOT_UTF8 = (UnicodeDecodeError, SystemError)

# Decoding a message takes up to 0.2 us a byte, and many times its size in memory: longer ones than this, in bytes, are
# decoded one at a time, which leaves time and memory to the other guests of a fleet.
_LONG = 64 * 1024
_decoding_at_length = threading.Lock()

# libvirt also takes a UUID without its hyphens (virUUIDParse, src/util/viruuid.c, libvirt 11.3.0).
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}\Z")


class _UnreachedError(UnresponsiveError):
    """libvirt has the agent for connected, and refused a command for it without asking it."""


class LibvirtChannel(Channel):
    """The agent of one domain, by name or UUID, on the hypervisor behind a libvirt URI.

    ``line`` is a connection that it shares with other domains; without, it has one of its own. libvirt takes a reply of
    up to 10 MiB (``QEMU_AGENT_MAX_RESPONSE``); ``limits`` are what is made of it here.
    """

    is_shared = True

    def __init__(
        self, domain: str, uri: str, line: Line | None = None, limits: values.Limits = values.USUAL_LIMITS
    ) -> None:
        self._name = domain
        self._uri = uri
        self._line = Line(uri) if line is None else line
        self._limits = limits
        self._owns_line = line is None
        self._libvirt = self._line.libvirt
        self._caller = BoundedCaller()
        self._connection: Any = None
        self._domain: Any = None
        self._state: ChannelState | None = None
        self._answered = False
        self._id: int | None = None
        self._is_pinned = False
        self._lane = NEW if self._line.is_shared else PROVEN
        self._held = 0.0  # seconds for which its calls have held threads, apart from what is usual
        self._longest = 0.0  # of these, for one call
        self._is_silent = False  # it did not answer what it was asked last

    def __str__(self) -> str:
        return f"domain {self._name} at {self._uri}"

    async def call(self, request: Request, timeout: float) -> Exchange:
        deadline = Deadline(timeout)
        # The last try is to be a fair one.
        patience = Deadline(min(timeout - _SHORTEST_AGENT_TIMEOUT, _REACH_SECONDS))
        while True:
            try:
                return await self._call(request, deadline.remaining(), timeout)
            except _UnreachedError:
                if request.execute not in _REPEATABLE or patience.remaining() <= _REACH_PAUSE_SECONDS:
                    raise
            except HypervisorUnavailableError as broken:
                if broken.in_call:  # maybe at this agent's answer: from now on, nobody else's call is on its connection
                    self._line = self._line.reserve or self._line
                raise
            await pause(_REACH_PAUSE_SECONDS)  # on no thread: those are for guests that can be asked

    async def _call(self, request: Request, left: float, timeout: float) -> Exchange:
        """``left`` of ``timeout`` is what is left of the time for it."""
        if self._lane is NEW and left > 2 * _PROBE_SECONDS:  # others take no longer than a probe would
            probe = request if request.execute in _REPEATABLE else _PING
            answered = await self._probe(probe)
            if answered is None:
                left -= _PROBE_SECONDS
            elif probe is request:
                return answered
        try:
            lane = self._lane
            exchange = await self._on_line(
                lambda: self._perform(request, left, self._until(lane)), left, lane, request.execute, timeout
            )
        except _UnreachedError:
            raise  # no thread was held up by it
        except (UnresponsiveError, ExchangeTimeoutError):
            self._is_silent = True
            self._lane = SUSPECT if self._line.is_shared else self._lane
            raise
        self._answered_in_time()
        return exchange

    def _answered_in_time(self) -> None:
        self._is_silent = False
        self._lane = PROVEN
        if self._line.is_shared and self._held > _MOST_HELD_SECONDS:
            self._lane = SUSPECT if self._longest > _MOST_HELD_SECONDS else SLOW

    def pin(self) -> None:
        self._is_pinned = True

    @property
    def thaw_hint(self) -> str:
        name = self._name if self._domain is None else unmistakable(self._name, self._domain.UUIDString())
        return f"Run {virsh(self._uri, 'domfsthaw', name)} and the task again."

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        return await self._on_line(lambda: self._metadata(namespace), timeout, PROVEN, "virDomainGetMetadata", timeout)

    async def macs(self, timeout: float) -> tuple[str, ...]:
        return await self._on_line(self._macs, timeout, PROVEN, "virDomainGetXMLDesc", timeout)

    async def require_same(self, timeout: float) -> None:
        # A domain's object stands for its UUID, whichever start of it that is by now.
        await self._on_line(self._look_up_again, timeout, PROVEN, "virDomainLookupByName", timeout)

    async def close(self) -> None:
        self._connection = self._domain = None
        self._caller.close()
        if self._owns_line:
            self._line.close()

    async def _probe(self, request: Request) -> Exchange | None:
        """Find out quickly whether the agent answers; silent ones are not to hold up the others. None: it does not."""
        self._lane, self._is_silent = SUSPECT, True
        workers = self._line.workers(NEW)
        try:
            # Directly, since a libvirt that takes longer to be connected to is no error yet.
            exchange = await self._caller.run(lambda: self._perform(request, _PROBE_SECONDS), _PROBE_SECONDS, workers)
        except _UnreachedError:
            self._lane = NEW
            raise
        except (StillBusyError, UnresponsiveError, ExchangeTimeoutError):
            return None
        self._answered_in_time()
        return exchange

    async def _on_line(
        self, function: Callable[[], Result], left: float, lane: Lane, what: str, timeout: float
    ) -> Result:
        """``left`` of ``timeout`` is what is left of the time for it."""
        until = self._until(lane)
        try:
            return await self._caller.run(function, left, self._line.workers(lane, self._held), until)
        except StillBusyError:
            if time.monotonic() >= until:
                raise UnresponsiveError(
                    f"the agent of {self} did not answer within {_PROBE_SECONDS:g} s, "
                    "nor within what was left of the time for all silent guests"
                ) from None
            within = f"within {timeout:g} s"
            if self._domain is None:
                raise HypervisorUnavailableError(f"libvirt at {self._uri} did not answer {within}") from None
            kind = ExchangeTimeoutError if self._answered else UnresponsiveError
            raise kind(f"the agent of {self} did not answer {what} {within}") from None

    def _until(self, lane: Lane) -> float:
        is_to_be_given_up = lane is SUSPECT and (self._is_silent or self._longest >= _PROBE_SECONDS)
        return self._line.suspects_until if is_to_be_given_up else math.inf

    # All below runs on a thread of the line.

    def _perform(self, request: Request, timeout: float, until: float = math.inf) -> Exchange:
        deadline = Deadline(min(timeout, until - time.monotonic()))
        self._open()
        if deadline.expired():
            raise StillBusyError  # it was given up meanwhile, and must not be carried out behind anybody's back
        began_at = time.monotonic()
        try:
            return self._exchange(request, deadline)
        finally:
            held = time.monotonic() - began_at - _USUAL_SECONDS.get(request.execute, 0.0)
            self._held += max(0.0, held)
            self._longest = max(self._longest, held)

    def _open(self) -> None:
        connection = line_of_this_thread(self._line).connection()
        if self._domain is None or connection is not self._connection:
            self._domain = self._look_up(connection)
            self._connection = connection  # not before it was found there: the old domain is of no use on it
            self._require_running()
            self._require_same()

    def _metadata(self, namespace: str) -> str | None:
        self._open()
        try:
            element: str = self._domain.metadata(numbers.METADATA_ELEMENT, namespace, 0)
        except self._libvirt.libvirtError as error:
            if known(error).get_error_code() == numbers.NO_DOMAIN_METADATA:
                return None
            raise self._agent_error(error, "virDomainGetMetadata") from error
        return element

    def _macs(self) -> tuple[str, ...]:
        self._open()
        try:
            return macs_of(self._domain.XMLDesc(0))
        except self._libvirt.libvirtError as error:
            if self._line.is_alive(self._connection):
                return ()  # not every user may see it, nor has every driver one
            raise self._agent_error(error, "virDomainGetXMLDesc") from error

    def _look_up(self, connection: Any) -> Any:
        lookups = [connection.lookupByName]
        if _UUID.match(self._name):
            lookups.insert(0, connection.lookupByUUIDString)
        for look_up in lookups:
            try:
                return look_up(self._name)
            except self._libvirt.libvirtError as error:
                if known(error).get_error_code() != numbers.NO_DOMAIN:
                    raise self._line.connection_error(error) from error
        raise not_found(self._name, self._uri)

    def _require_running(self) -> None:
        try:
            state = self._domain.state()[0]
        except self._libvirt.libvirtError as error:
            if _code(error) == numbers.NO_DOMAIN:
                raise self._gone(error) from error
            raise self._line.connection_error(error) from error
        if not numbers.is_running(state):
            raise not_running(self._name, self._uri, state, self._domain.UUIDString())

    def _look_up_again(self) -> None:
        self._domain = None
        self._open()

    def _require_same(self) -> None:
        try:
            number: int = self._domain.ID()  # another one after each start
        except self._libvirt.libvirtError as error:
            raise self._agent_error(error) from error
        if self._is_pinned and number != self._id:
            self._domain = None
            raise GuestReplacedError(f"{self} was started anew meanwhile")
        self._id = number

    def _exchange(self, request: Request, deadline: Deadline) -> Exchange:
        if request.execute == "guest-set-time" and self._channel_state().resets_reinjection:
            return self._set_time(request, deadline)
        if not callable(request.arguments):
            prepared = json.dumps(messages.request(request.execute, request.arguments))
        agent_command = self._line.libvirt_qemu.qemuAgentCommand
        limit = max(_SHORTEST_AGENT_TIMEOUT, math.ceil(deadline.remaining()))
        if not request.expects_reply:
            # Syncing first tells a dead agent from one that is busy with what it was told.
            self._exchange(_PING, deadline)
            limit = _SHORTEST_AGENT_TIMEOUT
        sent_ns = time.monotonic_ns()
        if callable(request.arguments):
            prepared = json.dumps(messages.request(request.execute, request.arguments_at(sent_ns)))
        try:
            text = self._readable(request.execute, agent_command, self._domain, prepared, limit, 0)
        except self._libvirt.libvirtError as error:
            received_ns = time.monotonic_ns()
            length = len(error.get_error_message() or "")
            refusal = self._refusal(error, request.execute)
            if refusal is not None:
                self._answered = True
                if length > self._limits.size:
                    raise self._too_long(request.execute, length) from error
                return Exchange(refusal, sent_ns, received_ns)
            if not request.expects_reply and _code(error) in _SILENCE:
                return Exchange(NO_REPLY, sent_ns, received_ns)
            was_asked = received_ns - sent_ns >= _AT_ONCE_NS
            raise self._reply_error(error, request.execute, was_asked) from error
        received_ns = time.monotonic_ns()
        self._answered = True
        length = len(text)
        if length > self._limits.size:
            del text  # the error's traceback would hold it
            raise self._too_long(request.execute, length)
        data = text.encode("utf-8", "surrogatepass")
        del text
        with _decoding_at_length if len(data) > _LONG else contextlib.nullcontext():
            reply = messages.read_reply(framing.whole_message(data, self._limits).decode())
        return Exchange(reply, sent_ns, received_ns)

    def _too_long(self, execute: str, length: int) -> RemoteProtocolError:
        return RemoteProtocolError(f"the agent of {self} answered {execute} with {length} characters")

    def _readable(self, execute: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what libvirt's function returns.

        :raises RemoteProtocolError: the agent answered with text that is not UTF-8
        """
        with contextlib.suppress(*_NOT_UTF8):  # here, since they hold all of the text
            return function(*arguments)
        # libvirt, too, keeps an error and the text in it until the next call of the same thread.
        self._line.is_alive(self._connection)
        raise RemoteProtocolError(f"the agent of {self} answered {execute} with text that is not UTF-8")

    def _set_time(self, request: Request, deadline: Deadline) -> Exchange:
        """``guest-set-time`` for a guest whose RTC makes up for lost ticks: they must not be injected on top of it.

        virDomainSetTime resets the reinjection behind the agent's command (``qemuDomainSetTime``, libvirt 11.3.0). It
        has no time limit of its own, so a ping that has one goes before it.
        """
        self._exchange(_PING, deadline)
        sent_ns = time.monotonic_ns()
        arguments = request.arguments_at(sent_ns)
        flags = 0 if "time" in arguments else self._libvirt.VIR_DOMAIN_TIME_SYNC
        seconds, nanoseconds = divmod(arguments.get("time", 0), 10**9)
        try:
            value = {"seconds": seconds, "nseconds": nanoseconds}
            self._readable(request.execute, self._domain.setTime, value, flags)
        except self._libvirt.libvirtError as error:
            refusal = self._refusal(error, request.execute)
            if refusal is None:
                raise self._agent_error(error, request.execute) from error
            return Exchange(refusal, sent_ns, time.monotonic_ns())
        return Exchange(messages.Returned({}), sent_ns, time.monotonic_ns())

    def _channel_state(self) -> ChannelState:
        if self._state is None:
            try:
                self._state = channel_state(self._domain.XMLDesc(0))
            except self._libvirt.libvirtError as error:
                raise self._agent_error(error) from error
        return self._state

    def _refusal(self, error: Any, execute: str) -> messages.Refused | None:
        # Of a connection that broke the agent said nothing, whatever the number.
        return _refusal(error, execute) if self._line.is_alive(self._connection) else None

    def _reply_error(self, error: Any, execute: str, was_asked: bool) -> QgaError:
        """What an error of an agent command means. Of one that is nobody's in particular the reply was the reason."""
        found = self._agent_error(error, execute, was_asked)
        if isinstance(found, HypervisorUnavailableError) and not found.in_call and _code(error) in _OF_THE_REPLY:
            reason = visible(error.get_error_message() or "")
            return RemoteProtocolError(f"libvirt cannot take what the agent of {self} answered to {execute}: {reason}")
        return found

    def _agent_error(self, error: Any, execute: str = "the request", was_asked: bool = True) -> QgaError:
        """What an error of a domain's call means. ``was_asked``: it took as long as an agent is waited for.

        Told by the number and by the state of the domain; the text depends on the daemon's language.
        """
        code = _code(error)
        reason = visible(error.get_error_message() or "")  # it may quote the guest
        if not self._line.is_alive(self._connection):
            said = f"the connection to libvirt at {self._uri} broke at {execute} of {self._name}: {reason}"
            return HypervisorUnavailableError(said, in_call=execute.startswith("guest-"))
        if code == numbers.OPERATION_INVALID:
            try:
                self._require_running()
            except QgaError as stopped:
                return stopped
            return NotRunningError(f"{self} cannot take {execute}: {reason}")
        if code == numbers.NO_DOMAIN:
            return self._gone(error)
        if code == numbers.ARGUMENT_UNSUPPORTED:
            return NotConfiguredError(f"{self} has no guest agent channel")
        if code == numbers.ACCESS_DENIED:
            return PermissionDeniedError(f"libvirt does not allow agent commands to {self}: {reason}")
        if code == numbers.OPERATION_TIMEOUT:
            return UnresponsiveError(
                f"the agent of {self} is held by another client: {reason}",
                "Wait until the other agent command has ended, and run the task again.",
            )
        if code in (numbers.AGENT_UNRESPONSIVE, numbers.AGENT_UNSYNCED, numbers.AGENT_COMMAND_TIMEOUT):
            return self._silence(code, execute, reason, was_asked)
        if code == numbers.OPERATION_DENIED and _AGENT_CALL in reason:
            return PermissionDeniedError(
                f"the connection to libvirt at {self._uri} is for reading only: {reason}",
                "Name a uri that does not lead to libvirt's socket for reading only, libvirt-sock-ro.",
            )
        if not self._answered and code in _OF_A_DRIVER_WITHOUT_AGENTS:
            return without_agents(self._uri, reason)
        if not self._answered and self._lacks_channel():
            return NotConfiguredError(f"{self} has no guest agent channel: {reason}")
        return HypervisorUnavailableError(f"libvirt at {self._uri} failed at {execute}: {reason}")

    def _gone(self, error: Any) -> NotFoundError:
        reason = visible(error.get_error_message() or "")
        return NotFoundError(f"{self} is gone: {reason}", list_hint(self._uri))

    def _lacks_channel(self) -> bool:
        """Return whether the domain certainly has no channel for an agent."""
        try:
            return not channel_state(self._domain.XMLDesc(0)).configured
        except self._libvirt.libvirtError:
            return False

    def _silence(self, code: int, execute: str, reason: str, was_asked: bool) -> QgaError:
        try:
            connected = channel_state(self._domain.XMLDesc(0)).connected
        except self._libvirt.libvirtError:
            connected = None
        if connected is False:
            return NotConnectedError(f"no guest agent runs in {self}")
        if connected and code == numbers.AGENT_UNRESPONSIVE and not was_asked and not self._answered:
            return _UnreachedError(
                f"libvirt takes nothing for the agent of {self}, though it is connected: {reason}",
                "Restart the agent's service in the guest; the daemon of libvirt has given up the agent that it had.",
            )
        if code == numbers.AGENT_COMMAND_TIMEOUT or (self._answered and code == numbers.AGENT_UNRESPONSIVE):
            return ExchangeTimeoutError(f"the agent of {self} did not answer {execute} in time: {reason}")
        return UnresponsiveError(f"the agent of {self} does not answer: {reason}")


_BEHIND_COLON = re.compile("[:\uff1a]\\s*(?P<description>.*)\\Z", re.DOTALL)


def _code(error: Any) -> int:
    number: int = known(error).get_error_code()
    return number


def _refusal(error: Any, execute: str) -> messages.Refused | None:
    """The agent's own error, if that is what libvirt reports.

    libvirt keeps the agent's description only, behind a sentence of its own (``qemuAgentCheckError``, libvirt 11.3.0).
    The sentence may be translated, quotes and word order included; the command's name and the description are not.
    """
    code = _code(error)
    if code not in (numbers.AGENT_COMMAND_FAILED, numbers.INTERNAL_ERROR):
        return None
    message = error.get_error_message() or ""
    found = _BEHIND_COLON.search(message.partition(execute)[2])
    if found is None and code == numbers.INTERNAL_ERROR:
        return None
    return refusals.from_words(message if found is None else found.group("description"))
