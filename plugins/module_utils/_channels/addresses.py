# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The addresses of agents' sockets (unix, TCP and vsock), and connecting to them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any, Mapping, Union

from .._errors import InvalidOptionError, NotConnectedError, NotFoundError, PermissionDeniedError, UnresponsiveError
from .._event_loop.tasks import Deadline, pause, writable
from .._event_loop.threads import BoundedCaller, StillBusyError, Worker
from .._protocol.errors import QgaError

# connect() to a unix socket with a full queue of clients fails at once, and nothing signals when there is room.
_FULL_QUEUE_SECONDS = 0.05

ONE_CLIENT_HINT = (
    "An agent's socket serves one client at a time: stop the other client, or use domain if libvirt holds the channel. "
    "While a guest boots or wakes up, set wait_timeout to wait for its agent."
)

_UCRED = struct.Struct("iII")


@dataclass(frozen=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"socket '{self.path}'"

    async def connect(self, deadline: Deadline) -> socket.socket:
        if len(os.fsencode(self.path)) > 107:
            raise InvalidOptionError(
                f"the socket path '{self.path}' is longer than 107 bytes, the limit for unix sockets",
                "Use a shorter path, for example through a symbolic link.",
            )
        return await _connect(socket.AF_UNIX, self.path, deadline)

    def listener(self, connection: socket.socket) -> tuple[int, ...]:
        """Return an identity of the socket's file and its process that no later replacement would have."""
        try:
            found = os.stat(self.path)
        except OSError:
            return ()  # the file was removed meanwhile
        # ucred: process, user and group of the listener at the time of listen() (unix(7)).
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return (found.st_dev, found.st_ino, *_UCRED.unpack(credentials))


@dataclass(frozen=True)
class TcpAddress:
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"address '{host}:{self.port}'"

    async def connect(self, deadline: Deadline) -> socket.socket:
        found = await self._resolved(deadline)
        while True:
            family, _kind, _protocol, _name, address = found.pop(0)
            try:
                connection = await _connect(family, address, deadline)
            except OSError:
                if not found or deadline.expired():
                    raise
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection

    async def _resolved(self, deadline: Deadline) -> list[tuple[Any, Any, int, str, Any]]:
        # The resolver has its own, much longer timeouts, which cannot be changed.
        resolve = functools.partial(socket.getaddrinfo, self.host, self.port, type=socket.SOCK_STREAM)
        resolver = Worker("resolver")
        try:
            with contextlib.closing(BoundedCaller()) as caller:
                return await caller.run(resolve, deadline.remaining(), resolver)
        except StillBusyError:
            raise socket.timeout("the name was not resolved in time") from None
        except UnicodeError as error:  # two dots in a row, for example, cannot be encoded for the resolver
            raise socket.gaierror(socket.EAI_NONAME, "this is not a host name") from error
        finally:
            resolver.stop()


@dataclass(frozen=True)
class VsockAddress:
    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock '{self.cid}:{self.port}'"

    async def connect(self, deadline: Deadline) -> socket.socket:
        if not hasattr(socket, "AF_VSOCK"):
            raise OSError(errno.EAFNOSUPPORT, "this system has no vsock")
        return await _connect(socket.AF_VSOCK, (self.cid, self.port), deadline)


Address = Union[UnixAddress, TcpAddress, VsockAddress]

_UINT32 = re.compile(r"[0-9]{1,10}\Z")

_HIGHEST_VSOCK = 2**32 - 2  # the number above it means "any" (vsock(7))


def _number(text: str, highest: int) -> int | None:
    return int(text) if _UINT32.match(text) and 0 < int(text) <= highest else None


def _port(text: str, option: str, value: str, highest: int) -> int:
    port = _number(text, highest)
    if port is None:
        hint = f"Write a number from 1 to {highest} after the last colon."
        raise InvalidOptionError(f"{option} '{value}' does not end in a port", hint)
    return port


def parse_address(value: str) -> TcpAddress:
    """Parse ``host:port``, or ``[address]:port`` for IPv6.

    :raises InvalidOptionError: it is neither
    """
    found = re.match(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>.*)\Z", value)
    if found is None:
        hint = "Put an IPv6 address in brackets: [::1]:4444."
        raise InvalidOptionError(f"address '{value}' does not have the form host:port", hint)
    return TcpAddress(found.group("v6") or found.group("host"), _port(found.group("port"), "address", value, 65535))


def parse_vsock(value: str) -> VsockAddress:
    """Parse ``cid:port``, two 32-bit numbers.

    :raises InvalidOptionError: it has another form
    """
    before, colon, after = value.partition(":")
    cid = _number(before, _HIGHEST_VSOCK)
    if not colon or cid is None:
        raise InvalidOptionError(
            f"vsock '{value}' does not have the form cid:port",
            "The cid is in the domain's <vsock> element, or in guest-cid= of QEMU's command line.",
        )
    return VsockAddress(cid, _port(after, "vsock", value, _HIGHEST_VSOCK))


async def _connect(family: int, address: object, deadline: Deadline) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        number = connection.connect_ex(address)  # type: ignore[arg-type]  # each family has its own form
        while number == errno.EAGAIN and not deadline.expired():
            await pause(min(_FULL_QUEUE_SECONDS, deadline.remaining()))
            number = connection.connect_ex(address)  # type: ignore[arg-type]
        if number == errno.EINPROGRESS:
            if await writable(connection.fileno(), deadline) is None:
                raise socket.timeout("the connection was not made in time")
            number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
    except BaseException:
        connection.close()
        raise
    return connection


# Errors of connecting by errno; all others are "not connected".
_CONNECT_ERRORS: Mapping[int, type[QgaError]] = {
    errno.ENOENT: NotFoundError,
    errno.ENOTDIR: NotFoundError,
    errno.ENODEV: NotFoundError,  # vsock: no guest has this cid
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EAGAIN: UnresponsiveError,  # unix: the listener's queue is full
    errno.ETIMEDOUT: UnresponsiveError,
}

_CONNECT_HINTS: Mapping[type[QgaError], str] = {
    NotFoundError: "Check that the guest is running, and that its configuration has this socket, address or vsock.",
    UnresponsiveError: ONE_CLIENT_HINT,
    NotConnectedError: "Nothing listens there: check that the guest is running and that this is its agent's channel.",
}


def connect_error(address: Address, error: OSError) -> QgaError:
    if isinstance(error, socket.gaierror):
        kind: type[QgaError] = NotFoundError
    elif isinstance(error, socket.timeout):
        kind = UnresponsiveError
    else:
        kind = _CONNECT_ERRORS.get(error.errno or 0, NotConnectedError)
    reason = error.strerror or str(error)
    return kind(f"cannot connect to {address}: {reason}", _CONNECT_HINTS.get(kind))
