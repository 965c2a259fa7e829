"""A stock agent, and an extended agent in front of another one, give the same replies to the same bytes.

No test sends a command that sets a clock: ``guest-set-time`` is blocked in the stock agents, and the extended agent's
own commands are not tested here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client, answers, parsed
from tests.support.extended_agent import ExtendedAgent

PATIENT = settings(suppress_health_check=list(HealthCheck))
SYNC = b'{"execute": "guest-sync-delimited", "arguments": {"id": 7}}'
PING = b'{"execute": "guest-ping"}'


@pytest.fixture(scope="module")
def agents() -> Iterator[tuple[str, str]]:
    """The sockets of the stock agent and of the extended agent."""
    with StockAgent() as stock, StockAgent() as other, ExtendedAgent(other.socket) as extended:
        yield stock.socket, extended.socket


def compare(agents: tuple[str, str], *pieces: bytes) -> list[tuple[bool, Any]]:
    """Make sure that both give the same replies, and return them."""
    stock, extended = ([parsed(line) for line in answers(path, *pieces)] for path in agents)
    assert extended == stock
    return extended


INPUTS = (
    b'{"id": 5}',
    b'{"execute": "guest-ping", "foo": 1}',
    b'{"exec-oob": "guest-ping"}',
    b'{"command": "guest-ping"}',
    b'{"execute": "guest-ping", "arguments": null}',
    b'{"execute": "guest-ping", "arguments": []}',
    b'{"execute": "guest-ping", "arguments": {"foo": 1}}',
    b'{"execute": "guest-sync"}',
    b'{"execute": "guest-sync", "arguments": {"id": 1.0}}',
    b'{"execute": "guest-sync", "arguments": {"id": 1e3}}',
    b'{"execute": "guest-sync", "arguments": {"id": true}}',
    b'{"execute": "guest-sync", "arguments": {"id": null}}',
    b'{"execute": "guest-sync", "arguments": {"id": "1"}}',
    b'{"execute": "guest-sync", "arguments": {"id": 9223372036854775807}}',
    b'{"execute": "guest-sync", "arguments": {"id": 9223372036854775808}}',
    b'{"execute": "guest-sync", "arguments": {"id": -9223372036854775808}}',
    b'{"execute": "guest-sync", "arguments": {"id": 1, "more": 2}}',
    b'{"execute": "guest-sync-delimited", "arguments": {"id": "no"}}',
    b'{"execute": "guest-file-open"}',
    b'{"execute": "guest-file-close", "arguments": {"handle": "1"}}',
    b'{"execute": "guest-file-open", "arguments": {"path": "/nonexistent/file"}}',
    b'{"execute": "guest-file-read", "arguments": {"handle": 1}}',
    b'{"execute": "guest-exec", "arguments": {"path": "/nonexistent/program"}}',
    b'{"execute": "guest-exec", "arguments": {"path": "true", "arg": "x"}}',
    b'{"execute": "guest-exec-status", "arguments": {"pid": 0}}',
    b'{"execute": "guest-set-time", "arguments": {"wrong": 1}}',
    b'{"execute": "guest-fsfreeze-freeze", "id": 1}',
    b'{"execute": "guest-no-such-command"}',
    b'{"execute": "qmp_capabilities"}',
    b'{"execute": ""}',
    b"garbage here ",
    b'{"a":}',
    b"{]",
    b"}",
    b'{"execute": "guest-ping", "execute": "guest-ping"}',
    b'{"execute": "guest-ping\xc0"}',
    b'{"execute": "guest-ping", "id": "\xed\xa0\x80"}',
    b"\x00",
    b"\xfe",
    b"\xff",
    b'{"half": \xff',
    b'{"half": "\xff',
    b"'single' ",
    b"{'execute': 'guest-ping', 'id': 'it\\'s'}",
    b"01 ",
    b"-",
    b'\n\n{\n"execute":\t\n"guest-sync",\r\n"arguments":{"id":3}}\r\n',
)


@pytest.mark.parametrize("data", INPUTS)
def test_any_input_gets_the_stock_agents_reply_and_does_not_affect_the_next_request(
    agents: tuple[str, str], data: bytes
) -> None:
    replies = compare(agents, data + b"\n" + SYNC + PING)
    assert replies[-2:] == [(True, {"return": 7}), (False, {"return": {}})]


NAME, ZONE = b'{"execute": "guest-get-host-name"}', b'{"execute": "guest-get-timezone"}'
NUMBERED = b"".join(
    json.dumps({"execute": command, "id": number}).encode()
    for number, command in enumerate(["guest-ping", "guest-get-host-name", "guest-nonsense", "guest-sync"] * 60)
)
# As libvirt after a timeout: it syncs again, and skips other replies.
SYNCS_ANEW = b'{"execute": "guest-sync", "arguments": {"id": 1}}{"execute": "guest-sync", "arguments": {"id": 2}}'


@pytest.mark.parametrize(
    "pieces",
    [
        [NUMBERED],
        [NAME + PING + ZONE],  # then the end, as when socat sends a file
        [ZONE + SYNCS_ANEW + NAME],
        [bytes([byte]) for byte in NAME + b"\xff" + SYNC],
        [NAME, b"\xff\xff" + SYNC, NAME + b"\xff" + SYNC, b'{"execute": "guest-ping', b"\xff" + SYNC],
        *(
            [b'{"execute": "guest-ping", "id": ' + number + b"}"]
            for number in (b"1E5", b"-0", b"0.1e-7", b"%d" % 2**64)
        ),
    ],
    ids=["ids", "the last ones", "libvirt", "bytes", "delimiters", "1E5", "-0", "0.1e-7", "1e300"],
)
def test_requests_in_pieces_get_the_same_replies(agents: tuple[str, str], pieces: list[bytes]) -> None:
    assert compare(agents, *pieces)


def test_the_next_client_is_served_when_the_current_one_has_disconnected(agents: tuple[str, str]) -> None:
    for path in agents:
        with Client(path) as first, Client(path) as second:
            first.ask(NAME)
            second.send(ZONE)
            assert first.ask(PING) == {"return": {}}
            assert second.is_quiet(0.02)
            first.socket.close()
            assert "return" in second.reply()


def test_the_error_of_a_command_without_success_response_repeats_a_long_id(agents: tuple[str, str]) -> None:
    request = {"execute": "guest-shutdown", "id": "x" * 100_000}
    assert compare(agents, json.dumps(request).encode() + PING)[1] == (False, {"return": {}})


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
REQUESTS = st.fixed_dictionaries(
    {"execute": st.sampled_from(("guest-ping", "guest-sync", "guest-get-host-name", "guest-x")) | JSON_VALUES},
    optional={"id": JSON_VALUES},
)
SYNCS = st.fixed_dictionaries(
    {"execute": st.just("guest-sync"), "arguments": st.fixed_dictionaries({"id": JSON_VALUES})},
    optional={"id": JSON_VALUES},
)
FRAGMENTS = st.sampled_from([*(bytes([byte]) for byte in b"{}[]:,\"'\\\xff\x00\n 1-eA"), b"true"])


@PATIENT
@given(message=JSON_VALUES | REQUESTS | SYNCS)
def test_any_value_gets_the_same_reply(agents: tuple[str, str], message: Any) -> None:
    stock, extended = (
        [parsed(line) for line in answers(path, json.dumps(message).encode() + b"\n" + SYNC)] for path in agents
    )
    for _delimited, reply in stock + extended:
        # If several things are wrong, qemu-ga reports the one that comes first in its hash table.
        reply.get("error", {}).pop("desc", None)
    assert extended == stock


PIPELINED = (
    PING,
    SYNC,
    b'{"execute": "guest-ping", "id": 1}',
    b'{"execute": "guest-sync", "arguments": {"id": 8}}',
    b'{"execute": "guest-get-host-name"}',
    b'{"execute": "guest-get-timezone", "id": 2}',
    b'{"execute": "guest-nonesuch"}',
    b'{"execute": "guest-shutdown"}',
    b'{"execute": "guest-suspend-ram", "id": 3}',
    b"[]",
    b"}",
    b"\xff{}",
)


@PATIENT
@given(requests=st.lists(st.sampled_from(PIPELINED), max_size=10))
def test_any_requests_at_once_get_the_same_replies_in_the_same_order(
    agents: tuple[str, str], requests: list[bytes]
) -> None:
    compare(agents, b"".join(requests))


@PATIENT
@given(fragments=st.lists(FRAGMENTS, max_size=12))
def test_any_bytes_get_as_many_errors(agents: tuple[str, str], fragments: list[bytes]) -> None:
    compare(agents, b"".join(fragments) + b"\xff" + SYNC)
