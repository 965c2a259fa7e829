"""Exchanges over a stream channel with peers that stall, flood, hang up or send garbage; closing and lending it."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import TIMINGS, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    ExchangeTimeoutError,
    GuestReplacedError,
    NotConnectedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import messages
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    QgaError,
    RemoteProtocolError,
)

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Delays, Drip, Fault, Forever, HangUp, HangUpAfter, Instead, Late, On, Silent
from tests.fakes.kinds import Kind
from tests.processes.socket_server import SocketServer, banner, echo, listen_unix
from tests.support.stream_channels import (
    GET_TIME,
    PING,
    PONG,
    SYNC,
    TIMEOUT,
    agent_and_channel,
    at_most,
    channel_to,
    fault_of,
)


def test_the_stamps_of_an_exchange_enclose_the_agents_reading(tmp_path: Path) -> None:
    delays = Delays(forward=(0.0, 0.05), backward=(0.0, 0.1))
    with agent_and_channel(tmp_path, delays=delays) as (agent, channel):
        exchange = channel.call(GET_TIME, 5.0)
        read_at_ns = exchange.value - HostReference().base_ns() - agent.clock.offset_ns()
    # The agent truncates to microseconds, and this machine's two clocks are not read at the same instant.
    assert exchange.sent_ns + 49_000_000 < read_at_ns < exchange.received_ns - 99_000_000


def test_arguments_are_computed_right_before_sending(tmp_path: Path) -> None:
    # The sync at the start of the connection takes time that must not make the stamp old.
    with agent_and_channel(tmp_path, faults=(On(SYNC, Late(0.2)),)) as (agent, channel):
        before_ns = time.monotonic_ns()
        exchange = channel.call(Request("guest-set-time", lambda now_ns: {"time": now_ns}), 5.0)
        assert agent.asked("guest-set-time") == [{"time": exchange.sent_ns}]
    assert exchange.sent_ns - before_ns >= 200_000_000


def test_a_refusal_is_a_reply_and_leaves_the_channel_in_sync(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        reply = channel.call(Request("guest-nonsense"), 5.0).reply
        assert reply == messages.Refused("CommandNotFound", "The command guest-nonsense has not been found")
        assert channel.call(PING, 5.0).reply == PONG
        assert len(agent.asked(SYNC)) == 1


def test_a_request_without_a_reply_on_success_is_not_waited_for(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        with at_most(0.0):
            exchange = channel.call(Request("guest-shutdown", expects_reply=False), 30.0)
        assert exchange.value == {}
        assert exchange.sent_ns == exchange.received_ns
        assert channel.call(PING, 5.0).reply == PONG
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-shutdown", SYNC, "guest-ping"]


def test_arguments_that_json_cannot_carry_are_a_local_error(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (_agent, channel):
        fault_of(LocalProtocolError, lambda: channel.call(Request("guest-ping", {"x": {1}}), 5.0))
        assert channel.call(PING, 5.0).reply == PONG


# Faults, and the error of a ping with a timeout. None of them may take longer than the timeout.
STALLING: dict[str, tuple[tuple[Fault, ...], type[QgaError]]] = {
    "never answers": ((Silent(),), UnresponsiveError),
    "never answers after the sync": ((Silent(after=1),), ExchangeTimeoutError),
    "drips the sync": ((Drip(0.05),), UnresponsiveError),
    "drips the reply": ((On("guest-ping", Drip(0.05)),), ExchangeTimeoutError),
    "half a reply": ((On("guest-ping", Instead((b'{"return": ',))),), ExchangeTimeoutError),
    "each a little late": ((Late(0.6 * TIMEOUT),), ExchangeTimeoutError),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", STALLING)
def test_the_timeout_is_for_the_whole_exchange(what: str, tmp_path: Path) -> None:
    faults, kind = STALLING[what]
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        with at_most(TIMEOUT):
            fault_of(kind, lambda: channel.call(PING, TIMEOUT))
        with at_most(TIMINGS.drain):
            channel.close()


@pytest.mark.parametrize(
    "flood",
    [
        *(b"\xff" * 4096, b"\x00" * 4096, b"}" * 4096, b"{}" * 2048, b'{"return": {}}\n' * 256, b"1 " * 2048),
        # These never become a message: only the number of bytes ends the flood.
        b" " * 65536,
    ],
)
def test_a_flooding_peer_is_given_up_long_before_the_timeout(flood: bytes, tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On(SYNC, Instead((Forever(flood),))),)) as (_agent, channel):
        with at_most(5.0):
            error = fault_of(RemoteProtocolError, lambda: channel.call(PING, 60.0))
        assert "keeps sending unsolicited data" in error.message
        with at_most(0.1):
            channel.close()


def test_a_pinned_guest_may_hang_up_and_reconnect_but_not_be_replaced(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-get-time", Instead((HangUp(),))),)) as (_agent, channel):
        channel.call(PING, 5.0)
        channel.pin()
        fault_of(NotConnectedError, lambda: channel.call(GET_TIME, 5.0))
        assert channel.call(PING, 5.0).reply == PONG
        fault_of(NotConnectedError, lambda: channel.call(GET_TIME, 5.0))
        (tmp_path / "other").mkdir()
        with agent_and_channel(tmp_path / "other") as (other, _channel):
            os.rename(tmp_path / "other" / "agent.sock", tmp_path / "agent.sock")
            error = fault_of(GuestReplacedError, lambda: channel.call(PING, 5.0))
            assert "another guest" in error.message
            assert other.asked(SYNC) == []


@pytest.mark.slow
def test_a_peer_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    stuck = (On("guest-get-time", Late(60.0)),)
    with agent_and_channel(tmp_path, faults=stuck) as (_agent, channel):
        fault_of(ExchangeTimeoutError, lambda: channel.call(GET_TIME, 0.2))
        channel._in_sync = True  # otherwise the sync would time out
        with at_most(TIMEOUT):
            error = fault_of(
                UnresponsiveError, lambda: channel.call(Request("guest-ping", {"x": "x" * 4_000_000}), TIMEOUT)
            )
    assert "does not read" in error.message


@pytest.mark.parametrize("fault", [(), (On("guest-info", Drip(0.0)),)], ids=["in one piece", "in many"])
def test_guest_info_is_read_separately_for_each_guest(fault: tuple[Fault, ...], tmp_path: Path) -> None:
    for version in ("9.2.0", "10.0.13", "9.2.0"):
        (tmp_path / "agent.sock").unlink(missing_ok=True)
        with agent_and_channel(tmp_path, kind=Kind(version=version), faults=fault) as (_agent, channel):
            for _call in range(2):
                assert channel.call(Request("guest-info"), 5.0).value["version"] == version
            assert channel.call(PING, 5.0).reply == PONG


NOT_AGENTS = {"a mail server": banner(b"220 mail.example.org ESMTP Postfix\r\n"), "an echo": echo}


@pytest.mark.parametrize("what", NOT_AGENTS)
def test_a_server_that_is_not_an_agent_times_out(what: str, tmp_path: Path) -> None:
    path = tmp_path / "not-an-agent.sock"
    server = SocketServer(listen_unix(path), NOT_AGENTS[what])
    with server, channel_to(UnixAddress(str(path))) as channel, at_most(TIMEOUT):
        error = fault_of(UnresponsiveError, lambda: channel.call(PING, TIMEOUT))
    assert error.message == f"no guest agent answered at socket '{path}' within {TIMEOUT:g} s"
    assert "one client at a time" in error.hint


BROKEN: dict[str, tuple[Fault, type[QgaError]]] = {
    "not JSON": (On("guest-ping", Instead((b"oops\n",))), RemoteProtocolError),
    "no reply's members": (On("guest-ping", Instead((b'{"event": "RESET"}\n',))), RemoteProtocolError),
    "a stray byte": (On("guest-ping", Instead((b"\x00",))), RemoteProtocolError),
    "a delimiter": (On("guest-ping", Instead((b"\xff",))), RemoteProtocolError),
    "endless nesting": (On("guest-ping", Instead((b"[" * 600,))), RemoteProtocolError),
    "it hangs up at the sync": (On(SYNC, HangUpAfter(), nth=0), NotConnectedError),
    "it hangs up in the middle of a reply": (On("guest-ping", HangUpAfter(size=5)), NotConnectedError),
    "it hangs up in place of a reply": (On("guest-ping", HangUpAfter()), NotConnectedError),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_exchange_is_an_error_at_once_and_does_not_affect_the_next_one(what: str, tmp_path: Path) -> None:
    fault, kind = BROKEN[what]
    with agent_and_channel(tmp_path, faults=(fault,)) as (agent, channel):
        with at_most(0.0):
            error = fault_of(kind, lambda: channel.call(PING, 30.0))
        assert str(tmp_path / "agent.sock") in error.message or kind is RemoteProtocolError
        assert channel.call(Request("guest-sync", {"id": 9}), 5.0).value == 9
        assert agent.connections == (2 if kind is NotConnectedError else 1)


def test_a_peer_that_hangs_up_between_two_calls_is_an_error_and_then_reconnected(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-get-time", HangUpAfter(size=1000)),)) as (_agent, channel):
        channel.call(GET_TIME, 5.0)
        time.sleep(0.1)
        fault_of(NotConnectedError, lambda: channel.call(PING, 5.0))
        assert channel.call(PING, 5.0).reply == PONG


def test_a_reset_connection_is_not_connected(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    # Closing a unix socket that has unread bytes resets the connection.
    with (
        SocketServer(listen_unix(path), lambda _server, connection: connection.recv(1)),
        channel_to(UnixAddress(str(path))) as channel,
    ):
        error = fault_of(NotConnectedError, lambda: channel.call(PING, 5.0))
    assert error.message == f"lost the agent at socket '{path}': Connection reset by peer"


# ------------------------------------------------------------------------------------------------ closing and lending


def test_closing_waits_for_a_pending_reply(tmp_path: Path) -> None:
    # A real agent exits if its client closes with unread bytes; this one would see a reset connection.
    resets: list[OSError] = []

    def talk(_server: SocketServer, connection: socket.socket) -> None:
        try:
            while connection.recv(4096):
                time.sleep(0.3)
                connection.sendall(b'{"return": {}}\n')
        except OSError as error:
            resets.append(error)
            raise

    path = tmp_path / "agent.sock"
    with SocketServer(listen_unix(path), talk):
        channel = channel_to(UnixAddress(str(path)))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.1))
        with at_most(TIMINGS.drain):
            channel.close()
    assert resets == []


def test_closing_does_not_wait_for_an_overdue_reply(tmp_path: Path) -> None:
    with FakeAgent(listen_unix(tmp_path / "agent.sock"), faults=(Silent(),)):
        channel = channel_to(UnixAddress(str(tmp_path / "agent.sock")), Timings(drain=30.0, late=0.1))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.2))
        with at_most(0.0):
            channel.close()


def test_closing_a_connection_that_was_reset_raises_nothing(tmp_path: Path) -> None:
    def talk(server: SocketServer, connection: socket.socket) -> None:
        connection.recv(1)
        server.pause(0.2)

    path = tmp_path / "agent.sock"
    with SocketServer(listen_unix(path), talk):
        channel = channel_to(UnixAddress(str(path)))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.1))
        time.sleep(0.3)
        with at_most(0.0):
            channel.close()


def test_closing_in_sync_does_not_wait_and_may_be_repeated(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, timings=Timings(drain=20.0)) as (_agent, channel):
        channel.close()  # not connected yet
        channel.call(PING, 5.0)
        with at_most(0.0):
            channel.close()
            channel.close()
        assert channel.call(PING, 5.0).reply == PONG  # it may be used again


def test_an_agent_that_was_let_go_serves_another_client_until_the_next_call(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go()
        with channel_to(UnixAddress(str(tmp_path / "agent.sock"))) as other:
            assert other.call(PING, 5.0).reply == PONG
        assert channel.call(PING, 5.0).reply == PONG
        channel.regain(5.0)  # the call has regained it already
        assert agent.connections == 3
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-ping"] * 3


def test_regaining_it_waits_for_the_other_client_up_to_the_timeout_and_costs_one_exchange(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go()
        other = channel_to(UnixAddress(str(tmp_path / "agent.sock")))
        other.call(PING, 5.0)
        with at_most(TIMEOUT):
            fault_of(UnresponsiveError, lambda: channel.regain(TIMEOUT))
        leaving = threading.Timer(0.3, other.close)
        leaving.start()
        channel.regain(30.0)
        leaving.join()
        asked = len(agent.requests)
        assert channel.call(PING, 5.0).reply == PONG
        assert [command for command, _arguments in agent.requests[asked - 1 :]] == [SYNC, "guest-ping"]


def test_it_is_not_let_go_before_it_was_held_long_enough(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.let_go()
        channel.regain(5.0)
        assert agent.connections == 0, "regain() connects although nothing was let go"
        channel.call(PING, 5.0)
        channel.let_go(3600.0)
        channel.call(PING, 5.0)
        assert agent.connections == 1
        time.sleep(0.01)
        channel.let_go(0.01)
        channel.regain(5.0)
        channel.let_go(3600.0)
        channel.call(PING, 5.0)
        assert agent.connections == 2


def test_it_is_not_let_go_while_a_reply_is_pending(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-ping", Late(0.3), nth=0),)) as (agent, channel):
        fault_of(ExchangeTimeoutError, lambda: channel.call(PING, 0.1))
        channel.let_go()
        assert channel.call(PING, 5.0).reply == PONG
        assert agent.connections == 1


def test_another_guest_is_noticed_when_it_is_regained(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    channel = channel_to(UnixAddress(str(path)))
    with FakeAgent(listen_unix(path)):
        channel.call(PING, 5.0)
        channel.pin()
        channel.let_go()
    path.rename(tmp_path / "left.sock")  # makes the next socket another file
    with FakeAgent(listen_unix(path)):
        fault_of(GuestReplacedError, lambda: channel.regain(5.0))
