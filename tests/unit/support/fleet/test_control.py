"""What a fleet's server is told and asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.agent import Agent
from tests.fakes.fleet import server
from tests.fakes.fleet.profile import Profile
from tests.fakes.kinds import MILLISECOND_NS, SECOND_NS

Agents = dict[str, Agent]


@pytest.fixture
def agents() -> Agents:
    return {name: Profile(offset_ns=number * SECOND_NS).agent(name) for number, name in enumerate("abc")}


def ask(agents: Agents, **request: Any) -> Any:
    answer = server.answer(agents, json.dumps(request).encode())
    assert answer.count(b"\n") == 1
    return json.loads(answer)


def offsets(agents: Agents) -> list[float]:
    return [round(offset_ns / MILLISECOND_NS) / 1000 for offset_ns in ask(agents, do="truths").values()]


def test_truths(agents: Agents) -> None:
    assert offsets(agents) == [0, 1, 2]


def test_shift_all_or_some(agents: Agents) -> None:
    assert ask(agents, do="shift", by_ns=-SECOND_NS) == dict.fromkeys("abc", -SECOND_NS)
    assert offsets(agents) == [-1, 0, 1]
    ask(agents, do="shift", by_ns={"b": 5 * SECOND_NS})
    assert offsets(agents) == [-1, 5, 1]


def test_received(agents: Agents) -> None:
    list(agents["b"].received(b'{"execute": "guest-ping"}{"execute": "guest-ping"}'))
    assert ask(agents, do="received") == {"a": {}, "b": {"guest-ping": 2}, "c": {}}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"nonsense",
        b"{}",
        b'{"do": "dance"}',
        b'{"do": "shift"}',
        b'{"do": "shift", "by_ns": 1.5}',
        b'{"do": "shift", "by_ns": {"a": 1, "nobody": 1}}',
        b'{"do": "shift", "by_ns": {"a": 1, "b": null}}',
    ],
)
def test_what_cannot_be_done_changes_nothing(agents: Agents, line: bytes) -> None:
    assert json.loads(server.answer(agents, line))["error"]
    assert [agent.clock.stepped_ns for agent in agents.values()] == [0, 0, 0]
