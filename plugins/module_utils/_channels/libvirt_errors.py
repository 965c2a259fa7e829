# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The meaning of libvirt's errors in calls for a domain.

libvirt's error number decides, together with other facts about the domain; the text depends on the daemon's language.
An agent's refusal of a command is also such an error.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, NamedTuple

from .._errors import (
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    NotConfiguredError,
    NotConnectedError,
    NotRunningError,
    PermissionDeniedError,
    UnresponsiveError,
)
from .._hypervisor import numbers
from .._hypervisor.connections import Line, known, without_agents
from .._hypervisor.domains import ChannelState, channel_state, gone, require_running
from .._protocol.errors import QgaError, RemoteProtocolError
from .._protocol.messages import Refused
from .._untrusted import visible
from . import refusals


class UnreachedError(UnresponsiveError):
    """libvirt reports the agent as connected, but refused a command without asking it."""


class Failure(NamedTuple):
    """A failed call, with the facts about it and its domain.

    ``has_answered``: the agent has answered before this call. ``what`` is the agent command or the libvirt function.
    ``may_be_reply``: the agent's reply may be the reason. ``was_asked``: the call took as long as libvirt waits for an
    agent.
    """

    line: Line
    connection: Any
    domain: Any
    name: str
    has_answered: bool
    code: int
    reason: str  # already escaped, since it may quote the guest
    what: str
    may_be_reply: bool
    was_asked: bool

    def __str__(self) -> str:
        return f"domain '{self.name}' at {self.line.uri}"

    def channel(self) -> ChannelState | None:
        """Return the state of the agent's channel; None: libvirt does not know it."""
        try:
            return channel_state(self.domain.XMLDesc(0))
        except self.line.libvirt.libvirtError:
            return None


def code_of(error: Any) -> int:
    number: int = known(error).get_error_code()
    return number


def reason_of(error: Any) -> str:
    return visible(error.get_error_message() or "")


def meaning(failure: Failure) -> QgaError:
    """Return the error that the caller of a failed call gets.

    A broken connection comes first, whatever the number; then numbers with one meaning; then numbers whose meaning
    depends on the driver, the domain or the reply.
    """
    if not failure.line.is_alive(failure.connection):
        broke = f"the connection to libvirt at {failure.line.uri} broke during {failure.what} of '{failure.name}'"
        return HypervisorUnavailableError(f"{broke}: {failure.reason}", in_call=failure.what.startswith("guest-"))
    if failure.code in _BY_NUMBER:
        return _BY_NUMBER[failure.code](failure)
    return _by_context(failure)


def _stopped(failure: Failure) -> QgaError:
    try:
        require_running(failure.line, failure.domain, failure.name)
    except QgaError as stopped:
        return stopped
    return NotRunningError(f"{failure} cannot run {failure.what}: {failure.reason}")


def _silent(failure: Failure) -> QgaError:
    """Return the error for an agent that did not answer. libvirt before 11.2.0 has one number for all cases: the state
    of the channel distinguishes them.
    """
    channel = failure.channel()
    is_connected = None if channel is None else channel.connected
    is_unresponsive = failure.code == numbers.AGENT_UNRESPONSIVE
    if is_connected is False:
        return NotConnectedError(f"no guest agent runs in {failure}")
    if is_connected and is_unresponsive and not failure.was_asked and not failure.has_answered:
        return UnreachedError(
            f"libvirt refuses commands for the agent of {failure}, though it is connected: {failure.reason}",
            "Restart the agent's service in the guest: libvirt's daemon has given up the present connection to it.",
        )
    if failure.code == numbers.AGENT_COMMAND_TIMEOUT or (failure.has_answered and is_unresponsive):
        return ExchangeTimeoutError(f"the agent of {failure} did not answer {failure.what} in time: {failure.reason}")
    return UnresponsiveError(f"the agent of {failure} does not answer: {failure.reason}")


