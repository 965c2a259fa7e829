"""The process of a simulated fleet. Its argument is the descriptor of a pipe; it exits when the pipe is closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection

from tests.fakes.agent import Agent
from tests.fakes.faults import Pause, Piece
from tests.fakes.fleet import Agents, Profile


class Port:
    """Serves one client of the agent after the other. Clients measure, and a coroutine would be slower."""

    def __init__(self, loop: asyncio.AbstractEventLoop, agent: Agent, listener: socket.socket) -> None:
        self._loop = loop
        self._agent = agent
        self._listener = listener
        self._wait()

    def _wait(self) -> None:
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        try:
            self._client, _address = self._listener.accept()
        except OSError:  # no descriptor is left: the client waits
            self._loop.call_later(0.1, self._wait)
            return
        self._loop.add_reader(self._client.fileno(), self._read)

    def _read(self) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = self._client.recv(65536)
        if data:
            self._go_on(self._agent.received(data))
            return
        self._loop.remove_reader(self._client.fileno())
        self._client.close()
        self._agent.disconnected()
        self._wait()

    def _go_on(self, pieces: Iterator[Piece]) -> None:
        """Send everything up to the next pause at once. The agent continues even if the client is gone."""
        data, pause = b"", None
        for piece in pieces:
            if isinstance(piece, bytes):
                data += piece
                continue
            assert isinstance(piece, Pause), "agents of a fleet have no other faults"
            pause = piece
            break
        with contextlib.suppress(OSError):
            self._client.sendall(data)
        if pause is not None:
            self._loop.remove_reader(self._client.fileno())
            self._loop.call_later(pause.seconds, self._resume, pieces)

    def _resume(self, pieces: Iterator[Piece]) -> None:
        self._loop.add_reader(self._client.fileno(), self._read)
        self._go_on(pieces)


async def serve(pipe: Connection, described: Mapping[str, tuple[str, Profile]]) -> None:
    loop = asyncio.get_running_loop()
    agents = Agents({name: profile.agent(name) for name, (_path, profile) in described.items()})
    ports = []
    for name, (path, profile) in described.items():
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(path)
        if profile.fault == "refuses":
            listener.close()  # the file stays, but nothing listens
            continue
        listener.listen(16)
        ports.append(Port(loop, agents[name], listener))
    # There are many objects by now and they all stay, so the garbage collector need not scan them repeatedly.
    gc.collect()
    gc.freeze()
    ended = asyncio.Event()

    def obey() -> None:
        try:
            do, *arguments = pipe.recv()
            pipe.send(getattr(agents, do)(*arguments))
        except (EOFError, OSError):
            loop.remove_reader(pipe.fileno())
            ended.set()
        except KeyError as error:  # reported to the process that asked
            pipe.send(error)

    loop.add_reader(pipe.fileno(), obey)
    pipe.send(None)
    await ended.wait()


def main(descriptor: int) -> None:
    pipe = Connection(descriptor)
    # Ctrl-C reaches all programs of a terminal; the process that started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (described,) = pipe.recv()
    try:
        asyncio.run(serve(pipe, described))
    except OSError as error:
        pipe.send(error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
