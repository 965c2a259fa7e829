"""The extended agent's memory in a guest, and how often it wakes while idle.

The guest's channel can be handed to a stock agent alone, to compare the two alternately.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import libvirt

from tests.bench import Figures, Say
from tests.vm.deployment import UNIT, main_pid
from tests.vm.errors import VmError
from tests.vm.guest import STOCK_UNIT, Guest

IDLE_S = 20
# Until the last request is finished.
SETTLE_S = 3
DROP_IN = f"/run/systemd/system/{UNIT}.d/no-watchdog.conf"
CHANNEL = "/dev/virtio-ports/org.qemu.guest_agent.0"
DEADLINE_S = 60.0
# Until the reply to guest-exec has left the guest.
HEAD_START_S = 0.5
POLL_S = 0.2


def bench_resources(guest: Guest, say: Say) -> Figures:
    """Measure after the other benchmarks, so that the agent has done its work.

    Wake-ups are context switches while the host is connected.
    """
    statuses = (guest.sh(f"cat /proc/{main_pid(guest, unit)}/status") for unit in (UNIT, STOCK_UNIT))
    resident_mib, stock_resident_mib = (int(status.split("VmRSS:")[1].split()[0]) / 1024 for status in statuses)
    with_watchdog = _wake_ups(guest)
    guest.sh(f"mkdir -p {DROP_IN.rpartition('/')[0]} && printf '[Service]\\nWatchdogSec=0\\n' >{DROP_IN}")
    restart(guest)
    without = _wake_ups(guest)
    guest.sh(f"rm {DROP_IN}")
    restart(guest)
    say(f"resident: {resident_mib:.1f} MiB; in {IDLE_S} s woken {without} times, {with_watchdog} with the watchdog")
    return {
        "resident_mib": resident_mib,
        "stock_resident_mib": stock_resident_mib,
        "idle_wake_ups": without,
        "idle_wake_ups_with_watchdog": with_watchdog,
        "idle_s": IDLE_S,
    }


def _wake_ups(guest: Guest) -> int:
    """Count with a script in the guest, because a request would wake the agent."""
    process = main_pid(guest, UNIT)
    look = f"sleep {SETTLE_S}; for i in 1 2; do grep ctxt_switches /proc/{process}/status; sleep {IDLE_S}; done"
    guest.sh(f"systemd-run --quiet --collect --no-block sh -c '({look}) >/run/wake-ups'")
    time.sleep(SETTLE_S + IDLE_S + SETTLE_S)
    counts = [int(line.split()[1]) for line in guest.sh("cat /run/wake-ups").splitlines()]
    return sum(counts[2:]) - sum(counts[:2])


# -------------------------------------------------------------------------------------------- the channel's agent


@contextmanager
def stock_agent_alone(guest: Guest) -> Iterator[None]:
    """Stop the extended agent, and let a second stock agent serve the channel meanwhile."""
    alone = f"systemctl stop {UNIT}; exec qemu-ga -m virtio-serial -p {CHANNEL} -t /run"
    process = _start(guest, alone)
    _await(guest, lambda: "extended-version" not in guest.ask("guest-info"))
    yield
    _start(guest, f"kill -KILL {process}; systemctl start {UNIT}")
    _await(guest, lambda: "extended-version" in guest.ask("guest-info"))


def restart(guest: Guest) -> None:
    """Restart the extended agent with the current settings of its unit."""
    process = main_pid(guest, UNIT)
    _start(guest, f"systemctl daemon-reload; systemctl restart {UNIT}")
    _await(guest, lambda: main_pid(guest, UNIT) != process)


def _start(guest: Guest, script: str) -> int:
    return int(guest.ask("guest-exec", path="/bin/sh", arg=["-c", f"sleep {HEAD_START_S}; {script}"])["pid"])


def _await(guest: Guest, is_done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        # No agent has the channel open for a while.
        with suppress(libvirt.libvirtError):
            if is_done():
                return
    raise VmError(f"{guest.name}'s channel did not change agents within {DEADLINE_S:g} s.")
