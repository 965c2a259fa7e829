"""The extended agent's overhead on a command's round trip: in a guest through libvirt, and on this machine."""

from __future__ import annotations

import os
import time
from statistics import median

from tests.bench import Figures, Say
from tests.bench.resources import stock_agent_alone
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent
from tests.vm.guest import Guest

# Delegated to the stock agent, cheap and without side effects.
DELEGATED = ("guest-get-osinfo", "guest-get-timezone", "guest-get-vcpus")
# Answered by the extended agent itself; a stock agent has the first two as well, and logs every ping to syslog.
IN_FRONT = ("guest-ping", "guest-get-time", "guest-get-clock")
TURNS = 4
REQUESTS_PER_TURN = 50
# After a change of agents, the emulated processor translates the agent's code again.
WARM_UP = 10
NATIVE_REQUESTS = 2000


def bench_guest_round_trips(guest: Guest, say: Say) -> Figures:
    """Send both agents the same commands alternately, on the same guest's channel, with libvirt's qemuAgentCommand."""
    extended: dict[str, list[float]] = {command: [] for command in (*DELEGATED, *IN_FRONT)}
    stock: dict[str, list[float]] = {command: [] for command in (*DELEGATED, *IN_FRONT[:2])}
    for _turn in range(TURNS):
        _ask_by_turns(guest, extended)
        with stock_agent_alone(guest):
            _ask_by_turns(guest, stock)
    medians_ms = {
        command: {"extended": median(spent), "stock": median(stock[command]) if command in stock else None}
        for command, spent in extended.items()
    }
    ratios = {command: median(extended[command]) / median(spent) for command, spent in stock.items()}
    say("; ".join(f"{command} {ratio:.2f} times the stock agent's" for command, ratio in ratios.items()))
    return {"delegated_ratio": max(ratios[command] for command in DELEGATED), "round_trip_ms": medians_ms}


def _ask_by_turns(guest: Guest, spent_ms: dict[str, list[float]]) -> None:
    for number in range(WARM_UP + REQUESTS_PER_TURN):
        for command, spent in spent_ms.items():
            begun = time.perf_counter_ns()
            guest.ask(command)
            if number >= WARM_UP:
                spent.append((time.perf_counter_ns() - begun) / 1e6)


def bench_native_round_trips(say: Say) -> Figures:
    """Measure on this machine's unix sockets: a stock agent, and the extended agent in front of another.

    On one processor, as in a small guest, the round trip consists of the agents' own work. On several processors, it
    depends mostly on how the kernel distributes three processes that wait for each other: waking an idle processor
    takes longer than an agent takes to answer.
    """
    processors = os.sched_getaffinity(0)
    figures: Figures = {}
    for where, chosen in (("one_processor", {min(processors)}), ("all_processors", processors)):
        os.sched_setaffinity(0, chosen)
        try:
            extended_us, stock_us = _native_round_trip()
        finally:
            os.sched_setaffinity(0, processors)
        ratio = extended_us / stock_us
        say(f"{where} of this machine: {extended_us:.0f} µs for a delegated command, {ratio:.2f} times {stock_us:.0f}")
        measured = {"extended_us": extended_us, "stock_us": stock_us, "ratio": ratio}
        figures |= {f"native_{where}_{what}": value for what, value in measured.items()}
    return figures


def _native_round_trip() -> list[float]:
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
    return [median(each[WARM_UP:]) for each in spent]
