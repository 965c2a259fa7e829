from __future__ import annotations

import time

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import reference as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import time_services
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import (
    HostClock,
    HostReference,
    JumpWatch,
    StatedReference,
    host_clock,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._linux.timex import Timex

from tests.fakes.guest import MILLISECOND, SECOND, TimeLine


class TestHostReference:
    def test_it_is_realtime_minus_monotonic_and_follows_the_host(self) -> None:
        line = TimeLine()
        reference = line.reference()
        base_ns = reference.base_ns()
        line.now_ns += 3_600 * SECOND
        assert line.now_ns + reference.base_ns() == line.now_ns + base_ns == line.time_ns()
        line.step_host(-5 * SECOND)
        assert reference.base_ns() == base_ns - 5 * SECOND

    def test_the_tightest_of_three_brackets_is_used(self) -> None:
        # Monotonic stamps in pairs: a preemption of 10 ms, then a clean bracket of 100 ns, then one of 5 ms.
        stamps = iter((0, 10_000_000, 20_000_000, 20_000_100, 30_000_000, 35_000_000))
        realtime = iter((1_000_000_000, 1_020_000_050, 1_030_000_000))
        reference = HostReference(0, lambda: next(realtime), lambda: next(stamps))
        assert reference.base_ns() == 1_000_000_000

    def test_it_reads_the_machines_own_clocks_by_default(self) -> None:
        base_ns = HostReference().base_ns()
        assert abs(time.time_ns() - time.monotonic_ns() - base_ns) < SECOND


@pytest.mark.parametrize(
    ("after_ns", "moved_ns", "jump_ns"),
    [
        (0, MILLISECOND, 0),
        (0, -MILLISECOND, 0),
        (0, -MILLISECOND - 1, -MILLISECOND - 1),
        (10 * SECOND, -6 * MILLISECOND, 0),  # slewing at 500 ppm is not a jump
        (10 * SECOND, 6 * MILLISECOND + 1, 6 * MILLISECOND + 1),
        (10 * SECOND, -3_600 * SECOND, -3_600 * SECOND),
    ],
)
def test_a_jump_is_more_than_slewing_explains(after_ns: int, moved_ns: int, jump_ns: int) -> None:
    line = TimeLine()
    watch = JumpWatch(line.reference(), line.monotonic_ns)
    line.now_ns += after_ns
    line.step_host(moved_ns)
    assert watch.jump_ns() == jump_ns
    assert watch.jump_ns() == 0, "a jump is reported once"


def test_a_given_time_runs_on_with_the_monotonic_clock() -> None:
    reference = StatedReference(epoch_ns=1_000 * SECOND, at_monotonic_ns=7 * SECOND)
    assert 12 * SECOND + reference.base_ns() == 1_005 * SECOND


class TestTheHostClock:
    def test_this_machines_kernel_has_a_record_of_it(self) -> None:
        clock = host_clock()
        assert clock.synchronized in (True, False)
        assert (clock.max_error_ns or 0) >= 0

    @pytest.mark.parametrize(
        ("state", "expected"), [(0, HostClock(True, 1_500_000)), (5, HostClock(False, 1_500_000)), (None, HostClock())]
    )
    def test_the_kernel_is_asked_and_may_have_no_record(
        self, monkeypatch: pytest.MonkeyPatch, state: int | None, expected: HostClock
    ) -> None:
        def adjtime(timex: Timex) -> int:
            assert timex.modes == 0, "anything else would change the clock"
            timex.status = 0x2001
            timex.maxerror = 1_500
            if state is None:
                raise OSError(1, "Operation not permitted")
            return state

        monkeypatch.setattr(module, "clock_adjtime", adjtime)
        assert host_clock() == expected

    def test_its_figures_have_twins_in_seconds_and_the_time_service(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time_services, "running", lambda: "chronyd")
        assert HostClock(True, 1_500_000).as_dict() == {
            "synchronized": True,
            "max_error_ns": 1_500_000,
            "max_error": 0.0015,
            "source": "chronyd",
        }
