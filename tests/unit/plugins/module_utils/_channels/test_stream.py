# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stream channel's contract, against fake agents on real sockets.

vsock has no loopback transport on many machines (it is a kernel module), so a unix socket stands in for its sockets
here: what is tested is the address that the channel hands to the kernel, and the errors that come back.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import addresses, stream
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import (
    TcpAddress,
    UnixAddress,
    VsockAddress,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    GuestReplacedError,
    InvalidOptionError,
    NotConnectedError,
    NotFoundError,
    PermissionDeniedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Received
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import messages, values
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    QgaError,
    RemoteProtocolError,
)

from tests.support.blocking import Blocking
from tests.support.fake_agent import (
    PLAIN_SYNC_ONLY,
    REFUSED_WORDS,
    REFUSES_ID,
    Before,
    Behind,
    Delays,
    Drip,
    FakeAgent,
    Fault,
    Forever,
    HangUp,
    HangUpAfter,
    Instead,
    Kind,
    Late,
    On,
    Pause,
    Piece,
    Silent,
    SocketServer,
    banner,
    echo,
    listen_tcp,
    listen_unix,
)

PING = Request("guest-ping")
GET_TIME = Request("guest-get-time")
PONG = messages.Returned({})
SYNC = "guest-sync-delimited"

# A busy machine may take this much longer than a time limit; what is not given up takes longer still.
SLACK = 3.0


def channel_to(address: addresses.Address) -> Blocking:
    return Blocking(StreamChannel(address))


@contextmanager
def agent_and_channel(directory: Path, **what: Any) -> Iterator[tuple[FakeAgent, Blocking]]:
    path = directory / "agent.sock"
    with FakeAgent(listen_unix(path), **what) as agent, channel_to(UnixAddress(str(path))) as channel:
        yield agent, channel


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + SLACK


def fault_of(kind: type[QgaError] | tuple[type[QgaError], ...], call: Callable[[], Any]) -> QgaError:
    """The error of exactly this class, or one of these, that the call raises, made of one clear sentence."""
    with pytest.raises(QgaError) as caught:
        call()
    error = caught.value
    assert error.__class__ in (kind if isinstance(kind, tuple) else (kind,)), error
    assert error.message
    assert "\n" not in error.message
    assert "Traceback" not in error.message
    assert not re.search(r"\[Errno|<class|None", error.message)
    return error


# ------------------------------------------------------------------------------------------------------- one exchange


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tcp_carries_requests(host: str) -> None:
    with listen_tcp(host) as listener, FakeAgent(listener) as agent:
        with channel_to(TcpAddress(host, listener.getsockname()[1])) as channel:
            assert channel.call(PING, 5.0).reply == PONG
            assert channel.call(Request("guest-sync", {"id": 7}), 5.0).value == 7
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-ping", "guest-sync"]


def test_an_exchange_is_stamped_around_the_time_that_the_agent_took(tmp_path: Path) -> None:
    delays = Delays(forward=(0.0, 0.05), backward=(0.0, 0.1))
    with agent_and_channel(tmp_path, delays=delays) as (agent, channel):
        before_ns = time.monotonic_ns()
        exchange = channel.call(GET_TIME, 5.0)
        after_ns = time.monotonic_ns()
        host_base_ns = HostReference().base_ns()
    assert before_ns <= exchange.sent_ns < exchange.received_ns <= after_ns
    read_at_ns = exchange.value - host_base_ns - agent.clock.offset_ns()
    # The agent cuts to microseconds; the two readings of this machine's clocks are not at one instant either.
    assert exchange.sent_ns + 49_000_000 < read_at_ns < exchange.received_ns - 99_000_000


def test_arguments_are_made_just_before_sending(tmp_path: Path) -> None:
    stamps: list[int] = []

    def stamped(now_ns: int) -> dict[str, int]:
        stamps.append(now_ns)
        return {"time": now_ns}

    # The sync that opens the connection takes its time, and must not make the stamp old.
    with agent_and_channel(tmp_path, faults=(On(SYNC, Late(0.2)),)) as (agent, channel):
        before_ns = time.monotonic_ns()
        exchange = channel.call(Request("guest-set-time", stamped), 5.0)
        assert agent.received("guest-set-time") == [{"time": stamps[0]}]
    assert len(stamps) == 1
    assert stamps[0] == exchange.sent_ns
    assert stamps[0] - before_ns >= 200_000_000


