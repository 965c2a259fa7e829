# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bytes through non-blocking descriptors: read as they arrive, written as the peer accepts them."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
from collections import deque
from typing import Callable, NamedTuple, Union

from .loop import Loop

_HUNG_UP = select.EPOLLHUP | select.EPOLLERR
_ENDING = select.EPOLLRDHUP | _HUNG_UP
# Errors of writing to a socket whose peer does not read any more. There is no hang-up event if the peer has shut down
# only its reading side.
_UNREAD_ERRORS = (errno.EPIPE, errno.ECONNRESET)
# After this many, other descriptors get their turn, however fast the peer sends, and a hang-up is noticed.
_READS_IN_A_ROW = range(4)
# A client with more than this many unread bytes gets no further replies until it reads.
CONGESTED = 64 * 1024

Data = Union[bytes, bytearray]


class Ends(NamedTuple):
    """The descriptors for reading and writing, usually the same."""

    reader: int
    writer: int


class Stream:
    """``on_data`` gets the data that was read. ``on_end`` is called at the end of file, or with the error that ended
    reading, perhaps more than once. ``on_hang_up``: written data will not be read. ``on_drained``: all is written.
    """

    def __init__(
        self,
        loop: Loop,
        ends: Ends,
        chunk: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[OSError | None], None],
        on_hang_up: Callable[[], None] = lambda: None,
        on_drained: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._ends = ends
        self._reader, self._writer = ends
        self._chunk = chunk
        self._on_data = on_data
        self._on_end = on_end
        self._on_hang_up = on_hang_up
        self._on_drained = on_drained
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0  # counted, because it is read for each request
        self._is_blocked = False
        self._is_paused = False
        self._is_closed = False
        self._is_unread = False  # permanently
        self._will_read = False
        # After a short read, a socket is empty (epoll(7)). A virtio port returns the contents of one of the host's
        # buffers, and may have more.
        self._is_empty_when_short = stat.S_ISSOCK(os.fstat(ends.reader).st_mode)
        for descriptor in set(ends):
            os.set_blocking(descriptor, False)
            loop.watch(descriptor, self._on_event)

    @property
    def is_congested(self) -> bool:
        return self._unsent_bytes > CONGESTED

    @property
    def is_drained(self) -> bool:
        return not self._unsent

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._unsent.clear()
        self._unsent_bytes = 0
        for descriptor in set(self._ends):
            self._loop.unwatch(descriptor)
            os.close(descriptor)

    # ------------------------------------------------------------------------------------------------------- reading

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._read_soon()

    def _read_soon(self) -> None:
        if not self._will_read:
            self._will_read = True
            self._loop.soon(self._read_later)

    def _read_later(self) -> None:
        self._will_read = False
        self.read()

    def read(self, is_ending: bool = True) -> None:
        """Read all data that has arrived. There is no second event for unread bytes, or for an end of file that was
        already signaled (``is_ending``).
        """
        for _read in _READS_IN_A_ROW:
            if self._is_paused or self._is_closed:
                return
            try:
                data = os.read(self._reader, self._chunk)
            except BlockingIOError:
                return
            except OSError as error:
                self._on_end(error)
                return
            if not data:
                self._on_end(None)
                return
            self._on_data(data)
            if len(data) < self._chunk and not is_ending:
                if self._is_empty_when_short:
                    return
                break  # most likely it is empty; checking can wait until the data is answered
        self._read_soon()

    def _on_event(self, mask: int) -> None:
        if mask & select.EPOLLOUT and self._unsent:
            self._write()
        if mask & _HUNG_UP and not self._is_closed:
            # Before reading: there may be much left to read, and its replies have no reader.
            self.forget_unsent()
            self._on_hang_up()
        if mask & ~select.EPOLLOUT:
            self.read(bool(mask & _ENDING))

    # ------------------------------------------------------------------------------------------------------- writing

    def send(self, data: Data) -> None:
        """Write the data now, or when the peer accepts it. It must not be changed afterward."""
        if self._is_closed or self._is_unread:
            return
        written = 0
        if not self._unsent:
            # Almost always, all of it is written at once.
            try:
                written = os.write(self._writer, data)
            except OSError:
                written = 0  # _write() finds out why
            if written == len(data):
                return
        self._unsent.append(memoryview(data)[written:])
        self._unsent_bytes += len(data) - written
        if not self._is_blocked:
            self._write()

    def _hang_up_later(self) -> None:
        if not self._is_closed:
            self._on_hang_up()

    def end_writing(self) -> None:
        """Shut down a socket's writing side; data from the peer still arrives."""
        with socket.socket(fileno=os.dup(self._writer)) as copy, contextlib.suppress(OSError):
            copy.shutdown(socket.SHUT_WR)

    def forget_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0
        self._block(False)

    def _block(self, is_blocked: bool) -> None:
        if is_blocked != self._is_blocked and not self._is_closed:
            self._is_blocked = is_blocked
            self._loop.watch_writing(self._writer, is_blocked)

    def _write(self) -> None:
        while self._unsent:
            piece = self._unsent[0]
            try:
                written = os.write(self._writer, piece)
            except BlockingIOError:
                self._block(True)
                return
            except OSError as error:
                # Reading will show how the connection ended; the unsent data has no reader.
                self.forget_unsent()
                if error.errno in _UNREAD_ERRORS and not self._is_unread:
                    self._is_unread = True
                    self._loop.soon(self._hang_up_later)
                return
            self._unsent_bytes -= written
            if written < len(piece):
                self._unsent[0] = piece[written:]
            else:
                self._unsent.popleft()
        if self._is_blocked:
            self._block(False)
            self._on_drained()
