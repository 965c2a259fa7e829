"""A hostile agent behind each of the channels, and the options by which a module reaches it there."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.hostile.agent import HostileAgent, Play, Send, perform
from tests.hostile.attacks import LIBVIRT
from tests.hostile.case import Case
from tests.hostile.guest import EXTENDED, Guest
from tests.hostile.libvirt_daemon import Daemon
from tests.processes.socket_server import SocketServer, listen_tcp, listen_unix

_CHUNK = 4096  # as qemu-ga reads (qga/guest-agent-core.h, QEMU 10.0.13)
_HOSTS = {"tcp": "127.0.0.1", "tcp6": "::1"}


@contextmanager
def serving(listener: socket.socket, agent: HostileAgent) -> Iterator[HostileAgent]:
    """The agent answers on a listening socket, one client at a time."""

    def talk(server: SocketServer, connection: socket.socket) -> None:
        goes_on = perform(agent.connected(), connection.sendall, server.pause)
        while goes_on and (data := connection.recv(_CHUNK)):
            goes_on = perform(agent.received(data), connection.sendall, server.pause)

    with SocketServer(listener, talk):
        yield agent


@contextmanager
def reached(agent: HostileAgent, channel: str, module: str, **options: Any) -> Iterator[Case]:
    """A case whose guest has this agent on this channel."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        path, daemon = str(directory / "agent.sock"), str(directory / "libvirt.sock")
        listener = listen_tcp(_HOSTS[channel]) if channel in _HOSTS else listen_unix(Path(path))
        stack.enter_context(serving(listener, agent))
        if channel == LIBVIRT:
            stack.enter_context(Daemon(Path(daemon), Path(path)))
        port = listener.getsockname()[1] if channel in _HOSTS else 0
        # The options that name the guest, and the stand-ins for the way to it.
        ways: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
            "unix": ({"socket": path}, {}),
            "tcp": ({"address": f"127.0.0.1:{port}"}, {}),
            "tcp6": ({"address": f"[::1]:{port}"}, {}),
            "vsock": ({"vsock": "42:9999"}, {"vsock": path}),
            LIBVIRT: ({"domain": "tenant"}, {"libvirtd": daemon}),
        }
        named, stand_ins = ways[channel]
        yield Case(module, {**named, **options}, **stand_ins)


@contextmanager
def several(plays: Mapping[str, Play]) -> Iterator[dict[str, str]]:
    """Yield the names of plays by sockets. A guest begins its play when it is asked for something but a sync."""

    def after_sync(play: Play) -> Play:
        return lambda asked: [Send(asked.answer())] if asked.command.startswith("guest-sync") else play(asked)

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        names = {}
        for number, (name, play) in enumerate(plays.items()):
            path = directory / f"{number:03}.sock"
            stack.enter_context(serving(listen_unix(path), HostileAgent(Guest(EXTENDED), after_sync(play))))
            names[str(path)] = name
        yield names