def test_a_refusal_is_a_reply_and_leaves_the_channel_in_sync(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        reply = channel.call(Request("guest-nonsense"), 5.0).reply
        assert reply == messages.Refused("CommandNotFound", "The command guest-nonsense has not been found")
        assert channel.call(PING, 5.0).reply == PONG
        assert len(agent.received(SYNC)) == 1


def test_a_request_that_never_answers_on_success_is_not_waited_for(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        with at_most(0.0):
            exchange = channel.call(Request("guest-shutdown", expects_reply=False), 30.0)
        assert exchange.value == {}
        assert exchange.sent_ns == exchange.received_ns
        assert channel.call(PING, 5.0).reply == PONG
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-shutdown", SYNC, "guest-ping"]


def test_the_refusal_of_a_silent_command_is_not_taken_for_the_next_reply(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (_agent, channel):
        channel.call(Request("guest-suspend-nonsense", expects_reply=False), 5.0)
        assert channel.call(PING, 5.0).reply == PONG


def test_what_json_cannot_carry_is_the_callers_fault(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (_agent, channel):
        fault_of(LocalProtocolError, lambda: channel.call(Request("guest-ping", {"x": {1}}), 5.0))
        assert channel.call(PING, 5.0).reply == PONG


# ------------------------------------------------------------------------------------------------------------ the sync

STALE: dict[str, tuple[Piece, ...]] = {
    "half a reply": (b'{"return": {"a": "',),
    "an old reply": (b'{"return": {"stale": true}}\n',),
    "an old refusal": (b'{"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}\n',),
    "another's delimited sync": (b'\xff{"return": 4242}\n',),
    "another's sync": (b'{"return": 4242}\n',),
    "a boot message": (b"[    0.000000] Linux version 6.1.0 (gcc) #1 SMP\r\n",),
    "brackets without end": (b"[" * 5000,),
    "no JSON at all": (bytes(range(256)),),
}


@pytest.mark.parametrize("what", STALE)
def test_what_stands_in_the_pipe_at_first_does_no_harm(what: str, tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, greeting=STALE[what]) as (_agent, channel):
        assert channel.call(PING, 5.0).reply == PONG
        assert channel.call(Request("guest-sync", {"id": 9}), 5.0).value == 9


def test_half_a_request_of_the_client_before_does_no_harm(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (_agent, channel):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.connect(str(tmp_path / "agent.sock"))
            other.sendall(b'{"execute": "guest-set-time", "arguments": {"a')
        assert channel.call(PING, 5.0).reply == PONG


def test_a_sync_reply_with_anothers_number_is_skipped(tmp_path: Path) -> None:
    wrong_first = On(SYNC, Before((b'\xff{"return": 1}\n', b'{"return": {}}\n')), nth=0)
    with agent_and_channel(tmp_path, faults=(wrong_first,)) as (_agent, channel):
        assert channel.call(Request("guest-sync", {"id": 9}), 5.0).value == 9


def test_a_right_number_counts_only_behind_the_delimiter(tmp_path: Path) -> None:
    # As an agent would echo it that does not know what "delimited" means.
    with agent_and_channel(tmp_path) as (agent, channel):
        agent._encoded = lambda _command, answer: values.encode(answer)  # type: ignore[method-assign]
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.3))


def test_an_agent_without_the_delimited_sync_is_synced_plainly(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, kind=PLAIN_SYNC_ONLY, greeting=STALE["an old reply"]) as (agent, channel):
        assert channel.call(Request("guest-sync", {"id": 9}), 5.0).value == 9
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-sync", "guest-sync"]


BOTH_SYNCS = frozenset((SYNC, "guest-sync"))
REFUSING = {
    "before 1.2": ("CommandDisabled", REFUSED_WORDS["disabled since 0.15"], CommandDisabledError),
    "before 4.2": ("GenericError", REFUSED_WORDS["disabled since 0.15"], CommandDisabledError),
    "since 6.1": ("CommandNotFound", REFUSED_WORDS["disabled since 6.1"], CommandDisabledError),
    "without a name": ("CommandNotFound", "The command has been disabled for this instance", CommandDisabledError),
    "missing": ("CommandNotFound", REFUSED_WORDS["missing"], CommandNotFoundError),
    "missing, in other words": ("CommandNotFound", "unknown", CommandNotFoundError),
    "unsupported": ("GenericError", REFUSED_WORDS["unsupported"], CommandDisabledError),
    "frozen": ("GenericError", REFUSED_WORDS["frozen, of another make"], FrozenError),
    "in unknown words": ("GenericError", "no way", CommandDisabledError),
}


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) if how == "in unknown words" else how for how in REFUSING]
)
def test_an_agent_that_refuses_to_be_synced_with_is_told_at_once_with_the_commands(how: str, tmp_path: Path) -> None:
    kind_of_refusal, words, error = REFUSING[how]
    kind = Kind(disabled=BOTH_SYNCS, disabled_as=(kind_of_refusal, words))
    with agent_and_channel(tmp_path, kind=kind) as (agent, channel), at_most(1.5):
        refusal = fault_of(error, lambda: channel.call(PING, 60.0))
    assert "refuses guest-sync-delimited and guest-sync" in refusal.message
    assert str(tmp_path) in refusal.message
    assert [command for command, _arguments in agent.requests] == [SYNC, "guest-sync"]


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.slow) if how == "in unknown words" else how for how in REFUSING]
)
def test_one_sync_that_is_allowed_is_enough(how: str, tmp_path: Path) -> None:
    kind_of_refusal, words, _error = REFUSING[how]
    kind = Kind(disabled=frozenset((SYNC,)), disabled_as=(kind_of_refusal, words))
    with agent_and_channel(tmp_path, kind=kind) as (agent, channel), at_most(1.5):
        assert channel.call(PING, 60.0).reply == PONG
    assert [command for command, _arguments in agent.requests] == [SYNC, "guest-sync", "guest-ping"]


