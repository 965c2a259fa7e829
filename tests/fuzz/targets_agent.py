"""The extended agent's path of requests, from the host's bytes to its replies."""

from __future__ import annotations

import json
from typing import Any

from tests.support.extended_agent import module

_framing, _values = module("_protocol.framing", "guest_agent"), module("_protocol.values", "guest_agent")
_dispatch, own_commands = module("dispatch"), module("own_commands")
_policy, _stock, _loop, _log, _limits = (module(name) for name in ("policy", "stock", "loop", "log", "limits"))
_clock = module("clock")

COSTS = _limits.Costs(request_bytes=128, fancy_bytes=64, waiting_requests=8)
# Each byte may be an error of its own, with a reply: that takes its time.
MOST_BYTES = 512


class Clock:
    """Shows one more at each reading, and refuses no change."""

    def __init__(self) -> None:
        self._ns = 1_795_406_706 * 10**9
        self.changes = 0

    def now_ns(self) -> int:
        self._ns += 1
        return self._ns

    def set_ns(self, epoch_ns: int) -> None:
        assert 0 <= epoch_ns < 2**63
        self.changes += 1

    def shift_ns(self, delta_ns: int) -> None:
        assert 0 <= self._ns + delta_ns < 2**63
        self.changes += 1

    def slew_ns(self, delta_ns: int) -> None:
        assert abs(delta_ns) <= 500_000_000
        self.changes += 1

    def discipline(self) -> Any:
        return _clock.Discipline(synchronized=False, max_error_ns=1)


class Client:
    is_congested = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: Any) -> None:
        self.sent.append(bytes(data))

    def pause(self) -> None: ...

    def resume(self) -> None: ...


_LOOP = _loop.Loop()
_LOG = _log.Log("/dev/null", verbose=True)


def agent_requests(data: bytes) -> None:
    """Each thing that the host sends gets one line back, whatever it is; the stock agent is away.

    The first byte says how the rest is cut.
    """
    size, rest = 1 + (data[0] if data else 0), data[1 : 1 + MOST_BYTES]
    # Nobody listens there: /dev/null is no directory.
    stock = _stock.Stock(_LOOP, "/dev/null/stock.sock", "/nonexistent", COSTS, _LOG)
    clock = Clock()
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
        assert ended == [True], "somebody would wait for ever"
    finally:
        for timer in list(_LOOP._timers):
            timer.cancel()
    counted = _framing.Decoder(_values.Limits(size=COSTS.request_bytes, nesting=1024))
    counted.feed(rest)
    assert len(client.sent) == sum(1 for _event in counted), "not one reply for each"
    for line in client.sent:
        reply = json.loads(line.removeprefix(b"\xff"))
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert line.removeprefix(b"\xff").isascii()
        assert ("return" in reply) != ("error" in reply)
