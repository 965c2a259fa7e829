# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PowerShell in a guest with Windows. Experimental: it was built without one.

A result is had from the agent only, and only once; and no more of it than a reply carries.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
from typing import BinaryIO

from .agent import GuestAgent
from .errors import QgaError
from .exec_errors import BecomeError, CommandTimeoutError, FileTransferError, OutputTooLongError, ResultLostError
from .guest_exec import Ended, Program, UnknownProcessError, end_of, start
from .guest_files import GuestFile, write_file
from .guest_shell import Dialogue, Finished, Limits
from .guest_transfer import Source, damaged, failed
from .waiting import Deadline

_OPTIONS = ("-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Unrestricted", "-EncodedCommand")
_TEMPORARY = "C:\\Windows\\Temp\\qga-"


class GuestPowerShell:
    """PowerShell in the guest behind ``agent``, which has answered before."""

    def __init__(self, agent: GuestAgent, limits: Limits) -> None:
        self.agent = agent
        self.limits = limits

    async def run(self, command: str, data: bytes = b"", dialogue: Dialogue | None = None) -> Finished:
        """Run a command to its end, with ``data`` for its input.

        :raises BecomeError: there is something to be said to it before
        :raises CommandTimeoutError: it took too long; it runs on
        :raises ResultLostError: what came of it cannot be known
        :raises OutputTooLongError: it wrote more than the agent keeps
        :raises QgaError: the agent could not be asked
        """
        if dialogue is not None:
            raise BecomeError("a guest with Windows cannot be asked for a become password through its agent")
        words = _words(command)
        if len(data) <= self.limits.request - sum(map(len, words)):
            return await self._run(Program(words[0], words[1:], data))
        path = _TEMPORARY + secrets.token_hex(16)
        await write_file(self.agent, path, data, self.limits.request)
        try:
            return await self._run(Program("cmd.exe", ("/d", "/c", "{} < {}".format(" ".join(words), path))))
        finally:
            with contextlib.suppress(QgaError):
                await self._run(Program("cmd.exe", ("/d", "/c", f"del {path}")))

    async def clean(self) -> None:
        """Nothing is kept in the guest."""

    async def put(self, source: Source, path: str) -> None:
        """Make ``path`` in the guest a copy of ``source``.

        :raises FileTransferError: it is not the same there
        :raises QgaError: as :meth:`run` and :class:`GuestFile` do
        """
        temporary = f"{path}.qga-{secrets.token_hex(8)}"
        try:
            async with GuestFile(self.agent, temporary, "wb", self.limits.request) as file:
                for data in source.pieces(self.limits.request):
                    await file.write(data)
            if await self._sha256(temporary) != source.sha256:
                raise damaged(path)
            await self._checked(
                f"Move-Item -Force -LiteralPath {_quoted(temporary)} -Destination {_quoted(path)}", path
            )
        except BaseException:
            with contextlib.suppress(QgaError):
                await self.run(f"Remove-Item -Force -LiteralPath {_quoted(temporary)}")
            raise

    async def fetch(self, path: str, target: BinaryIO) -> None:
        """Write to ``target`` what is in the file ``path`` of the guest.

        :raises FileTransferError: it could not be read whole
        :raises QgaError: as :meth:`run` and :class:`GuestFile` do
        """
        digest = hashlib.sha256()
        async with GuestFile(self.agent, path, "rb", self.limits.reply) as file:
            while True:
                data = await file.read()
                if not data:
                    break
                digest.update(data)
                target.write(data)
        if await self._sha256(path) != digest.hexdigest():
            raise FileTransferError(f"{path} was changed while it was read, or is damaged")

    async def _sha256(self, path: str) -> str:
        finished = await self._checked(f"(Get-FileHash -Algorithm SHA256 -LiteralPath {_quoted(path)}).Hash", path)
        return finished.output.decode("ascii", "replace").strip().lower()

    async def _checked(self, command: str, path: str) -> Finished:
        finished = await self.run(f"$ErrorActionPreference = 'Stop'; {command}")
        if finished.status != 0:
            raise failed(finished, path)
        return finished

    async def _run(self, program: Program) -> Finished:
        process = await start(self.agent, program)
        try:
            ended = await end_of(self.agent, process, Deadline(self.limits.exec_timeout))
        except UnknownProcessError as error:
            raise ResultLostError(f"the agent does not know the command any more: {error.message}") from error
        if ended is None:
            raise CommandTimeoutError(
                f"the command did not end within {self.limits.exec_timeout:g} s; in a guest with Windows it runs on"
            )
        return _finished(ended)


def _finished(ended: Ended) -> Finished:
    if ended.is_truncated:
        raise OutputTooLongError("the command wrote more than the agent keeps of it")
    if ended.exit_status is None:
        raise ResultLostError(f"the command was ended by the exception {ended.signal}")
    return Finished(ended.exit_status, ended.output, ended.errors)


def _words(command: str) -> tuple[str, ...]:
    """The program and its arguments. What Ansible builds is a call of PowerShell already, without quotes."""
    words = tuple(command.split())
    if words and words[0].lower() in ("powershell", "powershell.exe") and "-encodedcommand" in command.lower():
        return ("powershell.exe", *words[1:])
    return ("powershell.exe", *_OPTIONS, base64.b64encode(command.encode("utf-16-le")).decode("ascii"))


def _quoted(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))
