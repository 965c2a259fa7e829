"""Whoever holds the host's end of the channel, or sits in the guest beside the agent, may be hostile.

What must not happen: that somebody else's configuration or socket is used, that a secret gets into a log, that a flood
takes the agent's memory (its unit has MemoryMax=256M) or keeps it from its next client.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.socket_server import listen_unix
from tests.processes.state import stopped
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent, module, package_parent
from tests.support.extended_agent_served import ScriptedStock, serving
from tests.support.tiers import quick

QUICK = {"slow_seconds": 0.1, "alive_seconds": 0.4, "reply_seconds": 1.0, "start_seconds": 0.3}
# At its most the agent holds a request of 16 MiB and what it takes to read it, or one reply of 64 MiB.
MOST_MIB = 128
SOMEBODY = 65534

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


# ----------------------------------------------------------------------------------------- what is refused at the start


def program(*options: str) -> subprocess.CompletedProcess[str]:
    """The program, which must not come to life."""
    return subprocess.run(
        [sys.executable, "-E", "-s", "-m", "qemu_ga_extended", "--block-rpcs=guest-update-time", *options],
        cwd=package_parent(),
        env={"QGA_EXTENDED_CONF": "/dev/null"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def widen(path: Path) -> None:
    path.chmod(0o666)


def give_away(path: Path) -> None:
    os.chown(path, SOMEBODY, -1)


def open_directory(path: Path) -> None:
    path.parent.chmod(0o777)


SPOILING: dict[str, tuple[Callable[[Path], None], str]] = {
    "writable by others": (widen, "may be written by others (mode 0666): chmod go-w it"),
    "somebody else's": (give_away, f"belongs to user {SOMEBODY}: chown it to root"),
    "in a directory that others may write": (open_directory, "the directory"),
}
SPOILT = [pytest.param(how, marks=as_root if how == "somebody else's" else ()) for how in SPOILING]


@pytest.fixture
def private(tmp_path: Path) -> Path:
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    return directory


@pytest.mark.parametrize("how", SPOILT)
def test_a_configuration_or_a_private_socket_that_others_could_have_made_is_refused_at_the_start(
    private: Path, how: str
) -> None:
    spoil, said = SPOILING[how]
    configuration, path = private / "agent.conf", private / "stock.sock"
    configuration.write_text("[general]\nallow-rpcs=guest-exec\n")
    configuration.chmod(0o600)
    assert program("-D", "-c", str(configuration)).returncode == 0
    spoil(configuration)
    with listen_unix(path):
        path.chmod(0o600)
        spoil(path)
        with_socket = program("-m", "unix-listen", "-p", str(private / "agent.sock"), "--stock-path", str(path))
    for done, status, what in (
        (program("-D", "-c", str(configuration)), 2, "the configuration"),
        (with_socket, 1, "the stock agent's socket"),
    ):
        assert done.returncode == status
        assert done.stderr.startswith(f"qemu-ga-extended: {what} is not used: ")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_socket_that_appears_later_and_is_not_to_be_trusted_is_never_connected_to(private: Path) -> None:
    path = private / "stock.sock"
    with ExtendedAgent(str(path), costs={**QUICK, "reconnect_seconds": 0.02}) as agent, listen_unix(path) as listener:
        path.chmod(0o666)
        listener.settimeout(0.5)
        with Client(agent.socket) as client:
            reply = client.execute("guest-set-user-password", username="u", password="c2VjcmV0", crypted=False)  # noqa: S106
            assert "may be written by others" in reply["error"]["desc"]
            assert "return" in client.execute("guest-get-clock")
        with pytest.raises(TimeoutError):
            listener.accept()
        assert agent.read_log().count("may be written by others") == 1


def test_its_own_socket_is_for_its_owner_only(private: Path) -> None:
    with ExtendedAgent(str(private / "none")) as agent:
        assert os.stat(agent.socket).st_mode & 0o177 == 0


@pytest.mark.parametrize("option", ["--logfile", "--pidfile"])
def test_no_link_is_followed_that_others_can_have_put_there(tmp_path: Path, option: str) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    done = program(option, str(tmp_path / "link"), "-m", "unix-listen", "-p", str(tmp_path / "agent.sock"))
    assert done.returncode == 1
    assert f"{tmp_path}/link: Too many levels of symbolic links" in done.stderr
    assert (tmp_path / "victim").read_text() == "untouched"


# -------------------------------------------------------------------------------------------------------------- the log

SECRET = "correct-horse-battery-staple"  # noqa: S105  # nobody's
ENCODED = base64.b64encode(SECRET.encode()).decode()
# Everything by which a secret passes: what the host sends, and what the guest answers with.
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
    f"'{SECRET}",
    f'"{SECRET}\x01"',
    f'{{"execute": "guest-ping", "execute": "{SECRET}"}}',
)


def say_everything(client: Client) -> list[str]:
    """Send every secret in every way; what was answered."""
    said = []
    for command, arguments in SECRETIVE.items():
        said.append(json.dumps(client.execute(command, **arguments)))
    for text in MALFORMED:
        client.send(text.encode() + b"\n")
        client.sync(7)
    return said


def is_secret(text: str) -> bool:
    return SECRET in text or ENCODED in text or "forged" in text


# What a stock agent answers everything with, in a reply or in something that is none.
BLABBED: dict[str, str] = {
    "a reply": f'{{"return": "{SECRET} {ENCODED}"}}\n',
    "a refusal": f'{{"error": {{"class": "GenericError", "desc": "{SECRET}"}}}}\n',
    "no reply": f'{{"{SECRET}": "{ENCODED}"}}\n',
    "no JSON": f"{SECRET}\n",
    "nothing": "",
}


def stock_agent(answer: str, directory: Path) -> StockAgent | ScriptedStock:
    if answer == "a real one":
        return StockAgent()
    return ScriptedStock(directory, lambda _request: [BLABBED[answer].encode()], introduces=False)


@pytest.fixture
def service_manager(private: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What systemd listens on for messages of its services (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(private / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(private / "notify"))
        yield listener


def messages_to(service_manager: socket.socket) -> list[bytes]:
    said = []
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(service_manager.recv(65536))
    return said


@pytest.mark.parametrize("answer", ["a real one", "no agent", *BLABBED])
def test_no_secret_is_logged_on_any_path_not_even_verbosely(
    private: Path, answer: str, service_manager: socket.socket
) -> None:
    with contextlib.ExitStack() as stack:
        path = str(private / "none")
        if answer != "no agent":
            path = stack.enter_context(stock_agent(answer, private)).socket
        agent = stack.enter_context(ExtendedAgent(path, costs=QUICK, verbose=True))
        said = say_everything(stack.enter_context(Client(agent.socket)))
        agent.stop()
        log = agent.read_log()
    assert any(is_secret(text) for text in said), "nothing of it came back, so nothing was tried"
    assert "answered guest-get-command-info" in log or "guest-sync" in log
    assert not is_secret(log), log
    assert all(line.split(": ")[1] in ("info", "error") for line in log.splitlines())
    assert messages_to(service_manager) == [b"READY=1", b"STOPPING=1"]


def test_an_internal_error_is_logged_without_what_led_to_it(
    private: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any) -> None:
        raise KeyError(SECRET)

    program = module("__main__")
    monkeypatch.setattr(program, "Agent", fail)
    monkeypatch.setattr(program.sys, "setrecursionlimit", bool)
    assert program.main(["-m", "unix-listen", "-p", str(private / "sock"), "-c", "/dev/null"], {}) == 1
    said = capfd.readouterr().err
    assert said.startswith("qemu-ga-extended: a defect: KeyError at ")
    assert SECRET not in said


# ----------------------------------------------------------------------------------------------------------- the floods

MIB = 1024 * 1024
CHUNK = 64 * 1024
PING_BEGINS = b'{"execute": "guest-ping", "id": '
FLOODS: dict[str, bytes] = {
    "0xFF": b"\xff" * CHUNK,
    "control characters": b"\x01" * CHUNK,
    "empty objects": b"{}" * (CHUNK // 2),
    "closing brackets": b"}]" * (CHUNK // 2),
    "opening brackets": b"[" * CHUNK,
    "digits": b"1" * CHUNK,
    "one string": b'"' + b"x" * (CHUNK - 1),
    "pings": b'{"execute": "guest-ping"}\n' * (CHUNK // 26),
    "requests for the stock agent": b'{"execute": "guest-get-host-name"}\n' * (CHUNK // 35),
    "long ids": PING_BEGINS + b'"' + b"x" * (CHUNK - 40) + b'"}\n',
    "ids that are six times as long in the reply": PING_BEGINS + b'"' + b"\xc3\xa9" * (7 * MIB) + b'"}\n',
    "ids as long as can be": PING_BEGINS + b'"' + b"x" * (15 * MIB) + b'"}\n',
    "ids that are four times as long in memory": PING_BEGINS + b'"' + b"x" * (15 * MIB) + b'\xf0\x9f\x98\x80"}\n',
    "the same by an escape": PING_BEGINS + b'"' + b"x" * (15 * MIB) + b'\\ud83d\\ude00"}\n',
    "single quotes": b"['" + b'"' * (15 * MIB) + b"']\n",
    "ids of many values": PING_BEGINS + b"[" + b"0," * 130_000 + b"0]}\n",
}
FLOOD_BYTES = 24 * MIB
FLOOD_SECONDS = 1.0


def flood(path: str, piece: bytes, reads: bool) -> None:
    """Send it again and again, until it is much or for long, but once whole; with or without reading the replies."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        connection.settimeout(0.5)
        if reads:
            threading.Thread(target=drain, args=(connection.dup(),), daemon=True).start()
        sent, deadline = 0, time.monotonic() + FLOOD_SECONDS
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < FLOOD_BYTES and (sent < len(piece) or time.monotonic() < deadline):
                sent += connection.send(memoryview(piece)[sent % len(piece) :])
        connection.shutdown(socket.SHUT_RDWR)  # also what is read on the other thread