@pytest.mark.parametrize("refused", ["guest-exec", "guest-get-time"])
def test_a_late_refusal_of_another_clients_request_is_none_of_the_sync(refused: str, tmp_path: Path) -> None:
    words = REFUSED_WORDS["disabled since 6.1"].format(refused)
    late = values.encode({"error": {"class": "CommandNotFound", "desc": words}})
    with agent_and_channel(tmp_path, greeting=(late,)) as (agent, channel):
        assert channel.call(PING, 5.0).reply == PONG
    assert [command for command, _arguments in agent.requests] == [SYNC, "guest-ping"]


@pytest.mark.slow
def test_an_agent_that_complains_and_then_takes_its_time_is_synced_with(tmp_path: Path) -> None:
    # The complaint of the 0xFF byte is taken for a refusal, until the answer comes.
    faults = (On(SYNC, Late(3 * stream._DOUBT_SECONDS), nth=0),)
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        assert channel.call(PING, 60.0).reply == PONG
        assert channel.call(Request("guest-sync", {"id": 7}), 5.0).value == 7


def test_an_agent_that_complains_and_says_nothing_more_is_unresponsive(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(Silent(),)) as (_agent, channel), at_most(0.3):
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.3))


@pytest.mark.parametrize("kind", [PLAIN_SYNC_ONLY, Kind()], ids=["plain", "delimited"])
def test_the_number_of_a_sync_is_kept_by_agents_of_little_precision(kind: Kind, tmp_path: Path) -> None:
    numbers = []
    for _connection in range(50):
        (tmp_path / "agent.sock").unlink(missing_ok=True)
        with agent_and_channel(tmp_path, kind=kind) as (agent, channel):
            channel.call(PING, 5.0)
        numbers += [arguments["id"] for command, arguments in agent.requests if command in BOTH_SYNCS]
    assert all(0 <= number < 2**31 for number in numbers)
    assert max(numbers) > 2**24  # and still one that no other client has


@pytest.mark.parametrize("digits", [6, 10, 15, 17])
def test_an_agent_that_keeps_numbers_as_doubles_is_synced_with(digits: int, tmp_path: Path) -> None:
    for _connection in range(20):
        (tmp_path / "agent.sock").unlink(missing_ok=True)
        with agent_and_channel(tmp_path, kind=Kind(number_digits=digits)) as (_agent, channel):
            assert channel.call(PING, 5.0).reply == PONG


