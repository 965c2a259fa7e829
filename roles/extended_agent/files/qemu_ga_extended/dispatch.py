# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The request queue: which reply each request gets, and when.

Theory of operation
-------------------
Requests wait in one queue, in the order in which the host sent them, and leave it with their reply. Only the request at
the head is processed. So replies keep the order of the requests, as the stock agent's do, and the stock agent gets one
request at a time. ``_reply_to`` decides what happens to the head:

===================================================  =================================================================
the head                                             its reply
===================================================  =================================================================
is not a request, or is refused by a list            an error
is one of this agent's own commands                  the command's result, or an error
is to be forwarded, and the stock agent is away      none within ``return_seconds`` after that agent ended (it may be
                                                     restarting) and ``alive_seconds`` after the request arrived; then
                                                     an error
is to be forwarded, and the stock agent still owes   none for ``alive_seconds`` after it arrived; then an error.
another reply                                        If the queue is full, the error comes once that other request has
                                                     been with the stock agent for ``slow_seconds``
is to be forwarded, and the stock agent is free      none: it is sent to the stock agent (``Waiting.asked``)
is with the stock agent                              none for ``alive_seconds`` without a sign of life and for
                                                     ``reply_seconds`` with one; then an error. If the queue is full,
                                                     the error comes after ``slow_seconds``
===================================================  =================================================================

A request that is with the stock agent gets its reply when that arrives (``_replied``), or an error once it is certain
that none will arrive (``_failed``). A request that is answered only if it fails (guest-shutdown, guest-suspend-*)
leaves without a reply once the stock agent has shown that it succeeded (stock_link.py). So a later request neither
overtakes nor drops its error.

A shutdown ends the stock agent before the guest, perhaps before the agent has shown that the shutdown succeeded. An
error would be wrong in that case. So if the stock agent ends while it runs guest-shutdown, there is an error only if
this agent still runs ``alive_seconds`` later.

If the order were always kept, the time commands would hang whenever the stock agent does. So ``_overtake`` gives up the
order once a request has been at the head for ``slow_seconds``:

===================================================  =================================================================
after the head                                       what happens
===================================================  =================================================================
a sync (0xFF, guest-sync, guest-sync-delimited)      the last one becomes the head; all before it are abandoned, and
                                                     their replies are dropped when they arrive
a new client's request, if the head's client left    the first one becomes the head, in the same way
one of this agent's own commands, with an ``id``     it is answered now: the client recognizes the reply by its ``id``
===================================================  =================================================================

