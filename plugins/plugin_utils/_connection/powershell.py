# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PowerShell in a guest with Windows. Experimental: it was built without one.

A result is had from the agent only, and only once; and no more of it than a reply carries.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
from typing import BinaryIO

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import CommandDisabledError, CommandError, FrozenError
from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._protocol.errors import QgaError, RemoteProtocolError
from ...module_utils._untrusted import visible
from .errors import BecomeError, CommandTimeoutError, FileTransferError, OutputTooLongError, ResultLostError
from .files import GuestFile, write_file
from .programs import AWAY, RETRY, Ended, Polling, Program, UnknownProcessError, outcome, start
from .shell import Dialogue, Finished, Limits
from .transfer import Source, copied, damaged, failed, too_long

# The agent is away for a moment, or others have frozen the guest. If it reported an end in a reply that was lost, it
# says so when it is asked again: it does not know the process any more.
_PASSING = (*AWAY, CommandDisabledError, FrozenError)

_OPTIONS = ("-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Unrestricted", "-EncodedCommand")
# Seconds that removing what is not needed any more may last.
_REMOVAL_PATIENCE = 5.0
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
        return await self._run_by(Deadline(self.limits.exec_timeout), command, data)

    async def _run_by(self, deadline: Deadline, command: str, data: bytes = b"") -> Finished:
        words = _words(command)
        if len(data) <= self.limits.request - sum(map(len, words)):
            return await self._run(Program(words[0], words[1:], data), deadline)
        path = _TEMPORARY + secrets.token_hex(16)
        try:
            await write_file(self.agent, path, data, self.limits.request, deadline)
            return await self._run(Program("cmd.exe", ("/d", "/c", "{} < {}".format(" ".join(words), path))), deadline)
        finally:
            with contextlib.suppress(QgaError):
                await self._run(Program("cmd.exe", ("/d", "/c", f"del {path}")), Deadline(_REMOVAL_PATIENCE))

    async def clean(self) -> None:
        """Nothing is kept in the guest."""

    async def put(self, source: Source, path: str) -> None:
        """Make ``path`` in the guest a copy of ``source``. All of it has ``exec_timeout``.

        :raises FileTransferError: it is not the same there
        :raises CommandTimeoutError: it took too long
        :raises QgaError: as :meth:`run` and :class:`GuestFile` do
        """
        deadline = Deadline(self.limits.exec_timeout)
        temporary = f"{path}.qga-{secrets.token_hex(8)}"
        try:
            async with GuestFile(self.agent, temporary, "wb", self.limits.request, deadline) as file:
                for data in source.pieces(self.limits.request):
                    await file.write(data)
            if await self._sha256(temporary, deadline) != source.sha256:
                raise damaged(path)
            move = f"Move-Item -Force -LiteralPath {_quoted(temporary)} -Destination {_quoted(path)}"
            await self._checked(move, path, deadline)
        except BaseException:
            removal = f"Remove-Item -Force -LiteralPath {_quoted(temporary)}"
            with contextlib.suppress(QgaError):
                await self._run_by(Deadline(_REMOVAL_PATIENCE), removal)
            raise

    async def fetch(self, path: str, target: BinaryIO) -> None:
        """Write to ``target`` what is in the file ``path`` of the guest, and never more than a byte above its size.
        All of it has ``exec_timeout``.

        :raises FileTransferError: it could not be read whole, or is longer than the limit
        :raises CommandTimeoutError: it took too long
        :raises QgaError: as :meth:`run` and :class:`GuestFile` do
        """
        deadline = Deadline(self.limits.exec_timeout)
        async with GuestFile(self.agent, path, "rb", self.limits.reply, deadline) as file:
            most = await _most(file, path, self.limits)
            total, digest = await copied(file, target, most)
        if total > self.limits.fetch:
            raise too_long(path, total, self.limits)
        if total > most or await self._sha256(path, deadline) != digest:
            raise FileTransferError(f"{visible(path)} was changed while it was read, or is damaged")

    async def _sha256(self, path: str, deadline: Deadline) -> str:
        script = f"(Get-FileHash -Algorithm SHA256 -LiteralPath {_quoted(path)}).Hash"
        finished = await self._checked(script, path, deadline)
        return finished.output.decode("ascii", "replace").strip().lower()

    async def _checked(self, command: str, path: str, deadline: Deadline) -> Finished:
        finished = await self._run_by(deadline, f"$ErrorActionPreference = 'Stop'; {command}")
        if finished.status != 0:
            raise failed(finished, path)
        return finished

    async def _run(self, program: Program, deadline: Deadline) -> Finished:
        process = await start(self.agent, program, deadline)
        try:
            ended = await self._end_of(process, deadline)
        except UnknownProcessError as error:
            raise ResultLostError(f"the agent does not know the command any more: {error.message}") from error
        if ended is None:
            raise CommandTimeoutError(
                f"the command did not end within {self.limits.exec_timeout:g} s; in a guest with Windows it runs on"
            )
        return _finished(ended)

    async def _end_of(self, process: int, deadline: Deadline) -> Ended | None:
        """How the process ended. None: it has not, by the deadline."""
        polling = Polling(self.agent, self.limits.patience)
        patience = Deadline(self.limits.patience)
        while True:
            try:
                await polling.pause(deadline)
                ended = await outcome(self.agent, process, deadline)
            except _PASSING:
                if min(patience.remaining(), deadline.remaining()) < RETRY:
                    raise
                await polling.retry(patience)
                continue
            if ended is not None or deadline.expired():
                return ended
            patience = Deadline(self.limits.patience)


async def _most(file: GuestFile, path: str, limits: Limits) -> int:
    """The bytes that a file may have: the size that the agent says it has, or the limit if it does not say.

    :raises FileTransferError: it has more than the limit
    """
    try:
        size = await file.size()
    except (CommandError, RemoteProtocolError):
        return limits.fetch
    if size > limits.fetch:
        raise too_long(path, size, limits)
    return size


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
