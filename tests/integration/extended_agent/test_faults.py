"""Faults of a real stock agent, of the system and of clients: the time commands keep working."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes.state import stopped
from tests.processes.stock_agent import StockAgent, stock_version
from tests.support.agent_client import Client, answers
from tests.support.extended_agent import ExtendedAgent
from tests.support.extended_agent_served import QUICK, ScriptedStock, peak_mib, serving
from tests.support.until import until

HOST_NAME = b'{"execute": "guest-get-host-name"}'
ONE = b'{"return": 1}\n'
SYNCS = ("guest-sync-delimited", "guest-sync")
NO_SYNC = "the stock agent refuses guest-sync-delimited and guest-sync: matching its replies by their order"
PAUSE_SECONDS = 1.1  # after this pause, a sync precedes a request


def time_commands_work(client: Client) -> bool:
    ping = client.execute("guest-ping")
    clock = client.execute("guest-get-clock")
    updated = client.execute("guest-update-time", seconds=1, relative=True)
    info = client.execute("guest-info")
    return all("return" in reply for reply in (ping, clock, updated, info))


def test_time_commands_work_without_a_stock_agent(tmp_path: Path) -> None:
    with ExtendedAgent(str(tmp_path / "none.sock"), costs=QUICK) as agent, Client(agent.socket) as client:
        assert time_commands_work(client)
        assert client.ask(HOST_NAME)["error"] == {
            "class": "GenericError",
            "desc": f"The stock agent is unavailable: it is not running (nothing listens on '{tmp_path}/none.sock'). "
            "Start the service qemu-guest-agent in the guest",
        }


def test_a_killed_stock_agent_is_reported_and_a_new_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "stock.sock"
    with StockAgent(permits_time=True) as first:
        path.symlink_to(first.socket)
        with ExtendedAgent(str(path), costs=QUICK) as agent, Client(agent.socket) as client:
            assert "return" in client.ask(HOST_NAME)
            known = client.execute("guest-info")["return"]
            os.kill(first.pid, signal.SIGKILL)
            until(lambda: "error" in client.ask(HOST_NAME), "the stock agent still answers")
            assert time_commands_work(client)
            assert client.execute("guest-info")["return"] == known
            with StockAgent(permits_time=True) as second:
                path.unlink()
                path.symlink_to(second.socket)
                # The request itself makes it reconnect, without a back-off.
                assert "return" in client.ask(HOST_NAME)


@pytest.mark.parametrize("is_restarted", [True, False])
def test_a_request_waits_for_a_stock_agent_that_may_be_restarting(is_restarted: bool) -> None:
    costs = {**QUICK, "alive_seconds": 60.0, "return_seconds": 60.0 if is_restarted else 0.3}
    with serving(StockAgent(permits_time=True), costs=costs) as (stock, agent, client):
        assert "return" in client.ask(HOST_NAME)
        os.kill(stock.pid, signal.SIGKILL)
        until(lambda: "the stock agent is unavailable" in agent.read_log(), "it has not noticed")
        restarting = threading.Thread(target=stock.restart if is_restarted else bool)
        restarting.start()
        try:
            reply = client.ask(HOST_NAME)
        finally:
            restarting.join()
        assert "return" in reply if is_restarted else "it is not running" in reply["error"]["desc"]


@pytest.mark.parametrize("refused", [(), SYNCS[:1], SYNCS[1:], SYNCS])
def test_a_stopped_stock_agent_is_noticed_and_recovers_whichever_syncs_it_refuses(refused: tuple[str, ...]) -> None:
    with serving(StockAgent(refused, permits_time=True), costs=QUICK) as (stock, agent, client):
        assert client.execute("guest-info")["return"]["version"] == stock_version()
        assert "return" in client.ask(HOST_NAME)
        assert client.is_quiet(PAUSE_SECONDS)
        with stopped(stock.pid):
            began = time.monotonic()
            assert "in time" in client.ask(HOST_NAME)["error"]["desc"]
            assert time.monotonic() - began < 2
            assert time_commands_work(client)
            assert "busy" in client.ask(HOST_NAME)["error"]["desc"]
        until(lambda: "return" in client.ask(HOST_NAME), "the stock agent does not answer")
        assert client.is_quiet(0.3), "the late reply to the abandoned request was forwarded"
        assert agent.read_log().count(NO_SYNC) == (refused == SYNCS)


@pytest.mark.parametrize("size", [1_000_000, 64 * 1024 * 1024])
def test_large_replies_are_forwarded_and_their_memory_is_freed(tmp_path: Path, size: int) -> None:
    line = b'{"return": "' + b"x" * size + b'"}\n'
    with serving(ScriptedStock(tmp_path, lambda _request: [line]), 30) as (_stock, agent, client):
        client.ask(b'{"execute": "guest-ping"}')
        client.send(HOST_NAME)
        left = len(line)
        while left:
            left -= len(client.socket.recv(1 << 20))
        assert client.execute("guest-ping") == {"return": {}}
        assert agent.resident_kib() < 30 * 1024
        assert peak_mib(agent) < 30 + 2 * size / 2**20


def test_time_commands_are_refused_from_the_freeze_to_the_thaw_and_nothing_is_logged(tmp_path: Path) -> None:
    status = iter(("thawed", "frozen", "thawed"))

    def answer(request: dict[str, Any]) -> list[bytes]:
        if request["execute"] == "guest-fsfreeze-status":
            return [b'{"return": "%b"}\n' % next(status).encode()]
        if request["execute"] == "guest-info":
            return [b'{"return": {"version": "1.2.3", "supported_commands": []}}\n']
        return [ONE]

    with serving(ScriptedStock(tmp_path, answer, introduces=False), verbose=True) as (_stock, agent, client):
        assert client.execute("guest-fsfreeze-freeze") == {"return": 1}
        logged = len(agent.read_log())
        for command in ("guest-get-clock", "guest-update-time", "guest-get-time", "guest-get-command-info"):
            assert client.execute(command)["error"] == {
                "class": "CommandNotFound",
                "desc": f"Command {command} has been disabled: the agent is in frozen state",
            }
        listed = client.execute("guest-info")["return"]["supported_commands"]
        enabled = {entry["name"] for entry in listed if entry["enabled"]}
        assert enabled == {"guest-ping", "guest-info", "guest-sync", "guest-sync-delimited"}
        assert len(agent.read_log()) == logged
        os.kill(agent.pid, signal.SIGTERM)  # ignored: nothing else would thaw the file systems
        assert client.execute("guest-ping") == {"return": {}}  # the signal has been handled by then
        assert client.execute("guest-fsfreeze-thaw") == {"return": 1}
        assert "return" in client.execute("guest-get-clock")


def test_a_client_that_disconnects_during_a_large_reply_harms_neither_agent(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 8_000_000)
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent:
        for _round in range(3):
            with Client(agent.socket) as client:
                handle = client.execute("guest-file-open", path=str(tmp_path / "large"))["return"]
                client.send(b'{"execute": "guest-file-read", "arguments": {"handle": %d, "count": 8000000}}' % handle)
                client.socket.recv(10)
            with Client(agent.socket) as client:
                client.sync(3)
                assert client.execute("guest-file-close", handle=handle) == {"return": {}}
        os.kill(stock.pid, 0)


def test_it_stops_cleanly_and_the_stock_agent_keeps_running() -> None:
    with StockAgent() as stock:
        with ExtendedAgent(stock.socket) as agent, Client(agent.socket) as client:
            assert "return" in client.ask(HOST_NAME)
            client.send(b'{"execute": "guest-info"}' + HOST_NAME)
            assert agent.stop() == 0
        assert answers(stock.socket, b'{"execute": "guest-ping"}') == [b'{"return": {}}']
