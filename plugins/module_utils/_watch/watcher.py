# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watching hypervisors for whatever leaves a guest with a stale clock."""

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
from .sources.libvirt import USUAL_RETRIES, Retries, Source
from .states import SECOND_NS, USUAL, GuestStates, SeenGuest, Timings

# To a guest that runs, with an agent that is still on its way: a guest that is restored while the host is busy.
PATIENCE_SECONDS = 120.0


class Watcher:
    """Gives notice of guests whose clocks may be stale: ``await next()``, and ``done(guest)`` when it was worked on.

    There is one notice for each thing that happened to a guest, as soon as it runs and its agent is connected. What
    happens to a guest while it is worked on is noticed after that, once. A hypervisor that cannot be reached is tried
    for ever; whenever it was, all of its running guests are noticed.

    ``patience`` is how long an agent that is not connected is waited for, in seconds; then the guest is noticed all the
    same. Without ``passes_at_start``, only what happens from now on is.

    :raises MissingLibraryError: libvirt-python cannot be imported
    """

    def __init__(
        self,
        uris: Sequence[str],
        patience: float = PATIENCE_SECONDS,
        passes_at_start: bool = True,
        retries: Retries = USUAL_RETRIES,
        timings: Timings = USUAL,
    ) -> None:
        self._bell = Bell()
        self._notices: deque[Notice] = deque()
        patience_ns = round(patience * SECOND_NS)
        self._inboxes = {
            uri: _Inbox(GuestStates(uri, patience_ns, timings), uri, self._bell, passes_at_start) for uri in uris
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

    def put_back(self, stale: Stale) -> None:
        """In place of :meth:`done`: its hypervisor could not be reached. It is noticed again later."""
        self._inboxes[stale.guest.uri].put_back(stale)

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._bell.close()


class _Inbox:
    """Where a source's threads leave what happens, for the task that asks."""

    def __init__(self, states: GuestStates, uri: str, bell: Bell, passes_at_start: bool) -> None:
        self._uri = uri
        self._bell = bell
        self._passes_at_start = passes_at_start
        # All below is guarded by this.
        self._lock = threading.Lock()
        self._states = states
        self._link: list[Notice] = []  # the last news of the connection, until somebody asks
        self._was_connected = False
        self._is_lost = False

    @contextlib.contextmanager
    def _heard(self) -> Iterator[GuestStates]:
        with self._lock:
            yield self._states
        self._bell.ring()

    def on_lifecycle(self, uuid: str, name: str, event: int, detail: int) -> None:
        now_ns = time.monotonic_ns()
        with self._heard() as states:
            states.on_lifecycle(uuid, name, event, detail, now_ns)

    def on_agent(self, uuid: str, name: str, is_connected: bool) -> None:
        with self._heard() as states:
            states.on_agent(uuid, name, is_connected)

    def on_reboot(self, uuid: str, name: str) -> None:
        with self._heard() as states:
            states.on_reboot(uuid, name, time.monotonic_ns())

    def on_connected(self, running: int, seen: Sequence[SeenGuest]) -> None:
        with self._heard() as states:
            self._link = [Connected(self._uri, running)]
            if self._was_connected or self._passes_at_start:
                cause = causes.WATCH_RESUMED if self._was_connected else causes.WATCH_BEGAN
                states.on_pass(seen, cause, time.monotonic_ns())
            self._was_connected = True
            self._is_lost = False

    def on_lost(self, error: QgaError) -> None:
        with self._heard():
            if not self._is_lost:
                self._link = [Lost(self._uri, detached(error))]
            self._is_lost = True

    def take(self) -> tuple[list[Notice], int | None]:
        """The notices of now, and in how many nanoseconds the next is due even if nothing happens."""
        now_ns = time.monotonic_ns()
        with self._lock:
            notices, self._link = self._link, []
            if self._is_lost:
                return notices, None  # no guest can be asked; all are looked at when the connection is made again
            notices += self._states.take(now_ns)
            next_ns = self._states.next_ns()
        return notices, None if next_ns is None else next_ns - now_ns

    def done(self, uuid: str) -> None:
        with self._heard() as states:
            states.done(uuid)

    def put_back(self, stale: Stale) -> None:
        with self._heard() as states:
            if self._is_lost:
                states.done(stale.guest.uuid)  # all are looked at when the connection is made again
            else:
                states.put_back(stale, time.monotonic_ns())
