# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeping the metrics' file up to date."""

from __future__ import annotations

from guest_agent._event_loop.tasks import LONG_SECONDS, Deadline, pause, received
from guest_agent._event_loop.threads import Bell

from . import textfile
from .log import Log
from .metrics import Metrics

# At most so often; and what has changed is there by then.
_PERIOD_SECONDS = 1.0


class Publisher:
    """``path``: empty, and nothing is written. A file that cannot be written is said once, and tried again."""

    def __init__(self, path: str, metrics: Metrics, log: Log) -> None:
        self._path = path
        self._metrics = metrics
        self._log = log
        self._bell = Bell()
        self._is_due = False
        self._problem: str | None = None

    def changed(self) -> None:
        if self._path and not self._is_due:
            self._is_due = True
            self._bell.ring()

    async def run(self) -> None:
        """For ever; sleeps while nothing changes."""
        while True:
            if await received(self._bell.descriptor, Deadline(LONG_SECONDS)) is not None:
                await pause(_PERIOD_SECONDS)
                self.write()

    def write(self) -> None:
        self._is_due = False
        if not self._path:
            return
        problem: str | None = None
        try:
            textfile.write(self._path, self._metrics.text())
        except OSError as error:
            problem = error.strerror or str(error)
        if problem is not None and problem != self._problem:
            self._log.warning("metrics", [("file", self._path), ("message", f"cannot be written: {problem}")])
        elif problem is None and self._problem is not None:
            self._log.info("metrics", [("file", self._path), ("message", "is written again")])
        self._problem = problem
