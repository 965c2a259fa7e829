"""What the extended agent holds of a guest's memory, and how often it wakes while nobody asks anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.switching import restart
from tests.vm.deployment import UNIT, main_pid
from tests.vm.guest import STOCK_UNIT, Guest

IDLE_S = 20
# Until what was asked last is over.
SETTLE_S = 3
DROP_IN = f"/run/systemd/system/{UNIT}.d/no-watchdog.conf"


@dataclass(frozen=True)
class Resources:
    """``wake_ups``: context switches in ``IDLE_S`` seconds with the host connected, without systemd's watchdog."""

    resident_mib: float
    stock_resident_mib: float
    wake_ups_with_watchdog: int
    wake_ups: int

    def as_dict(self) -> dict[str, float]:
        return {
            "resident_mib": self.resident_mib,
            "stock_resident_mib": self.stock_resident_mib,
            "idle_wake_ups": self.wake_ups,
            "idle_wake_ups_with_watchdog": self.wake_ups_with_watchdog,
            "idle_s": IDLE_S,
        }


def bench_resources(guest: Guest, say: Callable[[str], None]) -> Resources:
    """Measured after the other benchmarks, so that the agent has done its work."""
    resident = [_resident_mib(guest, unit) for unit in (UNIT, STOCK_UNIT)]
    with_watchdog = _wake_ups(guest)
    guest.sh(f"mkdir -p {DROP_IN.rpartition('/')[0]} && printf '[Service]\\nWatchdogSec=0\\n' >{DROP_IN}")
    restart(guest)
    without = _wake_ups(guest)
    guest.sh(f"rm {DROP_IN}")
    restart(guest)
    done = Resources(*resident, with_watchdog, without)
    say(
        f"resident: {done.resident_mib:.1f} MiB; woken {done.wake_ups} times in {IDLE_S} s, "
        f"{done.wake_ups_with_watchdog} with systemd's watchdog"
    )
    return done


def _resident_mib(guest: Guest, unit: str) -> float:
    status = guest.sh(f"cat /proc/{main_pid(guest, unit)}/status")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _wake_ups(guest: Guest) -> int:
    """Counted by a script that is left alone: asking the agent would wake it."""
    process = main_pid(guest, UNIT)
    look = f"sleep {SETTLE_S}; for i in 1 2; do grep ctxt_switches /proc/{process}/status; sleep {IDLE_S}; done"
    guest.sh(f"systemd-run --quiet --collect --no-block sh -c '({look}) >/run/wake-ups'")
    time.sleep(SETTLE_S + IDLE_S + SETTLE_S)
    counts = [int(line.split()[1]) for line in guest.sh("cat /run/wake-ups").splitlines()]
    return sum(counts[2:]) - sum(counts[:2])
