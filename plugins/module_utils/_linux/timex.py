# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Linux's clock state, and adjusting the clock by a difference: clock_adjtime(2), which Python lacks."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import time
from typing import Any

# include/uapi/linux/timex.h
ADJ_SETOFFSET = 0x0100
ADJ_NANO = 0x2000
ADJ_OFFSET_SINGLESHOT = 0x8001  # adjtime(3): replaces the rest of an earlier slew
ADJ_OFFSET_SS_READ = 0xA001  # needs no capability; all fields but ``offset`` are filled in as for 0
STA_PLL = 0x0001
STA_FLL = 0x0008
STA_UNSYNC = 0x0040
TIME_ERROR = 5

# kernel/time/ntp.c, MAX_TICKADJ: 500 microseconds per second, in either direction (Linux 6.1).
SLEW_PPM = 500
# Our own limit, because such a slew takes 1,000 seconds; the kernel has none.
MOST_SLEWED_NS = 500_000_000


class _Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class Timex(ctypes.Structure):
    """struct timex (adjtimex(2)); with ADJ_NANO, ``time.tv_usec`` is in nanoseconds."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),  # in microseconds with the two modes of adjtime(3)
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # in microseconds, always
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


@functools.lru_cache(maxsize=None)
def _libcs() -> Any:
    try:
        function = ctypes.CDLL(None, use_errno=True).clock_adjtime
    except AttributeError as error:  # not Linux
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from error
    function.argtypes = (ctypes.c_int, ctypes.POINTER(Timex))
    return function


def clock_adjtime(timex: Timex) -> int:
    """Pass ``timex`` to the kernel, which fills it in, and return the clock's state. ``modes`` 0 changes nothing.

    :raises OSError: the kernel refuses, or has no such call; then nothing has changed
    """
    state: int = _libcs()(time.CLOCK_REALTIME, timex)
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return state


def is_synchronized(state: int, timex: Timex) -> bool:
    """Return whether the kernel reports that a service synchronizes the clock."""
    return state != TIME_ERROR and not timex.status & STA_UNSYNC


def is_disciplined(state: int, timex: Timex) -> bool:
    """Return whether a time service disciplines the clock: it is synchronized, or the kernel's control loop is on."""
    return is_synchronized(state, timex) or bool(timex.status & (STA_PLL | STA_FLL))


def slew_duration_ns(delta_ns: int) -> int:
    """Return the duration of a slew by the kernel. It starts and ends at full seconds of the clock, so it may end up to
    two seconds later.
    """
    return abs(delta_ns) * (1_000_000 // SLEW_PPM)
