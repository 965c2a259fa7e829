"""The hardware clock's child process, with actions that touch no hardware."""

from __future__ import annotations

import errno
import gc
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.extended_agent import module

hardware_clock = module("hardware_clock")


def failing(error: BaseException) -> Any:
    def fail(*_arguments: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (lambda: None, None),
        (failing(FileNotFoundError(2, "No such file", "/dev/rtc")), "the hardware clock was not set: No such file"),
        (lambda: os._exit(3), "the process that sets the hardware clock ended without a result"),
        (failing(SystemExit(3)), "the process that sets the hardware clock ended without a result"),
    ],
)
def test_the_reason_is_returned_and_a_child_never_becomes_a_second_agent(action: Any, problem: str | None) -> None:
    before = os.getpid()
    assert hardware_clock.update(action) == problem
    assert os.getpid() == before


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("fork", BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")),
        ("fork", RuntimeError("can't start new process")),
        ("fork", MemoryError()),
        ("pipe2", OSError(errno.EMFILE, "Too many open files")),
        ("read", OSError(errno.EIO, "Input/output error")),
    ],
)
def test_a_failing_system_call_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    gc.collect()  # descriptors from earlier tests could be closed at any time
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(hardware_clock.os, call, failing(error))
    with pytest.raises(type(error)):
        hardware_clock.update(lambda: None)
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert hardware_clock.update(lambda: None) is None


def test_a_child_that_cannot_be_waited_for_is_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware_clock.os, "waitpid", failing(OSError(errno.EINVAL, "Invalid argument")))
    assert hardware_clock.update(lambda: None) is None
    monkeypatch.undo()
    assert hardware_clock.update(lambda: None) is None


def test_a_hanging_hardware_clock_uses_up_only_its_timeout() -> None:
    began = time.monotonic()
    problem = hardware_clock.update(lambda: time.sleep(60), seconds=0.2)
    assert problem == "the hardware clock did not answer within 0.2 s"
    assert time.monotonic() - began < 2


def test_the_nearest_second_is_written() -> None:
    year_2026 = 1_767_225_600 * 10**9
    assert struct.unpack("9i", hardware_clock.packed(year_2026 - 500_000_000))[:6] == (0, 0, 0, 1, 0, 126)
    assert struct.unpack("9i", hardware_clock.packed(year_2026 - 500_000_001))[:6] == (59, 59, 23, 31, 11, 125)


def test_adjtime_distinguishes_local_time_from_utc(tmp_path: Path) -> None:
    path = tmp_path / "adjtime"
    assert not hardware_clock.keeps_local_time(str(path))
    for zone, is_local in (("UTC", False), ("LOCAL", True)):
        path.write_text(f"0.0 0 0.0\n0\n{zone}\n")
        assert hardware_clock.keeps_local_time(str(path)) is is_local
