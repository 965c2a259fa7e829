# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A clock that is an object, as the in-guest agent's ``clock.Clock`` wants it. Setting it changes that object alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.fakes.agent import SECOND_NS, _host_base_ns
from tests.fakes.slewing import Slew
from tests.support.extended_agent import module

host_epoch_ns = _host_base_ns  # this machine's clock minus its monotonic clock
# What a kernel says whose clock nothing keeps (NTP_PHASE_LIMIT in include/linux/timex.h).
_UNKEPT: Any = module("clock").Discipline(synchronized=False, max_error_ns=16 * SECOND_NS)
_BILLION = 1_000_000_000


class SimulatedClock:
    """It is ``offset_ns`` off this machine's clock at first, runs ``drift_ppm`` too fast, and shows whole ``tick_ns``.

    It runs on this machine's monotonic clock. ``stepped_ns`` is the sum of all steps so far.
    """

    __slots__ = ("_drift_ppb", "_epoch_ns", "_monotonic_ns", "_slew", "_started_ns", "_tick_ns", "stepped_ns")

    def __init__(
        self,
        offset_ns: int = 0,
        drift_ppm: float = 0.0,
        tick_ns: int = 1,
        *,
        epoch_ns: int | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """``epoch_ns``: this machine's clock minus its monotonic clock, found out here if it is not given."""
        self._monotonic_ns = monotonic_ns
        self._started_ns = monotonic_ns()
        self._epoch_ns = (host_epoch_ns() if epoch_ns is None else epoch_ns) + offset_ns
        self._drift_ppb = round(drift_ppm * 1000)
        self._tick_ns = tick_ns
        self._slew = Slew()
        self.stepped_ns = 0

    def now_ns(self) -> int:
        exact_ns = self._at(self._monotonic_ns())
        return exact_ns - exact_ns % self._tick_ns

    def set_ns(self, epoch_ns: int) -> None:
        self.shift_ns(epoch_ns - self._at(self._monotonic_ns()))

    def shift_ns(self, delta_ns: int) -> None:
        self._end_slew()
        self._epoch_ns += delta_ns
        self.stepped_ns += delta_ns

    def slew_ns(self, delta_ns: int) -> None:
        self._end_slew()
        self._slew = Slew(delta_ns, self._monotonic_ns())

    def discipline(self) -> Any:
        return _UNKEPT._replace(slewing_ns=self._slew.left_ns(self._monotonic_ns()))

    def _end_slew(self) -> None:
        self._epoch_ns += self._slew.done_ns(self._monotonic_ns())
        self._slew = Slew()

    def offset_ns(self, epoch_ns: int | None = None) -> int:
        """The truth: how far it is off this machine's clock, ticks aside. Who asks many clocks gives them one epoch."""
        now_ns = self._monotonic_ns()
        return self._at(now_ns) - now_ns - (host_epoch_ns() if epoch_ns is None else epoch_ns)

    def _at(self, monotonic_ns: int) -> int:
        drifted_ns = (monotonic_ns - self._started_ns) * self._drift_ppb // _BILLION
        return self._epoch_ns + monotonic_ns + drifted_ns + self._slew.done_ns(monotonic_ns)