def test_a_channel_that_is_let_go_serves_other_clients_and_syncs_anew(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        assert channel.call(PING, 5.0).reply == PONG
        channel.let_go()
        with channel_to(UnixAddress(str(tmp_path / "agent.sock"))) as other:
            assert other.call(PING, 5.0).reply == PONG
        assert channel.call(PING, 5.0).reply == PONG
    assert agent.connections == 3


def test_requests_carry_no_id_which_old_agents_refuse(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, kind=REFUSES_ID) as (_agent, channel):
        assert channel.call(PING, 5.0).reply == PONG


@pytest.mark.slow
def test_after_a_timeout_the_late_reply_is_dropped(tmp_path: Path) -> None:
    late = On("guest-get-time", Late(0.6), nth=0)
    with agent_and_channel(tmp_path, faults=(late,)) as (agent, channel):
        with at_most(0.2):
            error = fault_of(ExchangeTimeoutError, lambda: channel.call(GET_TIME, 0.2))
        assert "did not answer guest-get-time within 0.2 s" in error.message
        assert channel.call(PING, 5.0).reply == PONG
        assert len(agent.received(SYNC)) == 2
        assert agent.connections == 1


def test_a_second_reply_to_one_request_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    twice = On("guest-get-time", Instead((b'{"return": 1}\n{"return": 2}\n',)))
    with agent_and_channel(tmp_path, faults=(twice,)) as (_agent, channel):
        channel.call(GET_TIME, 5.0)
        assert channel.call(PING, 5.0).reply == PONG


def test_a_reply_that_nobody_asked_for_is_not_taken_for_the_next_ones(tmp_path: Path) -> None:
    afterthought = On("guest-get-time", Behind((Pause(0.1), b'{"return": 1}\n')))
    with agent_and_channel(tmp_path, faults=(afterthought,)) as (_agent, channel):
        channel.call(GET_TIME, 5.0)
        time.sleep(0.3)
        assert channel.call(PING, 5.0).reply == PONG


# ------------------------------------------------------------------------------------------------------------ deadlines

TIMEOUT = 0.3
ENDLESS_STRING = (b'{"return": "', Forever(b"a" * 4096))

# Faults, and what a ping with a time limit ends in. None of them may take longer than the limit.
STALLING: dict[str, tuple[tuple[Fault, ...], type[QgaError] | tuple[type[QgaError], ...]]] = {
    "never answers": ((Silent(),), UnresponsiveError),
    "never answers after the sync": ((Silent(after=1),), ExchangeTimeoutError),
    "drips the sync": ((Drip(0.05),), UnresponsiveError),
    "drips the reply": ((On("guest-ping", Drip(0.05)),), ExchangeTimeoutError),
    "half a reply": ((On("guest-ping", Instead((b'{"return": ',))),), ExchangeTimeoutError),
    "white space without end": (
        (On("guest-ping", Instead((Forever(b" \n" * 2048),))),),
        (ExchangeTimeoutError, RemoteProtocolError),
    ),
    "white space before the sync": (
        (On(SYNC, Instead((Forever(b" \n" * 2048),))),),
        (UnresponsiveError, RemoteProtocolError),
    ),
    "replies before the sync": ((On(SYNC, Instead((Forever(b'{"return": {}}\n'),))),), RemoteProtocolError),
    "0xFF without end": ((On(SYNC, Instead((Forever(b"\xff" * 4096),))),), RemoteProtocolError),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", STALLING)
def test_the_time_limit_is_for_the_whole_exchange(what: str, tmp_path: Path) -> None:
    faults, kind = STALLING[what]
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        with at_most(TIMEOUT):
            fault_of(kind, lambda: channel.call(PING, TIMEOUT))
        with at_most(stream._DRAIN_SECONDS):
            channel.close()


class EndlessSocket(socket.socket):
    """Connected to nobody, and takes everything."""

    def send(self, data: Any, *_flags: Any) -> int:
        return len(data)

    def shutdown(self, _how: int) -> None:
        pass


def test_a_peer_that_is_never_out_of_bytes_stretches_no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_what: Any) -> socket.socket:
        return EndlessSocket(socket.AF_UNIX)

    # It never runs out of white space: there is no moment without something to read.
    for module in (stream, tasks):
        monkeypatch.setattr(module, "is_ready", lambda *_what: True)
    monkeypatch.setattr(tasks, "outcome_of", lambda _wait: Received(b" " * 65536, time.monotonic_ns()))
    monkeypatch.setattr(UnixAddress, "connect", connect)
    channel = channel_to(UnixAddress("/run/agent.sock"))
    with at_most(TIMEOUT):
        fault_of((UnresponsiveError, RemoteProtocolError), lambda: channel.call(PING, TIMEOUT))
    with at_most(stream._DRAIN_SECONDS):
        channel.close()


@pytest.mark.parametrize(
    "flood",
    [
        *(b"\xff" * 4096, b"\x00" * 4096, b"}" * 4096, b"{}" * 2048, b'{"return": {}}\n' * 256, b"1 " * 2048),
        # No message ever comes of these: only their number ends it.
        b" " * 65536,
    ],
)
def test_a_peer_that_floods_is_given_up_long_before_the_time_limit(flood: bytes, tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On(SYNC, Instead((Forever(flood),))),)) as (_agent, channel):
        with at_most(5.0):
            error = fault_of(RemoteProtocolError, lambda: channel.call(PING, 60.0))
        assert "without end" in error.message
        with at_most(0.1):
            channel.close()


