"""Bytes through descriptors: all arrive in order, and every end is reported."""

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
    """A stream over one end of a pair, with the events that it reported. ``far`` is the other end."""

    def __init__(self, loop: Any) -> None:
        self.events: list[Any] = []
        near, self.far = socket.socketpair()
        self.far.setblocking(False)
        descriptor = near.detach()
        self.stream = stream.Stream(
            loop,
            stream.Ends(descriptor, descriptor),
            CHUNK,
            self.on_data,
            self.events.append,
            lambda: self.events.append("hang-up"),
            lambda: self.events.append("drained"),
        )

    def on_data(self, data: bytes) -> None:
        self.events.append(data)

    @property
    def data(self) -> bytes:
        return b"".join(item for item in self.events if isinstance(item, bytes))

    def arrived(self) -> bytes:
        """Return the data that has arrived at the far end."""
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


def test_a_peer_that_does_not_read_any_more_has_hung_up(
    turned: Any, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.far.shutdown(socket.SHUT_RD)
    turned.settle()
    written: list[bytes] = []
    write = os.write
    monkeypatch.setattr(stream.os, "write", lambda to, data: (written.append(bytes(data)), write(to, data))[1])
    for _time in range(3):
        watched.stream.send(b"a reply")
    assert watched.events == [], "not within the call"
    turned.settle()
    watched.stream.send(b"a reply")
    assert watched.events == ["hang-up"]
    assert len(written) <= 2
    watched.far.send(b"more")
    turned.settle()
    assert watched.data == b"more"


def test_a_hang_up_is_reported_before_unread_data(turned: Any, watched: Watched) -> None:
    watched.far.send(b"the last")
    watched.far.close()
    turned.settle()
    assert watched.events[:2] == ["hang-up", b"the last"]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 60 * CHUNK])
@pytest.mark.parametrize("is_end_with_it", [True, False])
def test_all_data_arrives_before_the_end(turned: Any, watched: Watched, size: int, is_end_with_it: bool) -> None:
    sent = os.urandom(size)
    watched.far.send(sent)
    if not is_end_with_it:
        turned.settle()
        assert (watched.data, None in watched.events) == (sent, False)
    watched.far.shutdown(socket.SHUT_WR)
    turned.settle()
    assert (watched.data, watched.events[-1]) == (sent, None)
    assert "hang-up" not in watched.events, "it still reads"


def test_a_fast_sender_does_not_starve_others(turned: Any, watched: Watched) -> None:
    read_before: list[int] = []
    watched.far.send(bytes(40 * CHUNK))
    turned.loop.soon(lambda: turned.loop.soon(lambda: read_before.append(len(watched.data))))
    turned.settle()
    assert read_before[0] < 40 * CHUNK


def unread(descriptor: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_device_is_read_again_after_a_short_read(turned: Any) -> None:
    # A virtio port returns one of the host's buffers at a time; likewise, a terminal returns one line.
    master, slave = pty.openpty()
    received: list[bytes] = []
    lines = b"one\ntwo\nthree\n"
    os.write(master, lines)
    turned.until(lambda: unread(slave) == len(lines))
    ends = stream.Stream(turned.loop, stream.Ends(slave, slave), 4096, received.append, lambda _error: None)
    turned.settle()
    assert received == [b"one\n", b"two\n", b"three\n"]
    ends.close()
    os.close(master)


def test_a_pause_keeps_unread_data_and_the_end(turned: Any, watched: Watched) -> None:
    watched.stream._on_data = lambda data: (watched.on_data(data), watched.stream.pause())
    watched.far.send(bytes(2 * CHUNK))
    watched.far.shutdown(socket.SHUT_WR)
    turned.settle()
    assert watched.events == [bytes(CHUNK)]
    watched.stream.resume()
    turned.settle()
    assert watched.events == [bytes(CHUNK)] * 2
    watched.stream.resume()
    turned.settle()
    assert watched.events == [bytes(CHUNK)] * 2 + [None]


def test_nothing_is_read_after_close(turned: Any, watched: Watched) -> None:
    watched.stream._on_data = lambda data: (watched.on_data(data), watched.stream.close())
    watched.far.send(bytes(3 * CHUNK))
    turned.settle()
    assert watched.events == [bytes(CHUNK)]


def test_data_that_the_peer_does_not_accept_waits_in_order(turned: Any, watched: Watched) -> None:
    pieces = [bytes([index]) * 100_000 for index in range(20)]
    for piece in pieces:
        watched.stream.send(piece)
    turned.settle()
    assert (watched.stream.is_congested, watched.stream.is_drained, watched.events) == (True, False, [])
    arrived = watched.arrived()  # there is room now, but the stream has no event yet
    watched.stream.send(b"last")
    pieces.append(b"last")
    for _round in range(100):
        arrived += watched.arrived()
        turned.settle()
    assert arrived == b"".join(pieces)
    assert watched.events == ["drained"]
    assert (watched.stream.is_congested, watched.stream.is_drained) == (False, True)


def test_a_little_unsent_data_is_not_congestion(watched: Watched) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(watched.stream._ends.writer, bytes(1000))
    watched.stream.send(b"x")
    assert (watched.stream.is_congested, watched.stream.is_drained) == (False, False)


def test_a_disconnected_peer_is_reported_and_writing_to_it_is_harmless(turned: Any, watched: Watched) -> None:
    watched.stream.send(bytes(4_000_000))
    watched.far.close()
    watched.stream.send(b"more")
    turned.settle()
    assert "hang-up" in watched.events
    assert watched.stream.is_drained


def test_a_closed_stream_has_no_descriptor_and_accepts_nothing(watched: Watched) -> None:
    descriptor = watched.stream._ends.reader
    watched.stream.close()
    watched.stream.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    watched.stream.send(b"x")
    watched.stream.forget_unsent()
    assert watched.stream.is_drained
    assert watched.arrived() == b""
