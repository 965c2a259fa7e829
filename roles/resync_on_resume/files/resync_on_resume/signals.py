# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SIGTERM and SIGINT, as something to wait for."""

from __future__ import annotations

import os
import signal

from guest_agent._event_loop.tasks import LONG_SECONDS, Deadline, received

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """``await wait()`` returns once the service is asked to end, by a signal or by :meth:`ask`."""

    def __init__(self) -> None:
        self._descriptor, self._writer = os.pipe()
        for end in (self._descriptor, self._writer):
            os.set_blocking(end, False)

    def listen(self) -> None:
        """On the main thread: from now on, Python writes each signal's number into the pipe."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, lambda _number, _frame: None)

    def ask(self) -> None:
        os.write(self._writer, b"\0")

    async def wait(self) -> None:
        while await received(self._descriptor, Deadline(LONG_SECONDS)) is None:
            pass
