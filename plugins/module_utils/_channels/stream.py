# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Channels over sockets: unix, TCP and vsock.

Theory of operation. A socket may hold replies to earlier requests: of a client before this one, or of this one if it
gave up waiting. So each call needs a connection that is *in sync*: the next reply belongs to the next request.

================ ============================================== ==================================================
connection       meaning                                        what a call does first
================ ============================================== ==================================================
none             never made, closed, lost or let go             connect; sync
out of sync      new, or the last call did not read its reply   sync
in sync          the last call read its reply                   sync if the peer has sent something since
================ ============================================== ==================================================

A sync sends the delimiter (0xFF) and ``guest-sync-delimited`` with a random number. The delimiter makes the agent drop
an unfinished request of the previous client; the delimiter in its reply makes this end drop an unfinished reply.
Everything before the reply with the number is dropped. If ``guest-sync-delimited`` is refused, ``guest-sync`` is tried:
agents before QEMU 1.1 have only that one, and an administrator may have disabled either. Meanwhile, these may arrive:

=============================================== ====================================================================
the delimiter                                   from now on the number counts (with ``guest-sync``, it always does)
a reply with the number                         in sync, if the number counts
a refusal that names this command or none       the command is refused
a refusal in unknown words                      the same, if nothing follows it for a moment: the stock agent also
                                                reports the 0xFF as an error, and answers right after that
a refusal of another command, anything else     dropped
=============================================== ====================================================================
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import time
from typing import Callable, Mapping, NamedTuple

from .._errors import (
    CommandDisabledError,
    CommandError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    GuestReplacedError,
    NotConnectedError,
    UnresponsiveError,
)
from .._event_loop.tasks import READING, Deadline, is_ready, received, writable
from .._protocol import framing, messages, values
from .._protocol.errors import RemoteProtocolError
from .._protocol.limits import USUAL_LIMITS, Limits
from .._untrusted import visible
from .addresses import ONE_CLIENT_HINT, Address, UnixAddress, connect_error
from .base import NO_REPLY, Channel, Exchange, Request
from .refusals import Meaning, command_named, meaning_of


class Timings(NamedTuple):
    """The times in seconds that a channel waits for bytes that may never arrive.

    ``drain``: closing waits for a pending reply for this long. A stock agent that listens on a unix socket exits when
    its client closes with unread bytes (ECONNRESET, ``stop_agent`` in qga/main.c, QEMU 10.0.13). ``late``: a reply that
    takes longer than this is unlikely to come now; closing waits only ``shortest_drain`` for it. ``doubt``: a refusal
    in unknown words that nothing follows for this long is the answer to the sync.
    """

    drain: float = 0.5
    late: float = 1.0
    shortest_drain: float = 0.02
    doubt: float = 0.5


TIMINGS = Timings()

# The most that a peer may send in one exchange. Late replies to earlier clients are few, and there is still room for a
# reply after the longest of them, libvirt's 10 MiB.
_MOST_UNSOLICITED = 256
_MOST_BYTES = 24 * 1024 * 1024

_DELIMITED = "guest-sync-delimited"
_PLAIN = "guest-sync"

# Any other meaning: an administrator has disabled both commands.
_UNSYNCED: Mapping[Meaning, type[CommandError]] = {
    Meaning.MISSING: CommandNotFoundError,
    Meaning.FROZEN: FrozenError,
}


