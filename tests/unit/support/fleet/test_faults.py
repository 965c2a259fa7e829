"""Each fault by what it does to an agent; no I/O, so what matters is which pieces come out."""

from __future__ import annotations

import json

import pytest

from tests.fakes.agent import Agent
from tests.fakes.faults import FAULTS, GARBAGE, REPLIES_BEFORE_HANGING_UP, SLOW_SECONDS, HangUp, Pause, Piece
from tests.fakes.fleet.profile import KINDS, Profile
from tests.fakes.kinds import SECOND_NS, WINDOWS_TICK_NS

PING = b'{"execute": "guest-ping"}'
PONG = b'{"return": {}}\n'
SYNC = b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 7}}'
STEPS = {
    "extended": b'{"execute": "guest-update-time", "arguments": {"seconds": 5, "relative": true}}',
    "stock": b'{"execute": "guest-set-time", "arguments": {"time": 1795000000000000000}}',
}

both_kinds = pytest.mark.parametrize("kind", KINDS)


def agent(fault: str, kind: str = "extended") -> Agent:
    return Profile(kind=kind, offset_ns=-SECOND_NS, fault=fault).agent("guest1")


def ask(asked: Agent, data: bytes) -> list[Piece]:
    return list(asked.received(data))


def test_the_table_has_what_the_fleet_promises() -> None:
    assert set(FAULTS) == {
        *("none", "silent", "silent_after_step", "refuses", "hangs_up"),
        *("garbage", "liar", "frozen", "slow", "coarse"),
    }
    assert [name for name, fault in FAULTS.items() if not fault.is_listening] == ["refuses"]


@both_kinds
def test_none(kind: str) -> None:
    asked = agent("none", kind)
    assert ask(asked, PING) == [PONG]
    before_ns = asked.clock.stepped_ns
    ask(asked, STEPS[kind])
    assert asked.clock.stepped_ns != before_ns


@both_kinds
def test_silent(kind: str) -> None:
    asked = agent("silent", kind)
    assert ask(asked, SYNC + PING) == []
    assert asked.commands == {"guest-sync-delimited": 1, "guest-ping": 1}


@both_kinds
def test_silent_after_step(kind: str) -> None:
    asked = agent("silent_after_step", kind)
    assert ask(asked, PING) == [PONG]
    assert ask(asked, STEPS[kind]) == []
    assert asked.clock.stepped_ns != 0
    assert ask(asked, SYNC + PING) == []


@both_kinds
def test_hangs_up(kind: str) -> None:
    asked = agent("hangs_up", kind)
    for _reply in range(REPLIES_BEFORE_HANGING_UP):
        assert ask(asked, PING) == [PONG]
    assert ask(asked, PING)[-1] == HangUp()
    assert ask(asked, PING)[-1] == HangUp()


@both_kinds
def test_garbage(kind: str) -> None:
    asked = agent("garbage", kind)
    assert ask(asked, PING) == [GARBAGE]
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(GARBAGE)


@both_kinds
def test_liar(kind: str) -> None:
    asked = agent("liar", kind)
    (reply,) = ask(asked, STEPS[kind])
    assert isinstance(reply, bytes)
    returned = json.loads(reply)["return"]
    if kind == "extended":
        assert abs(returned["after"] - returned["before"] - 5 * SECOND_NS) < SECOND_NS
    assert asked.clock.stepped_ns == 0
    # Who controls the fleet can move it.
    asked.clock.step(9)
    assert asked.clock.stepped_ns == 9


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("extended", "guest-update-time"),
        ("extended", "guest-get-clock"),
        ("extended", "guest-get-time"),
        ("extended", "guest-set-time"),
        ("stock", "guest-set-time"),
        ("stock", "guest-get-time"),
        ("stock", "guest-get-osinfo"),
    ],
)
def test_frozen_refuses_time_commands(kind: str, command: str) -> None:
    asked = agent("frozen", kind)
    (reply,) = ask(asked, b'{"execute": "%b"}' % command.encode())
    assert isinstance(reply, bytes)
    error = json.loads(reply)["error"]
    assert error["class"] == "CommandNotFound"
    assert "has been disabled" in error["desc"]


@both_kinds
def test_frozen_still_says_so(kind: str) -> None:
    asked = agent("frozen", kind)
    assert ask(asked, PING) == [PONG]
    assert ask(asked, b'{"execute": "guest-fsfreeze-status"}') == [b'{"return": "frozen"}\n']
    (reply,) = ask(asked, b'{"execute": "guest-info"}')
    assert isinstance(reply, bytes)
    enabled = {entry["name"]: entry["enabled"] for entry in json.loads(reply)["return"]["supported_commands"]}
    assert enabled["guest-ping"]
    assert not enabled["guest-set-time"]
    assert not enabled.get("guest-update-time", False)


@both_kinds
def test_slow(kind: str) -> None:
    asked = agent("slow", kind)
    assert ask(asked, PING) == [Pause(SLOW_SECONDS), PONG]
    # The complaint about 0xFF is part of an exchange, and none of its own.
    pieces = ask(asked, SYNC)
    assert pieces.count(Pause(SLOW_SECONDS)) == 1
    assert pieces[-1] == b'\xff{"return": 7}\n'


def test_coarse() -> None:
    asked = agent("coarse")
    (reply,) = ask(asked, b'{"execute": "guest-get-clock"}')
    assert isinstance(reply, bytes)
    returned = json.loads(reply)["return"]
    assert returned["received"] % WINDOWS_TICK_NS == returned["transmitted"] % WINDOWS_TICK_NS == 0
