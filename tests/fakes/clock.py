"""A guest's clock as an object: setting it changes only that object."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

SECOND_NS = 1_000_000_000
SLEW_PPM = 500


class Machine:
    """The clocks of the guest's host: this machine's clocks, which are only read."""

    monotonic_ns = staticmethod(time.monotonic_ns)

    @staticmethod
    def pair() -> tuple[int, int]:
        """Return the monotonic and the realtime clock at one instant.

        The tightest of several readings is used, because a process may lose its processor between any two.
        """
        readings = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _attempt in range(5)]
        before_ns, realtime_ns, after_ns = min(readings, key=lambda reading: reading[2] - reading[0])
        return (before_ns + after_ns) // 2, realtime_ns


MACHINE = Machine()


class HostClock:
    """This machine's clock plus the steps made here: stepping changes only this object."""

    def __init__(self) -> None:
        self._stepped_ns = 0

    def time_ns(self) -> int:
        return time.time_ns() + self._stepped_ns

    def step(self, by_ns: int) -> None:
        self._stepped_ns += by_ns


class _Since(NamedTuple):
    """The time of a clock at an instant, and the amount that is slewed from then on as Linux does it."""

    monotonic_ns: int
    value_ns: int
    slew_ns: int = 0

    def slewed_ns(self, now_ns: int) -> int:
        most_ns = (now_ns - self.monotonic_ns) * SLEW_PPM // 1_000_000
        return max(-most_ns, min(most_ns, self.slew_ns))


class Clock:
    """A clock that starts at ``offset_ns`` from its host's, runs ``drift_ppb`` too fast and shows whole ``tick_ns``.

    ``host`` is this machine, or a time line that a test moves. Several threads may read the clock while one thread
    changes it.
    """

    __slots__ = ("_host", "_since", "drift_ppb", "tick_ns")

    def __init__(self, offset_ns: int = 0, drift_ppb: int = 0, tick_ns: int = 1, host: Any = MACHINE) -> None:
        self._host = host
        self.drift_ppb = drift_ppb
        self.tick_ns = tick_ns
        now_ns, realtime_ns = host.pair()
        self._since = _Since(now_ns, realtime_ns + offset_ns)

    def true_ns(self) -> int:
        return self._at(self._host.monotonic_ns())

    def read(self) -> int:
        """Return the time that a program in the guest would read."""
        return self._shown(self.true_ns())

    def set(self, epoch_ns: int) -> None:
        self._since = _Since(self._host.monotonic_ns(), epoch_ns)

    def step(self, delta_ns: int) -> tuple[int, int]:
        """Step the clock, which ends a slew. Return the times before and after it, both of one instant."""
        before_ns = self._begin_anew(delta_ns)
        return self._shown(before_ns), self._shown(before_ns + delta_ns)

    def slew(self, delta_ns: int) -> int:
        return self._shown(self._begin_anew(0, delta_ns))

    def _begin_anew(self, step_ns: int, slew_ns: int = 0) -> int:
        now_ns = self._host.monotonic_ns()
        before_ns = self._at(now_ns)
        self._since = _Since(now_ns, before_ns + step_ns, slew_ns)
        return before_ns

    @property
    def slewing_ns(self) -> int:
        return self._since.slew_ns - self._since.slewed_ns(self._host.monotonic_ns())

    def offset_ns(self) -> int:
        """Return the true offset from its host's clock now, to compare measurements with."""
        now_ns, realtime_ns = self._host.pair()
        return self._at(now_ns) - realtime_ns

    def host_ns(self) -> int:
        """Return the time of its host's clock, which a correct hardware clock has."""
        return self._host.pair()[1]

    def _at(self, now_ns: int) -> int:
        since = self._since
        elapsed_ns = now_ns - since.monotonic_ns
        drifted_ns = elapsed_ns * self.drift_ppb // SECOND_NS
        return since.value_ns + elapsed_ns + drifted_ns + since.slewed_ns(now_ns)

    def _shown(self, exact_ns: int) -> int:
        return exact_ns - exact_ns % self.tick_ns