class StreamChannel(Channel):
    """A channel over a stream socket. Connects on the first call, and again after the peer has gone."""

    def __init__(self, address: Address, limits: Limits = USUAL_LIMITS, timings: Timings = TIMINGS) -> None:
        self._address = address
        self._limits = limits
        self._timings = timings
        self._socket: socket.socket | None = None
        self._decoder = framing.Decoder(limits)
        self._bytes_in_call = 0
        self._sent_ns = 0
        self._received_ns = 0
        self._in_sync = False
        self._listener: tuple[int, ...] | None = None
        self._is_pinned = False
        self._is_let_go = False
        self._held_since = 0.0

    async def call(self, request: Request, timeout: float) -> Exchange:
        deadline = Deadline(timeout)
        self._bytes_in_call = 0
        connection = await self._synced(deadline)
        self._in_sync = False  # until the reply has been read
        sent_ns = await self._send(connection, request.prepared(values.encode), deadline)
        if not request.expects_reply:
            return Exchange(NO_REPLY, sent_ns, sent_ns)
        event = await self._next_event(connection, deadline, request.execute in _ALIKE)
        if event is None:
            raise ExchangeTimeoutError(
                f"the agent at {self._address} did not answer {request.execute} within {timeout:g} s"
            )
        if isinstance(event, framing.Malformed):
            raise RemoteProtocolError(f"{self._address}: {event.error.message}")
        if isinstance(event, framing.Delimiter):
            raise RemoteProtocolError(f"{self._address}: the peer sent 0xFF in place of a reply to {request.execute}")
        received_ns = self._received_ns
        reply = messages.read_reply(event.decode()) if isinstance(event, framing.Message) else event
        self._in_sync = True
        return Exchange(reply, sent_ns, received_ns)

    def pin(self) -> None:
        self._is_pinned = True

    async def let_go(self, held: float = 0.0) -> None:
        is_due = self._socket is not None and time.monotonic() - self._held_since >= held
        # The next client would receive a reply that is still pending.
        if is_due and self._in_sync:
            await self.close()
            self._is_let_go = True

    async def regain(self, timeout: float) -> None:
        if self._is_let_go:
            await self._synced(Deadline(timeout))
            self._is_let_go = False

    async def close(self) -> None:
        connection, self._socket = self._socket, None
        if connection is None:
            return
        with connection, contextlib.suppress(OSError):  # the peer may have gone: then there is nothing to drain
            await self._drain(connection)

    async def _synced(self, deadline: Deadline) -> socket.socket:
        """Return a connection that is in sync."""
        connection = self._socket or await self._connected(deadline)
        if not self._in_sync or self._has_unsolicited(connection):
            await self._sync(connection, deadline)
        return connection

    async def _connected(self, deadline: Deadline) -> socket.socket:
        try:
            connection = await self._address.connect(deadline)
        except OSError as error:
            raise connect_error(self._address, error) from error
        if isinstance(self._address, UnixAddress):
            listener = self._address.listener(connection)
            if self._is_pinned and listener != self._listener:
                connection.close()
                raise GuestReplacedError(f"another guest, or the same guest after a restart, is at {self._address} now")
            self._listener = listener
        self._socket = connection
        self._held_since = time.monotonic()
        self._decoder = framing.Decoder(self._limits)
        self._in_sync = False
        return connection

    def _has_unsolicited(self, connection: socket.socket) -> bool:
        """Return whether the peer sent something after its last reply, which must not be taken for the next reply."""
        return is_ready(connection.fileno(), READING) or not self._decoder.is_idle

    async def _sync(self, connection: socket.socket, deadline: Deadline) -> None:
        """Synchronize both ends, so that the next reply belongs to the next request.

        :raises CommandError: the agent refuses both commands
        """
        refused = await self._refusal_of_sync(_DELIMITED, connection, deadline)
        if refused is not None:
            refused = await self._refusal_of_sync(_PLAIN, connection, deadline)
        if refused is not None:
            names = f"{_DELIMITED} and {_PLAIN}"
            raise _UNSYNCED.get(meaning_of(refused), CommandDisabledError)(
                f"the agent at {self._address} refuses {names}, and every connection begins with one of them: "
                f"{visible(refused.description)}",
                command=names,
            )
        self._in_sync = True

    async def _refusal_of_sync(
        self, command: str, connection: socket.socket, deadline: Deadline
    ) -> messages.Refused | None:
        """Sync with this command and return its refusal. None: the connection is in sync."""
        # Agents that keep numbers as doubles may print only 15 digits, or an int's range (cJSON).
        number = int.from_bytes(os.urandom(4), "big") >> 1
        data = framing.DELIMITER + values.encode(messages.request(command, {"id": number}))
        await self._send(connection, lambda _now: data, deadline)
        counts = command == _PLAIN
        doubtful: messages.Refused | None = None
        for _event in range(_MOST_UNSOLICITED):
            patience = deadline if doubtful is None else Deadline(min(deadline.remaining(), self._timings.doubt))
            event = await self._next_event(connection, patience)
            if event is None and doubtful is not None and not deadline.expired():
                return doubtful
            if event is None:
                within = f"within {deadline.seconds:g} s"
                raise UnresponsiveError(f"no guest agent answered at {self._address} {within}", ONE_CLIENT_HINT)
            counts = counts or isinstance(event, framing.Delimiter)
            reply = _reply_or_none(event)
            if reply == messages.Returned(number) and counts:
                return None
            if isinstance(reply, messages.Refused):
                # It may refuse an earlier request.
                if command_named(reply) in (None, command) and meaning_of(reply) is not Meaning.FAILED:
                    return reply
                doubtful = reply
        raise self._flooded()

    async def _send(self, connection: socket.socket, prepared: Callable[[int], bytes], deadline: Deadline) -> int:
        """Send the whole request; return the host's monotonic clock right before the first byte was sent."""
        sent_ns = self._sent_ns = time.monotonic_ns()
        rest = memoryview(prepared(sent_ns))
        while rest:
            try:
                rest = rest[connection.send(rest) :]
            except (BlockingIOError, InterruptedError):
                if await writable(connection.fileno(), deadline) is None:
                    raise UnresponsiveError(f"the agent at {self._address} does not read its requests") from None
            except OSError as error:
                raise self._lost(error) from error
        return sent_ns

    async def _next_event(
        self, connection: socket.socket, deadline: Deadline, is_alike: bool = False
    ) -> framing.Event | messages.Reply | None:
        """Return the next event from the peer; with ``is_alike``, a parsed reply if the same bytes were parsed before.
        None: the deadline has passed.
        """
        while True:
            event = self._decoder.next_event()
            if event is not None:
                return event if not deadline.expired() else None
            if deadline.expired():
                return None  # even if there is more: a peer that never stops sending must not stretch the deadline
            try:
                found = await received(connection.fileno(), deadline)
            except OSError as error:
                raise self._lost(error) from error
            if found is None:
                return None
            if not found.data:
                raise self._lost(None)
            self._received_ns = found.at_ns
            self._bytes_in_call += len(found.data)
            if self._bytes_in_call > _MOST_BYTES:
                raise self._flooded()
            alike = _reply_of(found.data, self._limits) if is_alike and self._decoder.is_idle else None
            if alike is not None and not deadline.expired():
                return alike
            self._decoder.feed(found.data)

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _flooded(self) -> RemoteProtocolError:
        self._hang_up()
        return RemoteProtocolError(f"{self._address}: the peer keeps sending unsolicited data")

    def _lost(self, error: OSError | None) -> NotConnectedError:
        self._hang_up()
        reason = "the peer closed the connection" if error is None else (error.strerror or str(error))
        return NotConnectedError(f"lost the agent at {self._address}: {reason}")

    async def _drain(self, connection: socket.socket) -> None:
        if self._in_sync and not self._has_unsolicited(connection):
            return
        connection.shutdown(socket.SHUT_WR)
        timings = self._timings
        pending_seconds = (time.monotonic_ns() - self._sent_ns) / 1e9
        deadline = Deadline(min(timings.drain, max(timings.late - pending_seconds, timings.shortest_drain)))
        while not deadline.expired():
            found = await received(connection.fileno(), deadline)
            if found is None or not found.data:
                return


# The guests of a fleet answer these with the same long reply: parsing each of them makes gathering the facts of 1,000
# guests take a quarter longer. A reply is recognized only if one read of 4 KiB contains it whole; that of an agent with
# all commands has about 3.6 KiB.
_ALIKE = frozenset(("guest-info",))


@functools.lru_cache(maxsize=16)
def _reply_of(data: bytes, limits: Limits) -> messages.Reply | None:
    """Parse these bytes as one reply. Callers share it, so it must not be changed. None: it is not a reply."""
    try:
        return messages.read_reply(framing.whole_message(data, limits).decode())
    except RemoteProtocolError:
        return None


def _reply_or_none(event: object) -> messages.Reply | None:
    """Return the reply in an event, if it is one; before the sync anything may arrive."""
    if not isinstance(event, framing.Message):
        return None
    try:
        return messages.read_reply(event.decode())
    except RemoteProtocolError:
        return None
