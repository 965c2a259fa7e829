# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stock agent listens on no TCP port. QEMU's character devices do, and pass bytes on, as this forwarder does."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable

from tests.fakes.agent import SocketServer

_CHUNK = 65536


def forward_to(path: str, change: Callable[[bytes], bytes] = bytes) -> Callable[[SocketServer, socket.socket], None]:
    """What a :class:`SocketServer` does to forward its client to a unix socket, end of file included. ``change`` is
    made to what the client sends, as it comes.
    """

    def talk(_server: SocketServer, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.connect(path)
            destinations = {client: agent, agent: client}
            while destinations:
                for source in select.select(list(destinations), [], [])[0]:
                    data = source.recv(_CHUNK)
                    if data:
                        destinations[source].sendall(change(data) if source is client else data)
                    else:
                        destinations.pop(source).shutdown(socket.SHUT_WR)

    return talk