def drain(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(10.0)
        while connection.recv(MIB):
            pass


def peak_mib(agent: ExtendedAgent) -> float:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.fixture(scope="module")
def beside_a_stock_agent() -> Iterator[ExtendedAgent]:
    with StockAgent() as stock, ExtendedAgent(stock.socket) as agent:
        yield agent


@pytest.mark.parametrize("reads", quick([True, False], [True]), ids=["reading", "not reading"])
@pytest.mark.parametrize("what", quick(FLOODS, ["0xFF", "opening brackets", "ids as long as can be"]))
def test_a_flood_takes_little_memory_and_the_next_client_is_served(
    beside_a_stock_agent: ExtendedAgent, what: str, reads: bool
) -> None:
    agent = beside_a_stock_agent
    flood(agent.socket, FLOODS[what], reads)
    with Client(agent.socket, 20.0) as client:
        client.sync(1)
        assert "return" in client.execute("guest-get-clock")
        assert "return" in client.execute("guest-get-host-name")
    assert peak_mib(agent) < MOST_MIB


# What a socket holds of a client that has gone.
LEFT_BYTES = 200_000


@pytest.mark.parametrize("error", quick([b"}", b"\x01", b"\xff", b"{}", b"1 "], [b"}"]))
def test_what_a_client_has_left_is_gone_through_quickly_and_the_next_one_is_served(
    beside_a_stock_agent: ExtendedAgent, error: bytes
) -> None:
    agent = beside_a_stock_agent
    left = error * (LEFT_BYTES // len(error))

    def cost(reads: bool) -> float:
        """Return the seconds of processor time until the next client is served."""
        before = agent.cpu_seconds()
        with stopped(agent.pid), Client(agent.socket, 60.0) as client:
            client.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.socket.send(left)
            if reads:
                os.kill(agent.pid, signal.SIGCONT)
                client.socket.setblocking(True)
                client.socket.shutdown(socket.SHUT_WR)
                drain(client.socket.dup())
        with Client(agent.socket, 60.0) as client:
            client.sync(1)
        return agent.cpu_seconds() - before

    # Errors that are made and read take four times as long and more.
    assert cost(reads=False) < cost(reads=True) / 2


def test_a_thousand_clients_at_once_are_served_one_after_the_other(beside_a_stock_agent: ExtendedAgent) -> None:
    agent = beside_a_stock_agent
    before = agent.descriptors()
    with contextlib.ExitStack() as stack:
        for _number in range(1000):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            connection.setblocking(False)
            # What the queue has no room for is turned away by the kernel.
            with contextlib.suppress(BlockingIOError):
                connection.connect(agent.socket)
        assert agent.descriptors() <= before + 1
    with Client(agent.socket, 20.0) as client:
        assert "return" in client.execute("guest-get-clock")
    assert peak_mib(agent) < MOST_MIB


def test_when_nothing_comes_any_more_it_sleeps(beside_a_stock_agent: ExtendedAgent) -> None:
    agent = beside_a_stock_agent
    flood(agent.socket, FLOODS["empty objects"], True)
    deadline = time.monotonic() + 30.0
    while True:
        before = agent.wakeups(), agent.cpu_seconds()
        time.sleep(0.5)
        if (agent.wakeups(), agent.cpu_seconds()) == before:
            break
        assert time.monotonic() < deadline, "it is still at work"


# -------------------------------------------------------------------------------------------- the stock agent's floods

LONGEST_REPLY = 16 * MIB
STOCK_FLOODS: dict[str, bytes] = {
    "a line without an end": b"x" * CHUNK,
    "0xFF": b"\xff" * CHUNK,
    "empty lines": b"\n" * CHUNK,
    "empty objects": b"{}\n" * (CHUNK // 3),
    "replies that nobody asked for": b'{"return": {}}\n' * (CHUNK // 15),
    "nested deeply": b"[" * CHUNK + b"\n",
    "a million digits": b'{"return": ' + b"9" * (16 * CHUNK) + b"}\n",
    "false synchronisations": b'\xff{"return": 1}\n' * (CHUNK // 16),
    "the largest replies": b'{"return": "' + b"x" * (LONGEST_REPLY - 100) + b'"}\n',
}
# One reply that the client has yet to read, and one that is being received, in a buffer that grows by eighths.
MOST_MIB_BESIDE_A_FLOOD = 30 + 5 * LONGEST_REPLY // MIB


@pytest.mark.parametrize("what", quick(STOCK_FLOODS, ["a line without an end"]))
def test_a_stock_agent_that_floods_takes_bounded_memory_and_the_time_commands_live(private: Path, what: str) -> None:
    is_at_it = threading.Event()

    def flood_without_end(_request: dict[str, Any]) -> Iterator[bytes]:
        while True:  # the server ends it by shutting the connection down
            yield STOCK_FLOODS[what]
            is_at_it.set()

    stock = ScriptedStock(private, flood_without_end, introduces=False)
    with serving(stock, 60.0, costs={**QUICK, "reply_bytes": LONGEST_REPLY}) as (_stock, agent, client):
        assert is_at_it.wait(60.0)
        for number in range(1, 4):
            client.sync(number)
            assert "return" in client.execute("guest-get-clock")
            client.send(b'{"execute": "guest-get-host-name"}\n')  # nobody reads on while its reply comes
        client.sync(4)
        assert "return" in client.execute("guest-get-clock")
        assert peak_mib(agent) < MOST_MIB_BESIDE_A_FLOOD
