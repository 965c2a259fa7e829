# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host's clock as an object: stepping it changes nothing but that."""

from __future__ import annotations

import time


class HostClock:
    """This machine's clock, and what it was stepped by."""

    def __init__(self) -> None:
        self._stepped_ns = 0

    def time_ns(self) -> int:
        return time.time_ns() + self._stepped_ns

    def step(self, by_ns: int) -> None:
        self._stepped_ns += by_ns
