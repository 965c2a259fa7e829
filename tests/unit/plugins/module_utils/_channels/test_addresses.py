"""Connecting to the addresses of agents, and the errors of failed attempts.

vsock has no loopback transport on many machines (it is a kernel module), so a unix socket stands in for its sockets
here: the tests check the address that the channel passes to the kernel, and the errors that the kernel returns.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import addresses
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import (
    TcpAddress,
    UnixAddress,
    VsockAddress,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Exchange
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    InvalidOptionError,
    NotConnectedError,
    NotFoundError,
    PermissionDeniedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.agent import FakeAgent
from tests.processes.socket_server import listen_tcp, listen_unix
from tests.support.stream_channels import PING, PONG, TIMEOUT, agent_and_channel, at_most, channel_to, fault_of


def connecting(address: addresses.Address) -> Callable[[], Exchange]:
    return lambda: channel_to(address).call(PING, TIMEOUT)


@pytest.mark.parametrize(
    ("where", "kind", "reason", "hint"),
    [
        ("missing.sock", NotFoundError, "No such file or directory", "has this socket"),
        ("file/agent.sock", NotFoundError, "Not a directory", "has this socket"),
        ("file", NotConnectedError, "Connection refused", "Nothing listens there"),
    ],
)
def test_connecting_to_a_path_where_nothing_listens_is_an_error(
    where: str, kind: type[QgaError], reason: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    error = fault_of(kind, connecting(UnixAddress(str(tmp_path / where))))
    assert error.message == f"cannot connect to socket '{tmp_path / where}': {reason}"
    assert hint in error.hint


def test_a_path_that_is_too_long_is_refused_before_connecting() -> None:
    error = fault_of(InvalidOptionError, connecting(UnixAddress("/" + "é" * 53 + "x")))  # 108 bytes
    assert "107 bytes" in error.message
    assert "symbolic link" in error.hint
    fault_of(NotFoundError, connecting(UnixAddress("/" + "é" * 53)))


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.EACCES, PermissionDeniedError, "become"),
        (errno.EPERM, PermissionDeniedError, "become"),
        (errno.ENODEV, NotFoundError, "vsock"),
        (errno.EAGAIN, UnresponsiveError, "one client at a time"),
        (errno.ETIMEDOUT, UnresponsiveError, "one client at a time"),
        (errno.ECONNRESET, NotConnectedError, "Nothing listens there"),
        (errno.EHOSTUNREACH, NotConnectedError, "Nothing listens there"),
    ],
)
def test_the_kernels_reason_is_in_the_error(
    number: int, kind: type[QgaError], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingSocket(socket.socket):
        def connect_ex(self, _address: Any) -> int:
            return number

    monkeypatch.setattr(socket, "socket", FailingSocket)
    error = fault_of(kind, connecting(UnixAddress("/run/agent.sock")))
    assert error.message == f"cannot connect to socket '/run/agent.sock': {os.strerror(number)}"
    assert hint in error.hint


def test_connecting_waits_while_the_queue_of_clients_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class BusySocket(socket.socket):
        def connect_ex(self, address: Any) -> int:
            return numbers.pop() if numbers else super().connect_ex(address)

    numbers = [errno.EAGAIN] * 2
    with agent_and_channel(tmp_path) as (_agent, channel):
        monkeypatch.setattr(socket, "socket", BusySocket)
        assert channel.call(PING, 5.0).reply == PONG
    assert numbers == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_refused_tcp_connection_is_not_connected(host: str) -> None:
    with listen_tcp(host) as listener:
        port = listener.getsockname()[1]
    error = fault_of(NotConnectedError, connecting(TcpAddress(host, port)))
    shown = f"[{host}]" if ":" in host else host
    assert error.message == f"cannot connect to address '{shown}:{port}': Connection refused"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots", "9999.1.1.1"])
def test_a_name_that_cannot_be_resolved_is_not_found(host: str) -> None:
    with at_most(1.0):
        error = fault_of(NotFoundError, connecting(TcpAddress(host, 4444)))
    assert error.message.startswith(f"cannot connect to address '{host}:4444': ")


def test_a_hanging_resolver_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: time.sleep(3.0))
    with at_most(0.0):
        error = fault_of(UnresponsiveError, connecting(TcpAddress("slow.invalid", 1)))
    assert "was not resolved in time" in error.message


def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen_tcp() as listener, FakeAgent(listener):
        port = listener.getsockname()[1]
        v6, v4 = (
            (family, socket.SOCK_STREAM, 6, "", (host, port))
            for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))
        )
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [v6, v4])
        with channel_to(TcpAddress("both.invalid", port)) as channel:
            assert channel.call(PING, 5.0).reply == PONG


def test_all_addresses_of_a_name_share_one_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    def noted(descriptor: int, deadline: tasks.Deadline) -> tasks.Wait:
        allowed.append(deadline.remaining())
        return tasks.writable(descriptor, deadline)

    monkeypatch.setattr(addresses, "writable", noted)
    # It has room for one client; the next one gets no answer.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: list(found))
        with at_most(TIMEOUT):
            fault_of(UnresponsiveError, connecting(TcpAddress("many.invalid", 1)))
    assert 0.0 < sum(allowed) < 0.4


def test_a_failed_connection_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    # The kernel accepts one more client than the backlog.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
        listen_unix(path),
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as two,
    ):
        one.connect(str(path))
        two.connect(str(path))
        before = set(os.listdir("/proc/self/fd"))
        fault_of(UnresponsiveError, connecting(TcpAddress(*full.getsockname())))
        fault_of(UnresponsiveError, connecting(UnixAddress(str(path))))
        fault_of(NotFoundError, connecting(TcpAddress("two..dots", 1)))
        fault_of(NotFoundError, connecting(UnixAddress("/nonexistent")))
        assert set(os.listdir("/proc/self/fd")) <= before


def test_vsock_carries_requests_to_its_cid_and_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.sock"
    addresses: list[Any] = []

    class StandIn(socket.socket):
        def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
            self.is_vsock = family == socket.AF_VSOCK
            super().__init__(socket.AF_UNIX if self.is_vsock else family, *rest, **named)

        def connect_ex(self, address: Any) -> int:
            addresses.append(address)
            return super().connect_ex(str(path))

    with FakeAgent(listen_unix(path)):
        monkeypatch.setattr(socket, "socket", StandIn)
        with channel_to(VsockAddress(42, 9999)) as channel:
            assert channel.call(PING, 5.0).reply == PONG
    assert addresses == [(42, 9999)]


def test_a_system_without_vsock_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_VSOCK")
    error = fault_of(NotConnectedError, connecting(VsockAddress(42, 9999)))
    assert error.message == "cannot connect to vsock '42:9999': this system has no vsock"
