"""Faults of the stock agent, of the system and of clients: the time commands live through all of them."""

from __future__ import annotations

import json
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
from tests.support.extended_agent_served import HANG_UP, ScriptedStock, serving
from tests.support.until import until

# Patience is shorter than in a guest, so that the tests are quick.
QUICK = {"slow_seconds": 0.1, "alive_seconds": 0.4, "reply_seconds": 3.0, "start_seconds": 0.3}
HOST_NAME = b'{"execute": "guest-get-host-name"}'
ONE = b'{"return": 1}\n'


def time_commands_live(client: Client) -> bool:
    ping = client.execute("guest-ping")
    clock = client.execute("guest-get-clock")
    updated = client.execute("guest-update-time", seconds=1, relative=True)
    info = client.execute("guest-info")
    return all("return" in reply for reply in (ping, clock, updated, info))


def permissive(*refused: str) -> StockAgent:
    return StockAgent(block_rpcs=refused, permits_time=True)


# ------------------------------------------------------------------------------------------- the stock agent is away


def test_time_commands_live_without_any_stock_agent(tmp_path: Path) -> None:
    with ExtendedAgent(str(tmp_path / "none.sock"), costs=QUICK) as agent, Client(agent.socket) as client:
        assert time_commands_live(client)
        error = client.ask(HOST_NAME)["error"]
        assert error["class"] == "GenericError"
        assert error["desc"] == (
            f"The stock agent is away: it is not running (nothing listens on {tmp_path}/none.sock). "
            "Start the service qemu-guest-agent in the guest"
        )
        info = client.execute("guest-info")["return"]
        assert {entry["name"] for entry in info["supported_commands"]} == {
            "guest-sync",
            "guest-sync-delimited",
            "guest-ping",
            "guest-get-time",
            "guest-info",
            "guest-update-time",
            "guest-get-clock",
            "guest-get-command-info",
        }
        assert client.ask(b"[]")["error"]["desc"] == "QMP input must be a JSON object"


def test_a_killed_stock_agent_is_reported_and_a_new_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "stock.sock"
    with StockAgent(permits_time=True) as first:
        path.symlink_to(first.socket)
        with ExtendedAgent(str(path), costs=QUICK) as agent, Client(agent.socket) as client:
            assert "return" in client.ask(HOST_NAME)
            known = client.execute("guest-info")["return"]
            os.kill(first.pid, signal.SIGKILL)
            until(lambda: "error" in client.ask(HOST_NAME), "the stock agent still answers")
            assert time_commands_live(client)
            assert client.execute("guest-info")["return"] == known
            with StockAgent(permits_time=True) as second:
                path.unlink()
                path.symlink_to(second.socket)
                # The request itself makes it try again: no back-off stands in its way.
                assert "return" in client.ask(HOST_NAME)


