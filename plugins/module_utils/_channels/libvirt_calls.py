# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls to libvirt for one domain. They block, so they are made on a thread of a line.

libvirt syncs with the agent by itself. A delimiter (0xFF) must never be sent through it: the agent's answer would begin
with 0xFF, and libvirt would give up the agent permanently (``qemuAgentIOProcessLine``, src/qemu/qemu_agent.c, libvirt
11.3.0).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
import time
from typing import Any, Callable, TypeVar

from .._errors import GuestReplacedError
from .._event_loop.tasks import Deadline
from .._hypervisor import numbers
from .._hypervisor.connections import Line, known, line_of_this_thread
from .._hypervisor.domains import ChannelState, channel_state, macs_of, not_found, require_running
from .._protocol import framing, messages
from .._protocol.errors import QgaError, RemoteProtocolError
from .._protocol.limits import Limits
from .base import NO_REPLY, Exchange, Request
from .libvirt_errors import Failure, code_of, meaning, reason_of, refusal

Result = TypeVar("Result")

# virDomainQemuAgentCommand takes whole seconds, and 0 gives up before the command is sent.
SHORTEST_AGENT_TIMEOUT = 1

PING = Request("guest-ping")

# libvirt's errors for an agent that did not answer a command.
_SILENCE = (numbers.AGENT_UNRESPONSIVE, numbers.AGENT_COMMAND_TIMEOUT)

# libvirt-python's exceptions for a reply or an error text that is not UTF-8; the second, if the error handler is called
# with such a text first.
_NOT_UTF8 = (UnicodeDecodeError, SystemError)

# Decoding a message takes up to 0.2 us a byte, and many times its size in memory. So messages of more bytes than this
# are decoded one at a time, to leave time and memory for the other guests of a fleet.
_LONG = 64 * 1024
_decoding_long = threading.Lock()

# libvirt also takes a UUID without its hyphens (virUUIDParse, src/util/viruuid.c, libvirt 11.3.0).
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}\Z")


