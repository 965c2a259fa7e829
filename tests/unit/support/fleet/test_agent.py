"""One simulated agent, bytes in and bytes out."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.fakes.clock import Clock
from tests.fakes.faults import Pause, Piece
from tests.fakes.fleet.profile import KINDS, Profile
from tests.fakes.kinds import SECOND_NS, STOCK

EPOCH_NS = 1_795_000_000 * SECOND_NS
STRAY = "JSON parse error, stray '\ufffd'"

both_kinds = pytest.mark.parametrize("kind", KINDS)


class Ticking:
    """A monotonic clock that goes on by a microsecond at each reading."""

    def __init__(self) -> None:
        self.reading_ns = SECOND_NS

    def monotonic_ns(self) -> int:
        self.reading_ns += 1000
        return self.reading_ns

    def pair(self) -> tuple[int, int]:
        return self.monotonic_ns(), EPOCH_NS + self.reading_ns


class Asked:
    """An agent, and what it says in Python's types."""

    def __init__(self, kind: str = "extended", **profile: Any) -> None:
        self.time = Ticking()
        self.agent = Profile(kind=kind, **profile).agent("host07/guest0042")
        self.clock = self.agent.clock = Clock(-SECOND_NS, host=self.time)

    def pieces(self, data: bytes) -> list[Piece]:
        return list(self.agent.received(data))

    def lines(self, data: bytes) -> list[bytes]:
        return [piece for piece in self.pieces(data) if isinstance(piece, bytes)]

    def execute(self, command: str, **arguments: Any) -> Any:
        (line,) = self.lines(json.dumps({"execute": command, "arguments": arguments}).encode())
        assert line.endswith(b"\n")
        return json.loads(line)


# ------------------------------------------------------------------------------------------------------------ the wire


@both_kinds
def test_0xff_is_complained_of_and_the_delimited_sync_begins_with_it(kind: str) -> None:
    asked = Asked(kind)
    error, sync = asked.lines(b'\xff{"execute": "guest-sync-delimited", "arguments": {"id": 12345}}\n')
    assert json.loads(error) == {"error": {"class": "GenericError", "desc": STRAY}}
    assert sync == b'\xff{"return": 12345}\n'


@both_kinds
def test_0xff_drops_what_came_before(kind: str) -> None:
    asked = Asked(kind)
    assert asked.lines(b'{"execute": "guest-shut') == []
    assert len(asked.lines(b'\xff{"execute": "guest-ping"}')) == 2
    assert asked.agent.commands == {"guest-ping": 1}


@both_kinds
def test_framing_is_by_value_however_the_bytes_are_cut(kind: str) -> None:
    asked = Asked(kind)
    data = b'{"execute": "guest-ping"}{"execute": "guest-sync", "arguments": {"id": 3}} \n{"execute":"guest-ping"}'
    expected = [b'{"return": {}}\n', b'{"return": 3}\n', b'{"return": {}}\n']
    assert asked.lines(data) == expected
    assert [line for byte in data for line in asked.lines(bytes((byte,)))] == expected


@both_kinds
def test_half_a_request_outlives_its_client_in_a_stock_agent_alone(kind: str) -> None:
    asked = Asked(kind)
    assert asked.lines(b'{"execute": ') == []
    asked.agent.disconnected()
    answered = asked.lines(b'"guest-ping"} ')
    assert (answered == [b'{"return": {}}\n']) is (kind == "stock")


@both_kinds
def test_a_known_request_is_no_different_behind_half_of_another(kind: str) -> None:
    asked = Asked(kind)
    ping = b'{"execute": "guest-ping"}'
    assert asked.lines(ping) == asked.lines(ping) == asked.lines(ping + b"\n") == [b'{"return": {}}\n']
    assert asked.lines(b'{"execute": "guest-sync", "arguments": ') == []
    (error,) = asked.lines(ping + b"}")
    assert "error" in json.loads(error)


@both_kinds
def test_an_id_is_repeated(kind: str) -> None:
    for data in (b'{"execute": "guest-ping", "id": [1]}', b'{"execute": "guest-nonsense", "id": [1]}', b'{"id": [1]}'):
        (line,) = Asked(kind).lines(data)
        assert json.loads(line)["id"] == [1]


@both_kinds
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"[]", "QMP input must be a JSON object"),
        (b"{}", "QMP input lacks member 'execute'"),
        (b'{"execute": "guest-ping", "arguments": {"a": 1}}', "Parameter 'a' is unexpected"),
        (b'{"execute": "guest-sync"}', "Parameter 'id' is missing"),
        (b'{"execute": "guest-set-time", "arguments": {"time": "now"}}', "expected: integer"),
        (b'{"a": }', "JSON parse error"),
    ],
)
def test_wrong_requests_are_refused(kind: str, data: bytes, complaint: str) -> None:
    (line,) = Asked(kind).lines(data)
    assert complaint in json.loads(line)["error"]["desc"]


@both_kinds
def test_what_is_asked_for_is_counted(kind: str) -> None:
    asked = Asked(kind)
    asked.lines(b'{"execute": "guest-ping"}{"execute": "guest-ping"}{"execute": "guest-x"}\xff[]')
    assert asked.agent.commands == {"guest-ping": 2, "guest-x": 1}


# ---------------------------------------------------------------------------------------------------------- both kinds


