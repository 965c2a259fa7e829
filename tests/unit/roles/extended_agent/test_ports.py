"""The ports to the host: sockets with successive clients, and a device that stays open."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.extended_agent import module

ports = module("ports")
stream = module("stream")

SECONDS = 5.0
PING = b'{"execute": "guest-ping"}'
PONG = b'{"return": {}}\n'


@pytest.fixture
def dispatcher(turned: Any, stock: Any, tmp_path: Path) -> Any:
    log, costs, policy = module("log").Log("/dev/null"), module("limits").Costs(), module("policy")
    known = module("stock").Stock(turned.loop, stock.path, str(tmp_path), costs, log)
    rules = policy.Policy(policy.Lists(blocked=frozenset(("guest-update-time",))), known)  # the clock is the real one
    context = module("own_commands").Context(module("clock").KernelClock(), known, rules, lambda: None)
    return module("dispatch").Dispatcher(turned.loop, context, costs, log)


class Listening:
    """A listening port with its log in a file; a vsock port if the ``cids`` of its clients are given."""

    def __init__(self, turned: Any, dispatcher: Any, directory: Path, cids: list[int] | None = None) -> None:
        self.turned = turned
        self.path = str(directory / "agent.sock")
        self.log = directory / "log"
        log = module("log").Log(str(self.log))

        def listen() -> Any:
            return ports.listen_unix(self.path) if cids is None else Vsock(self.path, cids)

        self.port = ports.ListeningPort(turned.loop, dispatcher, log, listen)
        self.port.open()

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(SECONDS)  # do not wait forever if the queue is full
        client.connect(self.path)
        client.setblocking(False)
        return client

    def ask(self, client: socket.socket, data: bytes) -> bytes:
        client.send(data)
        return self.heard(client)

    def heard(self, client: socket.socket) -> bytes:
        self.turned.settle()
        try:
            return client.recv(65536)
        except BlockingIOError:
            return b""


@pytest.fixture
def listening(turned: Any, dispatcher: Any, tmp_path: Path) -> Listening:
    return Listening(turned, dispatcher, tmp_path)


@pytest.mark.parametrize("error", [b"}", b"\xff", b"{}"])
def test_no_errors_are_created_for_a_disconnected_client_but_its_requests_are_carried_out(
    listening: Listening, stock: Any, monkeypatch: pytest.MonkeyPatch, error: bytes
) -> None:
    made: list[Any] = []
    monkeypatch.setattr(module("requests"), "refusal_line", lambda *given: made.append(given) or b"")
    with listening.client() as client:
        client.send(error * 1000 + b'{"execute": "guest-exec"}' + error * 1000)
    with listening.client() as after:
        listening.turned.until(lambda: "guest-exec" in stock.commands)
        stock.send(b'{"return": 1}\n')
        assert listening.ask(after, PING) == PONG
        assert made == []
        listening.ask(after, b"}")
    assert len(made) == 1


def test_the_next_client_is_served_after_a_reset(listening: Listening) -> None:
    with listening.client() as first, listening.client() as second:
        first.send(PING)
        listening.turned.settle()
        first.close()  # with a reply unread, which is a reset
        assert listening.ask(second, PING) == PONG


@pytest.mark.slow
def test_disconnected_clients_leave_no_descriptors(listening: Listening) -> None:
    def come_and_go() -> None:
        for request in (PING, b'{"execute": "guest-', b"", b"[]"):
            with listening.client() as client:
                listening.ask(client, request)
            listening.turned.settle()

    come_and_go()
    before = len(os.listdir("/proc/self/fd"))
    for _round in range(5):
        come_and_go()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_port_rejects_clients(listening: Listening) -> None:
    with listening.client() as client:
        assert listening.ask(client, PING) == PONG
        listening.port.close()
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        listening.client()


# -------------------------------------------------------------------------------------------------------------- vsock

HYPERVISOR, LOOPBACK, HOST, ITSELF, OTHER_GUEST, ANY = 0, 1, 2, 3, 52, 2**32 - 1


class Vsock:
    """A listening Unix socket that poses as vsock, with these CIDs for successive clients."""

    family = socket.AF_VSOCK

    def __init__(self, path: str, cids: list[int]) -> None:
        self._listener = ports.listen_unix(path)
        self._cids = cids

    def accept(self) -> tuple[socket.socket, tuple[int, int]]:
        client, _address = self._listener.accept()
        return client, (self._cids.pop(0), 1024)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


@pytest.mark.parametrize("cid", [HYPERVISOR, LOOPBACK, ITSELF, OTHER_GUEST, ANY])
def test_on_vsock_only_the_host_is_served(turned: Any, dispatcher: Any, tmp_path: Path, cid: int) -> None:
    listening = Listening(turned, dispatcher, tmp_path, [cid, HOST, cid])
    with listening.client() as stranger, listening.client() as host:
        stranger.send(PING)
        turned.settle()
        with pytest.raises(ConnectionResetError):
            stranger.recv(1)
        assert listening.ask(host, PING) == PONG
    turned.settle()
    with listening.client() as again:
        assert listening.heard(again) == b""
        assert again.recv(1) == b""


def test_many_rejected_clients_cause_one_log_line_and_leave_nothing_open(
    turned: Any, dispatcher: Any, tmp_path: Path
) -> None:
    listening = Listening(turned, dispatcher, tmp_path, [LOOPBACK] * 100 + [HOST])
    turned.settle()
    gc.collect()  # descriptors from earlier tests could be closed at any time
    before = len(os.listdir("/proc/self/fd"))
    for _round in range(10):
        crowd = [listening.client() for _client in range(10)]
        turned.settle()
        turned.settle()
        for client in crowd:
            client.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    lines = listening.log.read_text().splitlines()
    assert [line.partition("error: ")[2] for line in lines] == [
        "rejected a client with vsock CID 1: only the host (CID 2) is served"
    ]
    with listening.client() as host:
        assert listening.ask(host, PING) == PONG


def test_a_device_that_cannot_be_opened_is_lost_or_retried(turned: Any, dispatcher: Any) -> None:
    def fail() -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    lost: list[Any] = []
    log = module("log").Log("/dev/null")
    ports.DevicePort(turned.loop, dispatcher, log, fail, lost.append).open()
    assert [str(problem) for problem in lost] == ["the port to the host cannot be used: No such file or directory"]
    ports.DevicePort(turned.loop, dispatcher, log, fail).open()
    assert [timer.action.__name__ for timer in turned.loop._timers] == ["open"]
