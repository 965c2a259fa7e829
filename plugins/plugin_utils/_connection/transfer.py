# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies whole files to and from a guest: under a temporary name until they are complete and checked."""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
import zlib
from typing import BinaryIO, Callable, Iterator, Mapping, NamedTuple

from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._protocol.errors import QgaError, RemoteProtocolError
from ...module_utils._untrusted import visible
from . import scripts
from .errors import FailedInGuestError, FileMissingError, FileTransferError
from .files import GuestFile
from .results import Finished, stderr_text
from .shell import GuestShell

# By the exit status of put.sh and fetch.sh. Any other one is that of a failed program, which has printed its own error.
_REFUSALS: Mapping[int, tuple[type[FailedInGuestError], str, str | None]] = {
    44: (FileMissingError, "there is no file '{}' in the guest", None),
    45: (FileTransferError, "checksum mismatch after copying '{}' to the guest", None),
    46: (FileTransferError, "'{}' is a directory in the guest", "Give the path of a file."),
    47: (FileTransferError, "the directory of '{}' does not exist in the guest", "Create it first."),
    48: (FileTransferError, "too many symbolic links at '{}' in the guest", "Remove links that form a loop."),
    49: (
        FileTransferError,
        "'{}' is not a regular file in the guest",
        "Give the path of a regular file; use a command in the guest to read or write other kinds of files.",
    ),
}

# An agent handles each byte several times before it writes it, so compressed data takes a fraction of the time. The
# first _SAMPLE bytes show whether a file can be compressed to less than _WORTHWHILE of its size.
_SAMPLE = 256 * 1024
_WORTHWHILE = 0.8
_FASTEST = 1
_GZIP = 31  # zlib's number for the format

# Size, SHA-256 or nothing, absolute path.
_HEAD = re.compile(r"([0-9]{1,18}) ([0-9a-f]{64}|) (/.*)\Z", re.DOTALL)


class Source(NamedTuple):
    """A file on the controller: its size, its SHA-256, and a function that reads it from its start in pieces."""

    size: int
    sha256: str
    pieces: Callable[[int], Iterator[bytes]]


def source_of(file: BinaryIO) -> Source:
    """Return the source for ``file``, which must be seekable."""

    def pieces(size: int) -> Iterator[bytes]:
        file.seek(0)
        return iter(lambda: file.read(size), b"")

    digest, total = hashlib.sha256(), 0
    for piece in pieces(1024 * 1024):
        digest.update(piece)
        total += len(piece)
    return Source(total, digest.hexdigest(), pieces)


async def put(shell: GuestShell, source: Source, path: str) -> None:
    """Copy ``source`` to ``path`` in the guest, within ``exec_timeout``.

    :raises FileTransferError: it could not be written, or its checksum differs
    :raises CommandTimeoutError: it took too long
    :raises QgaError: as :func:`scripts.ask` and :class:`GuestFile` do
    """
    deadline = Deadline(shell.limits.exec_timeout)
    variables = {
        "p": path,
        "g": "",
        "t": "",
        "suffix": secrets.token_hex(8),
        "x": f".qga-{secrets.token_hex(16)}",
        "size": str(source.size),
        "hash": source.sha256,
    }
    piece = shell.limits.request

    async def step(name: str, content: bytes = b"", within: Deadline = deadline, **more: str) -> Finished:
        return await _ask(shell, scripts.PUT, {**variables, "step": name, **more}, within, content)

    try:
        if source.size <= piece // 2:
            await step("whole", b"".join(source.pieces(piece)))
            return
        packs = "packs" if _can_be_packed(source) else ""
        begun = await step("begin", packs=packs)
        names = begun.output.decode("utf-8", "surrogateescape").split("\0")
        if len(names) != len(("directory", "target", "packed")):
            raise RemoteProtocolError("the guest's shell did not report where to write the file")
        directory, target, packed = names
        # The agent must not open a path elsewhere.
        place, slash, _name = target.rpartition("/")
        is_known = target.startswith("/") and packed in ("", "gzip")
        if not is_known or directory != f"{place}{slash}.qga-{variables['suffix']}":
            raise RemoteProtocolError("the guest's shell reported a directory in the wrong place")
        variables.update(g=directory, packed=packed)
        temporary = await shell.alias("{}/{}{}".format(directory, variables["x"], ".z" if packed else ""), deadline)
        # Not "wb": the file exists, unless its directory was replaced by another one.
        async with GuestFile(shell.agent, temporary, "r+b", piece, deadline) as file:
            for data in _packed(source, piece) if packed else source.pieces(piece):
                await file.write(data)
        await step("end")
    except BaseException:
        with contextlib.suppress(QgaError):
            await step("give_up", within=Deadline(shell.timings.give_up))
        raise


