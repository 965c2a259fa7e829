# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ports to the host: a device that is always open, or a socket that serves one client at a time."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import termios
import tty
from typing import Any, Callable, Mapping, Union

from .dispatch import Dispatcher
from .log import Log
from .loop import Loop, Timer
from .stream import Ends, Stream

# The size that qemu-ga uses (qga/guest-agent-core.h, QEMU 10.0.13).
_CHUNK = 4096
_LOOK_AGAIN_SECONDS = 1.0
_RETRY_SECONDS = 5.0  # QGA_RETRY_INTERVAL (qga/main.c)
# Clients that connect in quick succession must not be rejected; each waits for its turn.
_BACKLOG = 16
_LISTEN_FDS_START = 3  # sd_listen_fds(3)


class PortError(Exception):
    """The port cannot be opened, or was lost; the text is one sentence."""


class _StreamPort:
    """The common base: at most one stream, from which the dispatcher gets its requests."""

    def __init__(self, loop: Loop, dispatcher: Dispatcher, log: Log) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._log = log
        self._stream: Stream | None = None

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _begin(
        self,
        ends: Ends,
        on_end: Callable[[OSError | None], None],
        on_hang_up: Callable[[], None],
        on_drained: Callable[[], None],
    ) -> None:
        self._stream = Stream(self._loop, ends, _CHUNK, self._dispatcher.received, on_end, on_hang_up, on_drained)
        self._dispatcher.begin(self._stream)


# ------------------------------------------------------------------------------------------------------------ devices


def open_virtio(path: str) -> Ends:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    return Ends(descriptor, descriptor)


def open_serial(path: str) -> Ends:
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        tty.setraw(descriptor, termios.TCSANOW)
    except termios.error as error:
        os.close(descriptor)
        raise OSError(*error.args) from error
    return Ends(descriptor, descriptor)


