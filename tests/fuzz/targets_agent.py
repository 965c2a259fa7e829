"""The extended agent: from the host's bytes to its replies, and from the stock agent's bytes to the host."""

from __future__ import annotations

import json
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fakes.dispatcher_ends import Client, CountingClock
from tests.support.extended_agent import module

_framing, _values = module("_protocol.framing", "guest_agent"), module("_protocol.values", "guest_agent")
_dispatch, own_commands = module("dispatch"), module("own_commands")
_policy, _stock, _loop, _log, _limits = (module(name) for name in ("policy", "stock", "loop", "log", "limits"))
_stream = module("stream")
_messages, _commands = (module(f"_protocol.{name}", "guest_agent") for name in ("messages", "commands"))

COSTS = _limits.Costs(request_bytes=128, fancy_bytes=64, waiting_requests=8)
# Each byte may cause an error with a reply, which is slow.
MOST_BYTES = 512
START_NS = 1_795_406_706 * 10**9


_LOOP = _loop.Loop()
_LOG = _log.Log("/dev/null", verbose=True)


def agent_requests(data: bytes) -> None:
    """Every message of the host, well-formed or not, must get one line in reply. There is no stock agent.

    The first byte is the size of the pieces into which the rest is cut.
    """
    size, rest = 1 + (data[0] if data else 0), data[1 : 1 + MOST_BYTES]
    # No process can listen there: /dev/null is not a directory.
    stock = _stock.Stock(_LOOP, "/dev/null/stock.sock", "/nonexistent", COSTS, _LOG)
    clock = CountingClock(START_NS)
    policy = _policy.Policy(_policy.Lists(), stock)
    dispatcher = _dispatch.Dispatcher(_LOOP, own_commands.Context(clock, stock, policy, lambda: None), COSTS, _LOG)
    client = Client()
    ended: list[bool] = []
    dispatcher.on_all_answered = lambda: ended.append(True)
    try:
        dispatcher.begin(client)
        for position in range(0, len(rest), size):
            dispatcher.received(rest[position : position + size])
        dispatcher.end()
        assert ended == [True], "a client would wait forever"
    finally:
        for timer in list(_LOOP._timers):
            _LOOP.cancel(timer)
    counted = _framing.Decoder(_values.Limits(size=COSTS.request_bytes, nesting=1024))
    counted.feed(rest)
    assert len(client.lines) == sum(1 for _event in counted), "not one reply for each request"
    for line in client.lines:
        reply = json.loads(line.removeprefix(b"\xff"))
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert line.removeprefix(b"\xff").isascii()
        assert ("return" in reply) != ("error" in reply)


# ---------------------------------------------------------------------------------------------- the stock agent's bytes

# No request waits for an absent stock agent, because no time passes here.
PATIENT_COSTS = _limits.Costs(reply_bytes=512, unasked_lines=8, return_seconds=0.0)
# In this order, each after the one before is settled. Some are watched, and one is answered only if it fails.
ASKED = (
    *("guest-get-host-name", "guest-shutdown", "guest-fsfreeze-freeze", "guest-get-clock", "guest-fsfreeze-thaw"),
    *("guest-info", "guest-exec"),
)
# One round moves a byte one step on.
ROUNDS = 8
SILENCE, HANG_UP = b"-", b"."


class _Played:
    """Answers each request with the next line of the input, and honestly if it is empty or missing."""

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
    """Every request of the host must get exactly one reply or error, and a silent command at most one.

    A line of the input may be several lines of the stock agent: CR stands for LF there.
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
        stock = _stock.Stock(loop, str(path), "/nonexistent", PATIENT_COSTS, log)
        context = own_commands.Context(
            CountingClock(START_NS), stock, _policy.Policy(_policy.Lists(), stock), lambda: None
        )
        dispatcher = _dispatch.Dispatcher(loop, context, PATIENT_COSTS, log)
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
        # A stock agent that disappears during a shutdown is given time.
        loop.now += PATIENT_COSTS.alive_seconds
        dispatcher.drained()
        _settle(loop)
        assert len(stock.link._line) <= PATIENT_COSTS.reply_bytes
        assert stock.link._stream is None or not stock.link.expected, "a client would wait forever"
        assert all(line.isprintable() for line in logfile.read_text().splitlines())
        if stock.link._stream is not None:
            stock.link._stream.close()
    loop.close()
    silent = [command for command in ASKED if command in _commands.SILENT]
    assert len(ASKED) - len(silent) <= len(client.lines) <= len(ASKED), "not one reply for each request"
    for line in client.lines:
        assert line.count(b"\n") == 1
        assert _messages.is_reply(line)
        json.loads(line)


def _settle(loop: Any) -> None:
    """Run everything that is ready or becomes ready as a consequence."""
    for _round in range(ROUNDS):
        loop.soon(loop.stop)
        loop.run()