async def fetch(shell: GuestShell, path: str, target: BinaryIO) -> None:
    """Copy the file ``path`` in the guest to ``target``, within ``exec_timeout``. At most one byte more than its
    reported size is written.

    :raises FileMissingError: there is no such file
    :raises FileTransferError: it could not be read completely, or is larger than the limit
    :raises CommandTimeoutError: it took too long
    :raises QgaError: as :func:`scripts.ask` and :class:`GuestFile` do
    """
    deadline = Deadline(shell.limits.exec_timeout)
    most = shell.limits.reply
    read = await _ask(shell, scripts.FETCH, {"p": path, "most": str(most // 2)}, deadline)
    head, _nul, content = read.output.partition(b"\0")
    found = _HEAD.match(head.decode("utf-8", "surrogateescape"))
    if found is None:
        raise RemoteProtocolError("the guest's shell reported the file in an unknown form")
    size, sha256, full_path = int(found.group(1)), found.group(2), found.group(3)
    if size > shell.limits.fetch:
        raise FileTransferError(
            f"'{visible(path)}' has {size} bytes in the guest, and max_fetch allows {shell.limits.fetch}",
            "Raise max_fetch, or fetch a part of the file, or a compressed copy.",
        )
    if size <= most // 2:
        # A file without a size, and so without a checksum, may be a little longer when it is read again.
        if len(content) > (size if sha256 else most):
            raise _changed(path, len(content), size)
        target.write(content)
        total, digest = len(content), hashlib.sha256(content)
        is_whole = not sha256 or total == size
    else:
        total, digest = 0, hashlib.sha256()
        async with GuestFile(shell.agent, await shell.alias(full_path, deadline), "rb", most, deadline) as file:
            # Read at most one byte more than the size: a growing or malicious file has no end.
            while total <= size and not file.is_at_end:
                data = await file.read(size + 1 - total)
                digest.update(data)
                total += len(data)
                target.write(data)
        is_whole = total == size
    if not is_whole or (sha256 and digest.hexdigest() != sha256):
        raise _changed(path, total, size)


def _can_be_packed(source: Source) -> bool:
    sample = next(source.pieces(_SAMPLE), b"")
    return len(zlib.compress(sample, _FASTEST)) < len(sample) * _WORTHWHILE


def _packed(source: Source, size: int) -> Iterator[bytes]:
    """Yield the gzipped file in pieces of ``size`` bytes."""
    packer = zlib.compressobj(_FASTEST, wbits=_GZIP)
    pending = bytearray()
    for data in source.pieces(_SAMPLE):
        pending += packer.compress(data)
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    pending += packer.flush()
    for start in range(0, len(pending), size):
        yield bytes(pending[start : start + size])


async def _ask(
    shell: GuestShell, script: str, variables: Mapping[str, str], deadline: Deadline, data: bytes = b""
) -> Finished:
    """Run a script on the file whose path is the word "p".

    :raises FileMissingError: there is no such file
    :raises FileTransferError: it failed
    :raises QgaError: as :func:`scripts.ask` does
    """
    finished = await scripts.ask(shell.agent, script, variables, data, deadline=deadline)
    path = variables["p"]
    if finished.status == 0:
        return finished
    if finished.status in _REFUSALS:
        kind, message, hint = _REFUSALS[finished.status]
        raise kind(message.format(visible(path)), hint)
    why = stderr_text(finished.errors) or f"exit status {finished.status}"
    raise FileTransferError(f"cannot transfer '{visible(path)}': {why}")


def _changed(path: str, total: int, size: int) -> FileTransferError:
    return FileTransferError(
        f"'{visible(path)}' changed while it was read, or is damaged: received {total} of {size} bytes",
        "Fetch it again. If it changes all the time, make a copy in the guest first.",
    )
