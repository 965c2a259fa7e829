"""The wire: cutting bytes into messages, and reading those."""

from __future__ import annotations

from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import framing, values
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    RemoteProtocolError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import is_reply, read_reply

# Small, so that an input reaches them.
LIMITS = Limits(size=64, nesting=6, values=24)
# Reading a value does not look at its depth, cutting it out of a stream does. Python's own limit is far below this.
DEEPEST = 100_000


def _seen(event: framing.Event) -> tuple[object, ...]:
    if isinstance(event, framing.Message):
        return ("message", event.raw)
    if isinstance(event, framing.Malformed):
        return ("malformed", event.error.message)
    return ("resync", event.dropped)


def decoder(data: bytes) -> None:
    """However the bytes are cut, the events are the same; and what is kept is no more than the limit allows.

    The first bytes say where the rest is cut.
    """
    cuts, rest = data[:4], data[4:]
    whole = framing.Decoder(LIMITS)
    whole.feed(rest)
    expected = [_seen(event) for event in whole]
    pieces = framing.Decoder(LIMITS)
    events = []
    position = 0
    sizes = [1 + cut % 17 for cut in cuts] or [1]
    while position < len(rest):
        size = sizes[len(events) % len(sizes)] if position % 2 else sizes[position % len(sizes)]
        pieces.feed(rest[position : position + size])
        position += size
        events += [_seen(event) for event in pieces]
        assert len(pieces._buffer) <= LIMITS.size + 1, "more is kept than one message may have"
    assert events == expected
    assert whole.is_idle == pieces.is_idle
    messages = [event for event in expected if event[0] == "message"]
    assert all(len(raw) <= LIMITS.size for _kind, raw in messages)  # type: ignore[arg-type]


def messages(data: bytes) -> None:
    """Any bytes are a value or a protocol error; a value can be sent again; and a reply passes for one either way."""
    try:
        value = values.decode(data, Limits(values=1000))
    except RemoteProtocolError:
        is_reply(data)
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
        read_reply(value)
    except RemoteProtocolError:
        pass
    else:
        # What QEMU takes beyond JSON, single quotes, no agent sends.
        assert is_reply(data) or b"'" in data


def _holds_an_infinity(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_an_infinity, value.values()))
    if isinstance(value, list):
        return any(map(_holds_an_infinity, value))
    return isinstance(value, float) and value in (float("inf"), float("-inf"))