class DevicePort(_StreamPort):
    """A device. An end of file means that the host side is closed; the device stays open until the host opens it again.

    ``on_lost`` is called when the device itself is lost and is not retried.
    """

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        log: Log,
        open_device: Callable[[], Ends],
        on_lost: Callable[[PortError], None] | None = None,
    ) -> None:
        super().__init__(loop, dispatcher, log)
        self._open_device = open_device
        self._on_lost = on_lost
        self._timer: Timer | None = None

    def open(self) -> None:
        try:
            ends = self._open_device()
        except OSError as error:
            self._lose(error)
            return
        self._begin(ends, self._ended, self._dispatcher.hang_up, self._dispatcher.drained)

    def _ended(self, error: OSError | None) -> None:
        if error is not None:
            self.close()
            self._lose(error)
            return
        if self._stream is not None:
            self._stream.forget_unsent()
        self._dispatcher.hang_up()
        self._dispatcher.begin(self._stream)
        # The kernel wakes the loop when the host opens its side. In case that event is ever missed, poll at a low rate.
        if self._timer is None:
            self._timer = self._loop.later(_LOOK_AGAIN_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        if self._stream is not None:
            self._stream.read()

    def _lose(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        self._dispatcher.hang_up()
        self._dispatcher.begin(None)
        if self._on_lost is not None:
            self._on_lost(PortError(f"the port to the host cannot be used: {reason}"))
            return
        self._log.error(f"the port to the host cannot be used, retrying every {_RETRY_SECONDS:g} s: {reason}")
        self._loop.later(_RETRY_SECONDS, self.open)


# ------------------------------------------------------------------------------------------------------------ sockets


def _listen(family: int, what: str, bind: Callable[[socket.socket], None]) -> socket.socket:
    """
    :raises PortError: listening failed
    """
    try:
        with contextlib.ExitStack() as unless_listening:
            listener = unless_listening.enter_context(socket.socket(family, socket.SOCK_STREAM))
            bind(listener)
            listener.listen(_BACKLOG)
            unless_listening.pop_all()
            return listener
    except (OSError, OverflowError) as error:
        raise PortError(f"cannot listen on {what}: {getattr(error, 'strerror', None) or error}") from error


def listen_unix(path: str) -> socket.socket:
    """Listen on a path. A socket without a listener is replaced; any other file is an error.

    :raises PortError: listening failed
    """

    def bind(listener: socket.socket) -> None:
        if os.path.lexists(path):
            _remove_stale(path)
        # Only its owner may connect, because clients have all of the host's rights. fchmod would be too late.
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)

    return _listen(socket.AF_UNIX, f"'{path}'", bind)


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise PortError(f"cannot listen on '{path}': a file that is not a socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass
    raise PortError(f"cannot listen on '{path}': another program listens there")


def listen_vsock(path: str) -> socket.socket:
    """Listen on ``cid:port``.

    :raises PortError: listening failed
    """
    cid, _colon, port = path.partition(":")
    if not (cid.isdigit() and port.isdigit()):
        raise PortError(f"a vsock path has the form cid:port with two numbers, not {path!r}")
    return _listen(socket.AF_VSOCK, f"vsock '{path}'", lambda listener: listener.bind((int(cid), int(port))))


def inherited_listener(environment: Mapping[str, str]) -> socket.socket | None:
    """Return the socket that systemd passed to this process (sd_listen_fds(3)), or None.

    :raises PortError: there is more than one, or it is not a listening socket
    """
    count = environment.get("LISTEN_FDS", "")
    if not count or environment.get("LISTEN_PID") != str(os.getpid()):
        return None
    if count != "1":
        raise PortError(f"expected one socket from systemd, not {count}")
    try:
        os.set_inheritable(_LISTEN_FDS_START, False)
        listener = socket.socket(fileno=_LISTEN_FDS_START)
        is_listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise PortError(f"the socket from systemd cannot be used: {error.strerror or error}") from error
    if not is_listening:
        raise PortError("the socket from systemd is not a listening socket")
    return listener


class ListeningPort(_StreamPort):
    """A listening socket. As with the stock agent, the next client waits until the current one has disconnected.

    On vsock, only the host is served. Any program in the guest can connect as well, by the loopback address or by the
    guest's own (vsock(7)), and could otherwise run programs as root.
    """

    def __init__(self, loop: Loop, dispatcher: Dispatcher, log: Log, listen: Callable[[], socket.socket]) -> None:
        super().__init__(loop, dispatcher, log)
        self._listen = listen
        self._listener: socket.socket | None = None
        self._has_ended = False  # the client sends no more requests
        self._has_hung_up = False  # it does not read replies either
        self._is_answered = False
        self._has_rejected = False
        dispatcher.on_all_answered = self._all_answered

    def open(self) -> None:
        self._listener = self._listen()
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        super().close()
        if self._listener is not None:
            self._loop.unwatch(self._listener.fileno())
            self._listener.close()
            self._listener = None

    def _accept(self, _mask: int = 0) -> None:
        if self._listener is None or self._stream is not None:
            return
        try:
            client, address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._log.error(f"cannot accept a client: {error.strerror or error}")
            self._loop.later(_LOOK_AGAIN_SECONDS, self._accept)
            return
        if self._listener.family == socket.AF_VSOCK and address[0] != socket.VMADDR_CID_HOST:
            client.close()
            self._reject(address)
            return
        descriptor = client.detach()
        self._has_ended = self._has_hung_up = self._is_answered = False
        self._begin(Ends(descriptor, descriptor), self._ended, self._hung_up, self._drained)
        self._log.info("client connected")

    def _reject(self, address: Any) -> None:
        if not self._has_rejected:  # one line for each client would fill the disk
            self._has_rejected = True
            self._log.error(f"rejected a client with vsock CID {address[0]}: only the host (CID 2) is served")
        # One at a time, so that a flood of them does not block timers and the stock agent.
        self._loop.soon(self._accept)

    def _ended(self, error: OSError | None) -> None:
        """Handle the end of file, or a reset: a guest that was restored resets all of its vsock connections."""
        if error is not None or self._has_hung_up:
            self._dispatcher.hang_up()
            self._close_client()
        elif not self._has_ended:
            self._has_ended = True
            self._dispatcher.end()

    def _hung_up(self) -> None:
        # Requests that were read are still carried out, but the next client does not wait for that.
        self._has_hung_up = True
        self._dispatcher.hang_up(is_for_good=True)
        if self._has_ended:
            self._close_client()

    def _drained(self) -> None:
        self._close_when_written()
        self._dispatcher.drained()

    def _all_answered(self) -> None:
        self._is_answered = True
        self._close_when_written()

    def _close_when_written(self) -> None:
        if self._is_answered and self._stream is not None and self._stream.is_drained:
            self._close_client()

    def _close_client(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._log.info("client disconnected")
            # Other clients may have connected meanwhile, for which there is no further event.
            self._loop.soon(self._accept)


Port = Union[DevicePort, ListeningPort]
