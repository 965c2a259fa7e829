"""Closing a stream channel, and lending its agent to other clients."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import TIMINGS, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    ExchangeTimeoutError,
    GuestReplacedError,
    UnresponsiveError,
)

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Late, On, Silent
from tests.processes.socket_server import SocketServer, listen_unix
from tests.support.stream_channels import PING, PONG, SYNC, TIMEOUT, agent_and_channel, at_most, channel_to, fault_of


def test_closing_waits_for_a_reply_on_the_way(tmp_path: Path) -> None:
    # An agent whose client closes with unread bytes ends itself; this one would see its connection reset.
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


def test_closing_does_not_wait_for_a_reply_that_is_long_overdue(tmp_path: Path) -> None:
    with FakeAgent(listen_unix(tmp_path / "agent.sock"), faults=(Silent(),)):
        channel = channel_to(UnixAddress(str(tmp_path / "agent.sock")), Timings(drain=30.0, late=0.1))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.2))
        with at_most(0.0):
            channel.close()


def test_closing_what_was_reset_meanwhile_is_no_error(tmp_path: Path) -> None:
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


def test_closing_in_sync_waits_for_nothing_and_twice_is_no_error(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, timings=Timings(drain=20.0)) as (_agent, channel):
        channel.close()  # not connected yet
        channel.call(PING, 5.0)
        with at_most(0.0):
            channel.close()
            channel.close()
        assert channel.call(PING, 5.0).reply == PONG  # and it may be used again


def test_what_is_lent_serves_another_client_and_is_had_back_by_the_next_call(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go()
        with channel_to(UnixAddress(str(tmp_path / "agent.sock"))) as other:
            assert other.call(PING, 5.0).reply == PONG
        assert channel.call(PING, 5.0).reply == PONG
        channel.regain(5.0)  # it is here already
        assert agent.connections == 3
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-ping"] * 3


def test_having_it_back_waits_for_the_other_client_for_its_time_and_costs_one_exchange(tmp_path: Path) -> None:
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


def test_it_is_not_lent_before_it_was_held_for_long_enough(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
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


def test_what_was_never_lent_is_not_connected_to(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.let_go()
        channel.regain(5.0)
        assert agent.connections == 0
        channel.call(PING, 5.0)
        channel.regain(5.0)
        assert agent.connections == 1


def test_with_a_reply_on_the_way_it_is_not_lent(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-ping", Late(0.3), nth=0),)) as (agent, channel):
        fault_of(ExchangeTimeoutError, lambda: channel.call(PING, 0.1))
        channel.let_go()
        assert channel.call(PING, 5.0).reply == PONG
        assert agent.connections == 1


def test_where_it_was_lent_another_guest_is_not_taken_for_the_same(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    channel = channel_to(UnixAddress(str(path)))
    with FakeAgent(listen_unix(path)):
        channel.call(PING, 5.0)
        channel.pin()
        channel.let_go()
    path.rename(tmp_path / "left.sock")  # so that the next one is another file
    with FakeAgent(listen_unix(path)):
        fault_of(GuestReplacedError, lambda: channel.regain(5.0))
