# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest's clock: reading, setting, stepping and slewing it, and reading the kernel's synchronization state."""

from __future__ import annotations

import ctypes
import time
from typing import Callable, NamedTuple

from guest_agent._linux.timex import (
    ADJ_NANO,
    ADJ_OFFSET_SINGLESHOT,
    ADJ_OFFSET_SS_READ,
    ADJ_SETOFFSET,
    Timex,
    clock_adjtime,
    is_disciplined,
    is_synchronized,
)

SECOND_NS = 1_000_000_000
_MICROSECOND_NS = 1_000


class Discipline(NamedTuple):
    """The kernel's own account of its clock: whether a time service keeps it synchronized, and its maximum error.

    ``slewing_ns``: how much a slew still has to add to the clock, negative if it subtracts; 0 without one. The kernel
    counts the microseconds of a second as done when that second begins. ``is_disciplined``: a time service steers the
    clock, so a slew would conflict with it.
    """

    synchronized: bool
    max_error_ns: int
    slewing_ns: int = 0
    is_disciplined: bool = False


def _kernel_settime(epoch_ns: int) -> None:
    time.clock_settime_ns(time.CLOCK_REALTIME, epoch_ns)


class KernelClock:
    """The system clock. If the kernel refuses a change, OSError is raised and nothing has changed. A step ends a slew.

    Both system calls can be replaced, so that no test has to make them.
    """

    now_ns = staticmethod(time.time_ns)

    def __init__(
        self,
        adjtime: Callable[[Timex], int] = clock_adjtime,
        settime: Callable[[int], None] = _kernel_settime,
    ) -> None:
        self._adjtime = adjtime
        self._settime = settime
        self._reading = Timex()  # reused: creating one takes longer than the system call

    def set_ns(self, epoch_ns: int) -> None:
        self._settime(epoch_ns)

    def shift_ns(self, delta_ns: int) -> None:
        """Add to the clock in the kernel, so that the time that the request took adds no error."""
        seconds, nanoseconds = divmod(delta_ns, SECOND_NS)  # the kernel requires a positive fraction
        if ctypes.c_long(seconds).value != seconds:
            raise OverflowError("the difference does not fit this machine's time_t")
        timex = Timex(modes=ADJ_SETOFFSET | ADJ_NANO)
        timex.time.tv_sec = seconds
        timex.time.tv_usec = nanoseconds
        self._adjtime(timex)

    def slew_ns(self, delta_ns: int) -> None:
        """Have the kernel add to the clock gradually, to the nearest microsecond. This replaces a slew in progress.

        Both kinds of steps end it, because they call ntp_clear() (kernel/time/timekeeping.c, Linux 6.1).
        """
        microseconds = (delta_ns + _MICROSECOND_NS // 2) // _MICROSECOND_NS
        self._adjtime(Timex(modes=ADJ_OFFSET_SINGLESHOT, offset=microseconds))

    def discipline(self) -> Discipline:
        reading = self._reading
        reading.modes = ADJ_OFFSET_SS_READ
        state = self._adjtime(reading)
        return Discipline(
            is_synchronized(state, reading),
            reading.maxerror * _MICROSECOND_NS,
            reading.offset * _MICROSECOND_NS,
            is_disciplined(state, reading),
        )
