# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service as a whole: watching hypervisors, and seeing to several of their guests at once."""

from __future__ import annotations

import os
import signal
from typing import Iterator

from guest_agent._event_loop.multiplexer import Multiplexer
from guest_agent._event_loop.tasks import LONG_SECONDS, Deadline, Task, received
from guest_agent._linux.systemd import watchdog_seconds
from guest_agent._watch.notices import Connected, Lost, NotNeeded, Stale, Withdrawn
from guest_agent._watch.watcher import Watcher

from .config import Config
from .log import Log
from .metrics import Metrics
from .metrics_file import MetricsFile
from .record import NOT_NEEDED, WITHDRAWN, Record
from .resyncing import Resyncing
from .systemd_state import SystemdState, be_alive


class StopSignals:
    """``await wait()`` returns once the service is asked to end, by SIGTERM, SIGINT or :meth:`ask`."""

    def __init__(self) -> None:
        self._descriptor, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """On the main thread: from now on, Python writes each signal's number into the pipe."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)

    def ask(self) -> None:
        os.write(self._writer, b"\0")

    async def wait(self) -> None:
        while await received(self._descriptor, Deadline(LONG_SECONDS)) is None:
            pass


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
        self._resyncing = Resyncing(config, log)
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
            if isinstance(news, Stale):
                self._multiplexer.add(self._see_to(news))
            elif isinstance(news, Withdrawn):
                self._keep(Record(news.guest, news.cause, WITHDRAWN, became=news.became))
            elif isinstance(news, NotNeeded):
                self._keep(Record(news.guest, news.cause, NOT_NEEDED))
            else:
                self._keep_connection(news)
            self._metrics_file.changed()

    def _keep_connection(self, news: Connected | Lost) -> None:
        is_connected = isinstance(news, Connected)
        if isinstance(news, Connected):
            self._log.info("watching", [("uri", news.uri), ("running", news.running)])
        else:
            self._log.warning("lost", [("uri", news.uri), ("error", news.error.code), ("message", news.error.message)])
        self._metrics.connected[news.uri] = is_connected
        self._state.set_connected(news.uri, is_connected)

    async def _see_to(self, stale: Stale) -> None:
        self._metrics.in_progress += 1
        is_to_be_done_again = False
        try:
            made = await self._resyncing.see_to(stale)
            is_to_be_done_again = made.is_to_be_done_again
            self._keep(made)
        finally:
            self._metrics.in_progress -= 1
            if is_to_be_done_again:
                self._watcher.put_back(stale)
            else:
                self._watcher.done(stale.guest)

    def _keep(self, made: Record) -> None:
        self._log.write(made.priority, "resync", made.fields())
        self._metrics.add(made)
        self._metrics_file.changed()
