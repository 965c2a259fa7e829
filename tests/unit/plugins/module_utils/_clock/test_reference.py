from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import reference as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import (
    HostReference,
    JumpWatch,
    Reference,
    StatedReference,
    host_clock_is_synchronized,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._linux.timex import Timex

from tests.fakes.guest import MILLISECOND, SECOND, TimeLine


class TestHostReference:
    def test_it_is_realtime_less_monotonic(self) -> None:
        line = TimeLine()
        base_ns = line.reference().base_ns()
        line.now_ns += 3_600 * SECOND
        assert line.reference().base_ns() == base_ns
        assert line.now_ns + base_ns == line.time_ns()

    def test_a_step_of_the_host_moves_it(self) -> None:
        line = TimeLine()
        reference = line.reference()
        before = reference.base_ns()
        line.step_host(-5 * SECOND)
        assert reference.base_ns() == before - 5 * SECOND

    def test_utc_offset_is_added(self) -> None:
        line = TimeLine()
        assert line.reference(3_600 * SECOND).base_ns() - line.reference().base_ns() == 3_600 * SECOND

    def test_the_tightest_of_three_brackets_counts(self) -> None:
        # Monotonic stamps in pairs: a pre-emption of 10 ms, then a clean bracket of 100 ns, then one of 5 ms.
        stamps = iter((0, 10_000_000, 20_000_000, 20_000_100, 30_000_000, 35_000_000))
        realtime = iter((1_000_000_000, 1_020_000_050, 1_030_000_000))
        reference = HostReference(0, lambda: next(realtime), lambda: next(stamps))
        assert reference.base_ns() == 1_000_000_000

    def test_it_reads_the_machines_own_clocks_by_default(self) -> None:
        import time

        base_ns = HostReference().base_ns()
        assert abs(time.time_ns() - time.monotonic_ns() - base_ns) < SECOND


def test_a_stated_reference_runs_on_with_the_monotonic_clock() -> None:
    reference = StatedReference(epoch_ns=1_000 * SECOND, at_monotonic_ns=7 * SECOND)
    assert 7 * SECOND + reference.base_ns() == 1_000 * SECOND
    assert 12 * SECOND + reference.base_ns() == 1_005 * SECOND


class Moving(Reference):
    def __init__(self) -> None:
        self.at_ns = 0

    def base_ns(self) -> int:
        return self.at_ns


@pytest.mark.parametrize(
    ("after_ns", "moved_ns", "jump_ns"),
    [
        (0, 0, 0),
        (0, MILLISECOND, 0),
        (0, MILLISECOND + 1, MILLISECOND + 1),
        (0, -MILLISECOND, 0),
        (0, -MILLISECOND - 1, -MILLISECOND - 1),
        (10 * SECOND, 5 * MILLISECOND, 0),  # slewing at 500 ppm is no jump
        (10 * SECOND, -6 * MILLISECOND, 0),
        (10 * SECOND, 6 * MILLISECOND + 1, 6 * MILLISECOND + 1),
        (10 * SECOND, -3_600 * SECOND, -3_600 * SECOND),
    ],
)
def test_a_jump_is_more_than_slewing_explains(after_ns: int, moved_ns: int, jump_ns: int) -> None:
    line = TimeLine()
    reference = Moving()
    watch = JumpWatch(reference, line.monotonic_ns)
    line.now_ns += after_ns
    reference.at_ns += moved_ns
    assert watch.jump_ns() == jump_ns
    assert watch.jump_ns() == 0, "a jump is told once"


class TestSynchronisation:
    def test_this_machines_kernel_gives_a_yes_or_a_no(self) -> None:
        assert host_clock_is_synchronized() in (True, False)

    def test_where_the_kernel_does_not_say_it_is_not_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_timex: Timex) -> int:
            raise OSError(1, "Operation not permitted")

        monkeypatch.setattr(module, "clock_adjtime", refuse)
        assert host_clock_is_synchronized() is None

    @pytest.mark.parametrize(
        ("state", "status", "expected"),
        [
            (0, 0x2001, True),  # TIME_OK; STA_PLL and STA_NANO
            (1, 0x2001, True),  # a leap second lies ahead
            (5, 0x2001, False),  # TIME_ERROR
            (0, 0x2040, False),  # STA_UNSYNC
            (5, 0x2040, False),
        ],
    )
    def test_the_kernels_words(self, monkeypatch: pytest.MonkeyPatch, state: int, status: int, expected: bool) -> None:
        modes: list[int] = []

        def adjtime(timex: Timex) -> int:
            modes.append(timex.modes)
            timex.status = status
            return state

        monkeypatch.setattr(module, "clock_adjtime", adjtime)
        assert host_clock_is_synchronized() is expected
        assert modes == [0], "anything else would touch the clock"


def test_brackets_that_are_all_equal_give_any_of_them() -> None:
    stamps: Iterator[int] = chain(repeat(100))
    assert HostReference(0, lambda: 1_100, lambda: next(stamps)).base_ns() == 1_000
