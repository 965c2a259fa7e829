"""The agent's figures: one reply to each request, at most 20 MiB of memory, and no wake-ups while idle."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.soak import soak
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent
from tests.support.tiers import quick
from tests.support.until import until

MOST_RESIDENT_KIB = 20 * 1024
# The requests to a busy agent during which the idle agent is observed.
REQUESTS_MEANWHILE = 2000


@pytest.mark.parametrize("count", quick([10_000, 100_000], tried=[10_000]))
def test_each_of_many_mixed_requests_gets_one_reply_in_order_and_memory_stays_as_it_was(count: int) -> None:
    done = soak(count, lambda _text: None)
    assert done.is_flat, done
    assert done.resident_kib <= MOST_RESIDENT_KIB


LAST: dict[str, dict[str, Any]] = {
    "nothing": {},
    "answered in front": {"execute": "guest-get-clock"},
    "passed on": {"execute": "guest-get-host-name"},
    "without success-response": {"execute": "guest-shutdown"},
    "an error of the parser": {"wrong": 1},
}


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "gone"])
def test_an_idle_agent_never_wakes(last: str, is_connected: bool) -> None:
    """After any kind of request, it only waits for its descriptors while another agent is busy."""
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent, Client(agent.socket) as client:
        if LAST[last]:
            client.ask(json.dumps(LAST[last]).encode())
        if not is_connected:
            client.socket.close()
        until(agent.sleeps_without_end, "it has set a timer")
        wakeups = agent.wakeups()
        with StockAgent() as busy, Client(busy.socket) as other:
            for _request in range(REQUESTS_MEANWHILE):
                other.ask(b'{"execute": "guest-sync", "arguments": {"id": 1}}')
        assert agent.sleeps_without_end()
        assert agent.wakeups() == wakeups
        assert agent.resident_kib() <= MOST_RESIDENT_KIB
