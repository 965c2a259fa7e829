"""What the extended agent adds to a command's round trip: in a guest through libvirt, and on this machine itself."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.bench.switching import stock_agent_alone
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent
from tests.vm.guest import Guest

# Passed on to the stock agent, cheap and without effect.
DELEGATED = ("guest-get-osinfo", "guest-get-timezone", "guest-get-vcpus")
# Answered by the extended agent itself; a stock agent has the first two as well, and tells syslog of every ping.
IN_FRONT = ("guest-ping", "guest-get-time", "guest-get-clock")
TURNS = 4
REQUESTS_PER_TURN = 50
# After a change of hands, an emulated processor translates the agent's code anew.
WARM_UP = 10
NATIVE_REQUESTS = 2000


@dataclass(frozen=True)
class GuestRoundTrips:
    """Milliseconds for libvirt's qemuAgentCommand, by command: through ours, and by a stock agent alone."""

    extended_ms: dict[str, tuple[float, ...]]
    stock_ms: dict[str, tuple[float, ...]]

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(self.extended_ms)

    def medians_ms(self, command: str) -> tuple[float, float | None]:
        stock = self.stock_ms.get(command)
        return median(self.extended_ms[command]), median(stock) if stock else None

    def ratio(self, command: str) -> float:
        return median(self.extended_ms[command]) / median(self.stock_ms[command])

    @property
    def delegated_ratio(self) -> float:
        """The worst of the delegated commands'."""
        return max(self.ratio(command) for command in DELEGATED)

    def as_dict(self) -> dict[str, Any]:
        return {
            "delegated_ratio": self.delegated_ratio,
            "round_trip_ms": {
                command: {"extended": extended, "stock": stock}
                for command in self.commands
                for extended, stock in [self.medians_ms(command)]
            },
        }


@dataclass(frozen=True)
class NativeRoundTrip:
    """Microseconds on this machine's own unix sockets for one delegated command: through ours, and by a stock agent."""

    extended_us: float
    stock_us: float

    @property
    def ratio(self) -> float:
        return self.extended_us / self.stock_us


@dataclass(frozen=True)
class NativeRoundTrips:
    """On one processor, as in a small guest, the round trip is the agents' own work. On several, most of it depends on
    how the kernel distributes three processes that wait for each other: waking an idle processor takes longer than an
    agent needs to answer.
    """

    one_processor: NativeRoundTrip
    all_processors: NativeRoundTrip

    def as_dict(self) -> dict[str, float]:
        return {
            f"native_{which}_{what}": getattr(measured, what)
            for which, measured in (("one_processor", self.one_processor), ("all_processors", self.all_processors))
            for what in ("extended_us", "stock_us", "ratio")
        }


def bench_guest_round_trips(guest: Guest, say: Callable[[str], None]) -> GuestRoundTrips:
    """Ask each agent the same in turn, on the same channel of the same guest."""
    extended: dict[str, list[float]] = {command: [] for command in (*DELEGATED, *IN_FRONT)}
    stock: dict[str, list[float]] = {command: [] for command in (*DELEGATED, "guest-ping", "guest-get-time")}
    for _turn in range(TURNS):
        _ask_by_turns(guest, extended)
        with stock_agent_alone(guest):
            _ask_by_turns(guest, stock)
    done = GuestRoundTrips(_frozen(extended), _frozen(stock))
    say("; ".join(f"{command} {done.ratio(command):.2f} times the stock agent's" for command in stock))
    return done


def _ask_by_turns(guest: Guest, spent_ms: dict[str, list[float]]) -> None:
    for number in range(WARM_UP + REQUESTS_PER_TURN):
        for command, spent in spent_ms.items():
            begun = time.perf_counter_ns()
            guest.ask(command)
            if number >= WARM_UP:
                spent.append((time.perf_counter_ns() - begun) / 1e6)


def _frozen(spent_ms: dict[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {command: tuple(spent) for command, spent in spent_ms.items()}


def bench_native_round_trips(say: Callable[[str], None]) -> NativeRoundTrips:
    """A stock agent, and ours in front of another: each serves one client at a time."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        one_processor = _native_round_trip()
    finally:
        os.sched_setaffinity(0, processors)
    done = NativeRoundTrips(one_processor, _native_round_trip())
    for where, measured in (("one processor", done.one_processor), ("all processors", done.all_processors)):
        say(
            f"on {where} of this machine: {measured.extended_us:.0f} µs for a delegated command, "
            f"{measured.ratio:.2f} times the stock agent's {measured.stock_us:.0f}"
        )
    return done


def _native_round_trip() -> NativeRoundTrip:
    request = b'{"execute": "guest-get-timezone"}'
    spent: tuple[list[float], list[float]] = ([], [])
    with (
        StockAgent() as alone,
        StockAgent() as delegate,
        ExtendedAgent(delegate.socket) as agent,
        Client(agent.socket) as extended,
        Client(alone.socket) as stock,
    ):
        for _request in range(NATIVE_REQUESTS):
            for client, spent_us in zip((extended, stock), spent, strict=True):
                begun = time.perf_counter_ns()
                client.ask(request)
                spent_us.append((time.perf_counter_ns() - begun) / 1e3)
    return NativeRoundTrip(*(median(_warm(each)) for each in spent))


def _warm(spent: Sequence[float]) -> Sequence[float]:
    return spent[WARM_UP:]
