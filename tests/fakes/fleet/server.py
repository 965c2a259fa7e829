"""The process of a simulated fleet. Its argument is the number of its end of the pipe; it ends when that is closed."""

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
    """Lets one client of the agent in after the other. No coroutine is as quick, and clients measure."""

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
        """Send what the agent can say without a pause in one piece. It is carried out though the client has gone."""
        said, pause = b"", None
        for piece in pieces:
            if isinstance(piece, bytes):
                said += piece
                continue
            assert isinstance(piece, Pause), "no fault of a fleet's agents is another one"
            pause = piece
            break
        with contextlib.suppress(OSError):
            self._client.sendall(said)
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
            listener.close()  # the file stays, and nothing listens on it
            continue
        listener.listen(16)
        ports.append(Port(loop, agents[name], listener))
    # What is here by now stays, and is much; the garbage collector need not look at it again and again.
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
        except KeyError as error:  # for the process that asked
            pipe.send(error)

    loop.add_reader(pipe.fileno(), obey)
    pipe.send(None)
    await ended.wait()


def main(descriptor: int) -> None:
    pipe = Connection(descriptor)
    # It comes from a terminal for all programs in it; the one that started this one ends it.
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
