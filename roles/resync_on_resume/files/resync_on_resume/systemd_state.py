# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Notify systemd that the service is ready, what it does, and that it lives (sd_notify(3))."""

from __future__ import annotations

from typing import Iterable

from guest_agent._event_loop.tasks import pause
from guest_agent._linux.systemd import notify

# A hypervisor that does not even refuse must not keep the others' service from being ready. systemd waits for longer.
_LONGEST_START_SECONDS = 30.0


class SystemdState:
    """``uris`` are to be heard of before the service is ready."""

    def __init__(self, uris: Iterable[str]) -> None:
        self._links: dict[str, bool | None] = dict.fromkeys(uris)
        self._is_ready = False

    def set_connected(self, uri: str, is_connected: bool) -> None:
        self._links[uri] = is_connected
        watched = sum(map(bool, self._links.values()))
        notify(f"STATUS=watching {watched} of {len(self._links)} hypervisors")
        if None not in self._links.values():
            self._become_ready()

    async def be_ready_in_the_end(self) -> None:
        await pause(_LONGEST_START_SECONDS)
        self._become_ready()

    def end(self) -> None:
        notify("STOPPING=1")

    def _become_ready(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            notify("READY=1")


async def be_alive(seconds: float) -> None:
    """Say so every so many seconds, for as long as tasks go on."""
    while True:
        notify("WATCHDOG=1")
        await pause(seconds)
