# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service: watches hypervisors and resyncs several of their guests at a time."""

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
from .result import NOT_NEEDED, WITHDRAWN, ResyncResult
from .resyncer import Resyncer
from .systemd_state import SystemdState, send_watchdog


class StopSignals:
    """``await wait()`` returns after SIGTERM, SIGINT or :meth:`ask`."""

    def __init__(self) -> None:
        self._descriptor, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """Have Python write each signal's number into the pipe. Call it on the main thread."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)

    def ask(self) -> None:
        os.write(self._writer, b"\0")

    async def wait(self) -> None:
        while await received(self._descriptor, Deadline(LONG_SECONDS)) is None:
            pass


class _StoppedError(Exception):
    """The service was asked to stop."""


class Service:
    """Begins to watch when it is created. :meth:`run` does the resyncs.

    :raises MissingLibraryError: libvirt-python cannot be imported
    """

    def __init__(self, config: Config, log: Log, stop: StopSignals) -> None:
        self._log = log
        self._stop = stop
        self._metrics = Metrics(config.uris)
        self._metrics_file = MetricsFile(config.metrics_file, self._metrics, log)
        self._state = SystemdState(config.uris)
        self._resyncer = Resyncer(config, log)
        self._watcher = Watcher(config.uris, config.agent_patience, config.look_at_start)
        # One more for the watch. The other tasks sleep, and sleeping tasks do not count.
        self._multiplexer: Multiplexer[None] = Multiplexer(config.concurrency + 1, lambda _number, _result: None)

    def run(self) -> None:
        """Run until it is asked to stop. Running resyncs are abandoned: the next start checks all guests."""
        try:
            self._multiplexer.run(self._tasks())
        except _StoppedError:
            pass
        finally:
            self._state.end()
            self._watcher.close()
            self._resyncer.close()
            self._metrics_file.write()

    def _tasks(self) -> Iterator[Task[None]]:
        yield self._stop_on_request()
        yield self._watch()
        yield self._metrics_file.run()
        yield self._state.report_ready_after_timeout()
        seconds = watchdog_seconds()
        if seconds is not None:
            yield send_watchdog(seconds)

    async def _stop_on_request(self) -> None:
        await self._stop.wait()
        raise _StoppedError

    async def _watch(self) -> None:
        while True:
            notice = await self._watcher.next()
            if isinstance(notice, Stale):
                self._multiplexer.add(self._resync_guest(notice))
            elif isinstance(notice, Withdrawn):
                self._report(ResyncResult(notice.guest, notice.cause, WITHDRAWN, became=notice.became))
            elif isinstance(notice, NotNeeded):
                self._report(ResyncResult(notice.guest, notice.cause, NOT_NEEDED))
            else:
                self._report_connection(notice)
            self._metrics_file.changed()

    def _report_connection(self, notice: Connected | Lost) -> None:
        is_connected = isinstance(notice, Connected)
        if isinstance(notice, Connected):
            self._log.info("watching", [("uri", notice.uri), ("running", notice.running)])
        else:
            error = notice.error
            self._log.warning("lost", [("uri", notice.uri), ("error", error.code), ("message", error.message)])
        self._metrics.connected[notice.uri] = is_connected
        self._state.set_connected(notice.uri, is_connected)

    async def _resync_guest(self, stale: Stale) -> None:
        self._metrics.in_progress += 1
        should_retry = False
        try:
            result = await self._resyncer.resync_guest(stale)
            should_retry = result.should_retry
            self._report(result)
        finally:
            self._metrics.in_progress -= 1
            if should_retry:
                self._watcher.retry_later(stale)
            else:
                self._watcher.done(stale.guest)

    def _report(self, result: ResyncResult) -> None:
        self._log.write(result.priority, "resync", result.fields())
        self._metrics.add(result)
        self._metrics_file.changed()