def test_a_pinned_guest_may_hang_up_and_answer_again(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-get-time", Instead((HangUp(),)), nth=0),)) as (_agent, channel):
        channel.call(PING, 5.0)
        channel.pin()
        fault_of(NotConnectedError, lambda: channel.call(GET_TIME, 5.0))
        assert channel.call(PING, 5.0).reply == PONG


def test_another_socket_in_the_place_of_a_pinned_guests_is_another_guest(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-get-time", Instead((HangUp(),)), nth=0),)) as (_agent, channel):
        channel.call(PING, 5.0)
        channel.pin()
        fault_of(NotConnectedError, lambda: channel.call(GET_TIME, 5.0))
        (tmp_path / "other").mkdir()
        with agent_and_channel(tmp_path / "other") as (other, _channel):
            os.rename(tmp_path / "other" / "agent.sock", tmp_path / "agent.sock")
            error = fault_of(GuestReplacedError, lambda: channel.call(PING, 5.0))
            assert "another guest" in error.message
            assert other.received(SYNC) == []


def test_half_a_message_behind_a_reply_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    behind = On("guest-ping", Instead((b'{"return": {}}\n{"return": 1',)))
    with agent_and_channel(tmp_path, faults=(behind,)) as (agent, channel):
        channel.call(PING, 5.0)
        assert channel.call(GET_TIME, 5.0).value > 1
        assert len(agent.received(SYNC)) == 2


@pytest.mark.slow
def test_sync_and_request_share_one_time_limit(tmp_path: Path) -> None:
    faults = (On(SYNC, Late(0.5)), On("guest-ping", Late(0.5)))
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        started = time.monotonic()
        fault_of(ExchangeTimeoutError, lambda: channel.call(PING, 0.7))
        assert time.monotonic() - started >= 0.7


@pytest.mark.slow
def test_a_reply_without_end_breaks_the_limit_on_its_size(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-ping", Instead(ENDLESS_STRING)),)) as (_agent, channel):
        channel._limits = values.Limits(size=100_000)
        error = fault_of(RemoteProtocolError, lambda: channel.call(PING, 10.0))
    assert "longer than 100000 bytes" in error.message


@pytest.mark.slow
def test_a_peer_that_does_not_read_is_given_up(tmp_path: Path) -> None:
    stuck = (On("guest-get-time", Late(60.0)),)
    with agent_and_channel(tmp_path, faults=stuck) as (_agent, channel):
        fault_of(ExchangeTimeoutError, lambda: channel.call(GET_TIME, 0.2))
        channel._in_sync = True  # or the sync would be what is not answered
        with at_most(TIMEOUT):
            error = fault_of(
                UnresponsiveError, lambda: channel.call(Request("guest-ping", {"x": "x" * 4_000_000}), TIMEOUT)
            )
    assert "does not read" in error.message


def test_what_a_guest_says_of_itself_is_not_kept_if_it_is_long(tmp_path: Path) -> None:
    stream._read_alike.cache_clear()
    long = b'{"return": {"version": "%b"}}\n' % (b"x" * 100_000)
    with agent_and_channel(tmp_path, faults=(On("guest-info", Instead((long,))),)) as (_agent, channel):
        channel.call(Request("guest-info"), 5.0)
    assert stream._read_alike.cache_info().currsize == 0


# --------------------------------------------------------------------------------------------------- what is no reply

NO_REPLIES = {
    "not JSON": b"oops\n",
    "a list": b"[1, 2]\n",
    "a number": b"42\n",
    "neither return nor error": b'{"event": "RESET"}\n',
    "return and error": b'{"return": {}, "error": {"class": "GenericError", "desc": "x"}}\n',
    "an error that is no object": b'{"error": "x"}\n',
    "an error without words": b'{"error": {"class": "GenericError"}}\n',
    "an error whose words are a number": b'{"error": {"class": "GenericError", "desc": 7}}\n',
    "a stray byte": b"\x00",
    "a delimiter": b"\xff",
    "a duplicate key": b'{"return": 1, "return": 2}\n',
    "a lone surrogate": b'{"return": "\\ud800"}\n',
    "nesting without end": b"[" * 600,
    "text of another protocol": b"220 mail.example.org ESMTP\r\n",
}


@pytest.mark.parametrize("what", NO_REPLIES)
def test_what_is_no_reply_is_the_peers_fault_and_forgotten_by_the_next_call(what: str, tmp_path: Path) -> None:
    faults = (On("guest-get-time", Instead((NO_REPLIES[what],))),)
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        error = fault_of(RemoteProtocolError, lambda: channel.call(GET_TIME, 5.0))
        assert error.code == "protocol_error"
        assert channel.call(PING, 5.0).reply == PONG


NOT_AGENTS = {"a mail server": banner(b"220 mail.example.org ESMTP Postfix\r\n"), "an echo": echo}


@pytest.mark.parametrize("what", NOT_AGENTS)
def test_a_server_that_is_no_agent_is_given_up_in_time(what: str, tmp_path: Path) -> None:
    path = tmp_path / "not-an-agent.sock"
    server = SocketServer(listen_unix(path), NOT_AGENTS[what])
    with server, channel_to(UnixAddress(str(path))) as channel, at_most(TIMEOUT):
        error = fault_of(UnresponsiveError, lambda: channel.call(PING, TIMEOUT))
    assert error.message == f"no guest agent answered at socket {path} within {TIMEOUT:g} s"


# ----------------------------------------------------------------------------------------------------- a peer that goes

GOING: dict[str, tuple[Fault, ...]] = {
    "at the sync": (On(SYNC, HangUpAfter(), nth=0),),
    "in the middle of a reply": (On("guest-ping", HangUpAfter(size=5), nth=0),),
    "in place of a reply": (On("guest-ping", HangUpAfter(), nth=0),),
}


@pytest.mark.parametrize("what", GOING)
def test_a_peer_that_goes_is_told_at_once_and_connected_to_anew(what: str, tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=GOING[what]) as (agent, channel):
        with at_most(0.0):
            error = fault_of(NotConnectedError, lambda: channel.call(PING, 30.0))
        assert str(tmp_path / "agent.sock") in error.message
        assert channel.call(PING, 5.0).reply == PONG
        assert agent.connections == 2


def test_a_peer_that_goes_between_two_calls_is_told_and_connected_to_anew(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-get-time", HangUpAfter(size=1000)),)) as (_agent, channel):
        channel.call(GET_TIME, 5.0)
        time.sleep(0.1)
        fault_of(NotConnectedError, lambda: channel.call(PING, 5.0))
        assert channel.call(PING, 5.0).reply == PONG


def test_a_connection_that_is_reset_is_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    # Whoever closes a unix socket with bytes in it that it has not read resets the connection.
    with (
        SocketServer(listen_unix(path), lambda _server, connection: connection.recv(1)),
        channel_to(UnixAddress(str(path))) as channel,
    ):
        error = fault_of(NotConnectedError, lambda: channel.call(PING, 5.0))
    assert error.message == f"lost the agent at socket {path}: Connection reset by peer"


def test_half_a_reply_of_the_last_connection_does_not_reach_the_next(tmp_path: Path) -> None:
    faults = (On("guest-ping", HangUpAfter(size=5), nth=0),)
    with agent_and_channel(tmp_path, faults=faults) as (_agent, channel):
        fault_of(NotConnectedError, lambda: channel.call(PING, 5.0))
        assert channel.call(Request("guest-sync", {"id": 9}), 5.0).value == 9


# -------------------------------------------------------------------------------------------------------------- closing


def test_closing_waits_for_a_reply_on_the_way(tmp_path: Path) -> None:
    # An agent whose client closes with unread bytes ends itself; this one would see its connection reset.
    resets: list[OSError] = []

    def talk(_server: SocketServer, connection: socket.socket) -> None:
        try:
            while connection.recv(4096):
                time.sleep(0.3)
                connection.sendall(b'{"return": {}}\n')
        except OSError as error:
            resets.append(error)
            raise

    path = tmp_path / "agent.sock"
    with SocketServer(listen_unix(path), talk):
        channel = channel_to(UnixAddress(str(path)))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.1))
        with at_most(stream._DRAIN_SECONDS):
            channel.close()
    assert resets == []


def test_closing_does_not_wait_for_a_reply_that_is_long_overdue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_DRAIN_SECONDS", 30.0)
    monkeypatch.setattr(stream, "_LATE_SECONDS", 0.1)
    with FakeAgent(listen_unix(tmp_path / "agent.sock"), faults=(Silent(),)):
        channel = channel_to(UnixAddress(str(tmp_path / "agent.sock")))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.2))
        with at_most(0.0):
            channel.close()


