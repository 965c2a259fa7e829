"""Servers on sockets, each with a thread of its own, and behaviors of servers that are not agents."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

_CHUNK = 65536


def listen_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(1)
    return listener


def listen_tcp(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1)


class _Stopped(Exception):  # noqa: N818  # not an error: the test is over
    """The server has to stop."""


class SocketServer:
    """Serves one client at a time on a listening socket, from a thread: ``with SocketServer(listener, talk):``.

    ``talk`` gets this server and the connection, and returns or raises OSError when done with it.
    """

    def __init__(self, listener: socket.socket, talk: Callable[[SocketServer, socket.socket], None]) -> None:
        self._listener = listener
        self._talk = talk
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="fake agent", daemon=True)

    def __enter__(self) -> SocketServer:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping.set()
        # A thread that blocks in accept or recv is woken by a shutdown, not by a close.
        with self._lock, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5.0)
        self._listener.close()
        if self._thread.is_alive():
            raise RuntimeError("the fake agent's thread did not end")

    def pause(self, seconds: float) -> None:
        if seconds > 0 and self._stopping.wait(seconds):
            raise _Stopped

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _peer = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connection = connection
            with contextlib.suppress(OSError, _Stopped):
                if not self._stopping.is_set():
                    self._talk(self, connection)
            with self._lock:
                self._connection = None
                connection.close()


def banner(data: bytes) -> Callable[[SocketServer, socket.socket], None]:
    """Return the behavior of a server that talks first and understands nothing, such as a mail server."""

    def talk(_server: SocketServer, connection: socket.socket) -> None:
        connection.sendall(data)
        while connection.recv(_CHUNK):
            connection.sendall(b"500 5.5.1 Command unrecognized\r\n")

    return talk


def echo(_server: SocketServer, connection: socket.socket) -> None:
    while data := connection.recv(_CHUNK):
        connection.sendall(data)


def forward_to(path: str) -> Callable[[SocketServer, socket.socket], None]:
    """Return the behavior of a proxy to a unix socket, which also forwards the end of file."""

    def talk(_server: SocketServer, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.connect(path)
            destinations = {client: agent, agent: client}
            while destinations:
                for source in select.select(list(destinations), [], [])[0]:
                    data = source.recv(_CHUNK)
                    if data:
                        destinations[source].sendall(data)
                    else:
                        destinations.pop(source).shutdown(socket.SHUT_WR)

    return talk
