# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the host's bytes to replies: one queue, in the order of the requests, as the stock agent keeps it.

The order ends where keeping it would make the time commands hang. Once the request at the head of the queue has waited
for the stock agent for ``slow_seconds``, a synchronisation (0xFF, guest-sync, guest-sync-delimited) or a new client
makes all before it abandoned: their replies are dropped, whenever they come. And a command answered here that has an
``id``, by which its reply can be told, goes before its turn.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Iterator, Mapping, Protocol

from . import in_front, requests, wire
from .commands import answers_on_success
from .errors import RemoteProtocolError
from .limits import Costs
from .log import Log
from .loop import Loop, Timer
from .policy import IN_FRONT
from .refusal import Refusal
from .stream import Data
from .upstream import Asked

_SYNCS = frozenset(("guest-sync", "guest-sync-delimited"))


class Replies(Protocol):
    """Where replies go: the host-facing port."""

    @property
    def is_congested(self) -> bool: ...

    def send(self, data: Data) -> None: ...

    def take_more(self) -> None: ...

    def all_answered(self) -> None: ...


class _Waiting:
    """One request in the queue. ``refusal``: it is answered with that, being no request at all."""

    def __init__(self, raw: bytes, received_ns: int) -> None:
        self.raw = raw
        self.received_ns = received_ns
        self.arrived_at = time.monotonic()
        self.size = len(raw)
        self.echo: Mapping[str, Any] = {}
        self.request: requests.Request | None = None
        self.refusal: Refusal | None = None
        self.is_sync = False
        self.is_mute = False  # whoever asked has gone
        self.asked: Asked | None = None

    @property
    def may_overtake(self) -> bool:
        return self.request is not None and self.request.command in IN_FRONT and bool(self.echo)


