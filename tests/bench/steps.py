"""How long one correction takes by a difference (guest-update-time) and by a time (guest-set-time), by turns.

Timed three ways, each the same on both sides: the command's round trip through libvirt; the step of a resync, which is
that command through our channel; and a whole resync, which measures before and after. A resync has one attempt here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Exchange
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.resync import resync
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import run

from tests.vm.errors import VmError
from tests.vm.guest import Guest

METHODS = {"extended": "guest-update-time", "set_time": "guest-set-time"}
WRONG_BY_NS = -3_000_000_000
TURNS = 12
# The first of each is not counted: an emulated processor translates the agent's code then.
WARM_UP = 1
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Spent:
    """Milliseconds: the command alone, the step of a resync, and all of it; the exchanges of which it was made."""

    command_ms: float
    step_ms: float
    resync_ms: float
    exchanges: int


@dataclass(frozen=True)
class Steps:
    """Medians, by method."""

    extended: Spent
    set_time: Spent

    @property
    def command_ratio(self) -> float:
        return self.set_time.command_ms / self.extended.command_ms

    @property
    def step_ratio(self) -> float:
        return self.set_time.step_ms / self.extended.step_ms

    @property
    def resync_ratio(self) -> float:
        return self.set_time.resync_ms / self.extended.resync_ms

    def as_dict(self) -> dict[str, Any]:
        return {
            "correction_ratio": self.command_ratio,
            "correction_step_ratio": self.step_ratio,
            "correction_resync_ratio": self.resync_ratio,
            "one_correction": {"extended": vars(self.extended), "set_time": vars(self.set_time)},
        }


class TimedAgent(GuestAgent):
    """Remembers how long the stepping command took, and counts the exchanges."""

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


def bench_steps(guest: Guest, say: Callable[[str], None]) -> Steps:
    taken: dict[str, list[Spent]] = {method: [] for method in METHODS}
    for _turn in range(WARM_UP + TURNS):
        for method, spent in taken.items():
            spent.append(_correct(guest, method))
    steps = Steps(**{method: _median(spent[WARM_UP:]) for method, spent in taken.items()})
    say(
        f"one correction: guest-set-time takes {steps.command_ratio:.0f} times as long as guest-update-time, "
        f"the whole resync {steps.resync_ratio:.1f} times"
    )
    return steps


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


def _median(spent: list[Spent]) -> Spent:
    return Spent(
        median(each.command_ms for each in spent),
        median(each.step_ms for each in spent),
        median(each.resync_ms for each in spent),
        int(median(each.exchanges for each in spent)),
    )
