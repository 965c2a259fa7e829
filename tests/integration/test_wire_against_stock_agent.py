"""The wire protocol against a real stock agent: both must read the same bytes alike.

The agent answers each value and each error with one line, so its lines can be compared with the decoder's events, one
by one and in order. A missing qemu-ga fails these tests; it does not skip them.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.framing import (
    DELIMITER,
    Decoder,
    Event,
    Message,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import (
    Reply,
    Returned,
    read_reply,
    request,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import answers

# Only these commands are enabled, whatever is generated below.
HARMLESS = ("guest-ping", "guest-sync", "guest-sync-delimited")
# A slow machine must not fail a test.
PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def agent() -> Iterator[StockAgent]:
    with StockAgent(allow_rpcs=HARMLESS) as agent:
        yield agent


def events(data: bytes) -> list[Event]:
    decoder = Decoder()
    decoder.feed(data)
    return list(decoder)


def replies(agent: StockAgent, data: bytes) -> list[Reply]:
    lines = answers(agent.socket, data)
    messages = [event for event in events(b"".join(line + b"\n" for line in lines)) if isinstance(event, Message)]
    # Each line of the agent is one message to the decoder.
    assert [message.raw for message in messages] == lines
    return [read_reply(message.decode()) for message in messages]


def is_json(event: Event) -> bool:
    try:
        return isinstance(event, Message) and bool([event.decode()])
    except RemoteProtocolError:
        return False


def was_json(reply: Reply) -> bool:
    return isinstance(reply, Returned) or not reply.description.startswith("JSON parse error")


def compare(agent: StockAgent, data: bytes) -> None:
    """Assert that the decoder and the agent read the data alike, and that both see the request after it."""
    number = secrets.randbits(62)
    good = encode(request("guest-sync", {"id": number}))
    # An unfinished value would include the request, for both.
    stream = data + b"\n" + DELIMITER + b"\n" + good
    ours, theirs = events(stream), replies(agent, stream)
    assert [is_json(event) for event in ours] == [was_json(reply) for reply in theirs]
    assert (ours[-1], theirs[-1]) == (Message(good.strip()), Returned(number))


@pytest.mark.parametrize(
    "data",
    [
        *(b"garbage here", b'GARBAGE {"execute":"guest-ping"}', b'{"a":}', b"{]", b"}", b":", b'{"a":1,"a":2}'),
        *(b"{}", b'{"id":5}', b"[]", b'"x"', b"1", b"true", b'{"execute":1}', b"{'execute':'guest-ping'}"),
        *(b'{"execute":"guest-ping"}{"execute":"guest-ping"}', b'{"execute":"guest-nonsense"}'),
        *(b"\xff", b"\xff12\n3\n", b"\xffnull {}", b'{"execute":"guest-ping"\xff{}', b"\xff\xff\xfe\x00", b"\x00abc\n"),
        *(b"01\n", b"-\n", b"1.\n", b"1e+\n", b"1\x00", b"1\x80", b"1\xff", b"true\xfe", b'"a\nb"', b"'a\\\nb'"),
        *(b"%d\n", b"[\\]", b"G\t1 [1]", b"-0 ", b"1e999 ", b"[18446744073709551616]", b"[NaN]", b"[nul]", b"[1,]"),
        *(b"[1 2]", b"{1:2}", b"[}", b"[{]]", b"'it\\'s'", b'"it\\\'s"', b"'\"'", b"'\\\"'", b'"\\q"', b"'\\u12'"),
        *(b'"\\/\\b\\f\\n\\r\\t\\u0000\\u00E9"', b'"\\ud800"', b'"\\udc00"', b'"\\ude00\\ud83d"', b'"\\ud83d\\ude00"'),
        *(b'"\xed\xa0\x80"', b'"\xf0\x9f\x98\x80"', b'["\xc3"]', b'"\x80"', b'"\xf4\x90\x80\x80"', b'"\xc1\x81"'),
        *(b'{"a":1,"\\u0061":2}', b"{'a':1,\"a\":2}", b"[" * 512 + b"]" * 512),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_both_read_data_alike(agent: StockAgent, data: bytes) -> None:
    compare(agent, data)


@pytest.mark.parametrize(
    ("raw", "agent_takes_it"),
    [(b'["\\ufffe"]', False), (b'["\xef\xb7\x90"]', False), (b'["\xc0\x80"]', True)],
    ids=["noncharacter, escaped", "noncharacter", "NUL in two bytes"],
)
def test_only_the_documented_differences_exist(agent: StockAgent, raw: bytes, agent_takes_it: bool) -> None:
    (event,) = events(raw)
    (reply,) = replies(agent, raw)
    assert was_json(reply) is agent_takes_it
    assert is_json(event) is not agent_takes_it


# No token is the name of a command with an effect, and none is one of the documented differences.
TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b"\\u12", b"\\ud83d"),
    *(b'"execute"', b'"guest-ping"', b'"id"', b'"arguments"', b"'a'", b'"a":', b"'\\''", b'"\\n"', b'"\xc3\xa9"'),
    *(b'{"execute":"guest-ping"}', b'{"id":', b'"\xc3"', b'"\xf0\x9f\x98\x80"', b'"\\ud83d\\ude00"'),
    *(b"0", b"12", b"-", b"-1", b"1.5", b"1.", b"2e5", b"2e", b"2e+", b"99999999999999999999"),
    *(b"true", b"null", b"nonsense"),
    *(b" ", b"\t", b"\r", b"\n", b"\xff", b"\xfe", b"\x80", b"\x00", b"G", b"%"),
]
ascii_bytes = st.integers(0, 127).map(lambda byte: bytes((byte,)))


@PATIENT
@given(st.lists(st.sampled_from(TOKENS) | ascii_bytes, max_size=40).map(b"".join))
def test_both_read_garbage_alike(agent: StockAgent, data: bytes) -> None:
    compare(agent, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(codec="ascii"), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=4), inner, max_size=4),
    max_leaves=10,
)


@PATIENT
@given(json_values)
def test_the_agent_returns_an_encoded_value_unchanged(agent: StockAgent, value: object) -> None:
    # An id may be any value, and is returned with the reply.
    (event,) = events(b"".join(answers(agent.socket, encode({"execute": "guest-ping", "id": value}))))
    assert isinstance(event, Message)
    # Compared as text because 1 == True, and sorted because the agent orders members by its hash table.
    assert json.dumps(event.decode(), sort_keys=True) == json.dumps({"return": {}, "id": value}, sort_keys=True)