class Dispatcher:
    def __init__(self, loop: Loop, context: in_front.Context, costs: Costs, log: Log) -> None:
        self._loop = loop
        self._context = context
        self._stock = context.stock
        self._stock.on_freed = self._advance
        self._costs = costs
        self._log = log
        self.replies: Replies | None = None
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._decoder = wire.Decoder()
        self._events: Iterator[wire.Event] = iter(())
        self._received_ns = 0
        self._is_ending = False
        self._head: _Waiting | None = None
        self._head_since = 0.0
        self._asked_at = 0.0
        self._timer: Timer | None = None
        self._is_advancing = False
        self._silent: _Waiting | None = None  # passed on, and answered only if it fails
        self.begin()

    # ------------------------------------------------------------------------------------------------ from the port

    def begin(self) -> None:
        """A new client: half a request of the one before is forgotten."""
        # Nesting as in QEMU (qobject/json-streamer.c).
        self._decoder = wire.Decoder(wire.Limits(size=self._costs.request_bytes, nesting=1024))
        self._events = iter(self._decoder)
        self._is_ending = False
        self._mute_silent()

    def received(self, data: bytes) -> None:
        self._received_ns = self._context.clock.now_ns()  # before anything else: a client measures with it
        self._decoder.feed(data)
        self._fill()
        self._advance()

    def end(self) -> None:
        """The client sends no more, but still wants its replies."""
        self._is_ending = True
        silent = self._silent
        if silent is not None:
            self._loop.later(self._costs.slow_seconds, lambda: self._settle(silent))
        self._advance()

    def hang_up(self) -> None:
        """Nobody is there to read replies."""
        for waiting in self._queue:
            waiting.is_mute = True
        self._mute_silent()
        self._advance()

    def drained(self) -> None:
        """The replies have gone out."""
        self._advance()

    @property
    def is_full(self) -> bool:
        return len(self._queue) >= self._costs.waiting_requests or self._queued_bytes > self._costs.request_bytes

    # -------------------------------------------------------------------------------------------------- filling it

    def _fill(self) -> None:
        """Queue what was received, as far as there is room; the rest stays with the decoder."""
        while not self.is_full:
            event = next(self._events, None)
            if event is None:
                self._events = iter(self._decoder)
                return
            waiting = self._read(event)
            self._queue.append(waiting)
            self._queued_bytes += waiting.size

    def _read(self, event: wire.Event) -> _Waiting:
        waiting = _Waiting(event.raw if isinstance(event, wire.Message) else b"", self._received_ns)
        if isinstance(event, wire.Resync):
            waiting.is_sync = True
            waiting.refusal = Refusal("JSON parse error, stray '\ufffd'")
            return waiting
        try:
            if isinstance(event, wire.Malformed):
                raise event.error
            value = event.decode()
            waiting.echo = requests.echo_of(value)
            waiting.request = requests.read_request(value)
            waiting.is_sync = waiting.request.command in _SYNCS
        except Refusal as refusal:
            waiting.refusal = refusal
        except RemoteProtocolError as error:
            waiting.refusal = Refusal(f"JSON parse error, {error.message}")
        return waiting

    # ------------------------------------------------------------------------------------------------- emptying it

    def _advance(self) -> None:
        """Answer what can be answered, in order."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._queue and not self._is_congested:
                head = self._queue[0]
                if head is not self._head:
                    self._head, self._head_since = head, time.monotonic()
                if not self._finish(head):
                    if not self._is_slow or not self._overtake():
                        break
                    continue
                self._remove(head)
                self._fill()
        finally:
            self._is_advancing = False
        self._arm()
        if self.replies is not None:
            if not self.is_full:
                self.replies.take_more()
            if self._is_ending and not self._queue and (self._silent is None or self._stock.is_free):
                self._is_ending = False
                self.replies.all_answered()

    @property
    def _is_congested(self) -> bool:
        return self.replies is not None and self.replies.is_congested

    @property
    def _is_slow(self) -> bool:
        return time.monotonic() - self._head_since >= self._costs.slow_seconds

    def _remove(self, waiting: _Waiting) -> None:
        self._queue.remove(waiting)
        self._queued_bytes -= waiting.size
        if waiting is self._head:
            self._head = None

    def _finish(self, waiting: _Waiting) -> bool:
        """Answer it, or pass it on; false: not yet."""
        if waiting.is_sync:
            self._mute_silent()
        refusal = waiting.refusal
        if refusal is None and waiting.asked is None:
            assert waiting.request is not None  # noqa: S101  # it is that or refused
            refusal = self._context.policy.refusal(waiting.request.command)
        if refusal is not None:
            self._refuse(waiting, refusal)
            return True
        assert waiting.request is not None  # noqa: S101
        if waiting.request.command in IN_FRONT:
            self._carry_out(waiting, waiting.request)
            return True
        return self._pass_on(waiting, waiting.request.command)

    def _settle(self, silent: _Waiting) -> None:
        """It has not failed so far; a client that waits for the end need not wait longer."""
        if silent is self._silent:
            self._mute_silent()
            self._advance()

    def _mute_silent(self) -> None:
        if self._silent is not None:
            self._silent.is_mute = True
            self._silent = None

    def _carry_out(self, waiting: _Waiting, request: requests.Request) -> None:
        try:
            returned = in_front.carry_out(self._context, request.command, request.arguments, waiting.received_ns)
        except Refusal as refusal:
            self._refuse(waiting, refusal)
            return
        delimiter = wire.DELIMITER if request.command == "guest-sync-delimited" else b""
        self._send(waiting, delimiter + requests.reply_line({"return": returned}, waiting.echo))
        self._log.info(f"answered {request.command}")

    def _refuse(self, waiting: _Waiting, refusal: Refusal) -> None:
        self._send(waiting, requests.refusal_line(refusal, waiting.echo))

    def _send(self, waiting: _Waiting, line: Data) -> None:
        if not waiting.is_mute and self.replies is not None:
            self.replies.send(line)

    # ---------------------------------------------------------------------------------------------- the stock agent

    def _pass_on(self, waiting: _Waiting, command: str) -> bool:
        upstream = self._stock.upstream
        if waiting.asked is not None:
            return self._give_up(waiting, command)
        if not upstream.connect():
            self._refuse(waiting, Refusal(f"The stock agent is away: {upstream.away_reason}"))
            return True
        if not self._stock.is_free:
            waited = time.monotonic() - waiting.arrived_at
            stuck = time.monotonic() - self._asked_at
            if waited >= self._costs.alive_seconds or (self.is_full and stuck >= self._costs.slow_seconds):
                self._refuse(waiting, Refusal("The stock agent is busy with an earlier request, or hangs"))
                return True
            return False

        def replied(line: Data) -> None:
            self._send(waiting, line)
            if waiting in self._queue:
                self._remove(waiting)
                self._fill()

        def failed(reason: str) -> None:
            replied(requests.refusal_line(Refusal(reason[0].upper() + reason[1:]), waiting.echo))

        is_answered = answers_on_success(command)
        waiting.asked = upstream.ask(waiting.raw, command, replied, failed if is_answered else None)
        self._asked_at = time.monotonic()
        waiting.raw = b""
        if not is_answered:
            self._silent = waiting
        self._log.info(f"passed {command} on")
        return not is_answered

    def _give_up(self, waiting: _Waiting, command: str) -> bool:
        asked = waiting.asked
        assert asked is not None  # noqa: S101
        limit = self._costs.reply_seconds if asked.is_heard else self._costs.alive_seconds
        waited = time.monotonic() - self._asked_at
        if waited < limit and not (self.is_full and self._is_slow):
            return False
        asked.abandon()
        self._log.error(f"the stock agent did not answer {command} in time")
        self._refuse(waiting, Refusal(f"The stock agent has not answered {command} in time; it may still carry it out"))
        return True

    # -------------------------------------------------------------------------------------------------- out of turn

    def _overtake(self) -> bool:
        """The head is slow: let those past that need not wait for it. Whether there is a new head."""
        queue = list(self._queue)
        syncs = [position for position, waiting in enumerate(queue) if waiting.is_sync]
        wanted = [position for position, waiting in enumerate(queue) if not waiting.is_mute]
        first = max(syncs[-1:] + (wanted[:1] if queue[0].is_mute else []), default=0)
        for waiting in queue[:first]:
            if waiting.asked is not None:
                waiting.asked.abandon()
            self._remove(waiting)
        if first:
            return True
        for waiting in queue[1:]:
            if waiting.may_overtake:
                self._finish(waiting)
                self._remove(waiting)
        return False

    def _arm(self) -> None:
        """Look again when the head of the queue becomes slow, and when it has waited for long enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        head = self._head
        if head is None or not self._queue or self._is_congested:
            return
        deadlines = [self._head_since + self._costs.slow_seconds]
        if head.asked is None:
            deadlines.append(head.arrived_at + self._costs.alive_seconds)
        else:
            deadlines.append(self._asked_at + self._costs.alive_seconds)
            deadlines.append(self._asked_at + self._costs.reply_seconds)
        now = time.monotonic()
        coming = [deadline for deadline in deadlines if deadline > now]
        if coming:
            self._timer = self._loop.later(min(coming) - now, self._advance)
