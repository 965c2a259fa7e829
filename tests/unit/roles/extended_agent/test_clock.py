"""What is handed to the kernel. Nothing here reaches it: both ways there are replaced."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.extended_agent import module

clock = module("clock")


class Kernel:
    def __init__(self, state: int = 0, **fields: int) -> None:
        self.calls: list[Any] = []
        self.offsets: list[int] = []
        self._state = state
        self._fields = fields

    def adjtime(self, timex: Any) -> int:
        self.calls.append((timex.modes, timex.time.tv_sec, timex.time.tv_usec))
        self.offsets.append(timex.offset)
        for name, value in self._fields.items():
            setattr(timex, name, value)
        return self._state

    def settime(self, epoch_ns: int) -> None:
        self.calls.append(epoch_ns)


def kernel_clock(kernel: Kernel) -> Any:
    return clock.KernelClock(kernel.adjtime, kernel.settime)


@pytest.mark.parametrize(
    ("delta_ns", "seconds", "nanoseconds"),
    [
        (1, 0, 1),
        (-1, -1, 999_999_999),
        (1_500_000_000, 1, 500_000_000),
        (-1_500_000_000, -2, 500_000_000),
        (-2_000_000_000, -2, 0),
        (90 * 10**9 + 7, 90, 7),
    ],
)
def test_a_difference_is_one_atomic_step_with_a_positive_fraction(
    delta_ns: int, seconds: int, nanoseconds: int
) -> None:
    kernel = Kernel()
    kernel_clock(kernel).shift_ns(delta_ns)
    assert kernel.calls == [(0x0100 | 0x2000, seconds, nanoseconds)]


def test_an_absolute_time_is_set_to_the_nanosecond() -> None:
    kernel = Kernel()
    kernel_clock(kernel).set_ns(1_795_406_754_123_456_789)
    assert kernel.calls == [1_795_406_754_123_456_789]


@pytest.mark.parametrize(
    ("state", "status", "synchronized"), [(0, 0x2001, True), (5, 0x0040, False), (0, 0x0040, False), (5, 0, False)]
)
def test_the_discipline_is_read_and_nothing_is_changed(state: int, status: int, synchronized: bool) -> None:
    kernel = Kernel(state, status=status, maxerror=1500)
    assert kernel_clock(kernel).discipline()[:2] == (synchronized, 1_500_000)
    assert kernel.calls == [(0xA001, 0, 0)]


@pytest.mark.parametrize(("left_us", "slewing_ns"), [(0, 0), (-199_500, -199_500_000), (7, 7_000)])
@pytest.mark.parametrize(("status", "disciplined"), [(0x0040, False), (0x0041, True), (0x0048, True), (0x2000, True)])
def test_what_is_left_of_a_slew_and_whether_one_is_possible_come_along(
    left_us: int, slewing_ns: int, status: int, disciplined: bool
) -> None:
    kernel = Kernel(5 if status & 0x0040 else 0, status=status, offset=left_us)
    assert kernel_clock(kernel).discipline()[2:] == (slewing_ns, disciplined)


@pytest.mark.parametrize(
    ("delta_ns", "microseconds"),
    [
        (-200_000_000, -200_000),
        (200_000_000, 200_000),
        (0, 0),
        (499, 0),
        (500, 1),
        (-1_400, -1),
        (-1_600, -2),
        (-500_000_000, -500_000),
    ],
)
def test_a_slew_is_one_request_in_whole_microseconds(delta_ns: int, microseconds: int) -> None:
    kernel = Kernel()
    kernel_clock(kernel).slew_ns(delta_ns)
    assert (kernel.calls, kernel.offsets) == ([(0x8001, 0, 0)], [microseconds])
