"""Every exchange on the protocol page, byte by byte, with the extended agent in front of a real stock agent.

The extended agent's clock is an object in its process; this machine's clock is never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.docs.examples import Check, Example, to_check
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent

EXAMPLES = to_check(Check.PROTOCOL)
# Agents by the words in an example's caption.
_SETUPS: dict[str, dict[str, Any]] = {
    "guest-get-clock is in the agent's block-rpcs": {"block_rpcs": ["guest-get-clock"]},
    "may not set the clock": {"clock": {"denied": True}},
    "one disciplines the clock": {"clock": {"disciplined": True}},
    "there is none": {"rtc_error": "the hardware clock was not set: No such device"},
}
# A time in nanoseconds since 1970. All else is constant.
_TIME = re.compile(rb"\b\d{19}\b")
_VERSION = re.compile(rb'("version": )"[0-9.]+"')


@pytest.fixture(scope="module")
def stock() -> Iterator[StockAgent]:
    with StockAgent(permits_time=True) as running:
        yield running


def unescaped(line: str) -> bytes:
    """Return a line of an example as bytes; it contains \\xff for 0xFF."""
    return b"\xff".join(part.encode() for part in line.split("\\xff"))


def expected(line: str) -> re.Pattern[bytes]:
    """Return a pattern for the reply: "..." stands for further members, and times differ."""
    parts = [re.escape(_normal(part)) for part in unescaped(line).split(b"...")]
    return re.compile(b".*".join(parts))


def _normal(line: bytes) -> bytes:
    return _VERSION.sub(rb'\1"V"', _TIME.sub(b"TIME", line))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.caption)
def test_the_agent_answers_as_shown(example: Example, stock: StockAgent) -> None:
    setup = next((setup for words, setup in _SETUPS.items() if words in example.caption), {})
    assert bool(setup) == ("(here:" in example.caption)
    with ExitStack() as stack:
        agent = stack.enter_context(ExtendedAgent(stock.socket, **setup))
        client = stack.enter_context(Client(agent.socket))
        client.sync(1)  # by then, the agent has the stock agent's commands
        client.execute("guest-get-timezone")
        for line in example.text.splitlines():
            way, text = line[:3], line[3:]
            assert way in ("-> ", "<- ")
            if way == "-> ":
                client.send(unescaped(text) + b"\n")
            else:
                got = client.line()
                assert expected(text).fullmatch(_normal(got)), got
        assert client.is_quiet(0.1)


def test_the_steps_on_the_page_agree_with_its_times(stock: StockAgent) -> None:
    """The times on the page are from real exchanges, so they must agree."""
    (example,) = (each for each in EXAMPLES if each.caption == "A difference")
    before, after = map(int, _TIME.findall(example.text.encode()))
    step_ns = -21 * 10**9 + 26418558
    assert 0 <= after - before - step_ns < 10**8
    with ExtendedAgent(stock.socket) as agent, Client(agent.socket) as client:
        reply = client.execute("guest-update-time", seconds=-21, nanoseconds=26418558, relative=True)["return"]
        assert 0 <= reply["after"] - reply["before"] - step_ns < 10**9
