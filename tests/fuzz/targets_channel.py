"""Channels with the input at their other end."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import addresses
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import libvirt as libvirt_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import stream as stream_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotConnectedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.libvirt_replies import LibvirtError
from tests.fakes.one_domain import FakeLibvirt
from tests.fuzz.targets_replies import require_documented

LIMITS = Limits(size=512, nesting=16)
# A channel's random number for its synchronization. The corpus depends on it.
SYNC_ID_BYTES = (4242 << 1).to_bytes(4, "big")
CALLS = (Request("guest-ping"), Request("guest-info"), Request("guest-get-time"))
# Long enough unless something hangs, because a peer closes the connection after its data.
SECONDS = 20.0


class _Peer(addresses.UnixAddress):
    """Connects to an end that has already sent everything and hung up."""

    async def connect(self, _deadline: tasks.Deadline) -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        theirs.sendall(_Peer.data)
        theirs.shutdown(socket.SHUT_WR)
        _Peer.others.append(theirs)
        ours.setblocking(False)
        return ours

    def listener(self, _connection: socket.socket) -> tuple[int, ...]:
        return ()

    data = b""
    others: list[socket.socket] = []  # noqa: RUF012  # emptied after each input


def stream(data: bytes) -> None:
    """The input is everything that a peer sends, before and after requests."""
    _Peer.data = data[: 64 * 1024]

    async def exchange() -> None:
        channel = stream_module.StreamChannel(_Peer("/run/agent.sock"), LIMITS)
        try:
            for request in CALLS:
                await channel.call(request, SECONDS)
        finally:
            await channel.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module.os, "urandom", lambda _size: SYNC_ID_BYTES)
        try:
            tasks.run(exchange())
        except (RemoteProtocolError, NotConnectedError) as error:
            require_documented(error)
        finally:
            for other in _Peer.others:
                other.close()
            _Peer.others.clear()


class _Line:
    """A line without threads: fuzzing concerns the parts of the channel that run on them."""

    uri = "qemu:///system"
    is_shared = False

    def __init__(self, fake: FakeLibvirt) -> None:
        self.libvirt = self.libvirt_qemu = fake
        self._fake = fake
        self._opened: Any = None

    def connection(self) -> Any:
        self._opened = self._opened or self._fake.open(self.uri)
        return self._opened

    def is_alive(self, _connection: Any) -> bool:
        return True

    def connection_error(self, error: Any) -> QgaError:
        raise AssertionError(error)


def libvirt(data: bytes) -> None:
    """The input is a reply that libvirt passes on, or an error with the agent's text, depending on the first byte."""
    fake = FakeLibvirt()
    kind, text = data[:1], data[1:].decode("utf-8", "replace")

    def answer(_request: dict[str, Any]) -> str:
        if kind < b"\x80":
            return text
        raise LibvirtError(kind[0] - 0x80, text)

    fake.replies["guest-get-osinfo"] = answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "import_libvirt", lambda: (fake, fake))
        line: Any = _Line(fake)
        channel = libvirt_module.LibvirtChannel("web1", "qemu:///system", line, LIMITS)
        with contextlib.closing(channel._caller):
            try:
                channel._perform(Request("guest-get-osinfo"), SECONDS)
            except RemoteProtocolError as error:
                require_documented(error)
            except QgaError as error:
                assert kind >= b"\x80"
                require_documented(error)
