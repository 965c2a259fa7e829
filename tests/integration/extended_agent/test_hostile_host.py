"""The host, and other users in the guest, may be hostile.

The agent must not use another user's configuration or socket, or write a secret to its log. A flood must not exhaust
its memory (its unit has MemoryMax=256M) or keep it from serving its next client.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.socket_server import listen_unix
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent, module
from tests.support.extended_agent_served import QUICK, ScriptedStock, peak_mib, serving
from tests.support.tiers import quick

# At most, the agent holds a request of 16 MiB and the memory for parsing it, or one reply of 64 MiB.
MOST_MIB = 128


def test_it_never_connects_to_an_untrusted_socket_that_appears_later(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "stock.sock", tmp_path / "elsewhere.sock"
    with (
        ExtendedAgent(str(path), costs={**QUICK, "reconnect_seconds": 0.02}) as agent,
        listen_unix(elsewhere) as listener,
    ):
        # The agent tries to connect all the time, so the socket must be writable by others before it appears.
        elsewhere.chmod(0o666)
        elsewhere.rename(path)
        listener.settimeout(0.5)
        with Client(agent.socket) as client:
            reply = client.execute("guest-set-user-password", username="u", password="c2VjcmV0", crypted=False)  # noqa: S106
            assert "is writable by other users" in reply["error"]["desc"]
            assert "return" in client.execute("guest-get-clock")
        with pytest.raises(TimeoutError):
            listener.accept()
        assert agent.read_log().count("is writable by other users") == 1


# -------------------------------------------------------------------------------------------------------------- the log

SECRET = "correct-horse-battery-staple"  # noqa: S105  # not a real one
ENCODED = base64.b64encode(SECRET.encode()).decode()
# All ways for a secret to reach the agent: in requests, and in replies.
SECRETIVE: dict[str, dict[str, Any]] = {
    "guest-set-user-password": {"username": "root", "password": ENCODED, "crypted": False},
    "guest-ssh-add-authorized-keys": {"username": SECRET, "keys": [SECRET]},
    "guest-exec": {"path": "/bin/cat", "arg": [SECRET], "env": [SECRET], "input-data": ENCODED, "capture-output": True},
    "guest-file-open": {"path": f"/nonexistent/{SECRET}"},
    "guest-file-write": {"handle": 1, "buf-b64": ENCODED},
    SECRET: {},
    f"{SECRET}\n1.0: error: forged": {},
    "guest-ping": {SECRET: SECRET},
    "guest-sync": {"id": SECRET},
    "guest-update-time": {"seconds": SECRET},
    "guest-get-command-info": {"name": SECRET},
}
MALFORMED = (
    f'{{"execute": "{SECRET}"',
    f'{{"execute": {SECRET}}}',
    f'["{SECRET}"]',
    f'{{"{SECRET}": 1}}',
    f'{{"execute": "guest-ping", "id": "{SECRET}"}}',
    f'"{SECRET}\x01"',
)


# The replies of a played stock agent.
BLABBED: dict[str, str] = {
    "a real one": "",
    "no agent": "",
    "a refusal": f'{{"error": {{"class": "GenericError", "desc": "{SECRET}"}}}}\n',
    "no reply": f'{{"{SECRET}": "{ENCODED}"}}\n',
    "not JSON": f"{SECRET}\n",
}


@pytest.mark.parametrize("answer", BLABBED)
def test_no_secret_is_logged_not_even_verbosely(tmp_path: Path, answer: str) -> None:
    with contextlib.ExitStack() as stack:
        path = str(tmp_path / "none")
        if answer == "a real one":
            path = stack.enter_context(StockAgent()).socket
        elif BLABBED[answer]:
            answered = [BLABBED[answer].encode()]
            path = stack.enter_context(ScriptedStock(tmp_path, lambda _request: answered, introduces=False)).socket
        agent = stack.enter_context(ExtendedAgent(path, costs=QUICK, verbose=True))
        client = stack.enter_context(Client(agent.socket))
        replies = [json.dumps(client.execute(command, **arguments)) for command, arguments in SECRETIVE.items()]
        for text in MALFORMED:
            client.send(text.encode() + b"\n")
            client.sync(7)
        agent.stop()
        log = agent.read_log()
    assert any(SECRET in text for text in replies), "no reply repeats it, so this tests nothing"
    assert "answered guest-get-command-info" in log or "guest-sync" in log
    assert not [text for text in (SECRET, ENCODED, "forged") if text in log], log
    assert all(line.split(": ")[1] in ("info", "error") for line in log.splitlines())


def test_an_internal_error_is_logged_without_its_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise KeyError(SECRET)

    program = module("__main__")
    monkeypatch.setattr(program, "Agent", fail)
    monkeypatch.setattr(program.sys, "setrecursionlimit", bool)
    assert program.main(["-m", "unix-listen", "-p", str(tmp_path / "sock"), "-c", "/dev/null"], {}) == 1
    errors = capfd.readouterr().err
    assert errors.startswith("qemu-ga-extended: internal error: KeyError at ")
    assert SECRET not in errors


# ----------------------------------------------------------------------------------------------------------- the floods

MIB = 1024 * 1024
CHUNK = 64 * 1024
PING_BEGINS = b'{"execute": "guest-ping", "id": '
FLOODS: dict[str, bytes] = {
    "0xFF": b"\xff" * CHUNK,
    "empty objects": b"{}" * (CHUNK // 2),
    "opening brackets": b"[" * CHUNK,
    "digits": b"1" * CHUNK,
    "pings": b'{"execute": "guest-ping"}\n' * (CHUNK // 26),
    "requests for the stock agent": b'{"execute": "guest-get-host-name"}\n' * (CHUNK // 35),
    "long ids": PING_BEGINS + b'"' + b"x" * (CHUNK - 40) + b'"}\n',
    "ids that are six times as long in the reply": PING_BEGINS + b'"' + b"\xc3\xa9" * (7 * MIB) + b'"}\n',
    "ids as long as can be": PING_BEGINS + b'"' + b"x" * (15 * MIB) + b'"}\n',
    "ids that are four times as long in memory": PING_BEGINS + b'"' + b"x" * (15 * MIB) + b'\xf0\x9f\x98\x80"}\n',
    "single quotes": b"['" + b'"' * (15 * MIB) + b"']\n",
    "ids of many values": PING_BEGINS + b"[" + b"0," * 130_000 + b"0]}\n",
}
FLOOD_BYTES = 24 * MIB
FLOOD_SECONDS = 1.0


def flood(path: str, piece: bytes, reads: bool) -> None:
    """Send the piece repeatedly, up to a size and a time, but at least once; with or without reading the replies."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.settimeout(0.5)
        if reads:
            threading.Thread(target=drain, args=(connection.dup(),), daemon=True).start()
        sent, deadline = 0, time.monotonic() + FLOOD_SECONDS
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < FLOOD_BYTES and (sent < len(piece) or time.monotonic() < deadline):
                sent += connection.send(memoryview(piece)[sent % len(piece) :])
        connection.shutdown(socket.SHUT_RDWR)  # this also ends the other thread


