"""The process of a simulated fleet. Its argument is the number of its end of the pipe; it ends when that is closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection

from tests.fakes.agent import Agent
from tests.fakes.faults import Pause
from tests.fakes.fleet import Agents, Profile


async def attend(agent: Agent, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            client, _address = await loop.sock_accept(listener)
        except OSError:  # no descriptor is left: the client waits
            await asyncio.sleep(0.1)
            continue
        with client, contextlib.suppress(OSError):
            while data := await loop.sock_recv(client, 65536):
                await _answer(agent, client, data)
        agent.disconnected()


async def _answer(agent: Agent, client: socket.socket, data: bytes) -> None:
    """Send what the agent can say without a pause in one piece."""
    loop = asyncio.get_running_loop()
    said = b""
    for piece in agent.received(data):
        if isinstance(piece, bytes):
            said += piece
            continue
        assert isinstance(piece, Pause), "no fault of a fleet's agents is another one"
        if said:
            await loop.sock_sendall(client, said)
        said = b""
        await asyncio.sleep(piece.seconds)
    if said:
        await loop.sock_sendall(client, said)


async def serve(pipe: Connection, described: Mapping[str, tuple[str, Profile]]) -> None:
    loop = asyncio.get_running_loop()
    agents = Agents({name: profile.agent(name) for name, (_path, profile) in described.items()})
    attended = []
    for name, (path, profile) in described.items():
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.setblocking(False)
        listener.bind(path)
        if profile.fault == "refuses":
            listener.close()  # the file stays, and nothing listens on it
            continue
        listener.listen(16)
        attended.append(loop.create_task(attend(agents[name], listener)))
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
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    (described,) = pipe.recv()
    try:
        asyncio.run(serve(pipe, described))
    except OSError as error:
        pipe.send(error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
