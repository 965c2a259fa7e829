"""Syncing a stream channel with its agent."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import TIMINGS
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import values

from tests.fakes.faults import Appended, Fault, Instead, Late, On, Pause, Piece
from tests.fakes.kinds import PLAIN_SYNC_ONLY, REFUSED_WORDS, REFUSES_ID, Kind
from tests.support.stream_channels import GET_TIME, PING, PONG, SYNC, agent_and_channel, at_most, fault_of

STALE: dict[str, tuple[Piece, ...]] = {
    "half a reply": (b'{"return": {"a": "',),
    "an old reply": (b'{"return": {"stale": true}}\n',),
    "an old refusal": (b'{"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}\n',),
    "another's delimited sync": (b'\xff{"return": 4242}\n',),
    "another's sync": (b'{"return": 4242}\n',),
    "a boot message": (b"[    0.000000] Linux version 6.1.0 (gcc) #1 SMP\r\n",),
    "endless brackets": (b"[" * 5000,),
    "not JSON": (bytes(range(256)),),
}


@pytest.mark.parametrize("what", STALE)
def test_bytes_that_are_in_the_socket_at_first_are_ignored(what: str, tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, greeting=STALE[what]) as (_agent, channel):
        assert channel.call(PING, 5.0).reply == PONG
        assert channel.call(Request("guest-sync", {"id": 9}), 5.0).value == 9


def test_half_a_request_of_the_previous_client_is_dropped(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (_agent, channel):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(tmp_path / "agent.sock"))
            other.sendall(b'{"execute": "guest-set-time", "arguments": {"a')
        assert channel.call(PING, 5.0).reply == PONG


def test_the_right_number_counts_only_after_the_delimiter(tmp_path: Path) -> None:
    # This agent returns the number without a delimiter.
    with agent_and_channel(tmp_path) as (agent, channel):
        agent._encoded = lambda _command, answer: values.encode(answer)  # type: ignore[method-assign]
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.3))


BOTH_SYNCS = frozenset((SYNC, "guest-sync"))
REFUSING = {
    "before 1.2": ("CommandDisabled", REFUSED_WORDS["disabled since 0.15"], CommandDisabledError),
    "before 4.2": ("GenericError", REFUSED_WORDS["disabled since 0.15"], CommandDisabledError),
    "since 6.1": ("CommandNotFound", REFUSED_WORDS["disabled since 6.1"], CommandDisabledError),
    "without a name": ("CommandNotFound", "The command has been disabled for this instance", CommandDisabledError),
    "missing": ("CommandNotFound", REFUSED_WORDS["missing"], CommandNotFoundError),
    "missing, in other words": ("CommandNotFound", "unknown", CommandNotFoundError),
    "unsupported": ("GenericError", REFUSED_WORDS["unsupported"], CommandDisabledError),
    "frozen": ("GenericError", REFUSED_WORDS["frozen, of another vendor"], FrozenError),
    "in unknown words": ("GenericError", "no way", CommandDisabledError),
}


IN_EACH_WAY = pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) if how == "in unknown words" else how for how in REFUSING]
)


@IN_EACH_WAY
def test_refusing_both_syncs_is_an_error_at_once_that_names_them(how: str, tmp_path: Path) -> None:
    kind_of_refusal, words, error = REFUSING[how]
    kind = Kind(disabled=BOTH_SYNCS, disabled_as=(kind_of_refusal, words))
    with agent_and_channel(tmp_path, kind=kind) as (agent, channel), at_most(1.5):
        refusal = fault_of(error, lambda: channel.call(PING, 60.0))
    assert f"the agent at socket '{tmp_path}/agent.sock' refuses guest-sync-delimited and guest-sync" in refusal.message
    assert [command for command, _arguments in agent.requests] == [SYNC, "guest-sync"]


@IN_EACH_WAY
def test_one_allowed_sync_is_enough(how: str, tmp_path: Path) -> None:
    kind = Kind(disabled=frozenset((SYNC,)), disabled_as=REFUSING[how][:2])
    with agent_and_channel(tmp_path, kind=kind) as (agent, channel), at_most(1.5):
        assert channel.call(PING, 60.0).reply == PONG
    assert [command for command, _arguments in agent.requests] == [SYNC, "guest-sync", "guest-ping"]


@pytest.mark.parametrize("refused", ["guest-exec", "guest-get-time"])
def test_a_late_refusal_of_another_clients_request_is_not_taken_for_one_of_the_sync(
    refused: str, tmp_path: Path
) -> None:
    words = REFUSED_WORDS["disabled since 6.1"].format(refused)
    late = values.encode({"error": {"class": "CommandNotFound", "desc": words}})
    with agent_and_channel(tmp_path, greeting=(late,)) as (agent, channel):
        assert channel.call(PING, 5.0).reply == PONG
    assert [command for command, _arguments in agent.requests] == [SYNC, "guest-ping"]


@pytest.mark.slow
def test_a_slow_answer_after_an_error_about_the_delimiter_still_counts(tmp_path: Path) -> None:
    # The error about the 0xFF byte is taken for a refusal until the answer comes.
    faults = (On(SYNC, Late(3 * TIMINGS.doubt), nth=0),)
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        assert channel.call(PING, 60.0).reply == PONG
        assert channel.call(Request("guest-sync", {"id": 7}), 5.0).value == 7


@pytest.mark.parametrize("kind", [PLAIN_SYNC_ONLY, Kind()], ids=["plain", "delimited"])
def test_the_number_of_a_sync_is_small_enough_for_agents_with_little_precision(kind: Kind, tmp_path: Path) -> None:
    numbers = []
    for _connection in range(50):
        (tmp_path / "agent.sock").unlink(missing_ok=True)
        with agent_and_channel(tmp_path, kind=kind) as (agent, channel):
            channel.call(PING, 5.0)
        numbers += [arguments["id"] for command, arguments in agent.requests if command in BOTH_SYNCS]
    assert all(0 <= number < 2**31 for number in numbers)
    assert max(numbers) > 2**24  # large enough to be unique among clients


@pytest.mark.parametrize(
    ("kind", "syncs"),
    [
        (PLAIN_SYNC_ONLY, [SYNC, "guest-sync"]),
        (REFUSES_ID, [SYNC]),
        (Kind(number_digits=6), [SYNC]),
        (Kind(number_digits=17), [SYNC]),
    ],
    ids=["without the delimited sync", "refuses an id in a request", "6 digits", "17 digits"],
)
def test_all_kinds_of_agents_can_be_synced(kind: Kind, syncs: list[str], tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, kind=kind, greeting=STALE["an old reply"]) as (agent, channel):
        assert channel.call(PING, 5.0).reply == PONG
    assert [command for command, _arguments in agent.requests] == [*syncs, "guest-ping"]


@pytest.mark.slow
def test_after_a_timeout_the_late_reply_is_dropped(tmp_path: Path) -> None:
    late = On("guest-get-time", Late(0.6), nth=0)
    with agent_and_channel(tmp_path, faults=(late,)) as (agent, channel):
        with at_most(0.2):
            error = fault_of(ExchangeTimeoutError, lambda: channel.call(GET_TIME, 0.2))
        assert "did not answer guest-get-time within 0.2 s" in error.message
        assert channel.call(PING, 5.0).reply == PONG
        assert len(agent.asked(SYNC)) == 2
        assert agent.connections == 1


LEFT_OVER: dict[str, Fault] = {
    "a second reply": Instead((b'{"return": 1}\n{"return": 2}\n',)),
    "half a message": Instead((b'{"return": 1}\n{"return": 1',)),
    "a later reply": Appended((Pause(0.1), b'{"return": 1}\n')),
}


@pytest.mark.parametrize("what", LEFT_OVER)
def test_bytes_after_a_reply_are_not_taken_for_the_next_reply(what: str, tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-get-time", LEFT_OVER[what]),)) as (agent, channel):
        channel.call(GET_TIME, 5.0)
        time.sleep(0.3)
        assert channel.call(PING, 5.0).reply == PONG
        assert len(agent.asked(SYNC)) == 2
