"""The agent's parts around one event loop that a test runs step by step, so that no test waits for time to pass."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.extended_agent import module

SECONDS = 60.0
ERROR = b'{"error": {"class": "GenericError", "desc": "no"}}\n'
# One round moves a byte one step; no test needs more steps.
ROUNDS = 20


class Turned:
    """An event loop, and methods that run it for a while."""

    def __init__(self) -> None:
        self.loop: Any = module("loop").Loop()

    def settle(self) -> None:
        """Run everything that is ready, and that becomes ready in the process."""
        for _round in range(ROUNDS):
            self.loop.soon(self.loop.stop)
            self.loop.run()

    def until(self, condition: Callable[[], bool]) -> None:
        """Run it, including timers, until the condition is true."""

        def look() -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.later(0.002, look)

        deadline = self.loop.later(SECONDS, lambda: self.loop.stop(1))
        look()
        assert self.loop.run() == 0, "the condition did not become true"
        self.loop.cancel(deadline)


@pytest.fixture
def turned() -> Iterator[Turned]:
    turned = Turned()
    yield turned
    turned.loop.close()


def disabled(command: str) -> bytes:
    """The error of qemu-ga 10.0 for a command that its lists do not allow."""
    words = f"Command {command} has been disabled: the command is not allowed"
    return b'{"error": {"class": "CommandNotFound", "desc": "%b"}}\n' % words.encode()


class PlayedStock:
    """A stock agent on the same loop. It answers the commands in ``answers``, and no others; syncs always, unless it
    ``is_hanging`` or they are ``disabled``.
    """

    def __init__(self, loop: Any, path: str) -> None:
        self.path = path
        self.answers: dict[str, bytes] = {
            "guest-fsfreeze-status": b'{"return": "thawed"}\n',
            "guest-info": b'{"return": {"version": "1.2.3", "supported_commands": []}}\n',
        }
        self.disabled: set[str] = set()
        self.is_hanging = False
        self.received = b""
        self.commands: list[str] = []
        self._loop = loop
        self._framing: Any = module("_protocol.framing", "guest_agent")
        self._encode: Any = module("_protocol.values", "guest_agent").encode
        self._decoder = self._framing.Decoder()
        self._unread: list[bytes] = []
        self._stream: Any = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen(1)
        loop.watch(self._listener.fileno(), self._accept)

    @property
    def unread(self) -> bytes:
        """The data that arrived while it was hanging."""
        return b"".join(self._unread)

    def send(self, data: bytes) -> None:
        self._stream.send(data)

    def hang_up(self) -> None:
        self._stream.close()

    def pause(self) -> None:
        """Read nothing, not even an end of file."""
        self._stream.pause()

    def go_on(self) -> None:
        """Stop hanging, and answer what arrived meanwhile, too."""
        self.is_hanging = False
        unread, self._unread = self._unread, []
        for data in unread:
            self._hear(data)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._listener.close()

    def _accept(self, _mask: int) -> None:
        stream = module("stream")
        descriptor = self._listener.accept()[0].detach()
        self._decoder = self._framing.Decoder()
        self._stream = stream.Stream(
            self._loop, stream.Ends(descriptor, descriptor), 65536, self._hear, lambda _error: self._stream.close()
        )

    def _hear(self, data: bytes) -> None:
        if self.is_hanging:
            self._unread.append(data)
            return
        self.received += data
        self._decoder.feed(data)
        for event in self._decoder:
            if not isinstance(event, self._framing.Message):
                self.send(b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\n')
                continue
            request = event.decode()
            command = request["execute"]
            if command in self.disabled:
                self.send(disabled(command))
                continue
            if command in ("guest-sync-delimited", "guest-sync"):
                delimiter = b"\xff" if command == "guest-sync-delimited" else b""
                self.send(delimiter + self._encode({"return": request["arguments"]["id"]}))
                continue
            self.commands.append(command)
            if command in self.answers:
                self.send(self.answers[command])


@pytest.fixture
def stock(turned: Turned, tmp_path: Path) -> Iterator[PlayedStock]:
    played = PlayedStock(turned.loop, str(tmp_path / "stock.sock"))
    yield played
    played.close()


LINK_COSTS = module("limits").Costs(reconnect_seconds=0.01, longest_reconnect_seconds=0.02, farewell_seconds=0.05)


class Observed:
    """A link to the played stock agent, with the events that it reported."""

    def __init__(self, turned: Any, stock: Any, costs: Any = LINK_COSTS, log: Any = None) -> None:
        log = log or module("log").Log("/dev/null")
        self.turned = turned
        self.stock = stock
        self.events: list[tuple[str, ...]] = []
        self.replies: list[bytes] = []
        self.failures: list[str] = []
        self.watched = {"guest-exec", "guest-shutdown"}
        self.link = module("stock_link").StockLink(turned.loop, stock.path, costs, log, self)

    def connected(self) -> None:
        self.events.append(("connected",))

    def sent(self, command: str) -> None:
        self.events.append(("sent", command))

    def answered(self, command: str, line: bytes) -> None:
        self.events.append(("answered", command, bytes(line).decode()))

    def freed(self) -> None:
        self.events.append(("freed",))

    def connect(self) -> None:
        assert self.link.connect()
        self.turned.settle()
        self.events.clear()
        self.stock.received = b""

    def ask(self, command: str = "guest-exec", raw: bytes | None = None, is_silent: bool = False) -> Any:
        raw = b'{"execute": "%b"}' % command.encode() if raw is None else raw
        asked = self.link.ask(
            raw + b"\n", command, lambda line: self.replies.append(bytes(line)), self.failures.append, is_silent
        )
        self.turned.settle()
        return asked

    def send(self, data: bytes) -> None:
        """Have the stock agent send the data."""
        self.stock.send(data)
        self.turned.settle()

    def hang_up(self) -> None:
        self.stock.hang_up()
        self.turned.settle()

    def go_on(self) -> None:
        self.stock.go_on()
        self.turned.settle()

    def shut_down(self) -> Any:
        return self.ask("guest-shutdown", is_silent=True)


@pytest.fixture
def observed(turned: Any, stock: Any) -> Observed:
    observed = Observed(turned, stock)
    observed.connect()
    return observed
