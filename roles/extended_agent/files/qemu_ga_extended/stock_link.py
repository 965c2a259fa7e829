# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The link to the stock agent: its private socket, one request at a time, each reply as the bytes that came.

Theory of operation
-------------------
The link is in one of three states:

=========  ======================================================  ==================================================
state      it begins                                               it ends
=========  ======================================================  ==================================================
away       at the start, and when a connection fails or ends       with a connection that can be trusted: a request
                                                                   tries, and so does a timer
connected  with 0xFF and a sync: the stock agent's parser may hold  with an end of file or an error, or when the stock
           half a request of a former client                       agent sends too much that was not asked for
leaving    with ``leave``: nothing more is sent                    when the stock agent has answered all and closed
                                                                   its end, or after ``farewell_seconds``
=========  ======================================================  ==================================================

The stock agent answers strictly in order, so all that is known of it is one queue, ``expected``: what it still owes a
reply to, wanted or not. Two kinds of things are in it:

- a sync (syncs.py). Its reply shows that the stock agent lives, and that it has dealt with all that was sent before.
- an asked request, one at a time: the next may go out when the queue is empty.

``ask`` appends to the queue what it sends:

==============================================  ===================================
a request, shortly after a line was heard       request
a request after a pause, or after a line that   sync, request
was not the reply to the one before
a request that is answered only if it fails     opening sync, request, closing sync
==============================================  ===================================

``_hear`` decides by the first thing in the queue what a line means:

====================  ======================================  ================================================
first in the queue    line                                    meaning
====================  ======================================  ================================================
sync                  its number, or its refusal              it is answered, and the next in the queue is first
sync, or nothing      anything else                           it was not asked for: dropped, and counted
request               a reply                                 the request's
request               anything else                           the request fails, and a sync precedes the next
request, answered     its closing sync's number, or refusal   the request has succeeded; both are answered
only if it fails
====================  ======================================  ================================================

So no sync but the closing one ends a request that is answered only if it fails, and its error is never taken for that
of another one.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import AbstractSet, Callable, Protocol

from guest_agent._protocol import framing

from . import trust
from .limits import Costs
from .log import Log
from .loop import Loop, Timer
from .stream import Data, Ends, Stream
from .syncs import Sync, Syncs, is_reply

_CHUNK = 64 * 1024


def _ignore(_what: object) -> None:
    pass


class Asked:
    """One request on its way. ``on_reply`` gets the reply's line, or an empty one if the request has succeeded and that
    is not answered; ``on_failure`` gets the reason why no reply will come.

    ``is_silent``: it is answered only if it fails. ``is_heard``: the stock agent has shown that it lives since this was
    sent, or just before.
    """

    __slots__ = ("command", "is_heard", "is_silent", "on_failure", "on_reply")

    def __init__(
        self,
        command: str,
        on_reply: Callable[[Data], None],
        on_failure: Callable[[str], None],
        is_silent: bool,
        is_heard: bool,
    ) -> None:
        self.command = command
        self.is_silent = is_silent
        self.on_reply = on_reply
        self.on_failure = on_failure
        self.is_heard = is_heard

    def abandon(self) -> None:
        """Drop the reply when it comes."""
        self.on_reply = self.on_failure = _ignore


class Observer(Protocol):
    """It learns of the ``watched`` commands that go to the stock agent and come back, wanted or not."""

    @property
    def watched(self) -> AbstractSet[str]:
        """The commands that it learns of."""

    def connected(self) -> None:
        """Take a new connection, before anything is asked on it."""

    def sent(self, command: str) -> None:
        """Take that a watched command is on its way."""

    def answered(self, command: str, line: Data) -> None:
        """Take the reply to a watched command, an error too."""

    def freed(self) -> None:
        """Take that no reply is expected any more, also because the connection was lost."""


