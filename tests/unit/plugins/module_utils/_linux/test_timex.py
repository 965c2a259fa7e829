"""Asking the kernel about its clock. Nothing here has ``modes`` that change anything."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._linux import timex as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._linux.timex import TIME_ERROR, Timex, clock_adjtime


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    module._libcs.cache_clear()
    yield
    module._libcs.cache_clear()


def test_the_structure_has_the_size_of_the_kernels() -> None:
    assert ctypes.sizeof(Timex) == (208 if ctypes.sizeof(ctypes.c_long) == 8 else 128)


def test_this_machines_kernel_fills_it_in() -> None:
    reading = Timex(modes=0)
    assert 0 <= clock_adjtime(reading) <= TIME_ERROR
    assert reading.tick > 0
    assert reading.time.tv_sec > 0


def test_this_machines_kernel_fills_it_in_with_what_is_left_of_a_slew_as_well() -> None:
    reading, usual = Timex(modes=module.ADJ_OFFSET_SS_READ), Timex(modes=0)
    assert clock_adjtime(reading) == clock_adjtime(usual)
    assert (reading.tick, reading.status) == (usual.tick, usual.status)


def test_a_refusal_tells_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, *_arguments: object, **_options: object) -> None:
            self.clock_adjtime = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(Timex))(self._refuse)

        @staticmethod
        def _refuse(_clock: int, _timex: object) -> int:
            ctypes.set_errno(errno.EPERM)
            return -1

    monkeypatch.setattr(module.ctypes, "CDLL", Library)
    with pytest.raises(PermissionError):
        clock_adjtime(Timex())


def test_a_system_without_it_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_arguments, **_options: object())
    with pytest.raises(OSError, match=r".") as caught:
        clock_adjtime(Timex())
    assert caught.value.errno == errno.ENOSYS


@pytest.mark.parametrize(
    ("state", "status", "synchronized"),
    [(0, 0x2001, True), (1, 0x2001, True), (5, 0x2001, False), (0, 0x0040, False), (5, 0x2040, False)],
)
def test_a_clock_is_kept_unless_the_state_or_the_status_denies_it(state: int, status: int, synchronized: bool) -> None:
    assert module.is_synchronized(state, Timex(status=status)) is synchronized


@pytest.mark.parametrize(
    ("state", "status", "disciplined"),
    [
        (0, 0x2000, True),  # as chrony leaves it
        (0, 0x2001, True),  # as ntpd and systemd-timesyncd do
        (5, 0x0041, True),
        (5, 0x0049, True),
        (5, 0x0040, False),
        (5, 0x2040, False),
    ],
)
def test_a_clock_is_disciplined_if_it_is_kept_or_the_kernels_loop_is_on(
    state: int, status: int, disciplined: bool
) -> None:
    assert module.is_disciplined(state, Timex(status=status)) is disciplined


@pytest.mark.parametrize(("delta_ns", "duration_ns"), [(0, 0), (1, 2_000), (-200_000_000, 400 * 10**9)])
def test_a_slew_takes_two_thousand_times_as_long_as_what_it_adds(delta_ns: int, duration_ns: int) -> None:
    assert module.slew_duration_ns(delta_ns) == duration_ns