_BY_NUMBER: Mapping[int, Callable[[Failure], QgaError]] = {
    numbers.OPERATION_INVALID: _stopped,
    numbers.NO_DOMAIN: lambda failure: gone(failure.name, failure.line.uri, failure.reason),
    numbers.ARGUMENT_UNSUPPORTED: lambda failure: NotConfiguredError(f"{failure} has no guest agent channel"),
    numbers.ACCESS_DENIED: lambda failure: PermissionDeniedError(
        f"libvirt does not allow agent commands for {failure}: {failure.reason}"
    ),
    numbers.OPERATION_TIMEOUT: lambda failure: UnresponsiveError(
        f"the agent of {failure} is busy with another client's command: {failure.reason}",
        "Wait until the other agent command has ended, then run the task again.",
    ),
    numbers.AGENT_UNRESPONSIVE: _silent,
    numbers.AGENT_UNSYNCED: _silent,
    numbers.AGENT_COMMAND_TIMEOUT: _silent,
}


# Part of libvirt's error, in any language, if its read-only socket forbids the call (virCheckReadOnlyGoto).
_AGENT_CALL = "virDomainQemuAgentCommand"

# Errors of drivers without agent commands, such as those for lxc:///, xen:/// and test:///default (src/libvirt-qemu.c,
# libvirt 11.3.0). QEMU's driver does not answer an agent command with these.
_ERRORS_OF_OTHER_DRIVERS = (
    numbers.NO_SUPPORT,
    numbers.INVALID_ARG,
    numbers.OPERATION_FAILED,
    numbers.OPERATION_DENIED,
    numbers.OPERATION_UNSUPPORTED,
)

# Errors for a reply that is not JSON, or nested too deeply; longer than 10 MiB (QEMU_AGENT_MAX_RESPONSE); longer than
# the 4 MiB that libvirt's own protocol carries (REMOTE_STRING_MAX, src/remote/remote_protocol.x).
_ERRORS_OF_REPLIES = (numbers.INTERNAL_ERROR, numbers.SYSTEM_ERROR, numbers.RPC)


def _by_context(failure: Failure) -> QgaError:
    """Return the first error that explains the failure."""
    uri, code, reason = failure.line.uri, failure.code, failure.reason
    if code == numbers.OPERATION_DENIED and _AGENT_CALL in reason:
        return PermissionDeniedError(
            f"the connection to libvirt at {uri} is read-only: {reason}",
            "Set uri to one that does not use libvirt's read-only socket, libvirt-sock-ro.",
        )
    if not failure.has_answered:
        if code in _ERRORS_OF_OTHER_DRIVERS:
            return without_agents(uri, reason)
        channel = failure.channel()
        if channel is not None and not channel.configured:
            return NotConfiguredError(f"{failure} has no guest agent channel: {reason}")
    if failure.may_be_reply and code in _ERRORS_OF_REPLIES:
        answered = f"libvirt cannot read the reply of the agent of {failure} to {failure.what}"
        return RemoteProtocolError(f"{answered}: {reason}")
    return HypervisorUnavailableError(f"libvirt at {uri} failed during {failure.what}: {reason}")


_AFTER_COLON = re.compile("[:\uff1a]\\s*(?P<description>.*)\\Z", re.DOTALL)


def refusal(error: Any, execute: str) -> Refused | None:
    """Return the agent's own error, if libvirt reports one.

    libvirt keeps only the agent's description, after a sentence of its own (``qemuAgentCheckError``, libvirt 11.3.0).
    The sentence may be translated, including its quotes and word order; the command's name and the description are not.
    """
    code = code_of(error)
    if code not in (numbers.AGENT_COMMAND_FAILED, numbers.INTERNAL_ERROR):
        return None
    message = error.get_error_message() or ""
    found = _AFTER_COLON.search(message.partition(execute)[2])
    if found is None and code == numbers.INTERNAL_ERROR:
        return None
    return refusals.from_words(message if found is None else found.group("description"))
