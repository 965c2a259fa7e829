# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One guest's agent: what it can do, and doing it."""

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

# The pause between two attempts to reach an agent that is not there yet: a guest that boots or wakes needs seconds.
_RETRY_SECONDS = 0.2

# The pause between two attempts at what a frozen guest refuses. A backup freezes for seconds.
_FROZEN_SECONDS = 0.5

# An attempt just before the end of a longer operation still gets enough time to be a fair one.
_FAIR_SECONDS = 1.0

_EXTENDED_HINT = "Only the extended agent has it: deploy it with the role qemu.guest_agent.extended_agent."

# qemu-ga 5.0 to 9.0 looks for /sbin/hwclock before it sets anything (qga/commands-posix.c); Debian 12 and 13 and Ubuntu
# 24.04 have it in a package that is not always installed.
_SET_TIME_HINT = (
    "The guest has no /sbin/hwclock: install util-linux-extra in it (`apt install util-linux-extra`), or use the "
    "extended agent (role qemu.guest_agent.extended_agent), which needs none."
)


class CommandState(NamedTuple):
    enabled: bool
    success_response: bool


@dataclass(frozen=True)
class AgentInfo:
    """``guest-info``, typed. ``commands`` maps names to states."""

    version: str
    commands: Mapping[str, CommandState]

    @property
    def is_extended(self) -> bool:
        return all(self.enabled(name) for name in ("guest-update-time", "guest-get-clock"))

    def enabled(self, name: str) -> bool:
        state = self.commands.get(name)
        return state is not None and state.enabled


