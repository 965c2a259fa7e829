"""The extended agent's path of replies: from whatever stands in the stock agent's place to the host."""

from __future__ import annotations

import itertools
import json
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.targets_agent import Client, Clock
from tests.support.extended_agent import module

_framing, _values = module("_protocol.framing", "guest_agent"), module("_protocol.values", "guest_agent")
_messages: Any = module("_protocol.messages", "guest_agent")
_dispatch, own_commands = module("dispatch"), module("own_commands")
_policy, _stock, _loop, _log, _limits = (module(name) for name in ("policy", "stock", "loop", "log", "limits"))
_stream, _commands = module("stream"), module("_protocol.commands", "guest_agent")

# No request waits for a stock agent that has gone, since no time passes here.
COSTS = _limits.Costs(reply_bytes=512, unasked_lines=8, return_seconds=0.0)
# In this order, each when the one before is settled: some are watched, one is answered only if it fails.
ASKED = (
    "guest-get-host-name",
    "guest-shutdown",
    "guest-fsfreeze-freeze",
    "guest-get-clock",
    "guest-fsfreeze-thaw",
    "guest-info",
    "guest-exec",
)
# One round brings a byte one step further.
ROUNDS = 8
SILENCE, HANG_UP = b"-", b"."


class _Played:
    """Says the next line of the input for each thing that it is asked; answers honestly where that is empty, and behind
    the last one.
    """

    def __init__(self, loop: Any, listener: socket.socket, lines: Iterator[bytes]) -> None:
        self._loop = loop
        self._listener = listener
        self._lines = lines
        self._connection: Any = None
        loop.watch(listener.fileno(), self._accept)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _accept(self, _mask: int) -> None:
        self.close()
        descriptor = self._listener.accept()[0].detach()
        decoder = _framing.Decoder()

        def hear(data: bytes) -> None:
            decoder.feed(data)
            for event in decoder:
                if isinstance(event, _framing.Message) and self._connection is stream:
                    self._answer(event.decode())

        stream = _stream.Stream(self._loop, _stream.Ends(descriptor, descriptor), 65536, hear, lambda _error: None)
        self._connection = stream

    def _answer(self, request: dict[str, Any]) -> None:
        line = next(self._lines, b"")
        if line == HANG_UP:
            self.close()
        elif line:
            self._connection.send(b"" if line == SILENCE else line.replace(b"\r", b"\n") + b"\n")
        elif request["execute"] == "guest-sync-delimited":
            self._connection.send(b"\xff" + _values.encode({"return": request["arguments"]["id"]}))
        else:
            self._connection.send(_values.encode({"return": "honest"}))


def stock_replies(data: bytes) -> None:
    """The host gets one reply to each request, that is one, or an error; to a silent command at most one.

    A line of the input may be several of the stock agent's: CR stands for LF there.
    """
    random.seed(0)
    loop, client = _loop.Loop(), Client()
    with (
        tempfile.TemporaryDirectory(prefix="stock-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
    ):
        path, logfile = Path(directory, "stock.sock"), Path(directory, "log")
        listener.bind(str(path))
        listener.listen()
        played = _Played(loop, listener, iter(data.split(b"\n")))
        log = _log.Log(str(logfile), verbose=True)
        stock = _stock.Stock(loop, str(path), "/nonexistent", COSTS, log)
        context = own_commands.Context(Clock(), stock, _policy.Policy(_policy.Lists(), stock), lambda: None)
        dispatcher = _dispatch.Dispatcher(loop, context, COSTS, log)
        stock.link.connect()
        dispatcher.begin(client)
        for number, command in enumerate(ASKED):
            _settle(loop)
            dispatcher.received(b'{"execute": "%b", "id": %d}' % (command.encode(), number))
        _settle(loop)
        played.close()
        loop.unwatch(listener.fileno())
        listener.close()
        _settle(loop)
        # A stock agent that goes amid a shutdown has its time.
        loop.now += COSTS.alive_seconds
        dispatcher.drained()
        _settle(loop)
        assert len(stock.link._line) <= COSTS.reply_bytes
        assert stock.link._stream is None or not stock.link.expected, "somebody would wait for ever"
        assert all(line.isprintable() for line in logfile.read_text().splitlines())
        if stock.link._stream is not None:
            stock.link._stream.close()
    loop.close()
    silent = [command for command in ASKED if command in _commands.SILENT]
    assert len(ASKED) - len(silent) <= len(client.sent) <= len(ASKED), "not one reply for each"
    for line in client.sent:
        assert line.count(b"\n") == 1
        assert _messages.is_reply(line)
        json.loads(line)


def _settle(loop: Any) -> None:
    """Do whatever is ready, and what becomes ready by that."""
    for _round in itertools.repeat(None, ROUNDS):
        loop.soon(loop.stop)
        loop.run()
