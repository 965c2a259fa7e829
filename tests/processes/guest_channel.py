"""A guest's channel like QEMU's on the host: a socket for one client at a time, and a permanent agent.

It delivers all data that it read from a client, even if the client is gone by then. The agent's answer then waits for
the next client, as it may in the buffers of a real channel.
"""

from __future__ import annotations

import select
import socket
import threading
from pathlib import Path

from tests.processes.socket_server import SocketServer, listen_unix

_CHUNK = 65536
PATIENCE_SECONDS = 30.0


class Hold:
    """Holds the next request for a command, or the reply to it, until it is released."""

    def __init__(self, command: str, is_reply: bool) -> None:
        self.is_reply = is_reply
        self._name = f'"{command}"'.encode()
        self._is_here = threading.Event()
        self._is_released = threading.Event()

    def wait(self) -> None:
        """Wait until it is held here."""
        if not self._is_here.wait(PATIENCE_SECONDS):
            raise RuntimeError("nothing to hold has arrived")

    def release(self) -> None:
        self._is_released.set()

    # The methods below run on the channel's thread.

    def is_due(self, data: bytes) -> bool:
        return not self._is_here.is_set() and self._name in data

    def keep(self) -> None:
        self._is_here.set()
        self._is_released.wait()


class GuestChannel:
    """``with GuestChannel(path, agent_path) as channel:`` clients connect to ``path``."""

    def __init__(self, path: Path, agent_path: str) -> None:
        self._path = path
        self._agent_path = agent_path
        self._holds: list[Hold] = []

    def __enter__(self) -> GuestChannel:
        self._agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._agent.connect(self._agent_path)
        self._server = SocketServer(listen_unix(self._path), self._carry)
        self._server.__enter__()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Behave like QEMU at the end of its guest: hang up, and leave the socket's file. May be called twice."""
        for hold in self._holds:
            hold.release()
        self._server.__exit__(None, None, None)
        self._agent.close()

    def hold(self, command: str, is_reply: bool = False) -> Hold:
        """Hold the next one that arrives."""
        hold = Hold(command, is_reply)
        self._holds.append(hold)
        return hold

    def _carry(self, _server: SocketServer, client: socket.socket) -> None:
        awaited: Hold | None = None
        while True:
            for source in select.select([client, self._agent], [], [])[0]:
                data = source.recv(_CHUNK)
                if not data:
                    return
                if source is self._agent:
                    if awaited is not None:
                        awaited.keep()
                        awaited = None
                    client.sendall(data)
                    continue
                hold = next((hold for hold in self._holds if hold.is_due(data)), None)
                if hold is not None and not hold.is_reply:
                    hold.keep()
                self._agent.sendall(data)
                awaited = hold if hold is not None and hold.is_reply else None
