"""The same bytes to a stock agent, and to an extended agent in front of another of its kind: the same replies.

Nothing that sets a clock is ever sent: the stock agents here have ``guest-set-time`` blocked, and the extended agent's
own commands are not what this is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client, answers, said
from tests.support.extended_agent import ExtendedAgent

PATIENT = settings(suppress_health_check=list(HealthCheck))
SYNC = b'{"execute": "guest-sync-delimited", "arguments": {"id": 7}}'
PING = b'{"execute": "guest-ping"}'


@pytest.fixture(scope="module")
def agents() -> Iterator[tuple[str, str]]:
    """The stock agent's socket, and the extended agent's."""
    with StockAgent() as stock, StockAgent() as behind, ExtendedAgent(behind.socket) as extended:
        yield stock.socket, extended.socket


def compare(agents: tuple[str, str], *pieces: bytes) -> list[tuple[bool, Any]]:
    """That both say the same, and what it is."""
    stock, extended = ([said(line) for line in answers(path, *pieces)] for path in agents)
    assert extended == stock
    return extended


# agent_cases.py has other commands. The values of these change by themselves, so only the shape is compared.
VARYING = ("guest-get-cpustats", "guest-get-diskstats")
STEADY = (
    "guest-get-disks",
    "guest-set-time",  # blocked
    "guest-fsfreeze-freeze",  # blocked
    "guest-no-such-command",
    "qmp_capabilities",
    "",
)


@pytest.mark.parametrize("command", STEADY)
def test_commands_return_the_same(agents: tuple[str, str], command: str) -> None:
    assert compare(agents, json.dumps({"execute": command, "id": 1}).encode())


@pytest.mark.parametrize("command", VARYING)
def test_commands_of_varying_result_have_the_same_shape(agents: tuple[str, str], command: str) -> None:
    stock, extended = (
        [said(line) for line in answers(path, json.dumps({"execute": command}).encode())] for path in agents
    )
    assert len(extended) == len(stock) == 1
    assert extended[0][1].keys() == stock[0][1].keys()
    if "return" in stock[0][1]:
        assert type(extended[0][1]["return"]) is type(stock[0][1]["return"])


MALFORMED = (
    b"[]",
    b"1 ",
    b'"x" ',
    b"true ",
    b"null ",
    b"{}",
    b'{"id": 5}',
    b'{"execute": 5}',
    b'{"execute": null, "id": 5}',
    b'{"execute": "guest-ping", "foo": 1}',
    b'{"exec-oob": "guest-ping"}',
    b'{"execute": "guest-ping", "exec-oob": "guest-ping"}',
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
    b"garbage here ",
    b"GARBAGE ",
    b'{"a":}',
    b"{]",
    b"}",
    b"]",
    b":",
    b'{"execute": "guest-ping", "execute": "guest-ping"}',
    b'{"execute": "guest-ping\xc0"}',
    b'{"execute": "guest-ping", "id": "\xed\xa0\x80"}',
    b"\x00",
    b"\x01",
    b"\xfe",
    b"\xff",
    b'{"half": \xff',
    b'{"half": "\xff',
    b"'single' ",
    b"{'execute': 'guest-ping', 'id': 'it\\'s'}",
    b"01 ",
    b"-",
    b"nul ",
)


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed_input_gets_the_stock_error_and_does_not_disturb_the_next_request(
    agents: tuple[str, str], data: bytes
) -> None:
    replies = compare(agents, data + b"\n" + SYNC + PING)
    assert replies[-2:] == [(True, {"return": 7}), (False, {"return": {}})]


def test_a_number_in_an_odd_notation_comes_back_as_the_same_number(agents: tuple[str, str]) -> None:
    for notation in (b"1E5", b"-0", b"0.1e-7", b"18446744073709551615"):
        compare(agents, b'{"execute": "guest-ping", "id": ' + notation + b"}")


# A sync goes to the stock agent in front of a command that comes after a pause. Only then could its reply be taken for
# that to the sync after the command.
PAUSE_SECONDS = 1.1
SILENT = ("guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid")


@pytest.mark.parametrize("command", SILENT)
def test_the_error_of_a_command_without_success_response_comes_after_a_pause(
    agents: tuple[str, str], command: str
) -> None:
    with Client(agents[1]) as client:
        assert "return" in client.execute("guest-get-host-name")
        assert client.is_quiet(PAUSE_SECONDS)
        client.send(json.dumps({"execute": command, "arguments": {}}).encode())
        assert command in client.reply()["error"]["desc"]


def test_that_error_repeats_a_long_id(agents: tuple[str, str]) -> None:
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
        [said(line) for line in answers(path, json.dumps(message).encode() + b"\n" + SYNC)] for path in agents
    )
    for _delimited, reply in stock + extended:
        # Of several things that are wrong, qemu-ga names the one that comes first in its hash table.
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
