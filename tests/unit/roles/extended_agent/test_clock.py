"""The kernel's clock, with a fake kernel that records the calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.extended_agent import module

clock = module("clock")
SHIFT, SLEW, READ = 0x0100 | 0x2000, 0x8001, 0xA001


class Kernel:
    """Returns ``state``, and sets these fields. ``calls``: the modes, seconds, nanoseconds and offset of each call."""

    def __init__(self, state: int = 0, **fields: int) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.times: list[int] = []
        self.clock = clock.KernelClock(self._adjtime, self.times.append)
        self._state = state
        self._fields = fields

    def _adjtime(self, timex: Any) -> int:
        self.calls.append((timex.modes, timex.time.tv_sec, timex.time.tv_usec, timex.offset))
        for name, value in self._fields.items():
            setattr(timex, name, value)
        return self._state


@pytest.mark.parametrize(
    ("change", "delta_ns", "call"),
    [
        ("shift_ns", 1, (SHIFT, 0, 1, 0)),
        ("shift_ns", -1, (SHIFT, -1, 999_999_999, 0)),
        ("shift_ns", -1_500_000_000, (SHIFT, -2, 500_000_000, 0)),
        ("shift_ns", -2_000_000_000, (SHIFT, -2, 0, 0)),
        ("shift_ns", 90 * 10**9 + 7, (SHIFT, 90, 7, 0)),
        ("slew_ns", 200_000_000, (SLEW, 0, 0, 200_000)),
        ("slew_ns", -500_000_000, (SLEW, 0, 0, -500_000)),
        ("slew_ns", 0, (SLEW, 0, 0, 0)),
        ("slew_ns", 499, (SLEW, 0, 0, 0)),
        ("slew_ns", 500, (SLEW, 0, 0, 1)),
        ("slew_ns", -1_400, (SLEW, 0, 0, -1)),
        ("slew_ns", -1_600, (SLEW, 0, 0, -2)),
    ],
)
def test_a_step_has_a_positive_fraction_and_a_slew_whole_microseconds(
    change: str, delta_ns: int, call: tuple[int, ...]
) -> None:
    kernel = Kernel()
    getattr(kernel.clock, change)(delta_ns)
    assert kernel.calls == [call]


def test_an_absolute_time_is_set_to_the_nanosecond() -> None:
    kernel = Kernel()
    kernel.clock.set_ns(1_795_406_754_123_456_789)
    assert kernel.times == [1_795_406_754_123_456_789]


@pytest.mark.parametrize(
    ("state", "status", "synchronized", "disciplined"),
    [
        (0, 0x2001, True, True),
        (0, 0x2000, True, True),
        (5, 0x0040, False, False),
        (0, 0x0040, False, False),
        (5, 0x0041, False, True),
        (5, 0x0048, False, True),
        (5, 0, False, False),
    ],
)
@pytest.mark.parametrize("left_us", [0, -199_500])
def test_reading_the_discipline_changes_nothing(
    state: int, status: int, synchronized: bool, disciplined: bool, left_us: int
) -> None:
    kernel = Kernel(state, status=status, maxerror=1500, offset=left_us)
    assert kernel.clock.discipline() == (synchronized, 1_500_000, left_us * 1000, disciplined)
    assert kernel.calls == [(READ, 0, 0, 0)]
