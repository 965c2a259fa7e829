# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One guest's agent: its capabilities and its commands."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Callable, Mapping, NamedTuple

from ._channels.base import Arguments, Channel, Exchange, Request
from ._channels.refusals import Meaning, meaning_of
from ._errors import (
    CommandDisabledError,
    CommandError,
    CommandFailedError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotSupportedError,
    UnresponsiveError,
)
from ._event_loop.tasks import NEVER, Deadline, pause
from ._protocol import messages
from ._protocol.commands import CATALOG, FROZEN_ALLOWED, answers_on_success
from ._protocol.errors import QgaError, RemoteProtocolError
from ._untrusted import visible

# The pause before the next attempt to reach an agent that is not there yet: a guest needs seconds to boot or wake up.
_RETRY_SECONDS = 0.2

# The pause before the next attempt at a command that a frozen guest refused. A backup freezes for seconds.
_FROZEN_SECONDS = 0.5

# An attempt right before the end of a longer operation still gets this much time.
_FAIR_SECONDS = 1.0

_EXTENDED_HINT = "Only the extended agent has it: deploy it with the role qemu.guest_agent.extended_agent."

# qemu-ga 5.0 to 9.0 checks for /sbin/hwclock before it sets anything (qga/commands-posix.c). Debian 12 and Ubuntu 24.04
# have it in a package that is not always installed.
_SET_TIME_HINT = (
    "The guest has no /sbin/hwclock: install util-linux-extra in it (`apt install util-linux-extra`), or use the "
    "extended agent (role qemu.guest_agent.extended_agent), which does not need hwclock."
)


class CommandState(NamedTuple):
    enabled: bool
    success_response: bool


@dataclass(frozen=True)
class AgentInfo:
    """The typed reply to ``guest-info``. ``commands`` maps names to states."""

    version: str
    commands: Mapping[str, CommandState]

    @property
    def is_extended(self) -> bool:
        return all(self.enabled(name) for name in ("guest-update-time", "guest-get-clock"))

    def enabled(self, name: str) -> bool:
        state = self.commands.get(name)
        return state is not None and state.enabled


