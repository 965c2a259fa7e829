# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the host's bytes to replies: one queue, in the order of the requests, as the stock agent keeps it.

Theory of operation
-------------------
A request stands in the queue until it is answered. One at the head is answered here, or refused, or passed on; then it
waits for the stock agent, and all others wait for it. A request that is answered only if it fails (guest-shutdown,
guest-suspend-*) waits like any other: it leaves the queue with its error, or without a reply once the stock agent has
shown that it has succeeded (stock_link.py). So what the host sends after it neither overtakes nor drops its error.

The order ends where keeping it would make the time commands hang. Once the request at the head of the queue has waited
for the stock agent for ``slow_seconds``, a synchronisation (0xFF, guest-sync, guest-sync-delimited) or a new client
makes all before it abandoned: their replies are dropped, whenever they come. And a command answered here that has an
``id``, by which its reply can be told, goes before its turn. So while a guest that suspends blocks its stock agent, a
host that synchronizes gets an answer, and after the resumption nothing of the suspension is left in the queue.

A shutdown ends the stock agent before the guest, perhaps before it has shown that the shutdown has succeeded. An error
would be wrong then. So when it goes while it carries out guest-shutdown, there is an error only if this agent is still
there ``alive_seconds`` later.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Callable, Mapping, Protocol

from guest_agent._protocol import framing, values
from guest_agent._protocol.commands import CATALOGUE
from guest_agent._protocol.errors import RemoteProtocolError

from . import own_commands, requests
from .limits import Costs
from .log import Log
from .loop import Loop, Timer
from .policy import OWN_COMMANDS
from .refusal import Refusal
from .stock_link import Asked
from .stream import Data

_SYNCS = frozenset(("guest-sync", "guest-sync-delimited"))
# Nesting as in QEMU (qobject/json-streamer.c).
_NESTING = 1024
_SHORTEST_REQUEST = len('{"execute":""}')
_NO_REQUEST = requests.Request("", {})
_ENDING_THE_STOCK_AGENT = "guest-shutdown"
# So much is kept of what clients ask for, of each request with and without its newline.
_KNOWN_REQUESTS = 128
_KNOWN_BYTES = 256


class Client(Protocol):
    """Whose requests these are, and where their replies go: the host-facing stream."""

    @property
    def is_congested(self) -> bool: ...

    def send(self, data: Data) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Content:
    """What the host sent, read. ``refusal``: it is answered with that, being no request or none to pass on.

    ``line`` is what goes to the stock agent, ``is_own``: it is answered here.
    """

    __slots__ = ("arguments", "command", "echo", "is_own", "is_sync", "line", "refusal", "size")

    def __init__(
        self,
        raw: bytes,
        request: requests.Request,
        refusal: Refusal | None,
        echo: Mapping[str, Any],
        is_sync: bool,
    ) -> None:
        self.line = raw + b"\n"
        self.size = len(raw)
        self.command, self.arguments = request
        self.refusal = refusal
        self.echo = echo
        self.is_sync = is_sync
        self.is_own = self.command in OWN_COMMANDS


class _Waiting:
    """One request in the queue. ``is_mute``: whoever asked has gone."""

    __slots__ = (
        "arguments",
        "arrived_at",
        "asked",
        "command",
        "echo",
        "is_mute",
        "is_own",
        "is_sync",
        "line",
        "received_ns",
        "refusal",
        "size",
    )

    def __init__(self, content: _Content, received_ns: int, arrived_at: float) -> None:
        # Taken over one by one: a content that outlives its line would hold 16 MiB.
        self.line = content.line
        self.size = content.size
        self.command = content.command
        self.arguments = content.arguments
        self.refusal = content.refusal
        self.echo = content.echo
        self.is_sync = content.is_sync
        self.is_own = content.is_own
        self.received_ns = received_ns
        self.arrived_at = arrived_at
        self.is_mute = False
        self.asked: Asked | None = None

    @property
    def may_overtake(self) -> bool:
        return self.is_own and bool(self.echo)


