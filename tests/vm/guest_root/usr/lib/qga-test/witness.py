"""Runs inside the guest: reports the time and carries out orders from the host, over a virtio-serial port of its own.

It shares no code with the collection and does not go through the guest agent, so that its readings can
judge both, and it answers while the agent is stopped. One request a line, one answer a line; the id lets
the host tell late answers from its own:

    read ID           ->  ID RECEIVED TRANSMITTED    nanoseconds of CLOCK_REALTIME
    step ID NS        ->  ID done                    the clock was moved by NS nanoseconds
    name ID NAME      ->  ID done                    the host name is NAME
    start ID SCRIPT   ->  ID done                    a shell runs SCRIPT, which is in base64
                          ID error REASON
"""

from __future__ import annotations

import base64
import ctypes
import gc
import os
import socket
import subprocess
import time
from collections.abc import Callable

PORT = "/dev/virtio-ports/org.qemu.guest_agent.witness"
# A read returns at once with nothing while no host is connected.
DISCONNECTED_PAUSE_S = 0.05
# linux/timex.h
ADJ_SETOFFSET = 0x0100
ADJ_NANO = 0x2000


class Timex(ctypes.Structure):
    """struct timex as 64-bit Linux has it."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time_sec", ctypes.c_long),
        # With ADJ_NANO this field holds nanoseconds, whatever its name in C says.
        ("time_nsec", ctypes.c_long),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    ]


libc = ctypes.CDLL(None, use_errno=True)


def step(nanoseconds: int) -> None:
    """Move CLOCK_REALTIME by a signed amount, in one go inside the kernel."""
    # The kernel wants the nanoseconds in 0..999999999, so a small step back is (-1, 999...).
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    timex = Timex(modes=ADJ_SETOFFSET | ADJ_NANO, time_sec=seconds, time_nsec=rest)
    if libc.clock_adjtime(time.CLOCK_REALTIME, ctypes.byref(timex)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def start(script: bytes) -> None:
    """Have a shell run a script. Nobody waits for it, and it is not in a hurry as this program is."""
    normal = ["chrt", "--other", "0"]
    subprocess.Popen(
        [*normal, "sh", "-c", base64.b64decode(script)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


ORDERS: dict[bytes, Callable[[bytes], None]] = {
    b"step": lambda nanoseconds: step(int(nanoseconds)),
    b"name": lambda name: socket.sethostname(name.decode()),
    b"start": start,
}


def answer(line: bytes, received: int) -> bytes:
    """The answer to one request, without its newline."""
    words = line.split()
    if len(words) == 2 and words[0] == b"read":
        return b"%b %d %d" % (words[1], received, time.time_ns())
    if len(words) == 3 and words[0] in ORDERS:
        try:
            ORDERS[words[0]](words[2])
        except (OSError, ValueError) as error:
            return b"%b error %b" % (words[1], str(error).encode())
        return b"%b done" % words[1]
    return b"? error not a request"


def serve(port: int) -> None:
    """Answer for ever."""
    pending = b""
    while True:
        chunk = os.read(port, 4096)
        received = time.time_ns()
        if not chunk:
            # The host went away: half a line of its is worth nothing to the next one.
            pending = b""
            time.sleep(DISCONNECTED_PAUSE_S)
            continue
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            os.write(port, answer(line, received) + b"\n")


if __name__ == "__main__":
    gc.disable()
    serve(os.open(PORT, os.O_RDWR))
