# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in a guest, piece by piece through its agent. Every count is checked, and every handle is closed."""

from __future__ import annotations

import base64
from types import TracebackType
from typing import Any

from .agent import GuestAgent
from .channels.base import expect_integer, expect_object
from .errors import QgaError, RemoteProtocolError
from .exec_errors import FileTransferError
from .guest_exec import decoded


class GuestFile:
    """An open file of the guest: ``async with GuestFile(agent, path, "rb", piece) as file``.

    ``mode`` is as for ``fopen``. A new file may be written to by everybody (``guest-file-open`` gives it the mode
    0666), so who has secrets makes it first, or a directory around it. ``piece`` is the most that one exchange carries,
    in bytes.
    """

    def __init__(self, agent: GuestAgent, path: str, mode: str, piece: int) -> None:
        self._agent = agent
        self._path = path
        self._mode = mode
        self._piece = piece
        self._handle = -1

    async def __aenter__(self) -> GuestFile:
        opened = await self._agent.call("guest-file-open", {"path": self._path, "mode": self._mode})
        self._handle = expect_integer(opened, "a handle")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._agent.call("guest-file-close", {"handle": self._handle})
        except QgaError:
            # What was written may reach the disk only now. After another error, that one tells more.
            if error is None:
                raise

    async def write(self, data: bytes) -> None:
        """
        :raises FileTransferError: the guest took less
        :raises QgaError: the agent could not be asked, or could not write
        """
        rest = memoryview(data)
        while rest:
            piece = rest[: self._piece]
            arguments = {"handle": self._handle, "buf-b64": base64.b64encode(piece).decode("ascii")}
            written = _count(await self._agent.call("guest-file-write", arguments), "guest-file-write", len(piece))
            if not written:
                raise FileTransferError(f"the guest takes no more than a part of {self._path}")
            rest = rest[written:]

    async def size(self) -> int:
        """How long the file is; reading begins anew.

        :raises QgaError: the agent could not be asked
        """
        end, _begin = [
            await self._agent.call("guest-file-seek", {"handle": self._handle, "offset": 0, "whence": whence})
            for whence in ("end", "set")
        ]
        return _member(end, "guest-file-seek", "position", 2**63)

    async def read(self) -> bytes:
        """The next piece. It is shorter than a whole one only at the end; there may be an empty one behind it.

        :raises QgaError: the agent could not be asked, or could not read
        """
        returned = await self._agent.call("guest-file-read", {"handle": self._handle, "count": self._piece})
        count = _count(returned, "guest-file-read", self._piece)
        data = decoded(returned.get("buf-b64", ""), "a file's content")
        if len(data) != count:
            raise RemoteProtocolError(f"the agent returned {len(data)} bytes of a file and said {count}")
        return data


async def write_file(agent: GuestAgent, path: str, data: bytes, piece: int) -> None:
    """
    :raises QgaError: as :meth:`GuestFile.write` does
    """
    async with GuestFile(agent, path, "wb", piece) as file:
        await file.write(data)


class FileTooLongError(FileTransferError):
    """It has more bytes than were asked for."""


async def read_whole(agent: GuestAgent, path: str, limit: int, piece: int) -> bytes:
    """All of a file, which has no more bytes than the limit.

    :raises FileTooLongError: it has
    :raises QgaError: as :meth:`GuestFile.read` does
    """
    async with GuestFile(agent, path, "rb", piece) as file:
        first = await file.read()
        if len(first) < piece and len(first) <= limit:
            return first
        size = await file.size()
        if size > limit:
            raise FileTooLongError(f"{path} has {size} bytes")
        pieces: list[bytes] = []
        left = size
        while left > 0:
            data = (await file.read())[:left]
            if not data:
                raise FileTransferError(f"{path} became shorter while it was read")
            pieces.append(data)
            left -= len(data)
    return b"".join(pieces)


async def read_file(agent: GuestAgent, path: str, most: int, piece: int) -> bytes:
    """The file's first bytes, ``most`` of them if it has so many.

    :raises QgaError: as :meth:`GuestFile.read` does
    """
    pieces: list[bytes] = []
    left = most
    async with GuestFile(agent, path, "rb", piece) as file:
        while left > 0:
            data = await file.read()
            if not data:
                break
            pieces.append(data[:left])
            left -= len(data)
    return b"".join(pieces)


def _count(returned: Any, command: str, most: int) -> int:
    return _member(returned, command, "count", most)


def _member(returned: Any, command: str, name: str, most: int) -> int:
    number = expect_integer(expect_object(returned, command).get(name), f"the {name} of {command}")
    if not 0 <= number <= most:
        raise RemoteProtocolError(f"the agent returned {command} with a {name} of {number}, which cannot be")
    return number
