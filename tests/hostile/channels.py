"""A hostile agent behind each of the channels, and the options by which a module reaches it there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hostile.agent import Action, Deaf, HangUp, HostileAgent, Pause, Send
from tests.hostile.attacks import LIBVIRT
from tests.hostile.libvirt_daemon import Daemon
from tests.processes.socket_server import SocketServer, listen_tcp, listen_unix

_CID, _PORT = 42, 9999
_CHUNK = 4096  # as qemu-ga reads (qga/guest-agent-core.h, QEMU 10.0.13)
_FOR_EVER = 3600.0  # seconds; every wait ends with the server


@contextlib.contextmanager
def serving(listener: socket.socket, agent: HostileAgent) -> Iterator[HostileAgent]:
    """The agent answers on a listening socket, one client at a time."""
    with SocketServer(listener, _talking(agent)):
        yield agent


def _talking(agent: HostileAgent) -> Callable[[SocketServer, socket.socket], None]:
    def talk(server: SocketServer, connection: socket.socket) -> None:
        if not _do(server, connection, agent.connected()):
            return
        while data := connection.recv(_CHUNK):
            if not _do(server, connection, agent.received(data)):
                return

    return talk


def _do(server: SocketServer, connection: socket.socket, actions: Iterable[Action]) -> bool:
    """Do them in turn; false: hang up."""
    for action in actions:
        if isinstance(action, Send):
            connection.sendall(action.data)
        elif isinstance(action, Pause):
            server.pause(action.seconds)
        elif isinstance(action, Deaf):
            server.pause(_FOR_EVER)
        elif isinstance(action, HangUp):
            return False
    return True


@dataclass(frozen=True)
class Way:
    """``options`` name the guest; the rest is what a :class:`~tests.hostile.worker.Case` needs besides."""

    options: Mapping[str, Any]
    stand_ins: Mapping[str, str] = field(default_factory=dict)


Reached = Callable[[HostileAgent, Path], contextlib.AbstractContextManager[Way]]


@contextlib.contextmanager
def _unix(agent: HostileAgent, directory: Path) -> Iterator[Way]:
    path = directory / "agent.sock"
    with serving(listen_unix(path), agent):
        yield Way({"socket": str(path)})


@contextlib.contextmanager
def _tcp(agent: HostileAgent, _directory: Path) -> Iterator[Way]:
    listener = listen_tcp()
    with serving(listener, agent):
        yield Way({"address": f"127.0.0.1:{listener.getsockname()[1]}"})


@contextlib.contextmanager
def _tcp6(agent: HostileAgent, _directory: Path) -> Iterator[Way]:
    listener = listen_tcp("::1")
    with serving(listener, agent):
        yield Way({"address": f"[::1]:{listener.getsockname()[1]}"})


@contextlib.contextmanager
def _vsock(agent: HostileAgent, directory: Path) -> Iterator[Way]:
    path = directory / "agent.sock"
    with serving(listen_unix(path), agent):
        yield Way({"vsock": f"{_CID}:{_PORT}"}, {"vsock": str(path)})


@contextlib.contextmanager
def _libvirt(agent: HostileAgent, directory: Path) -> Iterator[Way]:
    path, daemon = directory / "agent.sock", directory / "libvirt.sock"
    with serving(listen_unix(path), agent), Daemon(daemon, path):
        yield Way({"domain": "tenant"}, {"libvirtd": str(daemon)})


CHANNELS: Mapping[str, Reached] = {
    "unix": _unix,
    "tcp": _tcp,
    "tcp6": _tcp6,
    "vsock": _vsock,
    LIBVIRT: _libvirt,
}