def test_a_request_that_the_stock_agent_dies_of_gets_an_error_and_the_next_one_is_answered(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> Any:
        return [HANG_UP] if request["execute"] == "guest-exec" else [ONE]

    with serving(ScriptedStock(tmp_path, answer), costs=QUICK) as (_stock, _agent, client):
        reply = client.ask(b'{"execute": "guest-exec", "id": 9}')
        assert reply["id"] == 9
        assert "has gone before it answered guest-exec" in reply["error"]["desc"]
        assert client.ask(HOST_NAME) == {"return": 1}


@pytest.mark.parametrize("is_restarted", [True, False])
def test_a_request_waits_for_a_stock_agent_that_may_be_restarting(is_restarted: bool) -> None:
    costs = {**QUICK, "alive_seconds": 60.0, "return_seconds": 60.0 if is_restarted else 0.3}
    with serving(permissive(), costs=costs) as (stock, agent, client):
        assert "return" in client.ask(HOST_NAME)
        os.kill(stock.pid, signal.SIGKILL)
        until(lambda: "the stock agent is away" in agent.read_log(), "it has not noticed")
        restarting = threading.Thread(target=stock.restart if is_restarted else bool)
        restarting.start()
        try:
            reply = client.ask(HOST_NAME)
        finally:
            restarting.join()
        assert "return" in reply if is_restarted else "it is not running" in reply["error"]["desc"]


# ----------------------------------------------------------------------------------------------- the stock agent hangs


SYNCS = ("guest-sync-delimited", "guest-sync")
NO_SYNC = "the stock agent refuses guest-sync-delimited and guest-sync: its replies are matched by their order"
SHUTDOWN = b'{"execute": "guest-shutdown"}'  # blocked in every stock agent that a test starts
PAUSE_SECONDS = 1.1  # after it, a sync goes in front of a request


@pytest.mark.parametrize("refused", [(), SYNCS[:1], SYNCS])
def test_a_stopped_stock_agent_is_noticed_whichever_syncs_it_refuses_and_comes_back(refused: tuple[str, ...]) -> None:
    with serving(permissive(*refused), costs=QUICK) as (stock, _agent, client):
        assert "return" in client.ask(HOST_NAME)
        assert client.is_quiet(PAUSE_SECONDS)
        with stopped(stock.pid):
            began = time.monotonic()
            assert "in time" in client.ask(HOST_NAME)["error"]["desc"]
            assert time.monotonic() - began < 2
            assert time_commands_live(client)
            assert "busy" in client.ask(HOST_NAME)["error"]["desc"]
        until(lambda: "return" in client.ask(HOST_NAME), "the stock agent does not answer")
        assert client.is_quiet(0.3), "the late reply to the abandoned request came through"


def test_a_silent_command_has_an_error_while_the_stock_agent_hangs() -> None:
    with serving(permissive(), costs=QUICK) as (stock, _agent, client):
        assert "return" in client.ask(HOST_NAME)  # it was heard just now, and that says nothing
        with stopped(stock.pid):
            assert "The stock agent has not answered guest-shutdown in time" in client.ask(SHUTDOWN)["error"]["desc"]
            assert time_commands_live(client)
        assert client.is_quiet(0.3), "the late error came through"
        until(lambda: "return" in client.ask(HOST_NAME), "the stock agent does not answer")


@pytest.mark.parametrize("is_delimited", [True, False])  # libvirt sends no other than the plain one
def test_a_sync_goes_before_a_hanging_request_and_its_late_reply_never_comes(is_delimited: bool) -> None:
    with serving(permissive(), costs=QUICK) as (stock, _agent, client):
        with stopped(stock.pid):
            client.send(HOST_NAME)
            if is_delimited:
                time.sleep(0.2)
                client.sync(5)
            else:
                assert client.execute("guest-sync", id=4) == {"return": 4}
            assert time_commands_live(client)
        assert client.is_quiet(0.3)
        assert "return" in client.ask(b'{"execute": "guest-get-timezone"}')


def test_a_time_command_with_an_id_goes_before_a_hanging_request() -> None:
    with serving(permissive(), costs=QUICK) as (stock, _agent, client):
        with stopped(stock.pid):
            client.send(b'{"execute": "guest-get-host-name", "id": "slow"}')
            assert client.ask(b'{"execute": "guest-get-clock", "id": "now"}')["id"] == "now"
        assert client.reply()["id"] == "slow"


def test_replies_stay_in_order_while_the_stock_agent_is_only_slow(tmp_path: Path) -> None:
    stock = ScriptedStock(tmp_path, lambda _request: [0.3, b'{"return": "late"}\n'])
    with serving(stock, costs=QUICK) as (_stock, _agent, client):
        client.send(HOST_NAME + b'{"execute": "guest-ping"}')
        assert [client.reply()["return"] for _reply in range(2)] == ["late", {}]


def test_a_reply_that_never_comes_becomes_an_error(tmp_path: Path) -> None:
    stock = ScriptedStock(tmp_path, lambda _request: [2.0, b'{"return": "late"}\n'])
    with serving(stock, costs={**QUICK, "reply_seconds": 0.6}) as (_stock, _agent, client):
        assert "may still carry it out" in client.ask(HOST_NAME)["error"]["desc"]
        assert client.is_quiet(2.0), "the late reply came through"


def test_a_new_client_does_not_wait_for_a_hanging_request_of_the_one_before() -> None:
    with StockAgent(permits_time=True) as stock, ExtendedAgent(stock.socket, costs=QUICK) as agent:
        with stopped(stock.pid):
            with Client(agent.socket) as client:
                client.send(HOST_NAME)
            with Client(agent.socket) as client:
                assert time_commands_live(client)
                assert client.is_quiet(0.2)
        with Client(agent.socket) as client:
            until(lambda: "return" in client.execute("guest-get-timezone"), "the stock agent does not answer")
            assert client.is_quiet(0.3)


def test_a_full_queue_behind_a_hanging_stock_agent_does_not_hide_a_sync() -> None:
    with (
        StockAgent(permits_time=True) as stock,
        ExtendedAgent(stock.socket, costs=QUICK) as agent,
        Client(agent.socket) as client,
        stopped(stock.pid),
    ):
        client.send(HOST_NAME * 300)
        client.sync(6)
        assert time_commands_live(client)


@pytest.mark.parametrize("refused", [SYNCS[:1], SYNCS[1:], SYNCS])
def test_requests_pass_whichever_syncs_are_refused(refused: tuple[str, ...]) -> None:
    with serving(permissive(*refused), costs=QUICK) as (_stock, agent, client):
        assert client.execute("guest-info")["return"]["version"] == stock_version()
        assert "return" in client.ask(HOST_NAME)
        assert client.is_quiet(PAUSE_SECONDS)
        assert "return" in client.ask(HOST_NAME)
        assert "guest-shutdown" in client.ask(SHUTDOWN + HOST_NAME)["error"]["desc"]
        assert "return" in client.reply()
        assert agent.read_log().count(NO_SYNC) == (refused == SYNCS)


# --------------------------------------------------------------------------------------- what the stock agent answers


def test_commands_without_a_reply_hold_nobody_up_and_their_error_comes_in_its_turn(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> Any:
        if request["execute"] == "guest-suspend-ram":
            return [0.2, b'{"error": {"class": "GenericError", "desc": "no"}, "id": 3}\n']
        return [] if request["execute"] == "guest-shutdown" else [ONE]

    with serving(ScriptedStock(tmp_path, answer), costs=QUICK) as (_stock, _agent, client):
        client.send(SHUTDOWN)
        assert client.ask(HOST_NAME) == {"return": 1}
        client.send(b'{"execute": "guest-suspend-ram", "id": 3}')
        assert client.execute("guest-ping") == {"error": {"class": "GenericError", "desc": "no"}, "id": 3}
        assert client.reply() == {"return": {}}
        client.send(b'{"execute": "guest-suspend-ram", "id": 3}')
        client.sync(1)
        assert client.is_quiet(0.4), "an error from before the sync came through"
        assert client.ask(HOST_NAME) == {"return": 1}


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\n", b"\xff\xfe\x00\n", b"[]\n", b"{}\n", b'{"return": 1} trailing\n', b"\n", b'"' * 200_000 + b"\n"],
)
def test_garbage_never_reaches_the_host_and_the_next_request_is_answered(tmp_path: Path, garbage: bytes) -> None:
    def answer(request: dict[str, Any]) -> Any:
        return [garbage] if request["execute"] == "guest-exec" else [ONE]

    with serving(ScriptedStock(tmp_path, answer), costs=QUICK) as (_stock, _agent, client):
        assert "no reply" in client.execute("guest-exec")["error"]["desc"]
        assert client.ask(HOST_NAME) == {"return": 1}


def test_replies_pass_byte_for_byte(tmp_path: Path) -> None:
    line = b'{"return":  {"a": 9007199254740993, "b": 1.10, "c": "\\u00E9\\ud83d\\ude00\\/", "d": 1e2},   "id": 1}\n'
    with serving(ScriptedStock(tmp_path, lambda _request: [line])) as (_stock, _agent, client):
        client.send(b'{"execute": "guest-exec-status", "id": 1}')
        assert client.line() + b"\n" == line


@pytest.mark.parametrize("size", [1_000_000, 64 * 1024 * 1024])
def test_large_replies_pass_and_their_memory_is_given_back(tmp_path: Path, size: int) -> None:
    line = b'{"return": "' + b"x" * size + b'"}\n'
    with serving(ScriptedStock(tmp_path, lambda _request: [line]), 30) as (_stock, agent, client):
        client.ask(b'{"execute": "guest-ping"}')
        client.send(HOST_NAME)
        left = len(line)
        while left:
            left -= len(client.socket.recv(1 << 20))
        assert client.execute("guest-ping") == {"return": {}}
        assert agent.resident_kib() < 30 * 1024
        peak = int(Path(f"/proc/{agent.pid}/status").read_text().split("VmHWM:")[1].split()[0])
        assert peak * 1024 < 30 * 1024 * 1024 + 2 * size


def test_what_is_beyond_the_limits_becomes_an_error_and_the_next_one_is_answered(tmp_path: Path) -> None:
    answered = iter(([b"{" + b"x" * 3_000_000 + b"}\n"], [ONE]))
    costs = {**QUICK, "reply_bytes": 1_000_000, "request_bytes": 100_000}
    with serving(ScriptedStock(tmp_path, lambda _request: next(answered)), costs=costs) as (_stock, _agent, client):
        assert "no reply" in client.ask(HOST_NAME)["error"]["desc"]
        assert client.ask(HOST_NAME) == {"return": 1}
        reply = client.ask(b'{"execute": "guest-ping", "id": "' + b"x" * 200_000 + b'"}\n')
        assert "longer than 100000 bytes" in reply["error"]["desc"]
        assert client.execute("guest-ping") == {"return": {}}


def test_a_request_of_more_values_than_the_limit_becomes_an_error_without_its_id() -> None:
    with serving(StockAgent()) as (_stock, _agent, client):
        # The brace, the bracket and the comma after the command are three more values.
        asked = [b'{"execute": "guest-ping", "id": [' + b"0," * (count - 3) + b"0]}" for count in (262_144, 262_145)]
        assert "return" in client.ask(asked[0])
        reply = client.ask(asked[1])
        assert "more than 262144 values" in reply["error"]["desc"]
        assert "id" not in reply


@pytest.mark.parametrize("number", ["1e999", "-1e999", "[1e999]"])
def test_an_id_beyond_the_range_of_a_double_is_not_repeated(number: str) -> None:
    with serving(StockAgent()) as (_stock, _agent, client):
        assert client.ask(f'{{"execute": "guest-ping", "id": {number}}}'.encode()) == {"return": {}}
        passed_on = client.ask(f'{{"execute": "guest-get-host-name", "id": {number}}}'.encode())
        assert "something that is no reply" in passed_on["error"]["desc"], "the stock agent repeats it as inf"
        assert "return" in client.ask(HOST_NAME)


# --------------------------------------------------------------------------------------------------------- freezing


def test_time_commands_are_refused_from_the_freeze_to_the_thaw_and_nothing_is_logged(tmp_path: Path) -> None:
    status = iter(("thawed", "frozen", "thawed"))

    def answer(request: dict[str, Any]) -> Any:
        if request["execute"] == "guest-fsfreeze-status":
            return [b'{"return": "%b"}\n' % next(status).encode()]
        if request["execute"] == "guest-info":
            return [b'{"return": {"version": "1.2.3", "supported_commands": []}}\n']
        return [0.2, ONE] if request["execute"] == "guest-fsfreeze-freeze" else [ONE]

    with serving(ScriptedStock(tmp_path, answer, introduces=False), verbose=True) as (_stock, agent, client):
        assert client.execute("guest-fsfreeze-freeze") == {"return": 1}
        logged = len(agent.read_log())
        for command in ("guest-get-clock", "guest-update-time", "guest-get-time", "guest-get-command-info"):
            assert client.execute(command)["error"] == {
                "class": "CommandNotFound",
                "desc": f"Command {command} has been disabled: the agent is in frozen state",
            }
        assert client.execute("guest-ping") == {"return": {}}
        listed = client.execute("guest-info")["return"]["supported_commands"]
        enabled = {entry["name"] for entry in listed if entry["enabled"]}
        assert enabled == {"guest-ping", "guest-info", "guest-sync", "guest-sync-delimited"}
        assert len(agent.read_log()) == logged
        os.kill(agent.pid, signal.SIGTERM)  # refused: nothing else would thaw
        assert client.execute("guest-ping") == {"return": {}}  # by the next request, it has been
        assert client.execute("guest-fsfreeze-thaw") == {"return": 1}
        assert "return" in client.execute("guest-get-clock")


def test_a_stock_agent_that_was_frozen_before_is_known_to_be(tmp_path: Path) -> None:
    (tmp_path / "qga.state.isfrozen").touch()
    with ExtendedAgent(str(tmp_path / "none"), costs=QUICK, state_directory=str(tmp_path)) as agent:
        with Client(agent.socket) as client:
            assert "frozen" in client.execute("guest-get-clock")["error"]["desc"]
            (tmp_path / "qga.state.isfrozen").unlink()
        os.kill(agent.pid, signal.SIGKILL)  # it does not end while frozen


# ----------------------------------------------------------------------------------------------- what the system lacks


@pytest.mark.parametrize(
    ("shortage", "reason"),
    [("processes", "Resource temporarily unavailable"), ("descriptors", "Too many open files")],
)
def test_a_clock_that_was_moved_is_reported_though_the_hardware_clock_cannot_be_set(
    tmp_path: Path, shortage: str, reason: str
) -> None:
    with (
        ExtendedAgent(str(tmp_path / "none"), costs=QUICK, rtc_shortage=shortage) as agent,
        Client(agent.socket) as client,
    ):
        assert client.execute("guest-ping") == {"return": {}}
        descriptors = agent.descriptors()
        for _again in range(3):
            done = client.execute("guest-update-time", seconds=60, relative=True, rtc=True)["return"]
            assert done["rtc-error"] == f"the hardware clock was not set: {reason}"
            assert done["after"] - done["before"] >= 60 * 10**9
        assert "return" in client.execute("guest-get-clock")
        assert agent.descriptors() == descriptors


@pytest.mark.parametrize(
    ("arguments", "method", "failure", "reason"),
    [
        (None, "discipline", ("OSError", 1, "Operation not permitted"), "Operation not permitted"),
        (None, "discipline", ("MemoryError",), "out of memory"),
        ({"seconds": 1, "relative": True}, "shift_ns", ("OSError", 22, "Invalid argument"), "Invalid argument"),
        ({"seconds": 1}, "set_ns", ("MemoryError",), "out of memory"),
    ],
)
def test_what_the_kernel_refuses_becomes_a_reply_and_the_agent_lives(
    tmp_path: Path, arguments: dict[str, Any] | None, method: str, failure: tuple[Any, ...], reason: str
) -> None:
    clock = {"fails": {method: failure}}
    command = "guest-get-clock" if arguments is None else "guest-update-time"
    request = {"execute": command, "arguments": arguments or {}, "id": 3}
    what = "guest-get-clock failed" if arguments is None else "The clock was not set"
    with ExtendedAgent(str(tmp_path / "none"), costs=QUICK, clock=clock) as agent, Client(agent.socket) as client:
        reply = client.ask(json.dumps(request).encode())
        assert reply == {"error": {"class": "GenericError", "desc": f"{what}: {reason}"}, "id": 3}
        assert client.execute("guest-ping") == {"return": {}}


# ---------------------------------------------------------------------------------------------------- the host's side


def test_a_client_that_closes_amid_a_large_reply_hurts_neither_agent(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 8_000_000)
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent:
        for _round in range(3):
            with Client(agent.socket) as client:
                handle = client.execute("guest-file-open", path=str(tmp_path / "large"))["return"]
                client.send(b'{"execute": "guest-file-read", "arguments": {"handle": %d, "count": 8000000}}' % handle)
                client.socket.recv(10)
            with Client(agent.socket) as client:
                assert client.sync(3) is not None
                assert client.execute("guest-file-close", handle=handle) == {"return": {}}
        os.kill(stock.pid, 0)


def test_a_client_that_reads_nothing_is_not_read_from_either() -> None:
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent, Client(agent.socket, seconds=0.5) as client:
        flood = b'{"execute": "guest-info"}' * 1_000_000
        with pytest.raises(TimeoutError):
            client.send(flood)
        assert agent.resident_kib() < 30 * 1024


def test_a_thousand_reconnects_leak_no_descriptor() -> None:
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent:
        before = agent.descriptors()
        for index in range(1000):
            with Client(agent.socket) as client:
                if index % 3:
                    client.ask(b'{"execute": "guest-ping"}')
                if index % 3 == 2:
                    client.send(HOST_NAME)
        with Client(agent.socket) as client:
            client.sync(1)
        until(lambda: agent.descriptors() <= before, "it keeps descriptors")


def test_it_leaves_in_order_and_the_stock_agent_lives_on() -> None:
    with StockAgent() as stock:
        with ExtendedAgent(stock.socket) as agent, Client(agent.socket) as client:
            assert "return" in client.ask(HOST_NAME)
            client.send(b'{"execute": "guest-info"}' + HOST_NAME)
            assert agent.stop() == 0
        assert answers(stock.socket, b'{"execute": "guest-ping"}') == [b'{"return": {}}']
