# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service as a whole: watching hypervisors, and seeing to several of their guests at once."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping

from guest_agent._event_loop.multiplexer import Multiplexer
from guest_agent._event_loop.tasks import Task
from guest_agent._linux.systemd import watchdog_seconds
from guest_agent._watch.notices import Connected, Lost, NotNeeded, Stale, Withdrawn
from guest_agent._watch.watcher import Watcher

from . import record
from .config import Config
from .host_clock import HostClock
from .log import Log
from .metrics import Metrics
from .metrics_file import MetricsFile
from .resyncing import Resyncing
from .signals import StopSignals
from .systemd_state import SystemdState, be_alive


class _EndedError(Exception):
    """The service was asked to end."""


class Service:
    """Begins to watch at once, and does what is to be done about it when it is run.

    :raises MissingLibraryError: libvirt-python cannot be imported
    """

    def __init__(self, config: Config, log: Log, stop: StopSignals) -> None:
        self._log = log
        self._stop = stop
        self._metrics = Metrics(config.uris)
        self._metrics_file = MetricsFile(config.metrics_file, self._metrics, log)
        self._state = SystemdState(config.uris)
        self._resyncing = Resyncing(config, HostClock(log))
        self._watcher = Watcher(config.uris, config.agent_patience, config.look_at_start)
        # One more, since the watch is a task, too. Others that sleep do not count.
        self._multiplexer: Multiplexer[None] = Multiplexer(config.concurrency + 1, lambda _number, _result: None)

    def run(self) -> None:
        """Run until it is asked to end, and leave a resync that is under way: the next start looks at all guests."""
        try:
            self._multiplexer.run(self._tasks())
        except _EndedError:
            pass
        finally:
            self._state.end()
            self._watcher.close()
            self._resyncing.close()
            self._metrics_file.write()

    def _tasks(self) -> Iterator[Task[None]]:
        yield self._end()
        yield self._watch()
        yield self._metrics_file.run()
        yield self._state.be_ready_in_the_end()
        seconds = watchdog_seconds()
        if seconds is not None:
            yield be_alive(seconds)

    async def _end(self) -> None:
        await self._stop.wait()
        raise _EndedError

    async def _watch(self) -> None:
        while True:
            news = await self._watcher.next()
            _ON_NEWS[type(news)](self, news)
            self._metrics_file.changed()

    def _on_stale(self, stale: Stale) -> None:
        self._multiplexer.add(self._see_to(stale))

    def _on_withdrawn(self, news: Withdrawn) -> None:
        self._keep(record.of_withdrawn(news))

    def _on_not_needed(self, news: NotNeeded) -> None:
        self._keep(record.of_not_needed(news))

    def _on_connected(self, news: Connected) -> None:
        self._log.info("watching", [("uri", news.uri), ("running", news.running)])
        self._set_connected(news.uri, True)

    def _on_lost(self, news: Lost) -> None:
        self._log.warning("lost", [("uri", news.uri), ("error", news.error.code), ("message", news.error.message)])
        self._set_connected(news.uri, False)

    def _set_connected(self, uri: str, is_connected: bool) -> None:
        self._metrics.set_connected(uri, is_connected)
        self._state.set_connected(uri, is_connected)

    async def _see_to(self, stale: Stale) -> None:
        self._metrics.begin()
        is_to_be_done_again = False
        try:
            made = await self._resyncing.see_to(stale)
            is_to_be_done_again = made.is_to_be_done_again
            self._keep(made)
        finally:
            self._metrics.end()
            if is_to_be_done_again:
                self._watcher.put_back(stale)
            else:
                self._watcher.done(stale.guest)

    def _keep(self, made: record.Record) -> None:
        self._log.write(made.priority, "resync", made.fields())
        self._metrics.add(made)
        self._metrics_file.changed()


_ON_NEWS: Mapping[type, Callable[[Service, Any], None]] = {
    Stale: Service._on_stale,
    Withdrawn: Service._on_withdrawn,
    NotNeeded: Service._on_not_needed,
    Connected: Service._on_connected,
    Lost: Service._on_lost,
}
