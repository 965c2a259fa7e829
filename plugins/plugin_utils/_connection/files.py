# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in a guest, piece by piece through its agent. Every count is checked, and every handle is closed."""

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

# An agent may carry less than it is asked to: some buffer 48 KiB, and 4 KiB is what it reads if nobody says how many
# (qga/commands.c, QEMU 10.0.13). But with a few bytes at a time, a file of a megabyte is a matter of hours. So many
# exchanges on one file may carry less than that; beyond them, it is withheld.
_LEAST_BYTES = 256
_MOST_SMALL = 256

_WITHHELD_HINT = "QEMU's agent never does that: check which program answers in the guest in its place, and restart it."


class GuestFile:
    """An open file of the guest: ``async with GuestFile(agent, path, "rb", piece) as file``.

    ``mode`` is as for ``fopen``. A new file may be written to by everybody (``guest-file-open`` gives it the mode
    0666), so who has secrets makes it first, or a directory around it. ``piece`` is the most that one exchange carries,
    in bytes. All that is done with it is done by the deadline; it is closed after that, too.
    """

    def __init__(self, agent: GuestAgent, path: str, mode: str, piece: int, deadline: Deadline = NEVER) -> None:
        self._agent = agent
        self._path = path
        self._shown = visible(path)  # a guest may have said where it is
        self._mode = mode
        self._piece = piece
        self._deadline = deadline
        self._handle = -1
        self._position = 0  # after what was read
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
            # What was written may reach the disk only now. After another error, that one tells more.
            if error is None:
                raise

    async def write(self, data: bytes) -> None:
        """
        :raises FileTransferError: the guest took less, or too little at a time
        :raises TransferTimeoutError: it did not take it by the deadline
        :raises QgaError: the agent could not be asked, or could not write
        """
        rest = memoryview(data)
        while rest:
            piece = rest[: self._piece]
            arguments = {"handle": self._handle, "buf-b64": base64.b64encode(piece).decode("ascii")}
            written = _member(await self._ask("guest-file-write", arguments), "guest-file-write", "count", len(piece))
            if not written:
                raise FileTransferError(f"the guest takes no more than a part of {self._shown}")
            self._require_progress(written, len(piece))
            rest = rest[written:]

    async def size(self) -> int:
        """How long the file is. Reading goes on where it was.

        :raises TransferTimeoutError: the agent did not say so by the deadline
        :raises QgaError: the agent could not be asked
        """
        end, _back = [
            await self._ask("guest-file-seek", {"handle": self._handle, "offset": offset, "whence": whence})
            for offset, whence in ((0, "end"), (self._position, "set"))
        ]
        return _member(end, "guest-file-seek", "position", 2**63)

    async def read(self, most: int | None = None) -> bytes:
        """The next piece, of at most so many bytes; empty: there are no more.

        It may be shorter than what was asked for: ``count`` is a maximum, and only ``eof`` says that it was the last
        (``guest-file-read`` in qga/qapi-schema.json, QEMU 10.0.13). A piece without a byte comes after the last as
        well, as for ``read(2)``.

        :raises FileTransferError: the guest gives too little at a time
        :raises TransferTimeoutError: it did not give it by the deadline
        :raises QgaError: the agent could not be asked, or could not read
        """
        if self.is_at_end:
            return b""
        count = self._piece if most is None else min(most, self._piece)
        returned = await self._ask("guest-file-read", {"handle": self._handle, "count": count})
        said = _member(returned, "guest-file-read", "count", count)
        data = decoded(returned.get("buf-b64", ""), "a file's content")
        if len(data) != said:
            raise RemoteProtocolError(f"the agent returned {len(data)} bytes of a file and said {said}")
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
        return TransferTimeoutError(f"{self._shown} was not transferred within {self._deadline.seconds:g} s")

    def _require_progress(self, carried: int, asked: int) -> None:
        self._small += carried < min(asked, _LEAST_BYTES)
        if self._small > _MOST_SMALL:
            raise FileTransferError(
                f"the guest's agent transfers {self._shown} only a few bytes at a time", _WITHHELD_HINT
            )


class FileTooLongError(FileTransferError):
    """It has more bytes than were asked for."""


async def read_whole(agent: GuestAgent, path: str, limit: int, piece: int, deadline: Deadline = NEVER) -> bytes:
    """All of a file, which has no more bytes than the limit.

    :raises FileTooLongError: it has
    :raises FileTransferError: its size changed meanwhile
    :raises QgaError: as :meth:`GuestFile.read` does
    """
    async with GuestFile(agent, path, "rb", piece, deadline) as file:
        content = bytearray(await file.read())
        size = len(content) if file.is_at_end else await file.size()
        if size > limit:
            raise FileTooLongError(f"{visible(path)} has {size} bytes")
        # One byte more than it should have, if it has: a guest that never comes to an end is noticed at once.
        while len(content) <= size and not file.is_at_end:
            content += await file.read(size + 1 - len(content))
    if len(content) != size:
        change = "longer" if len(content) > size else "shorter"
        raise FileTransferError(f"{visible(path)} became {change} while it was read")
    return bytes(content)


async def read_file(agent: GuestAgent, path: str, most: int, piece: int, deadline: Deadline = NEVER) -> bytes:
    """The file's first bytes, ``most`` of them if it has so many.

    :raises QgaError: as :meth:`GuestFile.read` does
    """
    content = bytearray()
    async with GuestFile(agent, path, "rb", piece, deadline) as file:
        while len(content) < most and not file.is_at_end:
            content += await file.read(most - len(content))
    return bytes(content)


def is_text(path: str) -> bool:
    """Whether JSON can carry a path, of whose bytes those that are not UTF-8 are surrogates (:func:`os.fsdecode`)."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _member(returned: Any, command: str, name: str, most: int) -> int:
    number = expect_integer(expect_object(returned, command).get(name), f"the {name} of {command}")
    if not 0 <= number <= most:
        raise RemoteProtocolError(f"the agent returned {command} with a {name} of {number}, which cannot be")
    return number
