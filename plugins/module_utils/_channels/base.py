# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract of a channel: what carries one request to an agent and its reply back."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Callable, ClassVar, Mapping, TypeVar

from .._protocol import messages
from .._protocol.messages import Reply, Returned

Encoded = TypeVar("Encoded")

ChannelType = TypeVar("ChannelType", bound="Channel")

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One command and its arguments.

    ``arguments`` may be a function: a channel calls it at the last moment before it sends, with the host's monotonic
    clock in nanoseconds, so that a time that is sent is as fresh as can be. ``expects_reply`` is false for commands
    that never answer on success (``success-response`` in QEMU's schema).
    """

    execute: str
    arguments: Arguments | Callable[[int], Arguments] = field(default_factory=dict)
    expects_reply: bool = True

    def arguments_at(self, now_ns: int) -> Arguments:
        return self.arguments(now_ns) if callable(self.arguments) else self.arguments

    def prepared(self, encode: Callable[[Mapping[str, Any]], Encoded]) -> Callable[[int], Encoded]:
        """Return what encodes it for the instant at which it is sent: nothing, if it was encoded here."""
        if callable(self.arguments):
            return lambda now_ns: encode(messages.request(self.execute, self.arguments_at(now_ns)))
        if not self.arguments:
            encoded = _without_arguments(encode, self.execute)
        else:
            encoded = encode(messages.request(self.execute, self.arguments))
        return lambda _now_ns: encoded


@functools.lru_cache(maxsize=64)
def _without_arguments(encode: Callable[[Mapping[str, Any]], Encoded], execute: str) -> Encoded:
    """A request without arguments: a measurement sends the same one again and again."""
    return encode(messages.request(execute))


@dataclass(frozen=True)
class Exchange:
    """One request and its reply, stamped with the host's monotonic clock in nanoseconds.

    ``sent_ns`` is read as late before sending, and ``received_ns`` as early after receiving, as the channel can.
    """

    reply: Reply
    sent_ns: int
    received_ns: int

    @property
    def value(self) -> Any:
        """The value that the agent returned; None if it refused."""
        return self.reply.value if isinstance(self.reply, Returned) else None


NO_REPLY = Returned({})  # stands for the success of a command that never answers on success


class Channel(ABC):
    """Carries requests to one agent, one at a time. Not for use by several threads.

    Its coroutines are tasks (``_event_loop/tasks.py``). ``is_shared``: other clients may have requests under way to
    the same agent.
    """

    is_shared: ClassVar[bool] = False

    @abstractmethod
    async def call(self, request: Request, timeout: float) -> Exchange:
        """Carry one request and wait for its reply, ``timeout`` seconds at most for all of it.

        :raises CommandError: the agent refuses what every connection to it has to begin with
        :raises QgaError: the agent could not be reached, did not answer in time, or broke the protocol. An error that
            the agent itself returns is no exception: it is a :class:`Refused` reply.
        """

    @property
    def thaw_hint(self) -> str | None:
        """How to thaw the guest's file systems, as the hint of a :class:`FrozenError`; None: its usual one."""
        return None

    async def metadata(self, namespace: str, timeout: float) -> str | None:  # noqa: ARG002  # the contract's
        """The XML element of that namespace which the host keeps with the guest's definition; None: there is none.

        :raises QgaError: the hypervisor could not be asked
        """
        return None

    async def macs(self, timeout: float) -> tuple[str, ...]:  # noqa: ARG002  # the contract's
        """Return the MAC addresses that the host gave the guest's network devices, in their order and its spelling;
        none: not known, or not for everybody to see.

        :raises QgaError: the hypervisor could not be asked
        """
        return ()

    def pin(self) -> None:  # noqa: B027  # a channel may have no means to tell guests apart
        """From now on only the guest of the last call is meant: a call that would reach another one, or the same one
        started anew, raises :class:`GuestReplacedError`, as far as the channel can tell.
        """

    async def require_same(self, timeout: float) -> None:  # noqa: B027  # where a connection is to one guest only
        """Make sure that a call would still reach the guest that was pinned, where a call cannot tell by itself.

        :raises GuestReplacedError: it would not
        :raises QgaError: the hypervisor could not be asked
        """

    async def let_go(self, held: float = 0.0) -> None:  # noqa: B027  # where other clients are served as well
        """Leave the agent to its other clients until the next call, where it serves one client at a time. One that was
        held for less than so many seconds is kept.

        A call has it back by itself. :meth:`regain` does so as well, and may wait longer.
        """

    async def regain(self, timeout: float) -> None:  # noqa: B027  # what was not let go of is here
        """Have the agent back, if it was let go of. A client that has it is waited for, up to ``timeout`` seconds.

        :raises QgaError: it could not be had
        """

    @abstractmethod
    async def close(self) -> None:
        """Give back what the channel holds. Closing twice is no error."""

    async def __aenter__(self: ChannelType) -> ChannelType:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


class ForwardingChannel(Channel):
    """Passes everything on to ``channel``: for a channel that adds something to the calls of another one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def is_shared(self) -> bool:  # type: ignore[override]  # as the one that it stands for
        return self._channel.is_shared

    @property
    def thaw_hint(self) -> str | None:
        return self._channel.thaw_hint

    def __str__(self) -> str:
        return str(self._channel)

    async def call(self, request: Request, timeout: float) -> Exchange:
        return await self._channel.call(request, timeout)

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        return await self._channel.metadata(namespace, timeout)

    async def macs(self, timeout: float) -> tuple[str, ...]:
        return await self._channel.macs(timeout)

    def pin(self) -> None:
        self._channel.pin()

    async def require_same(self, timeout: float) -> None:
        await self._channel.require_same(timeout)

    async def let_go(self, held: float = 0.0) -> None:
        await self._channel.let_go(held)

    async def regain(self, timeout: float) -> None:
        await self._channel.regain(timeout)

    async def close(self) -> None:
        await self._channel.close()