@both_kinds
@pytest.mark.parametrize(
    "command",
    [
        "guest-get-osinfo",
        "guest-get-timezone",
        "guest-network-get-interfaces",
        "guest-get-fsinfo",
        "guest-get-users",
        "guest-get-vcpus",
    ],
)
def test_facts_are_answered(kind: str, command: str) -> None:
    assert Asked(kind).execute(command)["return"]


@both_kinds
def test_it_has_a_name_of_its_own(kind: str) -> None:
    assert Asked(kind).execute("guest-get-host-name") == {"return": {"host-name": "guest0042.host07"}}


@both_kinds
def test_it_is_not_frozen(kind: str) -> None:
    assert Asked(kind).execute("guest-fsfreeze-status") == {"return": "thawed"}


@both_kinds
def test_a_shutdown_succeeds_in_silence(kind: str) -> None:
    assert Asked(kind).pieces(b'{"execute": "guest-shutdown"}') == []


@both_kinds
def test_what_it_does_not_do_is_refused_in_plain_words(kind: str) -> None:
    error = Asked(kind).execute("guest-exec", path="/bin/true")["error"]
    assert error == {"class": "GenericError", "desc": "this fake does not do guest-exec"}


@both_kinds
def test_info_lists_what_is_answered(kind: str) -> None:
    asked = Asked(kind)
    info = asked.execute("guest-info")["return"]
    names = [entry["name"] for entry in info["supported_commands"]]
    extended = {"guest-update-time", "guest-get-clock", "guest-get-command-info"}
    assert set(names) == (STOCK.commands | extended if kind == "extended" else STOCK.commands)
    assert ("extended-version" in info) is (kind == "extended")
    assert all(entry["enabled"] for entry in info["supported_commands"])
    # It is made once; asking again gives the same.
    assert asked.execute("guest-info")["return"] == info


# ------------------------------------------------------------------------------------------------------------ extended


def test_get_clock_reads_on_receipt_and_on_reply() -> None:
    asked = Asked()
    before_ns = asked.clock.true_ns()
    returned = asked.execute("guest-get-clock")["return"]
    assert before_ns < returned["received"] < returned["transmitted"] < asked.clock.true_ns()
    assert returned["synchronized"] is False


def test_update_time_moves_the_clock_exactly() -> None:
    asked = Asked()
    asked.execute("guest-update-time", seconds=-2, nanoseconds=250_000_001, relative=True)
    assert asked.clock.stepped_ns == -1_749_999_999


def test_update_time_sets_the_clock() -> None:
    asked = Asked()
    returned = asked.execute("guest-update-time", seconds=1_900_000_000, nanoseconds="5", rtc=True)["return"]
    assert 0 <= returned["after"] - (1_900_000_000 * SECOND_NS + 5) < 100_000
    assert "rtc-error" not in returned


def test_command_info_is_answered() -> None:
    assert Asked().execute("guest-get-command-info", name="guest-update-time")["return"]["origin"] == "extended"


# --------------------------------------------------------------------------------------------------------------- stock


@pytest.mark.parametrize("command", ["guest-update-time", "guest-get-clock", "guest-get-command-info"])
def test_a_stock_agent_has_not_found_what_is_extended(command: str) -> None:
    asked = Asked("stock")
    assert asked.execute(command, seconds=1)["error"] == {
        "class": "CommandNotFound",
        "desc": f"The command {command} has not been found",
    }
    assert asked.clock.stepped_ns == 0


def test_a_stock_agent_reads_microseconds() -> None:
    asked = Asked("stock")
    asked.clock.step(789)
    returned = asked.execute("guest-get-time")["return"]
    assert returned % 1000 == 0
    assert 0 <= asked.clock.true_ns() - returned < 10_000


def test_a_stock_agent_sets_microseconds_and_answers_when_hwclock_is_done() -> None:
    asked = Asked("stock", set_seconds=0.7)
    wanted_ns = EPOCH_NS + 5 * SECOND_NS + 123_456_789
    pieces = asked.agent.received(b'{"execute": "guest-set-time", "arguments": {"time": %d}}' % wanted_ns)
    assert next(pieces) == Pause(0.7)
    # The clock is set by then.
    assert -10_000 < asked.clock.true_ns() - (wanted_ns - 789) < 10_000
    assert list(pieces) == [b'{"return": {}}\n']


def test_a_stock_agent_is_deaf_while_it_sets_the_hardware_clock() -> None:
    """What comes behind guest-set-time is carried out after the pause, and reads the clock then."""
    asked = Asked("stock", set_seconds=0.5)
    pieces = asked.agent.received(
        b'{"execute": "guest-set-time", "arguments": {"time": 1795000000000000000}}{"execute": "guest-get-time"}'
    )
    *_set, pause, done = itertools.islice(pieces, 2)
    assert (pause, done) == (Pause(0.5), b'{"return": {}}\n')
    asked.time.reading_ns += 500_000_000
    (line,) = pieces
    assert isinstance(line, bytes)
    assert json.loads(line)["return"] >= 1_795_000_000_500_000_000


def test_without_a_time_it_comes_from_the_hardware_clock() -> None:
    asked = Asked("stock")
    assert asked.pieces(b'{"execute": "guest-set-time"}') == [b'{"return": {}}\n']
    assert -1.1 * SECOND_NS < asked.clock.offset_ns() < 0.1 * SECOND_NS