class GuestAgent:
    """The agent at the other end of a channel.

    ``timeout`` is in seconds, for each exchange. A command that the agent refuses because the guest's file systems are
    frozen is repeated for ``frozen_patience`` seconds: it was not run, and a backup thaws them soon. ``has_answered``:
    the agent has answered a command; a refusal counts.
    """

    def __init__(self, channel: Channel, timeout: float, frozen_patience: float = 0.0) -> None:
        self._channel = channel
        self.timeout = timeout
        self._frozen_patience = frozen_patience
        self._info: AgentInfo | None = None
        self.has_answered = False

    @property
    def guest_name(self) -> str | None:
        """The name that the hypervisor has for the guest, once it has been reached."""
        return self._channel.guest_name

    async def info(self) -> AgentInfo:
        """Return the agent's version and commands, which it is asked for only once.

        :raises QgaError: as :meth:`call` does; ``guest-info`` itself may be disabled
        """
        if self._info is None:
            self._info = _read_info(await self.call("guest-info"))
        return self._info

    async def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of the guest's network devices in the host's order; none: they are unknown.

        :raises QgaError: the hypervisor could not be asked
        """
        return await self._channel.macs(self.timeout)

    async def knows(self, name: str) -> bool:
        """Return whether the agent has the command enabled; if it hides its list, whether it is a stock command."""
        try:
            return (await self.info()).enabled(name)
        except CommandError:
            return name in CATALOG and CATALOG[name].origin == "stock"

    async def require(self, command: str) -> None:
        """Check that the agent has ``command`` enabled, without running it.

        :raises CommandError: the command is missing or disabled
        """
        if await self.knows(command):
            return
        state = (await self.info()).commands.get(command)
        raise _missing(command) if state is None else await self._disabled(command)

    def within(self, deadline: Deadline) -> float:
        """Return the timeout of an exchange within a longer operation: ``timeout``, or the time left until the deadline
        if that is shorter, but at least a second.
        """
        return min(self.timeout, max(deadline.remaining(), _FAIR_SECONDS))

    def pin(self) -> None:
        """Bind the agent to this guest; see :meth:`Channel.pin`."""
        self._channel.pin()

    async def come_next(self) -> None:
        """Wait until earlier requests of other clients are done, if the agent is shared with others.

        :raises QgaError: the agent could not be asked
        """
        if self._channel.is_shared:
            with contextlib.suppress(CommandError):  # any answer shows that those are done
                await self.call("guest-ping")

    async def let_go(self, held: float = 0.0) -> None:
        """Leave the agent to other clients for a while; see :meth:`Channel.let_go`."""
        await self._channel.let_go(held)

    async def regain(self, timeout: float) -> None:
        """Take the agent back; see :meth:`Channel.regain`."""
        await self._channel.regain(timeout)

    async def require_same(self) -> None:
        """Check that this is still the pinned guest; see :meth:`Channel.require_same`."""
        await self._channel.require_same(self.timeout)

    async def call(
        self,
        command: str,
        arguments: Arguments | Callable[[int], Arguments] | None = None,
        timeout: float | None = None,
        deadline: Deadline = NEVER,
    ) -> Any:
        """Run ``command`` and return its result, ``{}`` if the command returns nothing.

        ``timeout`` is in seconds and replaces the usual one; ``deadline`` is that of a longer operation.

        :raises CommandError: the agent refused it
        :raises QgaError: the agent could not be asked; see :meth:`Channel.call`
        """
        return (await self.exchange(command, arguments, timeout, deadline)).value

    async def exchange(
        self,
        command: str,
        arguments: Arguments | Callable[[int], Arguments] | None = None,
        timeout: float | None = None,
        deadline: Deadline = NEVER,
    ) -> Exchange:
        """As :meth:`call`, but return the exchange with its stamps; its reply is a :class:`messages.Returned`."""
        expects_reply = self._expects_reply(command)
        if not expects_reply:
            await self.require(command)  # no reply would report that it is disabled
        request = Request(command, {} if arguments is None else arguments, expects_reply)
        patience = Deadline(min(self._frozen_patience, deadline.remaining()))
        is_disabled = False
        while True:
            try:
                return await self._exchange(request, self.within(deadline) if timeout is None else timeout)
            except FrozenError:
                if patience.remaining() < _FROZEN_SECONDS:
                    raise
                is_disabled = False
            except CommandDisabledError:
                # The guest may have been thawed before it was asked whether it is frozen.
                if is_disabled or not self._frozen_patience:
                    raise
                is_disabled = True
                continue
            await self._channel.let_go()  # the client that froze them needs the agent to thaw them
            await pause(_FROZEN_SECONDS)
            await self._channel.regain(max(self.within(deadline), patience.remaining()))

    async def _exchange(self, request: Request, timeout: float) -> Exchange:
        exchange = await self._channel.call(request, timeout)
        self.has_answered = True
        if isinstance(exchange.reply, messages.Refused):
            raise await self._refusal(request.execute, exchange.reply)
        return exchange

    async def wait(self, wait_timeout: float) -> None:
        """Return as soon as the agent answers; ``wait_timeout`` is in seconds.

        Only temporary problems are waited for: an agent that is not connected yet, or does not answer yet; and if it
        has answered before, a restart of the hypervisor's daemon.

        :raises QgaError: the last reason why the agent did not answer
        """
        deadline = Deadline(wait_timeout)
        while True:
            try:
                await self._greet(self.within(deadline))
                return
            except CommandError:
                return  # a refusal is an answer
            except HypervisorUnavailableError:
                if not self.has_answered or deadline.remaining() < _RETRY_SECONDS:
                    raise
            except (NotConnectedError, UnresponsiveError, ExchangeTimeoutError):
                if deadline.remaining() < _RETRY_SECONDS:
                    raise
            await pause(_RETRY_SECONDS)

    async def _greet(self, timeout: float) -> None:
        """Get any answer: the agent's information, which is needed next anyway, or that to a ping if it is known."""
        if self._info is not None:
            await self.call("guest-ping", timeout=timeout)
            return
        value = await self.call("guest-info", timeout=timeout)
        with contextlib.suppress(RemoteProtocolError):  # it answers; info() will raise the error if the list is needed
            self._info = _read_info(value)

    def _expects_reply(self, command: str) -> bool:
        if self._info is not None and command in self._info.commands:
            return self._info.commands[command].success_response
        return answers_on_success(command)

    async def _refusal(self, command: str, refused: messages.Refused) -> CommandError:
        meaning = meaning_of(refused)
        if meaning is Meaning.DISABLED:
            return await self._disabled(command)
        if meaning is Meaning.FROZEN:
            return self._frozen(command)
        if meaning is Meaning.MISSING:
            return _missing(command)
        message = f"the agent refused {command}: {visible(refused.description)}"
        if meaning is Meaning.UNSUPPORTED:
            return NotSupportedError(message, _SET_TIME_HINT if command == "guest-set-time" else None, command)
        return CommandFailedError(message, command=command)

    def _frozen(self, command: str) -> FrozenError:
        message = f"the agent refused {command}: the guest's file systems are frozen"
        return FrozenError(message, self._channel.thaw_hint, command)

    async def _disabled(self, command: str) -> CommandError:
        if command not in FROZEN_ALLOWED and await self._is_frozen():
            return self._frozen(command)
        return CommandDisabledError(f"the guest's administrator has disabled {command}", command=command)

    async def _is_frozen(self) -> bool:
        try:
            # Not by call(), which would repeat this for frozen_patience as well.
            return bool((await self._exchange(Request("guest-fsfreeze-status"), self.timeout)).value == "frozen")
        except QgaError:
            return False  # it does not report that it is frozen: the administrator disabled the command


def _missing(command: str) -> CommandNotFoundError:
    hint = _EXTENDED_HINT if command in CATALOG and CATALOG[command].origin == "extended" else None
    return CommandNotFoundError(f"the agent has no command {command}", hint, command)


def _read_info(value: Any) -> AgentInfo:
    """Read ``GuestAgentInfo`` (qga/qapi-schema.json, QEMU 10.0.13). Agents before 1.7 have no ``success-response``.

    A null counts as absent.

    :raises RemoteProtocolError: it has another shape
    """
    if not isinstance(value, dict) or not isinstance(value.get("version"), str):
        raise RemoteProtocolError("the agent returned a guest-info without a version")
    listed = _member(value, "supported_commands", [])
    if not isinstance(listed, list):
        raise RemoteProtocolError("the agent returned a guest-info whose supported_commands is not a list")
    entries = [entry for entry in listed if entry is not None]
    return AgentInfo(value["version"], MappingProxyType(dict(map(_read_command, entries))))


def _read_command(entry: Any) -> tuple[str, CommandState]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RemoteProtocolError("the agent returned a guest-info with a command without a name")
    name, enabled = entry["name"], _member(entry, "enabled", False)
    success_response = _member(entry, "success-response", answers_on_success(name))
    if not isinstance(enabled, bool) or not isinstance(success_response, bool):
        raise RemoteProtocolError("the agent returned a guest-info with a command whose state is not a boolean")
    return name, CommandState(enabled, success_response)


def _member(value: Mapping[str, Any], name: str, default: Any) -> Any:
    member = value.get(name)
    return default if member is None else member