So while a suspending guest blocks its stock agent, a host that syncs gets an answer, and after the guest resumes,
nothing from before is left in the queue.
"""

from __future__ import annotations

from collections import deque
from typing import Callable

from guest_agent._protocol import framing
from guest_agent._protocol.commands import CATALOG

from . import own_commands, requests
from .limits import Costs
from .log import Log
from .loop import Loop, Timer
from .reading import Reader, Received
from .refusal import Refusal
from .stock_link import Asked
from .stream import Data, Stream

_ENDING_THE_STOCK_AGENT = "guest-shutdown"
_RETURNED = (b'{"return"', b'\xff{"return"')
_NEVER = float("inf")


class Waiting:
    """One request in the queue. ``asked``: it is with the stock agent. ``is_mute``: its client has disconnected.
    ``head_since``: when it became the head, by the loop's clock.
    """

    __slots__ = ("arrived_at", "asked", "content", "head_since", "is_mute", "line", "received_ns")

    def __init__(self, received: Received, received_ns: int, arrived_at: float, is_mute: bool) -> None:
        self.content, self.line = received
        self.received_ns = received_ns
        self.arrived_at = arrived_at
        self.is_mute = is_mute
        self.asked: Asked | None = None
        self.head_since = _NEVER


class Dispatcher:
    """Answers the requests of the client, which is the stream to the host. ``on_all_answered`` is called when a client
    that sends no more requests has all of its replies.
    """

    def __init__(self, loop: Loop, context: own_commands.Context, costs: Costs, log: Log) -> None:
        self._loop = loop
        self._context = context
        self._now_ns = context.clock.now_ns
        self._stock = context.stock
        self._stock.on_freed = self._advance
        self._costs = costs
        self._log = log
        self.on_all_answered: Callable[[], None] = lambda: None
        self._client: Stream | None = None
        self._is_client_paused = False
        self._is_client_done = False  # it sends no more requests
        self._is_client_gone = False  # it does not read replies either
        self._reader = Reader(context.policy, costs)
        self._received_ns = 0
        self._queue: deque[Waiting] = deque()
        self._queued_bytes = 0
        self._forwarded_at = 0.0  # the latest request that was
        self._timer: Timer | None = None
        self._is_advancing = False

    # ------------------------------------------------------------------------------------------------ from the port

    def begin(self, client: Stream | None) -> None:
        """Serve a new client, or the same one again: an incomplete request from before is discarded."""
        if client is not self._client:
            self._client = client
            self._is_client_paused = False
        self._reader.begin()
        self._is_client_done = self._is_client_gone = False

    def received(self, data: bytes) -> None:
        self._received_ns = self._now_ns()  # before anything else: clients measure with it
        known = None if self._queue else self._reader.known(data)
        if known is None:
            self._reader.feed(data)
        else:
            self._enqueue(known)
        self._advance()

    def end(self) -> None:
        """The client sends no more requests, but still expects replies."""
        self._is_client_done = True
        self._advance()

    def hang_up(self, is_for_good: bool = False) -> None:
        """Nothing reads the replies. ``is_for_good``: nor will replies to later data be read, until a client begins."""
        self._is_client_gone = is_for_good
        for waiting in self._queue:
            waiting.is_mute = True
        self._advance()

    def drained(self) -> None:
        """All replies have been written."""
        self._advance()

    # -------------------------------------------------------------------------------------------------- the queue

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= self._costs.waiting_requests or self._queued_bytes > self._costs.request_bytes

    @property
    def _is_congested(self) -> bool:
        return self._client is not None and self._client.is_congested

    def _fill(self) -> None:
        """Queue received requests while there is room; the rest stays with the reader."""
        while not (self._reader.is_idle or self._is_full):
            received = self._reader.next(is_answered=not self._is_client_gone)
            if received is None:
                return
            self._enqueue(received)

    def _enqueue(self, received: Received) -> None:
        self._queue.append(Waiting(received, self._received_ns, self._loop.now, self._is_client_gone))
        self._queued_bytes += received.content.size

    def _remove(self, waiting: Waiting) -> None:
        if waiting.asked is not None:
            waiting.asked.abandon()
        self._queue.remove(waiting)
        self._queued_bytes -= waiting.content.size

    def _advance(self) -> None:
        """Answer every request that can be answered. A step may call this again; that call returns at once."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._step():
                pass
        finally:
            self._is_advancing = False
        self._schedule_next_look()
        self._control_client()

    def _step(self) -> bool:
        """Process the head; return whether there may be a new one."""
        self._fill()
        if not self._queue or self._is_congested:
            return False
        head = self._queue[0]
        if head.head_since == _NEVER:
            head.head_since = self._loop.now
        reply = self._reply_to(head)
        if reply is not None:
            self._answer(head, reply)
            if self._queue:
                self._loop.look_at_clock()  # setting the hardware clock may take a second
            return True
        # Meanwhile, the stock agent may have answered it, or it may have failed.
        is_answered = not self._queue or self._queue[0] is not head
        return is_answered or (self._is_slow(head) and self._overtake())

    def _is_slow(self, head: Waiting) -> bool:
        return self._loop.now - head.head_since >= self._costs.slow_seconds

    def _answer(self, waiting: Waiting, reply: Data) -> None:
        """Send the request's reply, unless that is empty, and remove the request."""
        self._remove(waiting)
        if reply and not waiting.is_mute and self._client is not None:
            self._client.send(reply)
        if self._log.is_verbose and waiting.content.is_own and reply.startswith(_RETURNED):
            self._log.info(f"answered {self._name_for_log(waiting.content.command)}")

    def _control_client(self) -> None:
        if self._client is not None and self._is_client_paused is not self._is_full:
            self._is_client_paused = not self._is_client_paused
            if self._is_client_paused:
                self._client.pause()
            else:
                self._client.resume()
        if self._is_client_done and not self._queue:
            self._is_client_done = False
            self.on_all_answered()

    # -------------------------------------------------------------------------------------------------- the replies

    def _reply_to(self, head: Waiting) -> Data | None:
        """Return the head's reply, or None if there is none yet."""
        content = head.content
        if head.asked is not None:
            return self._overdue_reply(head, head.asked)
        refusal = self._context.policy.refusal(content.command) if content.is_own else content.refusal
        if refusal is not None:
            return requests.refusal_line(refusal, content.echo)
        return self._carry_out(head) if content.is_own else self._forward(head)

    def _carry_out(self, waiting: Waiting) -> bytes:
        content = waiting.content
        delimiter = framing.DELIMITER if content.command == "guest-sync-delimited" else b""
        tail = requests.tail(content.echo)
        try:
            # The value may contain the current time: from here on, any delay is a measurement error.
            value = own_commands.carry_out(self._context, content.command, content.arguments, waiting.received_ns)
        except Refusal as refusal:
            return requests.refusal_line(refusal, content.echo)
        return b'%b{"return": %b%b' % (delimiter, value, tail)

    def _forward(self, head: Waiting) -> bytes | None:
        link, costs, now = self._stock.link, self._costs, self._loop.now
        waited = now - head.arrived_at
        if not link.connect():
            if now < link.may_return_until and waited < costs.alive_seconds:
                return None
            return _error(head, f"The stock agent is unavailable: {link.away_reason}")
        if not self._stock.is_free:
            is_stuck = self._is_full and now - self._forwarded_at >= costs.slow_seconds
            if waited < costs.alive_seconds and not is_stuck:
                return None
            return _error(head, "The stock agent is busy with an earlier request, or it hangs")
        line, head.line = head.line, b""
        command = head.content.command
        self._forwarded_at = now
        is_silent = not self._stock.answers_on_success(command)
        head.asked = link.ask(line, command, self._replied, self._failed, is_silent)
        if self._log.is_verbose:
            self._log.info(f"forwarded {self._name_for_log(command)}")
        link.look()
        return None

    def _overdue_reply(self, head: Waiting, asked: Asked) -> bytes | None:
        limit = self._costs.reply_seconds if asked.is_heard else self._costs.alive_seconds
        is_overdue = self._loop.now - self._forwarded_at >= limit
        if not is_overdue and not (self._is_full and self._is_slow(head)):
            return None
        self._log.error(f"the stock agent did not answer {self._name_for_log(asked.command)} in time")
        return _error(head, f"The stock agent did not answer {asked.command} in time; it may still carry it out")

    def _replied(self, line: Data) -> None:
        self._answer(self._queue[0], line)
        if self._stock.link.expected:
            self._advance()  # this agent's own commands do not wait for a closing sync

    def _failed(self, reason: str) -> None:
        head = self._queue[0]
        asked, has_gone = head.asked, not self._stock.link.is_connected
        if has_gone and asked is not None and asked.is_heard and asked.command == _ENDING_THE_STOCK_AGENT:
            asked.is_heard = False  # so its limit is ``alive_seconds`` from now
            self._forwarded_at = self._loop.now
            return
        self._replied(_error(head, reason[0].upper() + reason[1:]))

    def _name_for_log(self, command: str) -> str:
        """Return the name, unless it is unknown: the client's text could be a misplaced secret, or forge a log line."""
        info = self._stock.info
        is_known = command in CATALOG or (info is not None and command in info.commands and command.isprintable())
        return command if is_known else "an unknown command"

    # -------------------------------------------------------------------------------------------------- out of turn

    def _overtake(self) -> bool:
        """Let others past the slow head; return whether there is a new head."""
        queue = list(self._queue)
        last_sync = max((place for place, waiting in enumerate(queue) if waiting.content.is_sync), default=0)
        first_wanted = next((place for place, waiting in enumerate(queue) if not waiting.is_mute), 0)
        new_head = max(last_sync, first_wanted)
        if new_head:
            for waiting in queue[:new_head]:
                self._remove(waiting)
            return True
        for waiting in queue[1:]:
            if waiting.content.is_own and waiting.content.echo:
                reply = self._reply_to(waiting)
                assert reply is not None  # noqa: S101  # this agent's own commands are answered at once
                self._answer(waiting, reply)
        return False

    def _schedule_next_look(self) -> None:
        """Set a timer for when the head becomes slow or overdue."""
        if not self._queue or self._is_congested:
            return
        head, costs, now = self._queue[0], self._costs, self._loop.now
        deadlines = [head.head_since + costs.slow_seconds]
        if head.asked is None:
            deadlines += (head.arrived_at + costs.alive_seconds, self._stock.link.may_return_until)
        else:
            deadlines += (self._forwarded_at + costs.alive_seconds, self._forwarded_at + costs.reply_seconds)
        coming = [deadline for deadline in deadlines if deadline > now]
        # An earlier request's timer fires early enough, and then sets the next one: most requests never need their own.
        if not coming or (self._timer is not None and self._timer.at <= min(coming)):
            return
        if self._timer is not None:
            self._loop.cancel(self._timer)
        self._timer = self._loop.later(min(coming) - now, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._advance()


def _error(waiting: Waiting, description: str) -> bytes:
    return requests.refusal_line(Refusal(description), waiting.content.echo)
