# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resyncs one guest whose clock may be stale, as the module ``qga_update_time`` does."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Mapping

from guest_agent._agent import GuestAgent
from guest_agent._channels.base import Channel
from guest_agent._channels.libvirt import LibvirtChannel
from guest_agent._clock.options import reference_of, resync_options
from guest_agent._clock.report import ResyncReport
from guest_agent._clock.resync import resync
from guest_agent._errors import (
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    NotFoundError,
    NotRunningError,
    UnresponsiveError,
)
from guest_agent._fleet.results import internal_error
from guest_agent._fleet.runner import Guest, Runner, RunOptions
from guest_agent._hypervisor.connections import Hypervisor, Line
from guest_agent._protocol.errors import QgaError
from guest_agent._protocol.limits import CLOCK_REPLIES
from guest_agent._watch.causes import SCAN_CAUSES
from guest_agent._watch.notices import Stale, WatchedGuest

from .config import Config
from .log import Log
from .result import ResyncResult, result_of

_SECOND_NS = 1_000_000_000

# An agent does not answer while its guest is paused, or after it is gone: the guest's state is the better error.
_SILENT = (UnresponsiveError, ExchangeTimeoutError)
_NOT_THERE = (NotRunningError, NotFoundError)


class Resyncer:
    """Resyncs of several guests may run at a time; they share connections.

    :raises MissingLibraryError: libvirt-python cannot be imported
    """

    def __init__(self, config: Config, log: Log) -> None:
        self._config = config
        self._log = log
        self._clock_warning: str | None = None  # the last one logged about the host's clock
        self._options = resync_options(config.resync, dry_run=False)
        self._hypervisors: Mapping[str, Hypervisor] = {uri: Hypervisor(uri) for uri in config.uris}
        self._runners: Mapping[str, Runner] = {uri: Runner() for uri in config.uris}

    def close(self) -> None:
        for hypervisor in self._hypervisors.values():
            hypervisor.close()

    async def resync_guest(self, stale: Stale) -> ResyncResult:
        report: ResyncReport | None = None
        try:
            report = await self._resync(stale)
            error = report.error
        except QgaError as failure:
            error = failure
        except Exception as surprise:
            error = internal_error(surprise)
        if isinstance(error, _SILENT):
            error = await self._absence(stale.guest) or error
        return result_of(stale, report, error)

    async def _resync(self, stale: Stale) -> ResyncReport:
        """
        :raises QgaError: the resync failed
        """
        chosen = reference_of(self._config.resync)
        self._warn_of_clock(chosen.warning)

        async def work(agent: GuestAgent) -> ResyncReport:
            return await resync(agent, chosen.reference, self._options)

        options = RunOptions(self._config.timeout, self._patience(stale), touches_clock=True)
        watched = stale.guest
        hypervisor = self._hypervisors[watched.uri]
        guest = Guest(
            watched.name,
            lambda: self._channel(watched, hypervisor.line()),
            watched.uuid,
            open_apart=lambda: self._channel(watched, hypervisor.reserve),
        )
        runner = self._runners[watched.uri]
        verdict = runner.verdict(guest)
        if verdict is not None and stale.cause in SCAN_CAUSES:
            raise verdict  # its reply broke the connection, which led to this scan
        report = await runner.run(guest, work, options)
        error = runner.verdict(guest) or report.error
        if isinstance(error, HypervisorUnavailableError) and error is report.error:
            # The connection broke during this guest's exchange, but the guest was not found to be the cause.
            error = HypervisorUnavailableError(error.message, error.hint)
        return replace(report, error=error)

    def _warn_of_clock(self, warning: str | None) -> None:
        """Log the state of the host's own clock when it changes, not for every guest."""
        if warning == self._clock_warning:
            return
        self._clock_warning = warning
        if warning is None:
            self._log.info("host_clock", [("message", "the host's own clock is synchronized again")])
        else:
            self._log.warning("host_clock", [("message", warning)])

    def _patience(self, stale: Stale) -> float:
        """Return how many seconds are left to wait for the agent. The watcher has already waited for it."""
        waited = (time.monotonic_ns() - stale.since_ns) / _SECOND_NS
        patience = self._config.agent_patience
        return min(patience, max(self._config.timeout, patience - waited))

    async def _absence(self, guest: WatchedGuest) -> QgaError | None:
        """Return the reason why the guest cannot answer; None if it seems to run."""
        try:
            async with self._channel(guest, self._hypervisors[guest.uri].line()) as channel:
                await channel.require_same(self._config.timeout)
        except _NOT_THERE as error:
            return error
        except Exception:  # the first error is more useful
            return None
        return None

    @staticmethod
    def _channel(guest: WatchedGuest, line: Line) -> Channel:
        return LibvirtChannel(guest.uuid, guest.uri, line, CLOCK_REPLIES)
