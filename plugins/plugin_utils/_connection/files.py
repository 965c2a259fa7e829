# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in a guest, transferred in pieces through its agent. Every count is checked, and every handle is closed."""

from __future__ import annotations

import base64
from types import TracebackType
from typing import Any, Mapping

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import ExchangeTimeoutError, UnresponsiveError
from ...module_utils._event_loop.tasks import NEVER, Deadline
from ...module_utils._protocol.errors import QgaError, RemoteProtocolError
from ...module_utils._protocol.messages import expect_object
from ...module_utils._protocol.numbers import expect_integer
from ...module_utils._untrusted import visible
from .errors import FileTransferError, TransferTimeoutError
from .programs import decoded

# An agent may transfer less than requested: some buffer 48 KiB, and without a count it reads 4 KiB (qga/commands.c,
# QEMU 10.0.13). But with a few bytes at a time, a megabyte takes hours. An exchange below _SMALL_TRANSFER bytes is
# small; after _MAX_SMALL_TRANSFERS of them for one file, the agent counts as hostile.
_SMALL_TRANSFER = 256
_MAX_SMALL_TRANSFERS = 256

_SMALL_TRANSFERS_HINT = "QEMU's agent never does this: check which program answers in its place in the guest."


class GuestFile:
    """An open file of the guest: ``async with GuestFile(agent, path, "rb", piece) as file``.

    ``mode`` is as for ``fopen``. ``guest-file-open`` creates a new file with the mode 0666, so for secrets create the
    file first, or use a private directory. ``piece`` is the maximum number of bytes for one exchange. The deadline
    holds for everything except closing the file.
    """

    def __init__(self, agent: GuestAgent, path: str, mode: str, piece: int, deadline: Deadline = NEVER) -> None:
        self._agent = agent
        self._path = path
        self._shown = visible(path)  # the path may come from the guest
        self._mode = mode
        self._piece = piece
        self._deadline = deadline
        self._handle = -1
        self._position = 0  # of the next read
        self._small = 0
        self.is_at_end = False

    async def __aenter__(self) -> GuestFile:
        opened = await self._ask("guest-file-open", {"path": self._path, "mode": self._mode})
        self._handle = expect_integer(opened, "a handle")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._agent.call("guest-file-close", {"handle": self._handle}, deadline=self._deadline)
        except QgaError:
            # Data may reach the disk only now, so this error counts. After another error, that one is more useful.
            if error is None:
                raise

    async def write(self, data: bytes) -> None:
        """
        :raises FileTransferError: the guest wrote only a part, or too little at a time
        :raises TransferTimeoutError: it did not write everything by the deadline
        :raises QgaError: a request to the agent failed, or it could not write
        """
        rest = memoryview(data)
        while rest:
            piece = rest[: self._piece]
            arguments = {"handle": self._handle, "buf-b64": base64.b64encode(piece).decode("ascii")}
            written = _member(await self._ask("guest-file-write", arguments), "guest-file-write", "count", len(piece))
            if not written:
                raise FileTransferError(f"the guest wrote only a part of '{self._shown}'")
            self._require_progress(written, len(piece))
            rest = rest[written:]

    async def size(self) -> int:
        """Return the size of the file, and keep the position for reading.

        :raises TransferTimeoutError: the agent did not reply by the deadline
        :raises QgaError: a request to the agent failed
        """
        end, _back = [
            await self._ask("guest-file-seek", {"handle": self._handle, "offset": offset, "whence": whence})
            for offset, whence in ((0, "end"), (self._position, "set"))
        ]
        return _member(end, "guest-file-seek", "position", 2**63)

    async def read(self, most: int | None = None) -> bytes:
        """Return the next piece, of at most ``most`` bytes, or no bytes at the end of the file.

        A piece may be shorter than requested: ``count`` is a maximum, and only ``eof`` marks the last piece
        (``guest-file-read`` in qga/qapi-schema.json, QEMU 10.0.13). As with ``read(2)``, an empty piece marks the end,
        too.

        :raises FileTransferError: the guest sends too little at a time
        :raises TransferTimeoutError: the agent did not reply by the deadline
        :raises QgaError: a request to the agent failed, or it could not read
        """
        if self.is_at_end:
            return b""
        count = self._piece if most is None else min(most, self._piece)
        returned = await self._ask("guest-file-read", {"handle": self._handle, "count": count})
        reported = _member(returned, "guest-file-read", "count", count)
        data = decoded(returned.get("buf-b64", ""), "a file's content")
        if len(data) != reported:
            raise RemoteProtocolError(f"the agent returned {len(data)} bytes of a file and reported {reported}")
        eof = returned.get("eof")
        if eof is not None and not isinstance(eof, bool):
            raise RemoteProtocolError(f"the agent returned the eof of guest-file-read as {type(eof).__name__}")
        self.is_at_end = bool(eof) or not data
        self._position += len(data)
        if not self.is_at_end:
            self._require_progress(len(data), count)
        return data

    async def _ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        if self._deadline.expired():
            raise self._late()
        try:
            return await self._agent.call(command, arguments, deadline=self._deadline)
        except (ExchangeTimeoutError, UnresponsiveError) as error:
            if self._deadline.expired():
                raise self._late() from error
            raise

    def _late(self) -> TransferTimeoutError:
        return TransferTimeoutError(f"the transfer of '{self._shown}' timed out after {self._deadline.seconds:g} s")

    def _require_progress(self, carried: int, asked: int) -> None:
        self._small += carried < min(asked, _SMALL_TRANSFER)
        if self._small > _MAX_SMALL_TRANSFERS:
            raise FileTransferError(
                f"the guest's agent transfers '{self._shown}' only a few bytes at a time", _SMALL_TRANSFERS_HINT
            )


