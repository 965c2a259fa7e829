# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract of a channel, which carries one request to an agent and its reply back."""

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

    ``arguments`` may be a function: the channel calls it right before it sends, with the host's monotonic clock in
    nanoseconds, so that a time in the request is as fresh as possible. ``expects_reply`` is false for commands that do
    not answer on success (``success-response`` in QEMU's schema).
    """

    execute: str
    arguments: Arguments | Callable[[int], Arguments] = field(default_factory=dict)
    expects_reply: bool = True

    def arguments_at(self, now_ns: int) -> Arguments:
        return self.arguments(now_ns) if callable(self.arguments) else self.arguments

    def prepared(self, encode: Callable[[Mapping[str, Any]], Encoded]) -> Callable[[int], Encoded]:
        """Return a function that encodes the request for the instant at which it is sent, ahead of time if possible."""
        if callable(self.arguments):
            return lambda now_ns: encode(messages.request(self.execute, self.arguments_at(now_ns)))
        if not self.arguments:
            encoded = _without_arguments(encode, self.execute)
        else:
            encoded = encode(messages.request(self.execute, self.arguments))
        return lambda _now_ns: encoded


@functools.lru_cache(maxsize=64)
def _without_arguments(encode: Callable[[Mapping[str, Any]], Encoded], execute: str) -> Encoded:
    """Encode a request without arguments: a measurement sends the same one again and again."""
    return encode(messages.request(execute))


@dataclass(frozen=True)
class Exchange:
    """One request and its reply, stamped with the host's monotonic clock in nanoseconds.

    ``sent_ns`` is read as late as possible before sending, ``received_ns`` as early as possible after receiving.
    """

    reply: Reply
    sent_ns: int
    received_ns: int

    @property
    def value(self) -> Any:
        """The value that the agent returned; None if it refused."""
        return self.reply.value if isinstance(self.reply, Returned) else None


NO_REPLY = Returned({})  # the success of a command that does not answer on success


class Channel(ABC):
    """Carries requests to one agent, one at a time. It is not thread-safe.

    Its coroutines are tasks (``_event_loop/tasks.py``). ``is_shared``: other clients may have pending requests to the
    same agent.
    """

    is_shared: ClassVar[bool] = False

    @abstractmethod
    async def call(self, request: Request, timeout: float) -> Exchange:
        """Send one request and wait for its reply, at most ``timeout`` seconds in total.

        :raises CommandError: the agent refuses the sync that every connection to it begins with
        :raises QgaError: the agent could not be reached, did not answer in time, or broke the protocol. An error that
            the agent itself returns is not raised: it is a :class:`Refused` reply.
        """

    @property
    def guest_name(self) -> str | None:
        """The name that the hypervisor has for the guest; None: it has none, or it is not known yet."""
        return None

    @property
    def thaw_hint(self) -> str | None:
        """The hint of a :class:`FrozenError`: how to thaw the guest's file systems; None: the default hint."""
        return None

    async def metadata(self, namespace: str, timeout: float) -> str | None:  # noqa: ARG002  # the contract's
        """Return the XML element of this namespace from the guest's definition on the host; None: there is none.

        :raises QgaError: the hypervisor could not be asked
        """
        return None

    async def macs(self, timeout: float) -> tuple[str, ...]:  # noqa: ARG002  # the contract's
        """Return the MAC addresses of the guest's network devices in the host's order and spelling; none: they are
        unknown, or not visible to this user.

        :raises QgaError: the hypervisor could not be asked
        """
        return ()

    def pin(self) -> None:  # noqa: B027  # not every channel can tell guests apart
        """Bind the channel to the guest of the last call: a call that would reach another guest, or the same one after
        a restart, raises :class:`GuestReplacedError` if the channel can notice that.
        """

    async def require_same(self, timeout: float) -> None:  # noqa: B027  # a connection may belong to one guest
        """Check that a call would still reach the pinned guest, for channels whose calls do not check that.

        :raises GuestReplacedError: it would not
        :raises QgaError: the hypervisor could not be asked
        """

    async def let_go(self, held: float = 0.0) -> None:  # noqa: B027  # the agent may serve many clients
        """Leave the agent to other clients until the next call, if it serves one client at a time. An agent that was
        held for less than ``held`` seconds is kept.

        The next call takes the agent back. :meth:`regain` does so as well, and can wait longer.
        """

    async def regain(self, timeout: float) -> None:  # noqa: B027  # as above
        """Take the agent back, if it was let go. Waits up to ``timeout`` seconds for a client that has it.

        :raises QgaError: the agent is not available
        """

    @abstractmethod
    async def close(self) -> None:
        """Release the channel's resources. Closing twice is allowed."""

    async def __aenter__(self: ChannelType) -> ChannelType:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()


class ForwardingChannel(Channel):
    """Passes everything on to ``channel``; a base class for channels that add something to its calls."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def is_shared(self) -> bool:  # type: ignore[override]  # as ``channel``
        return self._channel.is_shared

    @property
    def guest_name(self) -> str | None:
        return self._channel.guest_name

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
