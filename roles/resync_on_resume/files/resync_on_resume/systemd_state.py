# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notifications to systemd: readiness, status and watchdog (sd_notify(3))."""

from __future__ import annotations

from typing import Iterable

from guest_agent._event_loop.tasks import pause
from guest_agent._linux.systemd import notify

# A hypervisor that never answers must not keep the service from being ready. systemd waits longer than this.
_READY_TIMEOUT_SECONDS = 30.0


class SystemdState:
    """The service is ready once each of ``uris`` has answered or failed."""

    def __init__(self, uris: Iterable[str]) -> None:
        self._links: dict[str, bool | None] = dict.fromkeys(uris)
        self._is_ready = False

    def set_connected(self, uri: str, is_connected: bool) -> None:
        self._links[uri] = is_connected
        watched = sum(map(bool, self._links.values()))
        notify(f"STATUS=watching {watched} of {len(self._links)} hypervisors")
        if None not in self._links.values():
            self._report_ready()

    async def report_ready_after_timeout(self) -> None:
        await pause(_READY_TIMEOUT_SECONDS)
        self._report_ready()

    def end(self) -> None:
        notify("STOPPING=1")

    def _report_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            notify("READY=1")


async def send_watchdog(seconds: float) -> None:
    """Notify the watchdog periodically, as long as the event loop runs."""
    while True:
        notify("WATCHDOG=1")
        await pause(seconds)
