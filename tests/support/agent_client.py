"""An agent's client for tests that send any bytes, valid or not, and examine the replies."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import Any

SECONDS = 10.0


class Client:
    """One connection: ``with Client(agent.socket) as client: client.ask(b'{"execute": "guest-ping"}')``."""

    def __init__(self, path: str, seconds: float = SECONDS) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)  # blocking: with a timeout, a full backlog would be an error
        self.socket.settimeout(seconds)
        self._received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_what: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        while b"\n" not in self._received:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:  # a Unix socket was closed with unread data
                data = b""
            if not data:
                return b""
            self._received += data
        line, _newline, self._received = self._received.partition(b"\n")
        return line

    def reply(self) -> Any:
        return json.loads(self.line().removeprefix(b"\xff"))

    def ask(self, data: bytes) -> Any:
        self.send(data)
        return self.reply()

    def execute(self, command: str, **arguments: Any) -> Any:
        return self.ask(json.dumps({"execute": command, "arguments": arguments}).encode())

    def sync(self, number: int) -> list[bytes]:
        """Resynchronize like a client that has lost track; return the lines that preceded the reply."""
        request = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
        self.send(b"\xff" + json.dumps(request).encode())
        skipped = []
        while (line := self.line()) != b'\xff{"return": %d}' % number:
            assert line, "the agent hung up"
            skipped.append(line)
        return skipped

    def is_quiet(self, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        return not waiting.poll(seconds * 1000)


def parsed(line: bytes) -> tuple[bool, Any]:
    """Return whether the line begins with 0xFF, and the reply. A parse error's text is not specified, so it is cut."""
    reply = json.loads(line.removeprefix(b"\xff"))
    if "JSON parse error" in reply.get("error", {}).get("desc", ""):
        reply["error"]["desc"] = "JSON parse error"
    return line.startswith(b"\xff"), reply


def answers(path: str, *pieces: bytes) -> list[bytes]:
    """Send the pieces, shut down the sending side, and return all lines of the answer."""
    with Client(path) as client:
        for piece in pieces:
            client.send(piece)
            if len(pieces) > 1:
                time.sleep(0.002)
        client.socket.shutdown(socket.SHUT_WR)
        return list(iter(client.line, b""))
