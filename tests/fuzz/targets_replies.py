"""The wire protocol, and the use of replies: facts, and a resync, of an agent that answers with the input."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import methods
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import resync as resync_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import command_details, subsets
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import shapes as reply_shapes
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing, values
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import messages as messages_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    QgaError,
    RemoteProtocolError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import (
    CLOCK_REPLIES,
    FACTS_REPLIES,
    Limits,
)

from tests.fakes.clock import Clock
from tests.fakes.guest import EXTENDED_COMMANDS, SECOND, STOCK_COMMANDS, SimulatedGuest, TimeLine

# Small limits, so that inputs reach them.
SMALL = Limits(size=64, nesting=6, values=24)
# Decoding a value does not limit its depth, but framing does. Python's own limit is far below this.
DEEPEST = 100_000


def _seen(event: framing.Event) -> tuple[object, ...]:
    if isinstance(event, framing.Message):
        return ("message", event.raw)
    if isinstance(event, framing.Malformed):
        return ("malformed", event.error.message)
    return ("delimiter", event.dropped)


def decoder(data: bytes) -> None:
    """The events must not depend on how the bytes are cut, and the buffer must not exceed the limit.

    The first bytes determine where the rest is cut.
    """
    cuts, rest = data[:4], data[4:]
    whole = framing.Decoder(SMALL)
    whole.feed(rest)
    expected = [_seen(event) for event in whole]
    pieces = framing.Decoder(SMALL)
    events = []
    position = 0
    sizes = [1 + cut % 17 for cut in cuts] or [1]
    while position < len(rest):
        size = sizes[len(events) % len(sizes)] if position % 2 else sizes[position % len(sizes)]
        pieces.feed(rest[position : position + size])
        position += size
        events += [_seen(event) for event in pieces]
        assert len(pieces._buffer) <= SMALL.size + 1, "the buffer is larger than a message may be"
    assert events == expected
    assert whole.is_idle == pieces.is_idle
    messages = [event for event in expected if event[0] == "message"]
    assert all(len(raw) <= SMALL.size for _kind, raw in messages)  # type: ignore[arg-type]


def messages(data: bytes) -> None:
    """Bytes must be a value or a protocol error, values must be encodable, and both checks for replies must agree."""
    try:
        value = values.decode(data, Limits(values=1000))
    except RemoteProtocolError:
        messages_module.is_reply(data)
        return
    try:
        again = values.encode(value)
    except LocalProtocolError:
        assert _holds_an_infinity(value)
    else:
        assert again.isascii()
        assert again.count(b"\n") == 1
        assert values.decode(again) == value
        assert framing.whole_message(again, Limits(nesting=DEEPEST)).decode() == value
    try:
        messages_module.read_reply(value)
    except RemoteProtocolError:
        pass
    else:
        # QEMU also accepts single quotes, which no agent sends.
        assert messages_module.is_reply(data) or b"'" in data


def _holds_an_infinity(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_an_infinity, value.values()))
    if isinstance(value, list):
        return any(map(_holds_an_infinity, value))
    return isinstance(value, float) and value in (float("inf"), float("-inf"))


# --------------------------------------------------------------------------------------------------- the use of replies

_COMMANDS = tuple(reply_shapes.SHAPES)
_FACT_COMMANDS = (*STOCK_COMMANDS, *(command for command in _COMMANDS if command not in EXTENDED_COMMANDS))
TIMEOUT = 1.0
# A run may take several timeouts; see docs/docsite/rst/measuring.rst.
LONGEST_SECONDS = 60.0
MOST_EXCHANGES = 2_000


def require_presentable(value: Any, depth: int = 0) -> None:
    """Require a value that can be encoded as JSON and shown on any terminal."""
    assert depth < 30
    if isinstance(value, dict):
        for name, member in value.items():
            assert name.isprintable()
            require_presentable(member, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            require_presentable(item, depth + 1)
    elif isinstance(value, str):
        assert all(character.isprintable() or character.isspace() for character in value), value
        assert len(value.splitlines()) <= 1
    if depth == 0:
        json.dumps(value, allow_nan=False).encode("utf-8")


def require_documented(error: QgaError) -> None:
    """Require a documented error with one sentence."""
    assert error.code != "internal_error", error.message
    require_presentable(error.as_dict())
    assert len(error.message) < 2_000


def shapes(data: bytes) -> None:
    """The first byte selects the command that returned the rest."""
    if not data:
        return
    command = _COMMANDS[data[0] % len(_COMMANDS)]
    try:
        value = framing.whole_message(data[1:], FACTS_REPLIES).decode()
        require_presentable(reply_shapes.facts_of(command, value))
    except RemoteProtocolError as error:
        require_documented(error)


class _Scripted(SimulatedGuest):
    """Answers calls with the lines of the input, and honestly if a line is empty or no line is left."""

    def __init__(self, line: TimeLine, commands: tuple[str, ...], answers: list[bytes], limits: Limits) -> None:
        super().__init__(line, Clock(-20 * SECOND, host=line), commands)
        self._answers = iter(answers)
        self._limits = limits
        self.exchanges = 0

    async def call(self, request: Request, timeout: float) -> Exchange:
        self.exchanges += 1
        assert self.exchanges < MOST_EXCHANGES
        answer = next(self._answers, b"")
        if not answer:
            return await super().call(request, timeout)
        forward_ns, backward_ns = self.delays(request.execute)
        sent_ns = self.line.now_ns
        values.encode(messages_module.request(request.execute, request.arguments_at(sent_ns)))  # it must be encodable
        self.line.now_ns += forward_ns + backward_ns
        reply = messages_module.read_reply(framing.whole_message(answer, self._limits).decode())
        return Exchange(reply, sent_ns, self.line.now_ns)


def _run(data: bytes, commands: tuple[str, ...], limits: Limits, work: Callable[[_Scripted, GuestAgent], Any]) -> None:
    line = TimeLine()
    with pytest.MonkeyPatch.context() as patch:
        line.install(patch)
        began_ns = line.now_ns
        guest = _Scripted(line, commands, data.split(b"\n"), limits)
        try:
            require_presentable(work(guest, GuestAgent(guest, TIMEOUT)))
        except QgaError as error:
            require_documented(error)
        assert line.now_ns - began_ns < LONGEST_SECONDS * SECOND


def info(data: bytes) -> None:
    """Gather all facts, and the details of a command, from a guest that answers with the input's lines."""

    def work(_guest: _Scripted, agent: GuestAgent) -> Any:
        details = tasks.run(command_details.command_details(agent, "guest-ping"))
        return details, tasks.run(subsets.gather(agent, subsets.SUBSETS))

    _run(data, _FACT_COMMANDS, FACTS_REPLIES, work)


def resync(data: bytes) -> None:
    """Resync a guest that answers with the input's lines. The first byte selects the agent and the options."""
    mode, rest = data[:1] or b"\0", data[1:]
    is_extended, dry_run = mode[0] & 1, bool(mode[0] & 2)
    backward = methods.BACKWARD[(mode[0] >> 2) % len(methods.BACKWARD)]
    options = ResyncOptions(samples=4, dry_run=dry_run, backward=backward)

    def work(guest: _Scripted, agent: GuestAgent) -> Any:
        report = tasks.run(resync_module.resync(agent, guest.line.reference(), options))
        if report.error is not None:
            require_documented(report.error)
        result = report.as_dict()
        assert not (dry_run and guest.asked("guest-update-time") + guest.asked("guest-set-time"))
        assert all(
            isinstance(value, int) for name, value in result.items() if name.endswith("_ns") and value is not None
        )
        assert all(result[name] is None or result[name] >= 0 for name in ("uncertainty_before_ns", "round_trip_ns"))
        return result, report.warnings

    _run(rest, EXTENDED_COMMANDS if is_extended else STOCK_COMMANDS, CLOCK_REPLIES, work)
