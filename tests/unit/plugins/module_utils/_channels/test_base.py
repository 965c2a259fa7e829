from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import (
    NO_REPLY,
    Channel,
    Exchange,
    ForwardingChannel,
    Request,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Returned

from tests.fakes.agent import FakeAgent
from tests.fakes.this_machine import ThisMachine
from tests.processes.socket_server import listen_unix
from tests.support.blocking import Blocking


class CountingChannel(Channel):
    def __init__(self) -> None:
        self.closed = 0

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # the contract's
        raise RuntimeError("not asked for")

    async def close(self) -> None:
        self.closed += 1


def test_arguments_may_be_a_function_of_the_moment_of_sending() -> None:
    assert Request("guest-ping").arguments_at(7) == {}
    assert Request("guest-set-time", {"time": 5}).arguments_at(7) == {"time": 5}
    assert Request("guest-set-time", lambda now_ns: {"time": now_ns + 1}).arguments_at(7) == {"time": 8}


def test_the_value_of_an_exchange_is_what_was_returned() -> None:
    assert Exchange(Returned(42), 1, 2).value == 42
    assert Exchange(Refused("GenericError", "no"), 1, 2).value is None
    assert Exchange(NO_REPLY, 1, 1).value == {}


def test_a_channel_is_closed_at_the_end_of_its_block_whatever_happens() -> None:
    with Blocking(CountingChannel()) as channel:
        assert channel.closed == 0
    assert channel.closed == 1
    failing = Blocking(CountingChannel())
    with pytest.raises(RuntimeError, match="not asked for"), failing:
        failing.call(Request("guest-ping"), 1.0)
    assert failing.closed == 1


def test_a_channel_that_others_can_use_as_well_is_not_lent() -> None:
    channel = Blocking(CountingChannel())
    channel.let_go()
    channel.regain(1.0)
    assert channel.closed == 0


class Answering(ForwardingChannel):
    """Answers each question about a channel with its name."""

    is_shared = "is_shared"  # type: ignore[assignment]
    thaw_hint = "thaw_hint"  # type: ignore[assignment]

    def __init__(self) -> None:
        pass

    def __str__(self) -> str:
        return "a channel"

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        return f"metadata {namespace} {timeout}"

    async def macs(self, timeout: float) -> tuple[str, ...]:
        return ("macs", str(timeout))


def test_nothing_that_a_channel_may_answer_itself_is_left_out() -> None:
    own = {name for name, value in vars(ForwardingChannel).items() if callable(value) or isinstance(value, property)}
    assert {name for name in vars(Channel) if not name.startswith("_")} <= own


def test_what_is_asked_about_it_is_answered_by_the_channel() -> None:
    channel = ForwardingChannel(Answering())
    assert (channel.is_shared, channel.thaw_hint, str(channel)) == ("is_shared", "thaw_hint", "a channel")
    assert tasks.run(channel.metadata("urn:x", 2.0)) == "metadata urn:x 2.0"
    assert tasks.run(channel.macs(2.0)) == ("macs", "2.0")


def test_the_channel_carries_its_calls_and_is_closed_with_it() -> None:
    machine = ThisMachine()
    channel = ForwardingChannel(machine)
    tasks.run(channel.call(Request("guest-ping"), 5.0))
    assert machine.requests == [("guest-ping", {})]
    tasks.run(channel.close())
    assert machine.is_closed


@pytest.mark.parametrize("held", [0.0, 3600.0])
def test_a_socket_is_let_go_of_and_had_back(held: float, tmp_path: Path) -> None:
    with FakeAgent(listen_unix(tmp_path / "agent.sock")) as agent:
        socket = StreamChannel(UnixAddress(str(tmp_path / "agent.sock")))
        channel = ForwardingChannel(socket)
        tasks.run(channel.call(Request("guest-ping"), 5.0))
        tasks.run(channel.let_go(held))
        tasks.run(channel.regain(5.0))
        assert agent.connections == (1 if held else 2)
        tasks.run(channel.close())
