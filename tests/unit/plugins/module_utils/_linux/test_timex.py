"""Reading the kernel's clock state. No test uses ``modes`` that change anything."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._linux import timex as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._linux.timex import TIME_ERROR, Timex, clock_adjtime


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    module._libcs.cache_clear()
    yield
    module._libcs.cache_clear()


def test_this_machines_kernel_fills_it_in_also_with_the_rest_of_a_slew() -> None:
    assert ctypes.sizeof(Timex) == (208 if ctypes.sizeof(ctypes.c_long) == 8 else 128)
    reading, usual = Timex(modes=module.ADJ_OFFSET_SS_READ), Timex(modes=0)
    assert 0 <= clock_adjtime(usual) == clock_adjtime(reading) <= TIME_ERROR
    assert (reading.tick, reading.status) == (usual.tick, usual.status)
    assert min(usual.tick, usual.time.tv_sec) > 0


def refuse(_clock: int, _timex: object) -> int:
    ctypes.set_errno(errno.EPERM)
    return -1


PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(Timex))


@pytest.mark.parametrize(
    ("library", "number"),
    [(SimpleNamespace(clock_adjtime=PROTOTYPE(refuse)), errno.EPERM), (SimpleNamespace(), errno.ENOSYS)],
    ids=["the kernel refuses", "not Linux"],
)
def test_a_refusal_raises_an_error_with_its_number(
    monkeypatch: pytest.MonkeyPatch, library: SimpleNamespace, number: int
) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_arguments, **_options: library)
    with pytest.raises(OSError, match=r".") as caught:
        clock_adjtime(Timex())
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("state", "status", "synchronized", "disciplined"),
    [
        (0, 0x2000, True, True),  # as chrony leaves it
        (1, 0x2001, True, True),  # as ntpd and systemd-timesyncd leave it; a leap second is announced
        (5, 0x2001, False, True),
        (5, 0x0008, False, True),
        (0, 0x0040, False, False),
        (5, 0x2040, False, False),
    ],
)
def test_a_clock_is_disciplined_if_it_is_synchronized_or_the_kernels_loop_is_on(
    state: int, status: int, synchronized: bool, disciplined: bool
) -> None:
    timex = Timex(status=status)
    assert (module.is_synchronized(state, timex), module.is_disciplined(state, timex)) == (synchronized, disciplined)


@pytest.mark.parametrize(("delta_ns", "duration_ns"), [(1, 2_000), (-200_000_000, 400 * 10**9)])
def test_a_slew_takes_two_thousand_times_the_time_that_it_adds(delta_ns: int, duration_ns: int) -> None:
    assert module.slew_duration_ns(delta_ns) == duration_ns
