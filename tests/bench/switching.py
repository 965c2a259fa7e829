"""The guest's channel given to a stock agent alone, and back: two agents compared on one guest, by turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import libvirt

from tests.vm.deployment import UNIT, main_pid
from tests.vm.errors import VmError
from tests.vm.guest import Guest

CHANNEL = "/dev/virtio-ports/org.qemu.guest_agent.0"
DEADLINE_S = 60.0
# Until the reply to the request that begins it has left the guest.
HEAD_START_S = 0.5
POLL_S = 0.2


@contextmanager
def stock_agent_alone(guest: Guest) -> Iterator[None]:
    """As long as this lasts, a second stock agent serves the channel, and the extended one is stopped."""
    alone = f"systemctl stop {UNIT}; exec qemu-ga -m virtio-serial -p {CHANNEL} -t /run"
    process = _start(guest, alone)
    _await(guest, lambda: "extended-version" not in guest.ask("guest-info"))
    yield
    _start(guest, f"kill -KILL {process}; systemctl start {UNIT}")
    _await(guest, lambda: "extended-version" in guest.ask("guest-info"))


def restart(guest: Guest) -> None:
    """The extended agent anew, with what its unit says by now."""
    process = main_pid(guest, UNIT)
    _start(guest, f"systemctl daemon-reload; systemctl restart {UNIT}")
    _await(guest, lambda: main_pid(guest, UNIT) != process)


def _start(guest: Guest, script: str) -> int:
    return int(guest.ask("guest-exec", path="/bin/sh", arg=["-c", f"sleep {HEAD_START_S}; {script}"])["pid"])


def _await(guest: Guest, is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        # Nobody holds the channel for a while.
        with suppress(libvirt.libvirtError):
            if is_done():
                return
    raise VmError(f"{guest.name}'s channel did not change hands within {DEADLINE_S:g} s.")