class Dispatcher:
    """``on_all_answered`` is called when a client that sends no more has all of its replies."""

    def __init__(self, loop: Loop, context: own_commands.Context, costs: Costs, log: Log) -> None:
        self._loop = loop
        self._context = context
        self._now_ns = context.clock.now_ns
        self._stock = context.stock
        self._stock.on_freed = self._advance
        self._costs = costs
        self._log = log
        self.on_all_answered: Callable[[], None] = lambda: None
        self._client: Client | None = None
        self._is_holding_back = False  # the client has been told to wait
        self._queue: deque[_Waiting] = deque()
        self._queued_bytes = 0
        self._decoder = self._new_decoder()
        self._known: dict[bytes, _Content] = {}
        self._received_ns = 0
        self._is_ending = False
        self._is_deserted = False
        self._head: _Waiting | None = None
        self._head_since = 0.0
        self._asked_at = 0.0
        self._timer: Timer | None = None
        self._is_advancing = False
        self._passed_on: _Waiting | None = None  # whose reply the stock agent owes; there is one at a time

    # ------------------------------------------------------------------------------------------------ from the port

    def begin(self, client: Client | None) -> None:
        """A new client, or the same one anew: half a request of the one before is forgotten."""
        if client is not self._client:
            self._client = client
            self._is_holding_back = False
        self._decoder = self._new_decoder()
        self._is_ending = self._is_deserted = False

    def received(self, data: bytes) -> None:
        self._received_ns = self._now_ns()  # before anything else: a client measures with it
        known = self._known.get(data)
        if known is not None and not self._queue and self._decoder.is_idle:
            self._enqueue(known)
        else:
            self._decoder.feed(data)
        self._advance()

    def end(self) -> None:
        """The client sends no more, but still wants its replies."""
        self._is_ending = True
        self._advance()

    def hang_up(self, is_for_good: bool = False) -> None:
        """Nobody is there to read replies. ``is_for_good``: nor to what is still received, until a client begins."""
        self._is_deserted = is_for_good
        for waiting in self._queue:
            waiting.is_mute = True
        self._advance()

    def drained(self) -> None:
        """The replies have gone out."""
        self._advance()

    @property
    def _is_full(self) -> bool:
        return len(self._queue) >= self._costs.waiting_requests or self._queued_bytes > self._costs.request_bytes

    # -------------------------------------------------------------------------------------------------- filling it

    def _new_decoder(self) -> framing.Decoder:
        return framing.Decoder(values.Limits(size=self._costs.request_bytes, nesting=_NESTING))

    def _fill(self) -> None:
        """Queue what was received, as far as there is room; the rest stays with the decoder."""
        while not self._is_full:
            event = self._decoder.next_event()
            if event is None:
                return
            if self._is_deserted and not _may_be_request(event):
                continue  # nobody reads its error, and there may be hundreds of thousands
            self._enqueue(self._read(event))

    def _enqueue(self, content: _Content) -> None:
        waiting = _Waiting(content, self._received_ns, self._loop.now)
        waiting.is_mute = self._is_deserted
        self._queue.append(waiting)
        self._queued_bytes += content.size

    def _read(self, event: framing.Event) -> _Content:
        known = self._known.get(event.raw) if isinstance(event, framing.Message) else None
        if known is not None:
            return known
        raw = b""
        request = _NO_REQUEST
        refusal: Refusal | None = None
        echo: Mapping[str, Any] = {}
        is_sync = False
        if isinstance(event, framing.Message):
            raw = event.raw
            try:
                requests.require_affordable(raw, self._costs.fancy_bytes)
                value = values.decode(raw, event.limits)
                echo = requests.echo_of(value)
                request = requests.read_request(value)
                is_sync = request.command in _SYNCS
                if request.command not in OWN_COMMANDS:
                    refusal = self._context.policy.refusal(request.command)  # by fixed lists: one stays one
            except Refusal as error:
                refusal = error.with_traceback(None)  # it would hold this call's frame, and that one holds it
            except RemoteProtocolError as error:
                refusal = _parse_error(error.message)
        elif isinstance(event, framing.Delimiter):
            refusal = _parse_error("stray '\ufffd'")
            is_sync = True
        else:
            refusal = _parse_error(event.error.message)
        content = _Content(raw, request, refusal, echo, is_sync)
        if refusal is None and not echo and not request.arguments and len(raw) <= _KNOWN_BYTES:
            self._get_to_know(raw, content)
        return content

    def _get_to_know(self, raw: bytes, content: _Content) -> None:
        """Clients ask the same again and again. What carries no argument need be read only once."""
        if len(self._known) >= _KNOWN_REQUESTS:
            self._known.clear()
        self._known[raw] = self._known[content.line] = content

    # ------------------------------------------------------------------------------------------------- emptying it

    def _advance(self) -> None:
        """Answer what can be answered, in order."""
        if self._is_advancing:
            return
        self._is_advancing = True
        is_congested = False
        try:
            while True:
                if not self._decoder.is_idle:
                    self._fill()
                if not self._queue:
                    break
                is_congested = self._client is not None and self._client.is_congested
                if is_congested:
                    break
                head = self._queue[0]
                if head is not self._head:
                    self._head, self._head_since = head, self._loop.now
                if self._finish(head):
                    self._remove(head)
                    if self._queue:
                        self._loop.look_at_clock()  # setting the hardware clock takes its time
                elif head is self._head and not (self._is_slow and self._overtake()):
                    break
        finally:
            self._is_advancing = False
        if self._queue and not is_congested:
            self._arm()
        if self._is_holding_back or self._is_ending or (self._queue and self._is_full):
            self._tell_client()

    def _tell_client(self) -> None:
        if self._client is not None and self._is_holding_back is not self._is_full:
            self._is_holding_back = not self._is_holding_back
            if self._is_holding_back:
                self._client.pause()
            else:
                self._client.resume()
        if self._is_ending and not self._queue:
            self._is_ending = False
            self.on_all_answered()

    @property
    def _is_slow(self) -> bool:
        return self._loop.now - self._head_since >= self._costs.slow_seconds

    def _remove(self, waiting: _Waiting) -> None:
        if waiting is self._queue[0]:
            self._queue.popleft()
        else:
            self._queue.remove(waiting)
        self._queued_bytes -= waiting.size
        if waiting is self._head:
            self._head = None

    def _finish(self, waiting: _Waiting) -> bool:
        """Answer it, or pass it on; false: not yet."""
        if waiting.asked is not None:
            return self._give_up(waiting, waiting.asked)
        refusal = waiting.refusal
        if waiting.is_own:
            refusal = self._context.policy.refusal(waiting.command)
        if refusal is not None:
            self._refuse(waiting, refusal)
            return True
        if waiting.is_own:
            self._carry_out(waiting)
            return True
        return self._pass_on(waiting)

    def _carry_out(self, waiting: _Waiting) -> None:
        delimiter = framing.DELIMITER if waiting.command == "guest-sync-delimited" else b""
        tail = requests.tail(waiting.echo)
        try:
            # The value may hold the time at which it was made: from here on, every step counts.
            value = own_commands.carry_out(self._context, waiting.command, waiting.arguments, waiting.received_ns)
        except Refusal as refusal:
            self._refuse(waiting, refusal)
            return
        self._send(waiting, b'%b{"return": %b%b' % (delimiter, value, tail))
        if self._log.is_verbose:
            self._log.info(f"answered {self._name_for_log(waiting.command)}")

    def _name_for_log(self, command: str) -> str:
        """Any other name is the client's own text: it may be a secret in the wrong place, or forge a line."""
        info = self._stock.info
        is_known = command in CATALOGUE or (info is not None and command in info.commands and command.isprintable())
        return command if is_known else "an unknown command"

    def _refuse(self, waiting: _Waiting, refusal: Refusal) -> None:
        self._send(waiting, requests.refusal_line(refusal, waiting.echo))

    def _send(self, waiting: _Waiting, line: Data) -> None:
        if not waiting.is_mute and self._client is not None:
            self._client.send(line)

    # ---------------------------------------------------------------------------------------------- the stock agent

    def _pass_on(self, waiting: _Waiting) -> bool:
        link, now = self._stock.link, self._loop.now
        if not link.connect():
            if now < link.may_return_until and now - waiting.arrived_at < self._costs.alive_seconds:
                return False
            self._refuse(waiting, Refusal(f"The stock agent is away: {link.away_reason}"))
            return True
        if not self._stock.is_free:
            waited, stuck = now - waiting.arrived_at, now - self._asked_at
            if waited >= self._costs.alive_seconds or (self._is_full and stuck >= self._costs.slow_seconds):
                self._refuse(waiting, Refusal("The stock agent is busy with an earlier request, or hangs"))
                return True
            return False
        self._passed_on = waiting
        self._asked_at = now
        is_silent = not self._stock.answers_on_success(waiting.command)
        waiting.asked = link.ask(waiting.line, waiting.command, self._replied, self._failed, is_silent)
        waiting.line = b""
        if self._log.is_verbose:
            self._log.info(f"passed {self._name_for_log(waiting.command)} on")
        link.look()  # if it is answered by that, it is no longer in the queue
        return False

    def _replied(self, line: Data) -> None:
        waiting, self._passed_on = self._passed_on, None
        assert waiting is not None  # noqa: S101  # it is what was asked
        if line:
            self._send(waiting, line)
        if waiting is self._head:
            self._remove(waiting)
        if self._stock.link.expected:
            self._advance()  # what is answered here does not wait for a closing sync

    def _failed(self, reason: str) -> None:
        assert self._passed_on is not None  # noqa: S101
        asked, has_gone = self._passed_on.asked, not self._stock.link.is_connected
        if has_gone and asked is not None and asked.is_heard and asked.command == _ENDING_THE_STOCK_AGENT:
            asked.is_heard = False  # so its limit is ``alive_seconds``, from now on
            self._asked_at = self._loop.now
            return
        refusal = Refusal(reason[0].upper() + reason[1:])
        self._replied(requests.refusal_line(refusal, self._passed_on.echo))

    def _abandon(self, asked: Asked) -> None:
        asked.abandon()
        self._passed_on = None

    def _give_up(self, waiting: _Waiting, asked: Asked) -> bool:
        limit = self._costs.reply_seconds if asked.is_heard else self._costs.alive_seconds
        waited = self._loop.now - self._asked_at
        if waited < limit and not (self._is_full and self._is_slow):
            return False
        self._abandon(asked)
        self._log.error(f"the stock agent did not answer {self._name_for_log(asked.command)} in time")
        late = f"The stock agent has not answered {asked.command} in time; it may still carry it out"
        self._refuse(waiting, Refusal(late))
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
                self._abandon(waiting.asked)
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
        head = self._head
        if head is None:
            return
        deadlines = [self._head_since + self._costs.slow_seconds]
        if head.asked is None:
            deadlines.append(head.arrived_at + self._costs.alive_seconds)
            if self._loop.now < (returns_by := self._stock.link.may_return_until):
                deadlines.append(returns_by)
        else:
            deadlines += (self._asked_at + self._costs.alive_seconds, self._asked_at + self._costs.reply_seconds)
        # A timer of a request before this one looks soon enough, and then arms the next: most never need one.
        if self._timer is not None:
            if self._timer.at <= min(deadlines):
                return
            self._timer.cancel()
            self._timer = None
        now = self._loop.now
        coming = [deadline for deadline in deadlines if deadline > now]
        if coming:
            self._timer = self._loop.later(min(coming) - now, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self._advance()


def _may_be_request(event: framing.Event) -> bool:
    return isinstance(event, framing.Message) and len(event.raw) >= _SHORTEST_REQUEST


def _parse_error(what: str) -> Refusal:
    return Refusal(f"JSON parse error, {what}")