class FileTooLongError(FileTransferError):
    """The file has more bytes than the limit."""


async def read_whole(agent: GuestAgent, path: str, limit: int, piece: int, deadline: Deadline = NEVER) -> bytes:
    """Return all of a file of at most ``limit`` bytes.

    :raises FileTooLongError: it has more
    :raises FileTransferError: its size changed while it was read
    :raises QgaError: as :meth:`GuestFile.read` does
    """
    async with GuestFile(agent, path, "rb", piece, deadline) as file:
        content = bytearray(await file.read())
        size = len(content) if file.is_at_end else await file.size()
        if size > limit:
            raise FileTooLongError(f"'{visible(path)}' has {size} bytes")
        # Try to read one byte more than its size, so that a guest that never reaches the end is noticed at once.
        while len(content) <= size and not file.is_at_end:
            content += await file.read(size + 1 - len(content))
    if len(content) != size:
        change = "longer" if len(content) > size else "shorter"
        raise FileTransferError(f"'{visible(path)}' became {change} while it was read")
    return bytes(content)


async def read_file(agent: GuestAgent, path: str, most: int, piece: int, deadline: Deadline = NEVER) -> bytes:
    """Return at most the first ``most`` bytes of a file.

    :raises QgaError: as :meth:`GuestFile.read` does
    """
    content = bytearray()
    async with GuestFile(agent, path, "rb", piece, deadline) as file:
        while len(content) < most and not file.is_at_end:
            content += await file.read(most - len(content))
    return bytes(content)


def is_utf8(path: str) -> bool:
    """Return whether JSON can carry a path. Bytes that are not UTF-8 are surrogates in it (:func:`os.fsdecode`)."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _member(returned: Any, command: str, name: str, most: int) -> int:
    number = expect_integer(expect_object(returned, command).get(name), f"the {name} of {command}")
    if not 0 <= number <= most:
        raise RemoteProtocolError(f"the agent returned {command} with an impossible {name}: {number}")
    return number
