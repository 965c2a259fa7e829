# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Setting the hardware clock, in a child process: if the clock hangs, the agent must not."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import select
import signal
import struct
import time
from typing import Callable

from .refusal import reason_of

_DEVICE = "/dev/rtc"
_ADJTIME = "/etc/adjtime"
_SECONDS = 1.0

# RTC_SET_TIME (include/uapi/linux/rtc.h): _IOW('p', 0x0a, struct rtc_time). The direction bits depend on the machine.
_RTC_TIME = struct.Struct("9i")
_WRITE = 0x80000000 if platform.machine().startswith(("ppc", "mips", "sparc", "alpha")) else 0x40000000
_RTC_SET_TIME = _WRITE | _RTC_TIME.size << 16 | ord("p") << 8 | 0x0A

_abandoned: list[int] = []  # children that have not ended yet


def packed(epoch_ns: int, local: bool = False) -> bytes:
    """Return the struct rtc_time for the nearest second."""
    nearest = (epoch_ns + 500_000_000) // 1_000_000_000
    fields = time.localtime(nearest) if local else time.gmtime(nearest)
    return _RTC_TIME.pack(
        fields.tm_sec, fields.tm_min, fields.tm_hour, fields.tm_mday, fields.tm_mon - 1, fields.tm_year - 1900, 0, 0, 0
    )


def keeps_local_time(path: str = _ADJTIME) -> bool:
    """Return whether hwclock(8) keeps the hardware clock in local time. Without the file, it keeps UTC."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return "LOCAL" in file.read(1024).split()
    except OSError:
        return False


def write() -> None:
    """Write the system's time into the hardware clock."""
    descriptor = os.open(_DEVICE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _RTC_SET_TIME, packed(time.time_ns(), keeps_local_time()))
    finally:
        os.close(descriptor)


def update(action: Callable[[], None] = write, seconds: float = _SECONDS) -> str | None:
    """Set the hardware clock, with a timeout. Return why that failed, or None if it succeeded.

    :raises OSError, MemoryError, RuntimeError: the system has no process, descriptor or memory left
    """
    _reap()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        child = _fork(action, writer)
        try:
            return _read(reader, seconds)
        finally:
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
            _abandoned.append(child)
            _reap()
    finally:
        os.close(reader)


def _fork(action: Callable[[], None], writer: int) -> int:
    """Start the child, which is then the only process with the pipe's other end."""
    try:
        child = os.fork()
        if child == 0:
            _report(action, writer)
        return child
    finally:
        os.close(writer)


def _read(reader: int, seconds: float) -> str | None:
    readiness = select.poll()  # select() fails for descriptors from 1024 on
    readiness.register(reader, select.POLLIN)
    if not readiness.poll(seconds * 1000):
        return f"the hardware clock did not answer within {seconds:g} s"
    report = os.read(reader, 4096).decode(errors="replace")
    return None if report == "done" else report or "the process that sets the hardware clock ended without a result"


def _report(action: Callable[[], None], writer: int) -> None:
    """Run the whole child process. It must not run any of its parent's exit handlers, or outlive this call."""
    try:
        text = "done"
        try:
            action()
        except Exception as error:  # the parent reports any reason
            text = f"the hardware clock was not set: {reason_of(error)}"
        os.write(writer, text.encode(errors="replace")[:4096])
    finally:
        os._exit(0)


def _reap() -> None:
    """Wait for ended children. A child that hangs in the kernel ends when the kernel lets it; it is kept until then."""
    for child in list(_abandoned):
        try:
            if os.waitpid(child, os.WNOHANG)[0] == 0:
                continue
        except ChildProcessError:
            pass  # it is gone already
        except OSError:
            continue
        _abandoned.remove(child)