class DomainCalls:
    """One domain, by name or UUID. :meth:`open` looks it up, and looks it up again after the connection broke.

    A call that fails within ``at_once`` seconds did not reach the agent. ``has_answered``: the agent has answered
    before; a refusal counts.
    """

    def __init__(self, name: str, line: Line, limits: Limits, at_once: float) -> None:
        self.name = name
        self._line = line
        self._limits = limits
        self._at_once_ns = int(at_once * 1e9)
        self._error = line.libvirt.libvirtError
        self._connection: Any = None
        self.domain: Any = None
        self._state: ChannelState | None = None
        self._id: int | None = None
        self.is_pinned = False
        self.has_answered = False

    def __str__(self) -> str:
        return f"domain '{self.name}' at {self._line.uri}"

    def forget(self) -> None:
        self._connection = self.domain = None

    def open(self) -> None:
        """Look the domain up on the connection of this thread's line.

        :raises QgaError: there is none, it is not running, or it is not the pinned one
        """
        connection = line_of_this_thread(self._line).connection()
        if self.domain is None or connection is not self._connection:
            self.domain = self._look_up(connection)
            self._connection = connection  # only after the lookup succeeded: the old domain object is useless on it
            require_running(self._line, self.domain, self.name)
            self._require_same()

    def look_up_again(self) -> None:
        self.domain = None
        self.open()

    def _look_up(self, connection: Any) -> Any:
        lookups = [connection.lookupByName]
        if _UUID.match(self.name):
            lookups.insert(0, connection.lookupByUUIDString)
        for look_up in lookups:
            try:
                return look_up(self.name)
            except self._error as error:
                if code_of(error) != numbers.NO_DOMAIN:
                    raise self._line.connection_error(error) from error
        raise not_found(self.name, self._line.uri)

    def _require_same(self) -> None:
        try:
            number: int = self.domain.ID()  # each start has a new one
        except self._error as error:
            raise self._meaning(error) from error
        if self.is_pinned and number != self._id:
            self.domain = None
            raise GuestReplacedError(f"{self} was restarted meanwhile")
        self._id = number

    def metadata(self, namespace: str) -> str | None:
        self.open()
        try:
            element: str = self.domain.metadata(numbers.METADATA_ELEMENT, namespace, 0)
        except self._error as error:
            if known(error).get_error_code() == numbers.NO_DOMAIN_METADATA:
                return None
            raise self._meaning(error, "virDomainGetMetadata") from error
        return element

    def macs(self) -> tuple[str, ...]:
        self.open()
        try:
            return macs_of(self.domain.XMLDesc(0))
        except self._error as error:
            if self._line.is_alive(self._connection):
                return ()  # not every user may read the XML, and not every driver has it
            raise self._meaning(error, "virDomainGetXMLDesc") from error

    def _channel_state(self) -> ChannelState:
        if self._state is None:
            try:
                self._state = channel_state(self.domain.XMLDesc(0))
            except self._error as error:
                raise self._meaning(error) from error
        return self._state

    def exchange(self, request: Request, deadline: Deadline) -> Exchange:
        """Send a request and wait for its reply, until less than a second after the deadline."""
        if request.execute == "guest-set-time" and self._channel_state().resets_reinjection:
            return self._set_time(request, deadline)
        if request.expects_reply:
            limit = max(SHORTEST_AGENT_TIMEOUT, math.ceil(deadline.remaining()))
        else:
            # A ping first distinguishes a dead agent from one that is busy with the command.
            self.exchange(PING, deadline)
            limit = SHORTEST_AGENT_TIMEOUT
        prepared = request.prepared(json.dumps)
        ask = self._line.libvirt_qemu.qemuAgentCommand
        sent_ns = time.monotonic_ns()
        try:
            text = self._readable(request.execute, ask, self.domain, prepared(sent_ns), limit, 0)
        except self._error as error:
            return self._failed(error, request, sent_ns, time.monotonic_ns())
        received_ns = time.monotonic_ns()
        self.has_answered = True
        length = len(text)
        if length > self._limits.size:
            del text  # the error's traceback would hold it
            raise self._too_long(request.execute, length)
        data = text.encode("utf-8", "surrogatepass")
        del text
        with _decoding_long if len(data) > _LONG else contextlib.nullcontext():
            reply = messages.read_reply(framing.whole_message(data, self._limits).decode())
        return Exchange(reply, sent_ns, received_ns)

    def _failed(self, error: Any, request: Request, sent_ns: int, received_ns: int) -> Exchange:
        """Return the exchange for an error that is the agent's refusal, or the silence of a command without a reply.

        :raises QgaError: it is any other error
        """
        length = len(error.get_error_message() or "")  # before it is truncated
        refused = self._refusal(error, request.execute)
        if refused is not None:
            self.has_answered = True
            if length > self._limits.size:
                raise self._too_long(request.execute, length) from error
            return Exchange(refused, sent_ns, received_ns)
        if not request.expects_reply and code_of(error) in _SILENCE:
            return Exchange(NO_REPLY, sent_ns, received_ns)
        was_asked = received_ns - sent_ns >= self._at_once_ns
        raise self._meaning(error, request.execute, may_be_reply=True, was_asked=was_asked) from error

    def _set_time(self, request: Request, deadline: Deadline) -> Exchange:
        """Run ``guest-set-time`` for a guest whose RTC reinjects lost ticks, which must not be added to the new time.

        virDomainSetTime resets the reinjection after the agent's command (``qemuDomainSetTime``, libvirt 11.3.0). It
        has no timeout of its own, so a ping with a timeout comes first.
        """
        self.exchange(PING, deadline)
        sent_ns = time.monotonic_ns()
        arguments = request.arguments_at(sent_ns)
        flags = 0 if "time" in arguments else self._line.libvirt.VIR_DOMAIN_TIME_SYNC
        seconds, nanoseconds = divmod(arguments.get("time", 0), 10**9)
        reply: messages.Reply = messages.Returned({})
        try:
            value = {"seconds": seconds, "nseconds": nanoseconds}
            self._readable(request.execute, self.domain.setTime, value, flags)
        except self._error as error:
            refused = self._refusal(error, request.execute)
            if refused is None:
                raise self._meaning(error, request.execute) from error
            reply = refused
        return Exchange(reply, sent_ns, time.monotonic_ns())

    def _readable(self, execute: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function of libvirt and return its result.

        :raises RemoteProtocolError: the agent answered with text that is not UTF-8
        """
        with contextlib.suppress(*_NOT_UTF8):  # suppressed right here, because the exceptions hold the whole text
            return function(*arguments)
        # libvirt also keeps an error and its text until the same thread makes another call.
        self._line.is_alive(self._connection)
        raise RemoteProtocolError(f"the agent of {self} answered {execute} with text that is not UTF-8")

    def _too_long(self, execute: str, length: int) -> RemoteProtocolError:
        return RemoteProtocolError(f"the agent of {self} answered {execute} with {length} characters")

    def _refusal(self, error: Any, execute: str) -> messages.Refused | None:
        # If the connection broke, the agent did not refuse anything, whatever the error number.
        return refusal(error, execute) if self._line.is_alive(self._connection) else None

    def _meaning(
        self, error: Any, what: str = "the request", may_be_reply: bool = False, was_asked: bool = True
    ) -> QgaError:
        place = (self._line, self._connection, self.domain, self.name, self.has_answered)
        return meaning(Failure(*place, code_of(error), reason_of(error), what, may_be_reply, was_asked))
