# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole files to and from a guest: under another name until they are whole, and checked."""

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
from .errors import FileMissingError, FileTransferError, OfTheCommandError
from .files import GuestFile
from .results import Finished, said
from .shell import GuestShell

# What put.sh and fetch.sh exit with; anything else is a failure of a program in them, which says so itself.
_REFUSALS: Mapping[int, tuple[type[OfTheCommandError], str, str | None]] = {
    44: (FileMissingError, "there is no file {} in the guest", None),
    45: (FileTransferError, "{} did not get across as it is here: its checksum in the guest is another", None),
    46: (FileTransferError, "{} is a directory in the guest", "Name a file."),
    47: (FileTransferError, "there is no directory for {} in the guest", "Make it first."),
    48: (
        FileTransferError,
        "{} leads through too many symbolic links in the guest",
        "Remove the links that lead to each other.",
    ),
    49: (
        FileTransferError,
        "{} is not a regular file in the guest",
        "Name a regular file; a command in the guest can read from, or write to, what is none.",
    ),
}

# An agent takes a byte apart several times before it writes it: what can be packed gets there in a part of the time.
# How well a file can be packed is told by its beginning.
_SAMPLE = 256 * 1024
_WORTHWHILE = 0.8
_FASTEST = 1
_GZIP = 31  # zlib's number for the format

# Size, SHA-256 or nothing, absolute path.
_HEAD = re.compile(r"([0-9]{1,18}) ([0-9a-f]{64}|) (/.*)\Z", re.DOTALL)


class Source(NamedTuple):
    """A file on this side: its size and SHA-256, and how to read it from its beginning, in pieces."""

    size: int
    sha256: str
    pieces: Callable[[int], Iterator[bytes]]


def source_of(file: BinaryIO) -> Source:
    """``file`` can be read again and again from its beginning."""

    def pieces(size: int) -> Iterator[bytes]:
        file.seek(0)
        return iter(lambda: file.read(size), b"")

    digest, total = hashlib.sha256(), 0
    for piece in pieces(1024 * 1024):
        digest.update(piece)
        total += len(piece)
    return Source(total, digest.hexdigest(), pieces)


async def put(shell: GuestShell, source: Source, path: str) -> None:
    """Make ``path`` in the guest a copy of ``source``. All of it has ``exec_timeout``.

    :raises FileTransferError: it could not be written there, or is not the same there
    :raises CommandTimeoutError: it took too long
    :raises QgaError: as :func:`scripts.ask` and :class:`GuestFile` do
    """
    deadline = Deadline(shell.limits.exec_timeout)
    words = {
        "p": path,
        "g": "",
        "t": "",
        "beside": secrets.token_hex(8),
        "x": f".qga-{secrets.token_hex(16)}",
        "size": str(source.size),
        "hash": source.sha256,
    }
    piece = shell.limits.request

    async def step(name: str, content: bytes = b"", within: Deadline = deadline, **more: str) -> Finished:
        return await _ask(shell, scripts.PUT, {**words, "step": name, **more}, within, content)

    try:
        if source.size <= piece // 2:
            await step("whole", b"".join(source.pieces(piece)))
            return
        packs = "packs" if _can_be_packed(source) else ""
        begun = await step("begin", packs=packs)
        names = begun.output.decode("utf-8", "surrogateescape").split("\0")
        if len(names) != len(("directory", "target", "packed")):
            raise RemoteProtocolError("the guest's shell did not say where the file is to be written")
        directory, target, packed = names
        # It is to be opened there, and nowhere else.
        place, slash, _name = target.rpartition("/")
        is_known = target.startswith("/") and packed in ("", "gzip")
        if not is_known or directory != f"{place}{slash}.qga-{words['beside']}":
            raise RemoteProtocolError("the guest's shell did not report a directory beside the file to write to")
        words.update(g=directory, packed=packed)
        temporary = await shell.alias("{}/{}{}".format(directory, words["x"], ".z" if packed else ""), deadline)
        # Not "wb": it is there, unless its directory was exchanged for another one.
        async with GuestFile(shell.agent, temporary, "r+b", piece, deadline) as file:
            for data in _packed(source, piece) if packed else source.pieces(piece):
                await file.write(data)
        await step("end")
    except BaseException:
        with contextlib.suppress(QgaError):
            await step("give_up", within=Deadline(shell.timings.give_up))
        raise


async def fetch(shell: GuestShell, path: str, target: BinaryIO) -> None:
    """Write to ``target`` what is in the file ``path`` of the guest, and never more than a byte above the size that it
    is said to have. All of it has ``exec_timeout``.

    :raises FileMissingError: there is no such file
    :raises FileTransferError: it could not be read whole, or is longer than the limit
    :raises CommandTimeoutError: it took too long
    :raises QgaError: as :func:`scripts.ask` and :class:`GuestFile` do
    """
    deadline = Deadline(shell.limits.exec_timeout)
    most = shell.limits.reply
    read = await _ask(shell, scripts.FETCH, {"p": path, "most": str(most // 2)}, deadline)
    head, _nul, content = read.output.partition(b"\0")
    found = _HEAD.match(head.decode("utf-8", "surrogateescape"))
    if found is None:
        raise RemoteProtocolError("the guest's shell did not say what the file is")
    size, sha256, full_path = int(found.group(1)), found.group(2), found.group(3)
    if size > shell.limits.fetch:
        raise FileTransferError(
            f"{visible(path)} has {size} bytes in the guest, and max_fetch allows {shell.limits.fetch}",
            "Raise max_fetch, or fetch a part of it, or a compressed copy.",
        )
    if size <= most // 2:
        # What has no size, and so no checksum either, may have become a little longer at the second reading.
        if len(content) > (size if sha256 else most):
            raise _changed(path, len(content), size)
        target.write(content)
        total, digest = len(content), hashlib.sha256(content)
        is_whole = not sha256 or total == size
    else:
        total, digest = 0, hashlib.sha256()
        async with GuestFile(shell.agent, await shell.alias(full_path, deadline), "rb", most, deadline) as file:
            # To one byte above the size: what grows, or is a lie, has no end.
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
    """The file as gzip packs it, in pieces of that size."""
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
    shell: GuestShell, script: str, words: Mapping[str, str], deadline: Deadline, data: bytes = b""
) -> Finished:
    """Run a script on the file whose path is the word "p".

    :raises FileMissingError: it found no such file
    :raises FileTransferError: it failed
    :raises QgaError: as :func:`scripts.ask` does
    """
    finished = await scripts.ask(shell.agent, script, words, data, deadline=deadline)
    path = words["p"]
    if finished.status == 0:
        return finished
    if finished.status in _REFUSALS:
        kind, message, hint = _REFUSALS[finished.status]
        raise kind(message.format(visible(path)), hint)
    why = said(finished.errors) or f"exit status {finished.status}"
    raise FileTransferError(f"{visible(path)} cannot be transferred: {why}")


def _changed(path: str, total: int, size: int) -> FileTransferError:
    return FileTransferError(
        f"{visible(path)} was changed while it was read, or is damaged: {total} bytes came of {size}",
        "Fetch it again; what changes all the time can be copied in the guest first.",
    )
