# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be said of the host's own clock: when it changes, not with every guest."""

from __future__ import annotations

from .log import Log


class HostClock:
    """Remembers what was said last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._warning: str | None = None

    def tell(self, warning: str | None) -> None:
        """None: there is nothing to warn of."""
        if warning == self._warning:
            return
        self._warning = warning
        if warning is None:
            self._log.info("host_clock", [("message", "the host's own clock is synchronised again")])
        else:
            self._log.warning("host_clock", [("message", warning)])
