# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The link to the stock agent: a private socket, one request at a time, replies as the received bytes.

Theory of operation
-------------------
The link is in one of three states:

=========  ======================================================  ==================================================
state      begins                                                  ends
=========  ======================================================  ==================================================
away       at the start, and when a connection fails or ends       with a connection that can be trusted: requests and
                                                                   a timer try to connect
connected  with 0xFF and a sync, because the stock agent's parser  with an end of file or an error, or when the stock
           may hold an incomplete request of a former client       agent sends too much unsolicited data
leaving    with ``leave``: nothing more is sent                    when the stock agent has answered everything and
                                                                   closed its end, or after ``farewell_seconds``
=========  ======================================================  ==================================================

The stock agent answers strictly in order, so its state is one queue, ``expected``: everything that it still owes a
reply to, even if that reply will be dropped. The queue has two kinds of items:

- a sync (syncs.py). Its reply shows that the stock agent responds, and that it has processed everything before it.
- a request (``Asked``), one at a time: the next may be sent when the queue is empty.

``ask`` appends what it sends to the queue:

==============================================  ===================================
a request, shortly after a line was heard       request
a request after a pause, or after a line that   sync, request
was not the reply to the one before
a request that is answered only if it fails     opening sync, request, closing sync
==============================================  ===================================

``_hear`` interprets a line by the first item in the queue:

====================  ======================================  ================================================
first in the queue    line                                    meaning
====================  ======================================  ================================================
sync                  its number, or its refusal              it is answered, and leaves the queue
sync, or nothing      anything else                           unsolicited: dropped, and counted
request               a reply                                 the request's reply
request               anything else                           the request fails, and a sync precedes the next
request, answered     its closing sync's number, or refusal   the request has succeeded; both leave the queue
only if it fails
====================  ======================================  ================================================

So only the closing sync completes a request that is answered only if it fails, and its error is never mistaken for that
of another request.
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
    """A request that was sent. ``on_reply`` gets the reply's line, or an empty one if the request has succeeded without
    a reply; ``on_failure`` gets the reason why no reply will arrive.

    ``is_silent``: it is answered only if it fails. ``is_heard``: the stock agent has shown that it responds, after this
    was sent or shortly before.
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
        """Drop the reply when it arrives."""
        self.on_reply = self.on_failure = _ignore


class Observer(Protocol):
    """Observes the ``watched`` commands and their replies, even those that are dropped."""

    @property
    def watched(self) -> AbstractSet[str]:
        """The commands that are observed."""

    def connected(self) -> None:
        """Handle a new connection, before any request is sent on it."""

    def sent(self, command: str) -> None:
        """Handle that a watched command was sent."""

    def answered(self, command: str, line: Data) -> None:
        """Handle the reply to a watched command, which may be an error."""

    def freed(self) -> None:
        """Handle that no reply is expected any more, perhaps because the connection was lost."""


class StockLink:
    def __init__(self, loop: Loop, path: str, costs: Costs, log: Log, observer: Observer) -> None:
        self._loop = loop
        self._path = path
        self._costs = costs
        self._log = log
        self._observer = observer
        self._stream: Stream | None = None
        self.expected: deque[Asked | Sync] = deque()  # everything that it still owes a reply to
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
        """Connect, unless connected. Return False if the stock agent is away."""
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
            self._log.error(f"the stock agent is unavailable: {reason}")
        if self._reconnect is None:
            self._reconnect = self._loop.later(self._backoff, self._try_again)
            self._backoff = min(2 * self._backoff, self._costs.longest_reconnect_seconds)

    def _try_again(self) -> None:
        self._reconnect = None
        self.connect()

    def _ended(self, error: OSError | None) -> None:
        self._drop("it closed the connection" if error is None else error.strerror or str(error))

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
                item.on_failure(f"the stock agent disconnected before it answered {item.command}: {reason}")
        self._observer.freed()

    # ------------------------------------------------------------------------------------------------------ asking

    @property
    def is_connected(self) -> bool:
        return self._stream is not None

    @property
    def may_return_until(self) -> float:
        """The time, by the loop's clock, until which a stock agent that has disconnected may just be restarting."""
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
        """Send a request. Only to be called while connected and nothing is expected."""
        assert self._stream is not None  # noqa: S101  # the caller checks it
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
        """Read a reply that has already arrived. If the stock agent, which was just woken, shares this processor, it
        runs first: that saves one wake-up of this agent.
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
            self._hear(data)  # almost always it is one whole line
            return
        *lines, rest = data.split(b"\n")
        stream = self._stream
        for piece in (*(line + b"\n" for line in lines), rest):
            if piece and self._stream is stream:  # the rest of an old connection's data does not belong to the new one
                self._take_piece(piece)

    def _take_piece(self, piece: bytes) -> None:
        """Process a line, or part of one. A line that is too long for a reply is not kept."""
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
        """Process one line from the stock agent; an empty one stands for a line beyond the limit."""
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
            asked.on_failure(f"the stock agent answered {asked.command} with something that is not a reply")

    def _take_sync(self, sync: Sync, line: Data) -> bool:
        """Process the answer to the sync that is first in the queue. Return False if the line is not that answer."""
        is_returned = sync.is_returned(line)
        if not (is_returned or sync.is_refused(line)):
            return False
        self.expected.popleft()
        self._unasked_lines = self._unasked_bytes = 0
        self._is_unsettled = False
        self._backoff = self._costs.reconnect_seconds
        self._away_reason = ""
        # At the beginning of a connection, the other sync is tried at once: the policy must know whether it is refused.
        if self.syncs.was_answered(sync, not is_returned) and not self.expected and self._stream is not None:
            self._stream.send(self._expect_sync())
        if self.expected and isinstance(self.expected[0], Asked):
            self.expected[0].is_heard = True
        return True

    def _leave_alone(self) -> None:
        """Disconnect for a while from an agent that floods: reading it all would leave no time for the host."""
        self._backoff = self._costs.longest_reconnect_seconds
        self._drop("it sent too much unsolicited data")

    # ----------------------------------------------------------------------------------------------------- leaving

    def leave(self, on_left: Callable[[], None]) -> None:
        """Close once all replies are read: the stock agent does not survive a client that leaves some unread."""
        self._on_left = on_left
        if self._reconnect is not None:
            self._loop.cancel(self._reconnect)
        if self._stream is None:
            on_left()
            return
        for item in self.expected:
            if isinstance(item, Asked):
                item.abandon()
        # The stock agent closes its end, too, once it has answered everything. If it hangs, the timer ends the wait.
        self._stream.end_writing()
        self._loop.later(self._costs.farewell_seconds, on_left)


def _unreachable(error: Exception, path: str) -> str:
    """Return why connecting failed. The text goes to the host's operator as well as to the log."""
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
        return f"it is not running (nothing listens on '{path}'). Start the service qemu-guest-agent in the guest"
    return getattr(error, "strerror", None) or str(error)
