# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time that guests are set to: the host's, or one from the user.

Exchanges are stamped with the host's monotonic clock, which cannot be stepped. A reference converts such a stamp to the
time that the guest should have shown then. So a step of the host's clock during a run does not affect a measurement. It
only moves the reference, which is detected.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Callable, NamedTuple

from .._linux.timex import Timex, clock_adjtime, is_synchronized
from .figures import with_twins

# The kernel slews a clock by at most this rate (MAXFREQ in include/linux/timex.h; adjtime(3) has the same limit).
MAX_SLEW_PPM = 500

# If two readings of the host's clock differ by more than this plus the maximum slew, it was stepped.
_JUMP_NS = 1_000_000

_BEST_OF = 3
_MICROSECOND_NS = 1_000


class Reference(ABC):
    """The clock that a guest's clock is compared with. All values are integer nanoseconds."""

    @abstractmethod
    def base_ns(self) -> int:
        """Return the time that the guest should show now, minus the host's monotonic clock."""


@dataclass(frozen=True)
class HostReference(Reference):
    """The host's clock, plus ``utc_offset_ns`` for guests whose system clock must differ from UTC."""

    utc_offset_ns: int = 0
    realtime_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns

    def base_ns(self) -> int:
        # Preemption between the readings adds an error, so the shortest of a few attempts is used.
        def bracket() -> tuple[int, int]:
            before = self.monotonic_ns()
            realtime = self.realtime_ns()
            after = self.monotonic_ns()
            return after - before, realtime - (before + after) // 2

        return min(bracket() for _attempt in range(_BEST_OF))[1] + self.utc_offset_ns


@dataclass(frozen=True)
class StatedReference(Reference):
    """A time from the user, valid at ``at_monotonic_ns``. It advances with the monotonic clock."""

    epoch_ns: int
    at_monotonic_ns: int

    def base_ns(self) -> int:
        return self.epoch_ns - self.at_monotonic_ns


class JumpWatch:
    """Detects steps of a reference while it is in use."""

    def __init__(self, reference: Reference, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._reference = reference
        self._monotonic_ns = monotonic_ns
        self._base_ns = reference.base_ns()
        self._at_ns = monotonic_ns()

    def jump_ns(self) -> int:
        """Return the size of a step of the reference since the last call; 0 without a step."""
        base_ns, at_ns = self._reference.base_ns(), self._monotonic_ns()
        moved_ns = base_ns - self._base_ns
        allowed_ns = _JUMP_NS + (at_ns - self._at_ns) * MAX_SLEW_PPM // 1_000_000
        self._base_ns, self._at_ns = base_ns, at_ns
        return moved_ns if abs(moved_ns) > allowed_ns else 0


class HostClock(NamedTuple):
    """The kernel's record of the host's clock. A value is None where there is no such record.

    ``max_error_ns`` grows while no time service disciplines the clock.
    """

    synchronized: bool | None = None
    max_error_ns: int | None = None

    def as_dict(self) -> dict[str, object]:
        """The figures under the names that the modules return, with the time service that runs on the host."""
        from .time_services import running  # only a module reports it

        return {**with_twins(self._asdict()), "source": running()}


def host_clock() -> HostClock:
    """Read the kernel's record. ``modes`` is 0: the clock is never touched."""
    timex = Timex(modes=0)
    try:
        state = clock_adjtime(timex)
    except OSError:
        return HostClock()
    return HostClock(is_synchronized(state, timex), timex.maxerror * _MICROSECOND_NS)
