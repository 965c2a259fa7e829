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
import gc
import os
import socket
import subprocess
import time
from collections.abc import Callable

PORT = "/dev/virtio-ports/org.qemu.guest_agent.witness"
# A read returns at once with nothing while no host is connected.
DISCONNECTED_PAUSE_S = 0.05


def step(nanoseconds: int) -> None:
    """Move CLOCK_REALTIME by a signed amount."""
    time.clock_settime_ns(time.CLOCK_REALTIME, time.time_ns() + nanoseconds)


def start(script: bytes) -> None:
    """Have a shell run a script. Nobody waits for it, and it is not in a hurry as this program is."""
    command = ["chrt", "--other", "0", "sh", "-c", base64.b64decode(script)]
    nothing = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)


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
