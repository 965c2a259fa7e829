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

# Shorter timeouts than in a guest, so that the tests are fast.
QUICK = {"slow_seconds": 0.1, "alive_seconds": 0.4, "reply_seconds": 3.0, "start_seconds": 0.3}


class Served(NamedTuple):
    stock: Any
    agent: ExtendedAgent
    client: Client


@contextlib.contextmanager
def serving(stock: StockAgent | ScriptedStock, seconds: float = 10.0, **options: Any) -> Iterator[Served]:
    """Run a stock agent, an extended agent in front of it, and a client of the extended agent."""
    with stock, ExtendedAgent(stock.socket, **options) as agent, Client(agent.socket, seconds) as client:
        yield Served(stock, agent, client)


def peak_mib(agent: ExtendedAgent) -> float:
    status = Path(f"/proc/{agent.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class ScriptedStock:
    """A stock agent that a test plays: ``answer`` gets each request and returns the pieces to send.

    It answers syncs by itself and, if it ``introduces`` itself, an extended agent's first requests.
    """

    def __init__(
        self, directory: Path, answer: Callable[[dict[str, Any]], Iterable[bytes]], introduces: bool = True
    ) -> None:
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

    def _talk(self, _server: SocketServer, connection: socket.socket) -> None:
        decoder = framing.Decoder()
        while data := connection.recv(65536):
            decoder.feed(data)
            for event in decoder:
                request = event.decode() if isinstance(event, framing.Message) else {"execute": ""}
                for piece in self._reply(request):
                    connection.sendall(piece)

    def _reply(self, request: dict[str, Any]) -> Iterable[bytes]:
        command = request["execute"]
        if command == "guest-sync-delimited":
            return [b'\xff{"return": %d}\n' % request["arguments"]["id"]]
        if not command:
            return [b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n']
        return [self._own[command]] if command in self._own else self._answer(request)
