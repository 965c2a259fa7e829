"""An extended agent between its two peers: a stock agent, real or played by a test, and a client."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing

from tests.processes.socket_server import SocketServer, listen_unix
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent

HANG_UP = b"HANG UP"
# Bytes to send, and seconds to wait.
Pieces = Iterable["bytes | float"]


class Served(NamedTuple):
    stock: Any
    agent: ExtendedAgent
    client: Client


@contextlib.contextmanager
def serving(stock: StockAgent | ScriptedStock, seconds: float = 10.0, **options: Any) -> Iterator[Served]:
    """Run a stock agent, with an extended agent in front of it, and a client of that one."""
    with stock, ExtendedAgent(stock.socket, **options) as agent, Client(agent.socket, seconds) as client:
        yield Served(stock, agent, client)


class ScriptedStock:
    """A stock agent that a test plays: ``answer`` gets each request and returns what to send.

    It answers syncs by itself and, if it ``introduces`` itself, what an extended agent asks at the beginning.
    """

    def __init__(self, directory: Path, answer: Callable[[dict[str, Any]], Pieces], introduces: bool = True) -> None:
        self.socket = str(directory / "scripted.sock")
        self._answer = answer
        self._own: dict[str, bytes] = {}
        if introduces:
            self._own["guest-fsfreeze-status"] = b'{"return": "thawed"}\n'
            self._own["guest-info"] = b'{"return": {"version": "1.2.3", "supported_commands": []}}\n'
        self._server = SocketServer(listen_unix(Path(self.socket)), self._talk)

    def __enter__(self) -> ScriptedStock:
        self._server.__enter__()
        return self

    def __exit__(self, *arguments: Any) -> None:
        self._server.__exit__(*arguments)

    def _talk(self, server: SocketServer, connection: socket.socket) -> None:
        decoder = framing.Decoder()
        while data := connection.recv(65536):
            decoder.feed(data)
            for event in decoder:
                request = event.decode() if isinstance(event, framing.Message) else {"execute": ""}
                for piece in self._reply(request):
                    if isinstance(piece, float):
                        server.pause(piece)
                    elif piece == HANG_UP:
                        return
                    else:
                        connection.sendall(piece)

    def _reply(self, request: dict[str, Any]) -> Pieces:
        command = request["execute"]
        if command == "guest-sync-delimited":
            return [b'\xff{"return": %d}\n' % request["arguments"]["id"]]
        if not command:
            return [b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n']
        return [self._own[command]] if command in self._own else self._answer(request)