class GuestAgent:
    """The agent behind a channel.

    ``timeout`` is in seconds, for each exchange. For ``frozen_patience`` seconds, a command is repeated that the agent
    refuses because the guest's file systems are frozen: it was not carried out, and a backup thaws them soon.
    ``has_answered``: a command, if only to refuse it.
    """

    def __init__(self, channel: Channel, timeout: float, frozen_patience: float = 0.0) -> None:
        self._channel = channel
        self.timeout = timeout
        self._frozen_patience = frozen_patience
        self._info: AgentInfo | None = None
        self.has_answered = False

    async def info(self) -> AgentInfo:
        """Return what the agent can do, asked for once.

        :raises QgaError: as :meth:`call` does; ``guest-info`` itself may be disabled
        """
        if self._info is None:
            self._info = _read_info(await self.call("guest-info"))
        return self._info

    async def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses that the host gave the guest's network devices, in their order; none: not known.

        :raises QgaError: the hypervisor could not be asked
        """
        return await self._channel.macs(self.timeout)

    async def knows(self, name: str) -> bool:
        """Return whether the agent has the command and lets it run. One that hides its list is believed to know all."""
        try:
            return (await self.info()).enabled(name)
        except CommandError:
            return name in CATALOG and CATALOG[name].origin == "stock"

    async def require(self, command: str) -> None:
        """Make sure that the agent has ``command`` and lets it run, without running it.

        :raises CommandError: it has not, or does not
        """
        if await self.knows(command):
            return
        state = (await self.info()).commands.get(command)
        raise _missing(command) if state is None else await self._disabled(command)

    def within(self, deadline: Deadline) -> float:
        """The seconds that an exchange may take which is part of a longer operation: ``timeout``, or what is left until
        the deadline, and a second even at the end.
        """
        return min(self.timeout, max(deadline.remaining(), _FAIR_SECONDS))

    def pin(self) -> None:
        """From now on only this guest is meant; see :meth:`Channel.pin`."""
        self._channel.pin()

    async def come_next(self) -> None:
        """Return when nothing that another client has asked is under way to the agent, where there may be others.

        :raises QgaError: the agent could not be asked
        """
        if self._channel.is_shared:
            with contextlib.suppress(CommandError):  # whatever it answers, its turn has come
                await self.call("guest-ping")

    async def let_go(self, held: float = 0.0) -> None:
        """Leave the agent to others for a while, see :meth:`Channel.let_go`."""
        await self._channel.let_go(held)

    async def regain(self, timeout: float) -> None:
        """Have the agent back, see :meth:`Channel.regain`."""
        await self._channel.regain(timeout)

    async def require_same(self) -> None:
        """Make sure that it is still the guest that was pinned; see :meth:`Channel.require_same`."""
        await self._channel.require_same(self.timeout)

    async def call(
        self,
        command: str,
        arguments: Arguments | Callable[[int], Arguments] | None = None,
        timeout: float | None = None,
        deadline: Deadline = NEVER,
    ) -> Any:
        """Return what ``command`` does; ``{}`` from commands that return nothing.

        ``timeout`` is in seconds, in place of the usual one; ``deadline`` is that of what the command is part of.

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
        """As :meth:`call`, with the stamps of the exchange. Its reply is always a :class:`messages.Returned`."""
        expects_reply = self._expects_reply(command)
        if not expects_reply:
            await self.require(command)  # there is no reply that says it is disabled
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
                # It may have been thawed before it could be asked whether it is frozen.
                if is_disabled or not self._frozen_patience:
                    raise
                is_disabled = True
                continue
            await self._channel.let_go()  # what froze them needs the agent to thaw them
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

        Only what passes by itself is waited for: an agent that is not connected yet, or does not answer yet; and for
        one that has answered before, a hypervisor's daemon that is restarted.

        :raises QgaError: it did not, with the last reason
        """
        deadline = Deadline(wait_timeout)
        while True:
            try:
                await self._greet(self.within(deadline))
                return
            except CommandError:
                return  # it answers, if only to refuse
            except HypervisorUnavailableError:
                if not self.has_answered or deadline.remaining() < _RETRY_SECONDS:
                    raise
            except (NotConnectedError, UnresponsiveError, ExchangeTimeoutError):
                if deadline.remaining() < _RETRY_SECONDS:
                    raise
            await pause(_RETRY_SECONDS)

    async def _greet(self, timeout: float) -> None:
        """Ask for a sign of life: for what has to be known next anyway, or for a ping if that is known."""
        if self._info is not None:
            await self.call("guest-ping", timeout=timeout)
            return
        value = await self.call("guest-info", timeout=timeout)
        with contextlib.suppress(RemoteProtocolError):  # it answers, and whoever needs the list will see
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
            # Not as a call: what it is asked for has its time, and is not to be repeated for another such.
            return bool((await self._exchange(Request("guest-fsfreeze-status"), self.timeout)).value == "frozen")
        except QgaError:
            return False  # it does not say so: the refusal is the administrator's


def _missing(command: str) -> CommandNotFoundError:
    hint = _EXTENDED_HINT if command in CATALOG and CATALOG[command].origin == "extended" else None
    return CommandNotFoundError(f"the agent does not know {command}", hint, command)


def _read_info(value: Any) -> AgentInfo:
    """``GuestAgentInfo`` (qga/qapi-schema.json, QEMU 10.0.13). Agents before 1.7 have no ``success-response``.

    A null counts as absent.

    :raises RemoteProtocolError: it has another shape
    """
    if not isinstance(value, dict) or not isinstance(value.get("version"), str):
        raise RemoteProtocolError("the agent returned a guest-info without a version")
    listed = _member(value, "supported_commands", [])
    if not isinstance(listed, list):
        raise RemoteProtocolError("the agent returned a guest-info whose supported_commands is no list")
    entries = [entry for entry in listed if entry is not None]
    return AgentInfo(value["version"], MappingProxyType(dict(map(_read_command, entries))))


def _read_command(entry: Any) -> tuple[str, CommandState]:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RemoteProtocolError("the agent returned a guest-info with a command that has no name")
    name, enabled = entry["name"], _member(entry, "enabled", False)
    success_response = _member(entry, "success-response", answers_on_success(name))
    if not isinstance(enabled, bool) or not isinstance(success_response, bool):
        raise RemoteProtocolError("the agent returned a guest-info with a command whose state is no boolean")
    return name, CommandState(enabled, success_response)


def _member(value: Mapping[str, Any], name: str, default: Any) -> Any:
    member = value.get(name)
    return default if member is None else member