class StockLink:
    def __init__(self, loop: Loop, path: str, costs: Costs, log: Log, observer: Observer) -> None:
        self._loop = loop
        self._path = path
        self._costs = costs
        self._log = log
        self._observer = observer
        self._stream: Stream | None = None
        self.expected: deque[Asked | Sync] = deque()  # what it still owes a reply to, wanted or not
        self.syncs = Syncs(log)
        self._line = bytearray()
        self._is_overlong = False
        self._is_unsettled = False
        self._unasked_lines = self._unasked_bytes = 0
        self._heard_at = 0.0
        self._backoff = costs.reconnect_seconds
        self._reconnect: Timer | None = None
        self._away_reason = "it has not been reached yet"
        self._lost_at = float("-inf")
        self._on_left: Callable[[], None] | None = None

    # -------------------------------------------------------------------------------------------------- connecting

    def connect(self) -> bool:
        """Connect unless it is; false if the stock agent is away."""
        if self._stream is not None:
            return True
        if self._on_left is not None:
            return False
        try:
            client = self._trusted_connection()
        except (OSError, trust.DistrustError) as error:
            self._be_away(_unreachable(error, self._path))
            return False
        if self._reconnect is not None:
            self._loop.cancel(self._reconnect)
            self._reconnect = None
        descriptor = client.detach()
        self._stream = Stream(self._loop, Ends(descriptor, descriptor), _CHUNK, self._received, self._ended)
        self._log.info("connected to the stock agent")
        self.syncs.begin()
        self._stream.send(framing.DELIMITER + self._expect_sync())
        self._observer.connected()
        return True

    def _trusted_connection(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.setblocking(False)
            trust.require_private_socket(self._path)
            client.connect(self._path)
            trust.require_trusted_peer(client, self._path)
        except (OSError, trust.DistrustError):
            client.close()
            raise
        return client

    def _be_away(self, reason: str) -> None:
        if self._away_reason != reason:
            self._away_reason = reason
            self._log.error(f"the stock agent is away: {reason}")
        if self._reconnect is None:
            self._reconnect = self._loop.later(self._backoff, self._try_again)
            self._backoff = min(2 * self._backoff, self._costs.longest_reconnect_seconds)

    def _try_again(self) -> None:
        self._reconnect = None
        self.connect()

    def _ended(self, error: OSError | None) -> None:
        self._drop("it has closed the connection" if error is None else error.strerror or str(error))

    def _drop(self, reason: str) -> None:
        if self._stream is None:
            return
        self._stream.close()
        self._stream = None
        self._lost_at = self._loop.now
        expected, self.expected = self.expected, deque()
        self._line = bytearray()
        self._is_overlong = self._is_unsettled = False
        self._unasked_lines = self._unasked_bytes = 0
        if self._on_left is not None:
            self._on_left()
            return
        self._be_away(reason)
        for item in expected:
            if isinstance(item, Asked):
                item.on_failure(f"the stock agent has gone before it answered {item.command}: {reason}")
        self._observer.freed()

    # ------------------------------------------------------------------------------------------------------ asking

    @property
    def is_connected(self) -> bool:
        return self._stream is not None

    @property
    def may_return_until(self) -> float:
        """Until when, on the loop's clock, a stock agent that has gone may just be restarting."""
        return self._lost_at + self._costs.return_seconds

    @property
    def away_reason(self) -> str:
        return self._away_reason or "its connection was lost"

    def ask(
        self,
        line: bytes,
        command: str,
        on_reply: Callable[[Data], None],
        on_failure: Callable[[str], None] = _ignore,
        is_silent: bool = False,
    ) -> Asked:
        """Send a request; only while connected and nothing is expected."""
        assert self._stream is not None  # noqa: S101  # the caller's promise
        is_fresh = not self._is_unsettled and self._loop.now - self._heard_at < self._costs.fresh_seconds
        is_heard = is_fresh and not is_silent
        asked = Asked(command, on_reply, on_failure, is_silent, is_heard)
        if not is_heard:
            line = self._expect_sync() + line
        self.expected.append(asked)
        if is_silent:
            line += self._expect_sync()
        self._stream.send(line)
        if command in self._observer.watched:
            self._observer.sent(command)
        return asked

    def look(self) -> None:
        """Take a reply that is there already. The stock agent, which was just woken, runs first if it has to share this
        processor: then one wake-up of this agent is spared.
        """
        if self._stream is not None:
            os.sched_yield()
            self._stream.read(False)

    def _expect_sync(self) -> bytes:
        sync = Sync(self.syncs.command)
        self.expected.append(sync)
        return sync.request()

    # ----------------------------------------------------------------------------------------------------- hearing

    def _received(self, data: bytes) -> None:
        if not self._line and not self._is_overlong and data.find(b"\n") == len(data) - 1:
            self._hear(data)  # nearly always it is one whole line
            return
        *lines, rest = data.split(b"\n")
        stream = self._stream
        for piece in (*(line + b"\n" for line in lines), rest):
            if piece and self._stream is stream:  # what is left of a connection says nothing of the next
                self._take_piece(piece)

    def _take_piece(self, piece: bytes) -> None:
        """Take a line, or a part of one: no more is kept of it than a reply may have."""
        if not (self.expected and isinstance(self.expected[0], Asked)):
            self._unasked_bytes += len(piece)
            if self._unasked_bytes > self._costs.reply_bytes:
                self._leave_alone()
                return
        if len(self._line) + len(piece) > self._costs.reply_bytes:
            self._line = bytearray()
            self._is_overlong = True
        if not self._is_overlong:
            self._line += piece
        if piece.endswith(b"\n"):
            line, self._line = self._line, bytearray()
            is_overlong, self._is_overlong = self._is_overlong, False
            self._hear(b"" if is_overlong else line)

    def _hear(self, line: Data) -> None:
        """Take one line of the stock agent's; an empty one stands for a line beyond the limit."""
        self._heard_at = self._loop.now
        head = self.expected[0] if self.expected else None
        if isinstance(head, Asked):
            self._hear_reply(head, line)
        elif head is None or not self._take_sync(head, line):
            self._unasked_lines += 1
            if self._unasked_lines > self._costs.unasked_lines:
                self._leave_alone()
                return
        if not self.expected:
            self._observer.freed()

    def _hear_reply(self, asked: Asked, line: Data) -> None:
        self._unasked_lines = self._unasked_bytes = 0
        self.expected.popleft()
        closing = self.expected[0] if asked.is_silent else None
        if isinstance(closing, Sync) and self._take_sync(closing, line):
            asked.on_reply(b"")
        elif is_reply(line):
            if asked.command in self._observer.watched:
                self._observer.answered(asked.command, line)
            asked.on_reply(line)
        else:
            self._is_unsettled = True
            asked.on_failure(f"the stock agent has answered {asked.command} with something that is no reply")

    def _take_sync(self, sync: Sync, line: Data) -> bool:
        """Take the answer to the sync that is first in the queue; false: the line is not that."""
        is_returned = sync.is_returned(line)
        if not (is_returned or sync.is_refused(line)):
            return False
        self.expected.popleft()
        self._unasked_lines = self._unasked_bytes = 0
        self._is_unsettled = False
        self._backoff = self._costs.reconnect_seconds
        self._away_reason = ""
        # The other command is tried at once at the beginning of a connection: the policy needs to know what is refused.
        if self.syncs.was_answered(sync, not is_returned) and not self.expected and self._stream is not None:
            self._stream.send(self._expect_sync())
        if self.expected and isinstance(self.expected[0], Asked):
            self.expected[0].is_heard = True
        return True

    def _leave_alone(self) -> None:
        """It sends what it is not asked for. To listen to that would leave no time for the host."""
        self._backoff = self._costs.longest_reconnect_seconds
        self._drop("it has sent too much that nobody had asked for")

    # ----------------------------------------------------------------------------------------------------- leaving

    def leave(self, on_left: Callable[[], None]) -> None:
        """Close when all replies were taken: the stock agent does not survive a client that leaves some unread."""
        self._on_left = on_left
        if self._reconnect is not None:
            self._loop.cancel(self._reconnect)
        if self._stream is None:
            on_left()
            return
        for item in self.expected:
            if isinstance(item, Asked):
                item.abandon()
        # It closes its end, too, once it has answered everything. One that hangs is not waited for.
        self._stream.end_writing()
        self._loop.later(self._costs.farewell_seconds, on_left)


def _unreachable(error: Exception, path: str) -> str:
    """Return why it cannot be connected to, for the host's operator as well as for the log."""
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return f"it is not running (nothing listens on {path}). Start the service qemu-guest-agent in the guest"
    return getattr(error, "strerror", None) or str(error)
