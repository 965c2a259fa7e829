from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.errors import VmError
from tests.vm.witness import Exchange, Witness, reading_of

DELAYS_NS = st.integers(min_value=0, max_value=2_000_000_000)


@given(
    offset=st.integers(min_value=-(10**18), max_value=10**18),
    delays=st.lists(st.tuples(DELAYS_NS, DELAYS_NS, DELAYS_NS), min_size=1, max_size=20),
)
def test_the_interval_holds_the_true_offset_whatever_the_delays(
    offset: int, delays: list[tuple[int, int, int]]
) -> None:
    now = 1_700_000_000_000_000_000
    exchanges = []
    for there, inside, back in delays:
        sent = now
        received = sent + there + offset
        now = sent + there + inside + back
        exchanges.append(Exchange(sent, received, received + inside, now))
    reading = reading_of(exchanges)
    assert abs(reading.offset_ns - offset) <= reading.uncertainty_ns


def test_one_exchange_is_uncertain_by_half_its_round_trip() -> None:
    assert reading_of([Exchange(1000, 5200, 5300, 1500)]) == (4000, 200, 400)


def test_the_narrowest_bounds_of_several_exchanges_count() -> None:
    slow_back = Exchange(0, 10, 10, 500)
    slow_there = Exchange(1000, 1400, 1400, 1410)
    assert reading_of([slow_back, slow_there])[:2] == (0, 10)


def test_a_step_between_exchanges_is_an_error() -> None:
    with pytest.raises(VmError, match="stepped"):
        reading_of([Exchange(0, 10, 10, 20), Exchange(100, 5_000_110, 5_000_110, 120)])


def test_a_drift_of_the_permitted_size_is_no_error() -> None:
    second = 1_000_000_000
    assert reading_of([Exchange(0, 10, 10, 20), Exchange(second, second + 400_010, second + 400_010, second + 20)])


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "witness.sock"))
        server.listen()
        yield server


def _answer_with(listener: socket.socket, *answers: bytes) -> threading.Thread:
    """A guest that answers one request after the other; %b in an answer is the request's id."""

    def run() -> None:
        connection, _address = listener.accept()
        with connection, connection.makefile("rb") as requests:
            for answer in answers:
                request = requests.readline().split()
                connection.sendall(answer.replace(b"%b", request[1]))

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_late_answers_to_somebody_else_are_passed_over(listener: socket.socket) -> None:
    thread = _answer_with(listener, b"17 1 2\n%b 3 4\n", b"18 5 6\n?\n%b 7 7\n")
    reading = Witness(Path(listener.getsockname())).offset(exchanges=1)
    thread.join()
    # The guest's clock stands near 1970, so the offset is about minus what the host's clock shows.
    assert reading.offset_ns < -1_000_000_000_000_000_000


def test_a_refused_step_tells_the_reason(listener: socket.socket) -> None:
    thread = _answer_with(listener, b"%b error Operation not permitted\n")
    with pytest.raises(VmError, match="Operation not permitted"):
        Witness(Path(listener.getsockname())).step(1)
    thread.join()


def test_a_guest_that_ends_is_told_from_one_that_is_slow(listener: socket.socket) -> None:
    thread = _answer_with(listener, b"")
    with pytest.raises(VmError, match="the guest ended"):
        Witness(Path(listener.getsockname())).offset()
    thread.join()


def test_a_silent_guest_is_given_up(listener: socket.socket) -> None:
    with pytest.raises(VmError, match="does not answer"):
        Witness(Path(listener.getsockname()), timeout_s=0.05).offset()


def test_a_missing_socket_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VmError, match=r"^No witness at .*: .*No such file"):
        Witness(tmp_path / "none.sock").offset()
