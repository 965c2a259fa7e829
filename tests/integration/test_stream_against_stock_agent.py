"""The stream channels against a real stock agent. The agent acts on this machine, so no clock is ever set.

The agent reads the same clock as these tests, so every measured interval has to contain 0.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import (
    Address,
    TcpAddress,
    UnixAddress,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import SUBSETS

from tests.processes.socket_server import SocketServer, forward_to, listen_tcp
from tests.processes.stock_agent import StockAgent
from tests.support.agents_in_the_field import READING_NS, gather, resync
from tests.support.blocking import Blocking, BlockingAgent

SLACK = 4.0


@pytest.fixture(scope="module")
def stock() -> Iterator[StockAgent]:
    with StockAgent() as agent:
        yield agent


@pytest.fixture(params=["unix", "tcp", "tcp6"])
def address(request: pytest.FixtureRequest, stock: StockAgent) -> Iterator[Address]:
    """The same stock agent on its own socket, and on TCP as with QEMU's character devices."""
    if request.param == "unix":
        yield UnixAddress(stock.socket)
        return
    host = "127.0.0.1" if request.param == "tcp" else "::1"
    with listen_tcp(host) as listener, SocketServer(listener, forward_to(stock.socket)):
        yield TcpAddress(host, listener.getsockname()[1])


@contextmanager
def connected(address: Address, timeout: float = 5.0) -> Iterator[BlockingAgent]:
    with Blocking(StreamChannel(address)) as channel:
        yield BlockingAgent(channel, timeout)


@contextmanager
def paused(agent: StockAgent) -> Iterator[None]:
    os.kill(agent.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(agent.pid, signal.SIGCONT)


def test_readings_contain_the_true_offset_and_a_resync_leaves_the_clock_alone(address: Address) -> None:
    base_ns = HostReference().base_ns()
    with connected(address) as agent:
        for _exchange in range(20):
            exchange = agent.exchange("guest-get-time")
            read_at_ns = exchange.value - base_ns
            assert exchange.sent_ns - 1_000 - READING_NS <= read_at_ns <= exchange.received_ns + READING_NS
        # guest-set-time is always blocked here, and must not even be tried.
        report = resync(agent, HostReference(), ResyncOptions())
    assert (report.changed, report.within_tolerance, report.attempts, report.error) == (False, True, 0, None)
    assert abs(report.before.ns) <= report.before.uncertainty_ns + READING_NS < 50_000_000


def test_facts_are_those_of_this_machine(address: Address) -> None:
    with connected(address) as agent:
        facts = gather(agent, SUBSETS)
        assert not agent.info.commands["guest-shutdown"].success_response
    assert facts["agent"]["kind"] == "stock"
    assert facts["agent"]["version"][0].isdecimal()
    assert facts["hostname"] == socket.gethostname()
    assert facts["os"]["kernel_release"] == os.uname().release
    assert facts["freeze"] == "thawed"
    assert abs(facts["time"]["offset_ns"]) <= facts["time"]["uncertainty_ns"] + READING_NS
    assert all(error["code"] in ("command_not_found", "command_failed") for error in facts["errors"].values())


def test_half_a_request_of_another_client_has_no_effect(address: Address, stock: StockAgent) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.connect(stock.socket)
        other.sendall(b'{"execute": "guest-file-open", "arguments": {"path": "/etc')
        other.shutdown(socket.SHUT_WR)
        while other.recv(4096):
            pass
    with connected(address) as agent:
        assert agent.call("guest-sync", {"id": 12345}) == 12345


def test_each_kind_of_refusal_has_its_error(stock: StockAgent) -> None:
    with connected(UnixAddress(stock.socket)) as agent:
        with pytest.raises(CommandNotFoundError, match="has no command guest-get-clock"):
            agent.call("guest-get-clock")
        with pytest.raises(CommandDisabledError, match="the guest's administrator has disabled guest-fstrim"):
            agent.call("guest-fstrim")
        with pytest.raises(CommandFailedError, match="Parameter 'id' is missing"):
            agent.call("guest-sync")
        assert agent.call("guest-ping") == {}


def test_a_stopped_agent_is_unresponsive_in_time_and_works_again_afterwards(stock: StockAgent) -> None:
    with connected(UnixAddress(stock.socket), timeout=0.4) as agent:
        with paused(stock):
            started = time.monotonic()
            with pytest.raises(UnresponsiveError, match=r"within 0\.4 s"):
                agent.call("guest-ping")
            assert 0.4 <= time.monotonic() - started < 0.4 + SLACK
        assert agent.call("guest-sync", {"id": 8}, timeout=5.0) == 8
        with paused(stock):
            started = time.monotonic()
            with pytest.raises(ExchangeTimeoutError):
                agent.call("guest-get-time")
            assert 0.4 <= time.monotonic() - started < 0.4 + SLACK
        # The late reply, a time, must not be taken for the reply to this request.
        assert agent.call("guest-ping", timeout=5.0) == {}


def test_a_client_that_gave_up_does_not_make_the_agent_exit() -> None:
    # Closing with unread bytes would: the agent exits on a connection reset.
    with StockAgent() as stock:
        with paused(stock):
            channel = Blocking(StreamChannel(UnixAddress(stock.socket)))
            with pytest.raises(UnresponsiveError):
                channel.call(Request("guest-ping"), 0.2)
            os.kill(stock.pid, signal.SIGCONT)
            channel.close()
        for _client in range(3):
            with connected(UnixAddress(stock.socket)) as agent:
                assert agent.call("guest-ping") == {}


def test_the_error_of_a_silent_command_is_not_taken_for_the_next_reply(stock: StockAgent) -> None:
    with Blocking(StreamChannel(UnixAddress(stock.socket))) as channel:
        channel.call(Request("guest-shutdown", {"mode": "no such mode"}, expects_reply=False), 5.0)
        assert channel.call(Request("guest-sync", {"id": 5}), 5.0).value == 5
