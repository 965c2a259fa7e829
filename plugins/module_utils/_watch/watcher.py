# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches hypervisors for events that leave a guest with a stale clock."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import Iterator, Sequence

from .._errors import detached
from .._event_loop.tasks import LONG_SECONDS, Deadline, received
from .._event_loop.threads import Bell
from .._protocol.errors import QgaError
from . import causes
from .notices import Connected, Lost, Notice, Stale, WatchedGuest
from .sources.libvirt import DEFAULT_RETRIES, Retries, Source
from .states import DEFAULT_TIMINGS, SECOND_NS, GuestStates, SeenGuest, Timings

# The agent of a guest that is restored on a busy host may take a while to connect.
PATIENCE_SECONDS = 120.0


class Watcher:
    """Reports guests whose clocks may be stale: ``await next()``, then ``done(guest)`` after the resync.

    There is one notice for each action on a guest, as soon as it runs and its agent is connected. Events that arrive
    during its resync cause one notice after that. Connecting to a hypervisor is retried forever; each time it succeeds,
    there is a notice for each running guest.

    ``patience`` is the longest time to wait for an agent to connect, in seconds; the notice follows in any case.
    Without ``scans_at_start``, guests that already run at the start get no notice.

    :raises MissingLibraryError: libvirt-python cannot be imported
    """

    def __init__(
        self,
        uris: Sequence[str],
        patience: float = PATIENCE_SECONDS,
        scans_at_start: bool = True,
        retries: Retries = DEFAULT_RETRIES,
        timings: Timings = DEFAULT_TIMINGS,
    ) -> None:
        self._bell = Bell()
        self._notices: deque[Notice] = deque()
        patience_ns = round(patience * SECOND_NS)
        self._inboxes = {
            uri: _Inbox(GuestStates(uri, patience_ns, timings), uri, self._bell, scans_at_start) for uri in uris
        }
        self._sources = [Source(uri, inbox, retries) for uri, inbox in self._inboxes.items()]

    async def next(self) -> Notice:
        while not self._notices:
            wait_ns = int(LONG_SECONDS * SECOND_NS)
            for inbox in self._inboxes.values():
                notices, inbox_wait_ns = inbox.take()
                self._notices.extend(notices)
                wait_ns = wait_ns if inbox_wait_ns is None else min(wait_ns, inbox_wait_ns)
            if not self._notices:
                await received(self._bell.descriptor, Deadline(max(0, wait_ns) / SECOND_NS))
        return self._notices.popleft()

    def done(self, guest: WatchedGuest) -> None:
        self._inboxes[guest.uri].done(guest.uuid)

    def retry_later(self, stale: Stale) -> None:
        """Call it in place of :meth:`done` if the hypervisor could not be reached: there is another notice later."""
        self._inboxes[stale.guest.uri].retry_later(stale)

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._bell.close()


class _Inbox:
    """Passes events from a source's threads to the task that calls :meth:`take`."""

    def __init__(self, states: GuestStates, uri: str, bell: Bell, scans_at_start: bool) -> None:
        self._uri = uri
        self._bell = bell
        self._scans_at_start = scans_at_start
        # All below is guarded by this.
        self._lock = threading.Lock()
        self._states = states
        self._link: list[Notice] = []  # the last notice about the connection, until take()
        self._was_connected = False
        self._is_lost = False

    @contextlib.contextmanager
    def _updating(self) -> Iterator[GuestStates]:
        with self._lock:
            yield self._states
        self._bell.ring()

    def on_lifecycle(self, uuid: str, name: str, event: int, detail: int) -> None:
        now_ns = time.monotonic_ns()
        with self._updating() as states:
            states.on_lifecycle(uuid, name, event, detail, now_ns)

    def on_agent(self, uuid: str, name: str, is_connected: bool) -> None:
        with self._updating() as states:
            states.on_agent(uuid, name, is_connected)

    def on_reboot(self, uuid: str, name: str) -> None:
        with self._updating() as states:
            states.on_reboot(uuid, name, time.monotonic_ns())

    def on_connected(self, running: int, seen: Sequence[SeenGuest]) -> None:
        with self._updating() as states:
            self._link = [Connected(self._uri, running)]
            if self._was_connected or self._scans_at_start:
                cause = causes.WATCH_RESUMED if self._was_connected else causes.WATCH_BEGAN
                states.on_scan(seen, cause, time.monotonic_ns())
            self._was_connected = True
            self._is_lost = False

    def on_lost(self, error: QgaError) -> None:
        with self._updating():
            if not self._is_lost:
                self._link = [Lost(self._uri, detached(error))]
            self._is_lost = True

    def take(self) -> tuple[list[Notice], int | None]:
        """Return the notices that are due, and the nanoseconds until the next one if no event arrives."""
        now_ns = time.monotonic_ns()
        with self._lock:
            notices, self._link = self._link, []
            if self._is_lost:
                return notices, None  # all guests are scanned after reconnecting
            notices += self._states.take(now_ns)
            next_ns = self._states.next_ns()
        return notices, None if next_ns is None else next_ns - now_ns

    def done(self, uuid: str) -> None:
        with self._updating() as states:
            states.done(uuid)

    def retry_later(self, stale: Stale) -> None:
        with self._updating() as states:
            if self._is_lost:
                states.done(stale.guest.uuid)  # all guests are scanned after reconnecting
            else:
                states.retry_later(stale, time.monotonic_ns())
