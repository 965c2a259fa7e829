# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest's clock: reading it, setting it, moving it, and asking the kernel how well it is kept."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any, Callable, NamedTuple, Protocol

SECOND_NS = 1_000_000_000
_MICROSECOND_NS = 1_000

# include/uapi/linux/timex.h
_ADJ_SETOFFSET = 0x0100
_ADJ_NANO = 0x2000
_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class _Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class Timex(ctypes.Structure):
    """struct timex (adjtimex(2)); with ADJ_NANO, ``time.tv_usec`` is in nanoseconds."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", _Timeval),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("_reserved", ctypes.c_int * 11),
    )


class Discipline(NamedTuple):
    """What the kernel says of its clock: whether some service keeps it, and how far off it may be at most."""

    synchronized: bool
    max_error_ns: int


class Clock(Protocol):
    """Setting raises OSError where the kernel refuses; then nothing has changed."""

    def now_ns(self) -> int: ...

    def set_ns(self, epoch_ns: int) -> None: ...

    def shift_ns(self, delta_ns: int) -> None: ...

    def discipline(self) -> Discipline: ...


def _kernel_adjtime(timex: Timex) -> int:
    state = int(_libc.clock_adjtime(time.CLOCK_REALTIME, ctypes.byref(timex)))
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return state


def _kernel_settime(epoch_ns: int) -> None:
    time.clock_settime_ns(time.CLOCK_REALTIME, epoch_ns)


_libc: Any = ctypes.CDLL(None, use_errno=True)


class KernelClock:
    """The real one. Both ways into the kernel can be replaced, so that no test has to use them."""

    def __init__(
        self,
        adjtime: Callable[[Timex], int] = _kernel_adjtime,
        settime: Callable[[int], None] = _kernel_settime,
    ) -> None:
        self._adjtime = adjtime
        self._settime = settime

    def now_ns(self) -> int:
        return time.time_ns()

    def set_ns(self, epoch_ns: int) -> None:
        self._settime(epoch_ns)

    def shift_ns(self, delta_ns: int) -> None:
        """Add to the clock within the kernel: however long the request was under way, it adds no error."""
        seconds, nanoseconds = divmod(delta_ns, SECOND_NS)  # the kernel wants the fraction positive
        if ctypes.c_long(seconds).value != seconds:
            raise OverflowError("the difference does not fit this machine's time")
        timex = Timex(modes=_ADJ_SETOFFSET | _ADJ_NANO)
        timex.time.tv_sec = seconds
        timex.time.tv_usec = nanoseconds
        self._adjtime(timex)

    def discipline(self) -> Discipline:
        timex = Timex(modes=0)
        state = self._adjtime(timex)
        return Discipline(
            synchronized=state != _TIME_ERROR and not timex.status & _STA_UNSYNC,
            max_error_ns=timex.maxerror * _MICROSECOND_NS,
        )
