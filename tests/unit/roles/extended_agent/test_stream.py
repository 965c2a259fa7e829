"""Bytes through descriptors: all of them, in order, and every end told, however they come together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import socket
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.extended_agent import module

stream = module("stream")
CHUNK = 16


class Watched:
    """A stream over one end of a pair, with all that it told; ``far`` is the other end."""

    def __init__(self, loop: Any) -> None:
        self.told: list[Any] = []
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        descriptor = near.detach()
        self.stream = stream.Stream(
            loop,
            stream.Ends(descriptor, descriptor),
            CHUNK,
            self.on_data,
            self.told.append,
            lambda: self.told.append("hang-up"),
            lambda: self.told.append("drained"),
        )

    def on_data(self, data: bytes) -> None:
        self.told.append(data)

    @property
    def data(self) -> bytes:
        return b"".join(item for item in self.told if isinstance(item, bytes))

    def arrived(self) -> bytes:
        """What has come out at the far end so far."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while piece := self.far.recv(1 << 20):
                data += piece
        return data


@pytest.fixture
def watched(turned: Any) -> Iterator[Watched]:
    watched = Watched(turned.loop)
    yield watched
    watched.stream.close()
    watched.far.close()


def test_one_that_takes_no_more_has_hung_up_and_is_written_to_once(
    turned: Any, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.far.shutdown(socket.SHUT_RD)
    turned.settle()
    written: list[bytes] = []
    write = os.write
    monkeypatch.setattr(stream.os, "write", lambda to, data: (written.append(bytes(data)), write(to, data))[1])
    for _time in range(3):
        watched.stream.send(b"a reply")
    assert watched.told == [], "not within the call"
    turned.settle()
    watched.stream.send(b"a reply")
    assert watched.told == ["hang-up"]
    assert len(written) <= 2
    watched.far.send(b"more")
    turned.settle()
    assert watched.data == b"more"


def test_a_hang_up_is_reported_in_front_of_what_is_still_to_be_read(turned: Any, watched: Watched) -> None:
    watched.far.send(b"the last")
    watched.far.close()
    turned.settle()
    assert watched.told[:2] == ["hang-up", b"the last"]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 60 * CHUNK])
@pytest.mark.parametrize("is_end_with_it", [True, False])
def test_all_that_was_sent_arrives_and_then_the_end(
    turned: Any, watched: Watched, size: int, is_end_with_it: bool
) -> None:
    sent = os.urandom(size)
    watched.far.send(sent)
    if not is_end_with_it:
        turned.settle()
        assert (watched.data, None in watched.told) == (sent, False)
    watched.far.shutdown(socket.SHUT_WR)
    turned.settle()
    assert (watched.data, watched.told[-1]) == (sent, None)
    assert "hang-up" not in watched.told, "it still reads"


def test_others_have_their_turn_while_one_sends_without_end(turned: Any, watched: Watched) -> None:
    read_before: list[int] = []
    watched.far.send(bytes(40 * CHUNK))
    turned.loop.soon(lambda: turned.loop.soon(lambda: read_before.append(len(watched.data))))
    turned.settle()
    assert read_before[0] < 40 * CHUNK


def unread(descriptor: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_device_that_gives_less_than_it_has_is_read_on(turned: Any) -> None:
    # As a virtio port gives no more than one of the host's buffers at a time, a terminal gives one line.
    master, slave = pty.openpty()
    told: list[bytes] = []
    lines = b"one\ntwo\nthree\n"
    os.write(master, lines)
    turned.until(lambda: unread(slave) == len(lines))
    ends = stream.Stream(turned.loop, stream.Ends(slave, slave), 4096, told.append, lambda _error: None)
    turned.settle()
    assert told == [b"one\n", b"two\n", b"three\n"]
    ends.close()
    os.close(master)


def test_a_pause_amid_what_is_there_keeps_the_rest_and_the_end(turned: Any, watched: Watched) -> None:
    watched.stream._on_data = lambda data: (watched.on_data(data), watched.stream.pause())
    watched.far.send(bytes(2 * CHUNK))
    watched.far.shutdown(socket.SHUT_WR)
    turned.settle()
    assert watched.told == [bytes(CHUNK)]
    watched.stream.resume()
    turned.settle()
    assert watched.told == [bytes(CHUNK)] * 2
    watched.stream.resume()
    turned.settle()
    assert watched.told == [bytes(CHUNK)] * 2 + [None]


def test_nothing_is_read_after_it_was_closed_on_the_first_bytes(turned: Any, watched: Watched) -> None:
    watched.stream._on_data = lambda data: (watched.on_data(data), watched.stream.close())
    watched.far.send(bytes(3 * CHUNK))
    turned.settle()
    assert watched.told == [bytes(CHUNK)]


def test_what_the_other_side_does_not_take_waits_and_keeps_its_order(turned: Any, watched: Watched) -> None:
    pieces = [bytes([index]) * 100_000 for index in range(20)]
    for piece in pieces:
        watched.stream.send(piece)
    turned.settle()
    assert (watched.stream.is_congested, watched.stream.is_drained, watched.told) == (True, False, [])
    arrived = watched.arrived()  # there is room now, of which nothing has told the stream
    watched.stream.send(b"last")
    pieces.append(b"last")
    for _round in range(100):
        arrived += watched.arrived()
        turned.settle()
    assert arrived == b"".join(pieces)
    assert watched.told == ["drained"]
    assert (watched.stream.is_congested, watched.stream.is_drained) == (False, True)


def test_a_little_that_waits_is_no_congestion(watched: Watched) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(watched.stream._ends.writer, bytes(1000))
    watched.stream.send(b"x")
    assert (watched.stream.is_congested, watched.stream.is_drained) == (False, False)


def test_a_peer_that_has_gone_is_reported_and_can_be_written_to(turned: Any, watched: Watched) -> None:
    watched.stream.send(bytes(4_000_000))
    watched.far.close()
    watched.stream.send(b"more")
    turned.settle()
    assert "hang-up" in watched.told
    assert watched.stream.is_drained


def test_a_closed_one_gives_its_descriptor_back_and_takes_nothing(watched: Watched) -> None:
    descriptor = watched.stream._ends.reader
    watched.stream.close()
    watched.stream.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    watched.stream.send(b"x")
    watched.stream.forget_unsent()
    assert watched.stream.is_drained
    assert watched.arrived() == b""
