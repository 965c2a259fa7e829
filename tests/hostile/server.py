# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile agents behind real sockets of this machine."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator

from tests.hostile.actions import Action, Deaf, HangUp, Pause, Send
from tests.hostile.agent import HostileAgent
from tests.processes.socket_server import SocketServer

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
