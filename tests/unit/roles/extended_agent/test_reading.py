"""Parsing requests: which are cached, and which are too expensive to parse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.extended_agent import module

USERS = b'{"execute": "guest-get-users"}'
PING = b'{"execute": "guest-ping"}'


@pytest.fixture
def reader() -> Any:
    policy = module("policy")
    stock = SimpleNamespace(info=None, is_frozen=False, is_list_frozen=False)
    rules = policy.Policy(policy.Lists(blocked=frozenset(("guest-file-open",))), stock)
    return module("reading").Reader(rules, module("limits").Costs(request_bytes=10_000, fancy_bytes=1_000))


def read(reader: Any, data: bytes) -> Any:
    reader.feed(data)
    received = reader.next(is_answered=True)
    assert reader.next(is_answered=True) is None
    return received


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_repeated_request_comes_from_the_cache(reader: Any, end: bytes) -> None:
    assert reader.known(USERS + end) is None
    first = read(reader, USERS + end)
    assert (first.content.command, first.line) == ("guest-get-users", USERS + b"\n")
    assert reader.known(USERS + end) is first is read(reader, USERS + end)


@pytest.mark.parametrize("before", [b"[", b'"', b'{"execute": '])
def test_a_cached_request_within_another_value_is_part_of_that_value(reader: Any, before: bytes) -> None:
    read(reader, PING)
    assert read(reader, before) is None
    assert reader.known(PING) is None
    reader.begin()
    assert reader.known(PING) is not None


@pytest.mark.parametrize(
    ("data", "refusal"),
    [
        (b"[]", "QMP input must be a JSON object"),
        (b'{"id": 1}', "QMP input lacks member 'execute'"),
        (b'{"execute": 1}', "QMP input member 'execute' must be a string"),
        (b'{"execute": "guest-ping", "arguments": []}', "QMP input member 'arguments' must be an object"),
        (b'{"execute": "guest-ping", "other": 1}', "QMP input member 'other' is unexpected"),
        (b'{"command": "guest-ping"}', "QMP input member 'command' is unexpected"),
        (b'{"command": "guest-get-clock"}', ""),
        (b'{"a": 1, "a": 2}', "JSON parse error, the peer sent a message that is not JSON: duplicate key"),
    ],
)
def test_input_that_is_not_a_request_is_refused(reader: Any, data: bytes, refusal: str) -> None:
    assert str(read(reader, data).content.refusal or "") == refusal


def test_the_cache_is_bounded(reader: Any) -> None:
    requests = [b'{"execute":' + b" " * spaces + b'"guest-ping"}' for spaces in range(200)]
    for request in requests:
        assert read(reader, request).content.command == "guest-ping"
    assert sum(reader.known(request) is not None for request in requests) <= 128


@pytest.mark.parametrize("fancy", ["\u00e9", "\U0001f600", r"\u00e9", "'"])
def test_a_long_request_must_be_plain_ascii(reader: Any, fancy: str) -> None:
    short, long = (
        read(reader, f'{{"execute": "guest-ping", "id": "{"x" * length}{fancy}"}}'.encode()).content
        for length in (900, 1000)
    )
    assert short.refusal is None
    assert long.refusal.description.startswith("JSON parse error, more than 1000 bytes with non-ASCII characters")
    assert long.echo == {}
    assert read(reader, rb'{"execute": "guest-ping", "id": "%b\/"}' % (b"x" * 1000)).content.refusal is None
