# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watching hypervisors for whatever leaves a guest with a stale clock."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Sequence

from .._errors import detached
from .._event_loop.tasks import LONG_SECONDS, Deadline, received
from .._event_loop.threads import Bell
from .._protocol.errors import QgaError
from . import causes
from .ledger import SECOND_NS, Ledger, SeenGuest
from .news import Connected, Lost, News, Stale, WatchedGuest
from .sources.libvirt import USUAL_RETRIES, Retries, Source

# To a guest that runs, with an agent that is still on its way: a guest that is restored while the host is busy.
PATIENCE_SECONDS = 120.0


class Watcher:
    """Tells which guests' clocks may be stale: ``await next()``, and ``done(guest)`` when it was seen to.

    Each guest is told of once for each thing that happened to it, as soon as it runs and its agent is connected. Of one
    that is being worked on, what happens meanwhile is told behind that, once. A hypervisor that cannot be reached is
    tried for ever; whenever it was, all of its running guests are told of.

    ``patience`` is how long an agent that is not connected is waited for, in seconds; then the guest is told of all the
    same. Without ``passes_at_start``, only what happens from now on is told.

    :raises MissingLibraryError: libvirt-python cannot be imported
    """

    def __init__(
        self,
        uris: Sequence[str],
        patience: float = PATIENCE_SECONDS,
        passes_at_start: bool = True,
        retries: Retries = USUAL_RETRIES,
    ) -> None:
        self._bell = Bell()
        self._news: deque[News] = deque()
        patience_ns = round(patience * SECOND_NS)
        self._desks = {uri: _Desk(Ledger(uri, patience_ns), uri, self._bell, passes_at_start) for uri in uris}
        self._sources = [Source(uri, desk, retries) for uri, desk in self._desks.items()]

    async def next(self) -> News:
        """The next thing to tell, whenever there is one."""
        while not self._news:
            wait_ns = int(LONG_SECONDS * SECOND_NS)
            for desk in self._desks.values():
                news, desk_wait_ns = desk.take()
                self._news.extend(news)
                wait_ns = wait_ns if desk_wait_ns is None else min(wait_ns, desk_wait_ns)
            if not self._news:
                await received(self._bell.descriptor, Deadline(max(0, wait_ns) / SECOND_NS))
        return self._news.popleft()

    def done(self, guest: WatchedGuest) -> None:
        self._desks[guest.uri].done(guest.uuid)

    def put_back(self, stale: Stale) -> None:
        """In place of :meth:`done`: its hypervisor could not be reached. It is told again when that may have passed."""
        self._desks[stale.guest.uri].put_back(stale)

    def close(self) -> None:
        for source in self._sources:
            source.close()
        self._bell.close()


class _Desk:
    """Where a source's threads leave what they know, for the one that asks."""

    def __init__(self, ledger: Ledger, uri: str, bell: Bell, passes_at_start: bool) -> None:
        self._uri = uri
        self._bell = bell
        self._passes_at_start = passes_at_start
        # All below is guarded by this.
        self._lock = threading.Lock()
        self._ledger = ledger
        self._link: Connected | Lost | None = None
        self._was_connected = False
        self._is_link_told = True

    def on_lifecycle(self, uuid: str, name: str, event: int, detail: int) -> None:
        now_ns = time.monotonic_ns()
        with self._lock:
            self._ledger.on_lifecycle(uuid, name, event, detail, now_ns)
        self._bell.ring()

    def on_agent(self, uuid: str, name: str, is_connected: bool) -> None:
        with self._lock:
            self._ledger.on_agent(uuid, name, is_connected)
        self._bell.ring()

    def on_reboot(self, uuid: str, name: str) -> None:
        with self._lock:
            self._ledger.on_reboot(uuid, name, time.monotonic_ns())
        self._bell.ring()

    def on_connected(self, running: int, seen: Sequence[SeenGuest]) -> None:
        with self._lock:
            self._say(Connected(self._uri, running))
            if self._was_connected or self._passes_at_start:
                cause = causes.WATCH_RESUMED if self._was_connected else causes.WATCH_BEGAN
                self._ledger.on_pass(seen, cause, time.monotonic_ns())
            self._was_connected = True
        self._bell.ring()

    def on_lost(self, error: QgaError) -> None:
        with self._lock:
            if not isinstance(self._link, Lost):
                self._say(Lost(self._uri, detached(error)))
        self._bell.ring()

    def _say(self, link: Connected | Lost) -> None:
        self._link = link
        self._is_link_told = False

    def take(self) -> tuple[list[News], int | None]:
        """What is to be told now, and in how many nanoseconds there is something even if nothing happens."""
        now_ns = time.monotonic_ns()
        with self._lock:
            news: list[News] = [] if self._is_link_told or self._link is None else [self._link]
            self._is_link_told = True
            if isinstance(self._link, Lost):
                return news, None  # no guest can be asked; all are looked at when the connection is made again
            news += self._ledger.take(now_ns)
            next_ns = self._ledger.next_ns()
        return news, None if next_ns is None else next_ns - now_ns

    def done(self, uuid: str) -> None:
        with self._lock:
            self._ledger.done(uuid)
        self._bell.ring()

    def put_back(self, stale: Stale) -> None:
        with self._lock:
            if isinstance(self._link, Lost):
                self._ledger.done(stale.guest.uuid)  # all are looked at when the connection is made again
            else:
                self._ledger.put_back(stale, time.monotonic_ns())
        self._bell.ring()