def drain(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10.0)
        while connection.recv(MIB):
            pass


@pytest.fixture(scope="module")
def agent_with_stock() -> Iterator[ExtendedAgent]:
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent:
        yield agent


@pytest.mark.parametrize("reads", quick([True, False], [True]), ids=["reading", "not reading"])
@pytest.mark.parametrize("what", quick(FLOODS, ["0xFF", "opening brackets", "ids as long as can be"]))
def test_a_flood_takes_little_memory_and_the_next_client_is_served(
    agent_with_stock: ExtendedAgent, what: str, reads: bool
) -> None:
    agent = agent_with_stock
    flood(agent.socket, FLOODS[what], reads)
    with Client(agent.socket, 20.0) as client:
        client.sync(1)
        assert "return" in client.execute("guest-get-clock")
        assert "return" in client.execute("guest-get-host-name")
    assert peak_mib(agent) < MOST_MIB


# -------------------------------------------------------------------------------------------- the stock agent's floods

LONGEST_REPLY = 16 * MIB
STOCK_FLOODS: dict[str, bytes] = {
    "a line without an end": b"x" * CHUNK,
    "empty lines": b"\n" * CHUNK,
    "unsolicited replies": b'{"return": {}}\n' * (CHUNK // 15),
    "a million digits": b'{"return": ' + b"9" * (16 * CHUNK) + b"}\n",
    "false syncs": b'\xff{"return": 1}\n' * (CHUNK // 16),
    "the largest replies": b'{"return": "' + b"x" * (LONGEST_REPLY - 100) + b'"}\n',
}
# One reply that the client has not read yet, and one that is being received, in a buffer that grows by eighths.
MOST_MIB_BESIDE_A_FLOOD = 30 + 5 * LONGEST_REPLY // MIB


@pytest.mark.parametrize("what", quick(STOCK_FLOODS, ["a line without an end"]))
def test_a_stock_agent_that_floods_uses_bounded_memory_and_the_time_commands_work(tmp_path: Path, what: str) -> None:
    is_flooding = threading.Event()

    def flood_without_end(_request: dict[str, Any]) -> Iterator[bytes]:
        while True:  # the server ends this by shutting down the connection
            yield STOCK_FLOODS[what]
            is_flooding.set()

    stock = ScriptedStock(tmp_path, flood_without_end, introduces=False)
    with serving(stock, 60.0, costs={**QUICK, "reply_bytes": LONGEST_REPLY}) as (_stock, agent, client):
        assert is_flooding.wait(60.0)
        for number in range(1, 4):
            client.sync(number)
            assert "return" in client.execute("guest-get-clock")
            client.send(b'{"execute": "guest-get-host-name"}\n')  # the reply is not read
        client.sync(4)
        assert "return" in client.execute("guest-get-clock")
        assert peak_mib(agent) < MOST_MIB_BESIDE_A_FLOOD