def test_closing_what_was_reset_meanwhile_is_no_error(tmp_path: Path) -> None:
    def talk(server: SocketServer, connection: socket.socket) -> None:
        connection.recv(1)
        server.pause(0.2)

    path = tmp_path / "agent.sock"
    with SocketServer(listen_unix(path), talk):
        channel = channel_to(UnixAddress(str(path)))
        fault_of(UnresponsiveError, lambda: channel.call(PING, 0.1))
        time.sleep(0.3)
        with at_most(0.0):
            channel.close()


def test_closing_in_sync_waits_for_nothing_and_twice_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_DRAIN_SECONDS", 20.0)
    with agent_and_channel(tmp_path) as (_agent, channel):
        channel.call(PING, 5.0)
        with at_most(0.0):
            channel.close()
            channel.close()
        assert channel.call(PING, 5.0).reply == PONG  # and it may be used again


def test_closing_what_was_never_connected_is_no_error() -> None:
    channel_to(UnixAddress("/nonexistent")).close()


# -------------------------------------------------------------------------------------------------------------- lending


def test_what_is_lent_serves_another_client_and_is_had_back_by_the_next_call(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go()
        with channel_to(UnixAddress(str(tmp_path / "agent.sock"))) as other:
            assert other.call(PING, 5.0).reply == PONG
        assert channel.call(PING, 5.0).reply == PONG
        assert agent.connections == 3


def test_having_it_back_waits_for_the_other_client_and_costs_one_exchange(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go()
        other = channel_to(UnixAddress(str(tmp_path / "agent.sock")))
        other.call(PING, 5.0)
        leaving = threading.Timer(0.3, other.close)
        leaving.start()
        channel.regain(30.0)
        leaving.join()
        asked = len(agent.requests)
        assert channel.call(PING, 5.0).reply == PONG
        assert [command for command, _arguments in agent.requests[asked - 1 :]] == [SYNC, "guest-ping"]


@pytest.mark.slow
def test_having_it_back_has_its_time(tmp_path: Path) -> None:
    with (
        agent_and_channel(tmp_path) as (_agent, channel),
        channel_to(UnixAddress(str(tmp_path / "agent.sock"))) as other,
    ):
        channel.call(PING, 5.0)
        channel.let_go()
        other.call(PING, 5.0)
        with at_most(TIMEOUT):
            error = fault_of(UnresponsiveError, lambda: channel.regain(TIMEOUT))
        assert "one client at a time" in error.hint
        other.close()
        channel.regain(5.0)
        assert channel.call(PING, 5.0).reply == PONG


def test_it_is_not_lent_before_it_was_held_for_long_enough(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go(3600.0)
        channel.call(PING, 5.0)
        assert agent.connections == 1
        time.sleep(0.01)
        channel.let_go(0.01)
        channel.regain(5.0)
        channel.let_go(3600.0)
        channel.call(PING, 5.0)
        assert agent.connections == 2


def test_what_was_never_lent_is_not_connected_to(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.let_go()
        channel.regain(5.0)
        assert agent.connections == 0
        channel.call(PING, 5.0)
        channel.regain(5.0)
        assert agent.connections == 1


def test_with_a_reply_on_the_way_it_is_not_lent(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path, faults=(On("guest-ping", Late(0.3), nth=0),)) as (agent, channel):
        fault_of(ExchangeTimeoutError, lambda: channel.call(PING, 0.1))
        channel.let_go()
        assert channel.call(PING, 5.0).reply == PONG
        assert agent.connections == 1


def test_a_call_that_has_it_back_leaves_nothing_to_be_had_back(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (agent, channel):
        channel.call(PING, 5.0)
        channel.let_go()
        channel.call(PING, 5.0)
        channel.regain(5.0)
        assert [command for command, _arguments in agent.requests] == [SYNC, "guest-ping"] * 2


def test_where_it_was_lent_another_guest_is_not_taken_for_the_same(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    channel = channel_to(UnixAddress(str(path)))
    with FakeAgent(listen_unix(path)):
        channel.call(PING, 5.0)
        channel.pin()
        channel.let_go()
    path.rename(tmp_path / "left.sock")  # so that the next one is another file
    with FakeAgent(listen_unix(path)):
        fault_of(GuestReplacedError, lambda: channel.regain(5.0))


# ----------------------------------------------------------------------------------------------------- connecting fails


def connecting(address: addresses.Address) -> Callable[[], Exchange]:
    return lambda: channel_to(address).call(PING, 1.0)


def test_a_missing_socket_is_not_found(tmp_path: Path) -> None:
    path = tmp_path / "missing.sock"
    error = fault_of(NotFoundError, connecting(UnixAddress(str(path))))
    assert error.message == f"cannot connect to socket {path}: No such file or directory"
    assert "Check the socket" in error.hint


def test_a_socket_below_a_file_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fault_of(NotFoundError, connecting(UnixAddress(str(tmp_path / "file" / "agent.sock"))))


def test_a_regular_file_is_not_connected_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = fault_of(NotConnectedError, connecting(UnixAddress(str(tmp_path / "file"))))
    assert "Connection refused" in error.message
    assert "Nothing listens there" in error.hint


def test_a_socket_left_behind_is_not_connected_to(tmp_path: Path) -> None:
    listen_unix(tmp_path / "left.sock").close()
    fault_of(NotConnectedError, connecting(UnixAddress(str(tmp_path / "left.sock"))))


def test_too_long_a_path_is_told_before_it_is_tried(tmp_path: Path) -> None:
    path = f"{tmp_path}/{'x' * 108}"
    error = fault_of(InvalidOptionError, connecting(UnixAddress(path)))
    assert "107 bytes" in error.message
    assert "symbolic link" in error.hint
    longest = "/" + "x" * 106
    fault_of(NotFoundError, connecting(UnixAddress(longest)))
    fault_of(InvalidOptionError, connecting(UnixAddress("/" + "é" * 54)))  # 109 bytes


@pytest.fixture
def nobody(closed_socket: Path) -> Iterator[None]:  # noqa: ARG001  # which root has to make
    """Root may connect to everything, so it is somebody else meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.fixture
def closed_socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "closed.sock"
    with listen_unix(path):
        path.chmod(0)
        yield path


@pytest.mark.usefixtures("nobody")
def test_permission_denied_names_become(closed_socket: Path) -> None:
    error = fault_of(PermissionDeniedError, connecting(UnixAddress(str(closed_socket))))
    assert error.message == f"cannot connect to socket {closed_socket}: Permission denied"
    assert "become" in error.hint


CONNECT_ERRORS = [
    (errno.EACCES, PermissionDeniedError, "become"),
    (errno.EPERM, PermissionDeniedError, "become"),
    (errno.ENODEV, NotFoundError, "vsock"),
    (errno.EAGAIN, UnresponsiveError, "one client at a time"),
    (errno.ETIMEDOUT, UnresponsiveError, "one client at a time"),
    (errno.ECONNRESET, NotConnectedError, "Nothing listens there"),
    (errno.EHOSTUNREACH, NotConnectedError, "Nothing listens there"),
    (errno.EAFNOSUPPORT, NotConnectedError, "Nothing listens there"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "kind", "hint"), CONNECT_ERRORS)
def test_what_the_kernel_says_while_connecting_is_told(
    number: int, kind: type[QgaError], hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FailingSocket(socket.socket):
        def connect_ex(self, _address: Any) -> int:
            return number

    monkeypatch.setattr(socket, "socket", FailingSocket)
    error = fault_of(kind, connecting(UnixAddress("/run/agent.sock")))
    assert error.message == f"cannot connect to socket /run/agent.sock: {os.strerror(number)}"
    assert hint in error.hint


@pytest.mark.slow
def test_a_full_queue_of_clients_is_unresponsive(tmp_path: Path) -> None:
    # The kernel takes one client more than the backlog says.
    path = tmp_path / "busy.sock"
    with listen_unix(path), socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two:
        one.connect(str(path))
        two.connect(str(path))
        error = fault_of(UnresponsiveError, connecting(UnixAddress(str(path))))
    assert "one client at a time" in error.hint


def test_room_in_a_full_queue_of_clients_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    agent = FakeAgent(listen_unix(path))
    with ExitStack() as stack, channel_to(UnixAddress(str(path))) as channel:
        for client in (socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)):
            stack.enter_context(client).connect(str(path))

        def serve() -> None:
            stack.pop_all().close()
            stack.enter_context(agent)

        serving = threading.Timer(0.2, serve)
        started = time.monotonic()
        serving.start()
        assert channel.call(PING, 5.0).reply == PONG
        assert time.monotonic() - started >= 0.2
        serving.join()


@pytest.mark.slow
def test_a_second_client_is_told_that_nobody_answers(tmp_path: Path) -> None:
    with agent_and_channel(tmp_path) as (_agent, channel):
        channel.call(PING, 5.0)
        with channel_to(UnixAddress(str(tmp_path / "agent.sock"))) as second, at_most(TIMEOUT):
            error = fault_of(UnresponsiveError, lambda: second.call(PING, TIMEOUT))
        assert "one client at a time" in error.hint
        assert channel.call(PING, 5.0).reply == PONG


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_tcp_port_that_refuses_is_not_connected(host: str) -> None:
    with listen_tcp(host) as listener:
        port = listener.getsockname()[1]
    error = fault_of(NotConnectedError, connecting(TcpAddress(host, port)))
    shown = f"[{host}]" if ":" in host else host
    assert error.message == f"cannot connect to address {shown}:{port}: Connection refused"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "two..dots", "x" * 300, "9999.1.1.1"])
def test_a_name_that_cannot_be_resolved_is_not_found(host: str) -> None:
    with at_most(1.0):
        error = fault_of(NotFoundError, connecting(TcpAddress(host, 4444)))
    assert error.message.startswith(f"cannot connect to address {host}:4444: ")


def test_a_resolver_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: time.sleep(3.0))
    with at_most(0.0):
        error = fault_of(UnresponsiveError, lambda: channel_to(TcpAddress("slow.invalid", 1)).call(PING, 0.2))
    assert "was not resolved in time" in error.message


def test_all_addresses_of_a_name_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen_tcp() as listener, FakeAgent(listener):
        port = listener.getsockname()[1]
        v6, v4 = (
            (family, socket.SOCK_STREAM, 6, "", (host, port))
            for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1"))
        )
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: [v6, v4])
        with channel_to(TcpAddress("both.invalid", port)) as channel:
            assert channel.call(PING, 5.0).reply == PONG


def test_all_addresses_of_a_name_share_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[float] = []

    def noted(descriptor: int, deadline: tasks.Deadline) -> tasks.Wait:
        allowed.append(deadline.remaining())
        return tasks.writable(descriptor, deadline)

    monkeypatch.setattr(addresses, "writable", noted)
    # It has room for one client; the next gets no answer at all.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", full.getsockname())] * 4
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_options: list(found))
        with at_most(0.3):
            fault_of(UnresponsiveError, lambda: channel_to(TcpAddress("many.invalid", 1)).call(PING, 0.3))
    assert 0.0 < sum(allowed) < 0.4


def test_a_connection_that_is_not_made_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "busy.sock"
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),
        listen_unix(path),
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as two,
    ):
        one.connect(str(path))
        two.connect(str(path))
        before = set(os.listdir("/proc/self/fd"))
        for address in (
            TcpAddress(*full.getsockname()),
            TcpAddress("two..dots", 1),
            UnixAddress(str(path)),
            UnixAddress("/nonexistent"),
        ):
            with pytest.raises(QgaError):
                channel_to(address).call(PING, 0.1)
        assert set(os.listdir("/proc/self/fd")) <= before


# ---------------------------------------------------------------------------------------------------------------- vsock


def test_vsock_carries_requests_to_its_cid_and_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "agent.sock"
    addresses: list[Any] = []

    class StandIn(socket.socket):
        def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
            self.is_vsock = family == socket.AF_VSOCK
            super().__init__(socket.AF_UNIX if self.is_vsock else family, *rest, **named)

        def connect_ex(self, address: Any) -> int:
            addresses.append(address)
            return super().connect_ex(str(path))

    with FakeAgent(listen_unix(path)):
        monkeypatch.setattr(socket, "socket", StandIn)
        with channel_to(VsockAddress(42, 9999)) as channel:
            assert channel.call(PING, 5.0).reply == PONG
    assert addresses == [(42, 9999)]


def test_a_cid_that_no_guest_has_is_told() -> None:
    # Which error it is depends on the kernel's vsock transports: no such device, a reset, or silence.
    with at_most(0.3), pytest.raises((NotFoundError, NotConnectedError, UnresponsiveError)) as caught:
        channel_to(VsockAddress(0x7FFFFFF0, 9999)).call(PING, 0.3)
    assert caught.value.message.startswith("cannot connect to vsock 2147483632:9999: ")


def test_a_system_without_vsock_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_VSOCK")
    error = fault_of(NotConnectedError, connecting(VsockAddress(42, 9999)))
    assert error.message == "cannot connect to vsock 42:9999: this system has no vsock"
