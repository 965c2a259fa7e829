"""The duration of one correction by a difference (guest-update-time) and by a time (guest-set-time), alternately.

Both are timed in three ways: the command's round trip through libvirt; the step of a resync, which is that command
through our channel; and a whole resync with one attempt, which measures before and after.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any, NamedTuple

from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Exchange
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.resync import resync
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import run

from tests.bench import Figures, Say
from tests.vm.errors import VmError
from tests.vm.guest import Guest

METHODS = {"extended": "guest-update-time", "set_time": "guest-set-time"}
WRONG_BY_NS = -3_000_000_000
TURNS = 12
# The first correction is not counted: the emulated processor translates the agent's code then.
WARM_UP = 1
TIMEOUT_S = 20.0


class Spent(NamedTuple):
    """Milliseconds: the command alone, the step of a resync, and the whole resync, with its number of exchanges."""

    command_ms: float
    step_ms: float
    resync_ms: float
    exchanges: int


class TimedAgent(GuestAgent):
    """Measures the stepping command, and counts the exchanges."""

    def __init__(self, guest: Guest) -> None:
        super().__init__(LibvirtChannel(guest.name, guest.uri), TIMEOUT_S)
        self.exchanges = 0
        self.step_ms = 0.0

    async def exchange(self, command: str, *arguments: Any, **options: Any) -> Exchange:
        begun = time.perf_counter_ns()
        try:
            return await super().exchange(command, *arguments, **options)
        finally:
            self.exchanges += 1
            if command in METHODS.values():
                self.step_ms += (time.perf_counter_ns() - begun) / 1e6

    async def resync(self, method: str) -> ResyncReport:
        async with self._channel:
            return await resync(self, HostReference(), ResyncOptions(method=method, attempts=1))


def bench_steps(guest: Guest, say: Say) -> Figures:
    taken: dict[str, list[Spent]] = {method: [] for method in METHODS}
    for _turn in range(WARM_UP + TURNS):
        for method, spent in taken.items():
            spent.append(_correct(guest, method))
    medians = {method: Spent(*map(median, zip(*spent[WARM_UP:], strict=True))) for method, spent in taken.items()}
    ours, theirs = medians["extended"], medians["set_time"]
    command_ratio, resync_ratio = theirs.command_ms / ours.command_ms, theirs.resync_ms / ours.resync_ms
    say(
        f"guest-set-time takes {command_ratio:.0f} times as long as guest-update-time, "
        f"the whole resync {resync_ratio:.1f} times"
    )
    return {
        "correction_ratio": command_ratio,
        "correction_step_ratio": theirs.step_ms / ours.step_ms,
        "correction_resync_ratio": resync_ratio,
        "one_correction": {
            method: {**spent._asdict(), "exchanges": int(spent.exchanges)} for method, spent in medians.items()
        },
    }


def _correct(guest: Guest, method: str) -> Spent:
    command_ms = _command_ms(guest, method)
    guest.witness.step(WRONG_BY_NS)
    agent = TimedAgent(guest)
    report = run(agent.resync(method))
    if report.error is not None:
        raise VmError(f"{guest.name} was not corrected: {report.error.message}")
    return Spent(command_ms, agent.step_ms, report.duration_ns / 1e6, agent.exchanges)


def _command_ms(guest: Guest, method: str) -> float:
    offset_ns = guest.witness.offset().offset_ns
    arguments: dict[str, Any] = {"time": time.time_ns()}
    if method == "extended":
        seconds, nanoseconds = divmod(-offset_ns, 1_000_000_000)
        arguments = {"seconds": seconds, "nanoseconds": nanoseconds, "relative": True}
    begun = time.perf_counter_ns()
    guest.ask(METHODS[method], **arguments)
    return (time.perf_counter_ns() - begun) / 1e6
