"""One agent's socket: clients are served one at a time, and the next one waits until the one before has gone."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from tests.fakes.agent import Agent
from tests.fakes.faults import Pause, Piece
from tests.fakes.fleet.profile import Profile

_LOOK_AGAIN_SECONDS = 0.1

T = TypeVar("T")


class DelayLine(Generic[T]):
    """Delivers what is put in after so many seconds, in the same order; after none, at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, deliver: Callable[[T], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._deliver = deliver
        self._items: deque[T] = deque()

    @property
    def is_empty(self) -> bool:
        return not self._items

    def put(self, item: T) -> None:
        if not self._seconds:
            self._deliver(item)
            return
        self._items.append(item)
        self._loop.call_later(self._seconds, self._arrive)

    def _arrive(self) -> None:
        # Two timers of one moment may ring in either order; what they deliver may not.
        self._deliver(self._items.popleft())


class Connection(asyncio.Protocol):
    """One client. ``on_gone`` is called when it has gone and all that it asked for is done."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, agent: Agent, profile: Profile, on_gone: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._agent = agent
        self._on_gone = on_gone
        self._forward: DelayLine[bytes] = DelayLine(loop, profile.forward_seconds, self._arrived)
        self._backward: DelayLine[bytes] = DelayLine(loop, profile.backward_seconds, self._deliver)
        self._waiting: deque[bytes] = deque()  # has arrived while the agent was deaf
        self._pieces: Iterator[Piece] | None = None  # what the agent is doing
        self._has_ended = False  # the client sends no more, but still wants its replies
        self._has_hung_up = False  # the agent has, once its replies are through
        self._is_gone = False
        self._transport: asyncio.Transport | None = None

    # --------------------------------------------------------------------------------------------- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._forward.put(data)

    def eof_received(self) -> bool:
        self._has_ended = True
        self._finish()
        return True  # keep it open

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        self._transport = None
        self._finish()

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # ------------------------------------------------------------------------------------------------- from the port

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ----------------------------------------------------------------------------------------------------- the agent

    def _arrived(self, data: bytes) -> None:
        if self._pieces is not None:
            self._waiting.append(data)
            return
        if self._has_hung_up:
            return
        self._pieces = self._agent.received(data)
        self._go_on()

    def _go_on(self) -> None:
        """Let the agent do what it can without a pause, and send what comes of it in one piece."""
        replies: list[bytes] = []
        while self._pieces is not None:
            for piece in self._pieces:
                if isinstance(piece, bytes):
                    replies.append(piece)
                elif isinstance(piece, Pause):
                    self._send(replies)
                    self._loop.call_later(piece.seconds, self._go_on)
                    return
                else:
                    self._has_hung_up = True
                    self._waiting.clear()
                    break
            self._pieces = self._agent.received(self._waiting.popleft()) if self._waiting else None
        self._send(replies)
        if self._is_leaving:
            self._finish()

    def _send(self, replies: list[bytes]) -> None:
        data = b"".join(replies)
        if data:
            self._backward.put(data)

    def _deliver(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
        if self._is_leaving:
            self._finish()

    @property
    def _is_leaving(self) -> bool:
        return self._has_ended or self._has_hung_up or self._transport is None

    def _finish(self) -> None:
        """Close, or tell that it is over, once nothing is under way."""
        if self._pieces is not None or not self._forward.is_empty or not self._backward.is_empty:
            return
        if self._transport is not None:
            self._transport.close()
        elif not self._is_gone:
            self._is_gone = True
            self._on_gone()


class Port:
    """Lets one client in after the other."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, agent: Agent, profile: Profile, listener: socket.socket
    ) -> None:
        self._loop = loop
        self._agent = agent
        self._profile = profile
        self._listener = listener
        # To the loop by its number: of a socket it makes a text at each change, for an error that nobody sees.
        self._descriptor = listener.fileno()
        self._connection: Connection | None = None
        self._accepting: asyncio.Task[object] | None = None
        listener.setblocking(False)
        self._wait()

    def close(self) -> None:
        if self._connection is None:
            self._loop.remove_reader(self._descriptor)
        else:
            self._connection.abort()
        self._listener.close()

    def _wait(self) -> None:
        self._loop.add_reader(self._descriptor, self._accept)

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:
            # No descriptor is left. The client waits, and must not keep the loop busy meanwhile.
            self._loop.remove_reader(self._descriptor)
            self._loop.call_later(_LOOK_AGAIN_SECONDS, self._wait)
            return
        self._loop.remove_reader(self._descriptor)
        client.setblocking(False)
        connection = self._connection = Connection(self._loop, self._agent, self._profile, self._gone)
        self._accepting = self._loop.create_task(self._loop.connect_accepted_socket(lambda: connection, client))

    def _gone(self) -> None:
        self._connection = self._accepting = None
        self._agent.disconnected()
        if self._listener.fileno() >= 0:
            self._wait()
