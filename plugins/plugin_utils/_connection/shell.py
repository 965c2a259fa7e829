# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in a guest, each in its own shell: started once, with limits, and with results that survive lost replies.

Theory of operation. One request starts a command. Its script (``guest/run.sh``) keeps the state of the command in files
of the connection's directory. If a reply is lost, or the agent was restarted, another script (``guest/look.sh``) finds
those files and reports the state of the command.

The directory. The first script makes it, in the first usable one of several places, so that this needs no separate
request; the script's report names the place. Before such a report, the scripts search all places for the directory in
which the command was started, and recognize it by a file whose name is the connection's secret.

===========================  ==================================  ========================================
``_directory``               when                                action of a script
===========================  ==================================  ========================================
None: one of several places  at first; if the guest no longer    ``run`` makes one; ``look`` and ``end``
                             knows a command; after ``clean``    search all places
a path                       after a report of ``run``,          each enters it; if it is gone or no longer
                             ``prepare`` or ``look``             the connection's, ``run`` and ``prepare``
                                                                 fail, and ``look`` reports ``unknown``
===========================  ==================================  ========================================

A command. ``run`` starts it, waits until it ends (``_result``), and reads its output (``_finish``). If a reply is lost,
``_recover`` polls; the first row that applies decides:

=====================  =====================================  =====================================================
report of ``look``     when                                   action
=====================  =====================================  =====================================================
none, or a refusal     unavailable for ``patience``           the agent's error; after the timeout, kill it first
none, or a refusal     otherwise                              poll again
``done``               at any time                            its result
``gone``               at any time                            ``ResultLostError``: it ended with agent or guest
``running``            after its timeout                      ``CommandTimeoutError``; the caller kills it
``running``            otherwise                              poll again; from now on it is known to have started
anything else          for ``Timings.begin``                  poll again: the request may not have arrived yet
anything else          after that                             prevent its start, and raise the first error
=====================  =====================================  =====================================================

Data that does not fit into the request (a long command, much input), and all input to a command that asks for a
password, is stored in files of the directory under secret names. ``prepare`` makes the directory for them.
"""

# The pylint of ansible-core 2.16 takes errors that are caught here for something else.
# pylint: disable=bad-exception-cause

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
from typing import Mapping

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import CommandDisabledError, CommandFailedError, FrozenError, UnresponsiveError
from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._protocol.errors import QgaError, RemoteProtocolError
from ...module_utils._untrusted import visible
from . import scripts
from .become import Dialog, become_user
from .errors import (
    BecomeError,
    CommandTimeoutError,
    FileTransferError,
    NoPlaceError,
    OutputLostError,
    OutputTooLongError,
    ResultLostError,
    TransferTimeoutError,
)
from .files import FileTooLongError, GuestFile, is_utf8, read_whole
from .options import Settings
from .programs import AWAY, RETRY, Polling, Program, UnknownProcessError, end_of, execute, start
from .results import DEFAULT_TIMINGS, Finished, Report, Timings, reported, stderr_text

# The reply may be lost, or the agent may be unavailable only for a moment: ``look`` can report the command's state.
_REPLY_LOST = (*AWAY, RemoteProtocolError)
# These errors are transient, too, after a command was started. A frozen guest may be thawed before it is asked whether
# it is frozen, so it seems to have the commands disabled.
_TRANSIENT = (*_REPLY_LOST, CommandDisabledError, FrozenError, UnknownProcessError)

# Bytes of a command that is an argument: Linux allows 128 KiB for each (MAX_ARG_STRLEN, execve(2)).
_MAX_ARGUMENT = 96 * 1024

# Bytes of a script's variables besides the command and lead.sh: numbers, secrets, paths.
_VARIABLES = 1024

# How often dialog.sh polls for an answer, per second, and how many seconds longer than the dialog's timeout.
_LOOKS = 20
_DIALOG_PATIENCE = 10.0


class GuestShell:
    """A POSIX shell in the guest of ``agent``, which has replied before."""

    def __init__(self, agent: GuestAgent, settings: Settings, timings: Timings = DEFAULT_TIMINGS) -> None:
        self.agent = agent
        self.limits = settings.limits
        self.timings = timings
        self._executable = settings.executable
        self._places = settings.places
        self._module_cache = settings.module_cache
        self._token = secrets.token_hex(16)
        self._commands = 0
        self._aliases = 0
        self._directory: str | None = None
        # Prefixes of the names of stored files: for the running command, and for the next one; empty for none.
        self._stored = ""
        self._drop = ""
        self._next_drop = ""
        self._is_used = False
        self._is_lost = False
        self._read = ""  # the number of the last command whose output was read

    async def run(self, command: str, data: bytes = b"", dialog: Dialog | None = None) -> Finished:
        """Run a command to its end, with ``data`` as its input.

        :raises CommandTimeoutError: it took too long and was killed, or its output did not arrive in time
        :raises ResultLostError: its result is unknown
        :raises OutputTooLongError: it wrote more than the limit
        :raises FileTransferError: the guest does not transfer its output
        :raises OutputLostError: the guest could not save its output
        :raises NoPlaceError: no directory could be made for it
        :raises QgaError: a request to the agent failed
        """
        self._commands += 1
        number = str(self._commands)
        deadline = Deadline(self.limits.exec_timeout)
        try:
            program = await self._runner(number, command, data, dialog, deadline)
        except TransferTimeoutError as error:
            raise scripts.timed_out(self.limits.exec_timeout) from error
        report = await self._carry_out(number, program, deadline, dialog)
        self._settle(report)
        finished = await self._finish(number, report, Deadline(max(deadline.remaining(), self.timings.grace)))
        if dialog is not None and not dialog.is_over(finished.output):
            reason = stderr_text(finished.errors) or "no error output"
            raise BecomeError(f"the command ended before privilege escalation succeeded: {reason}")
        return finished

    async def _carry_out(self, number: str, program: Program, deadline: Deadline, dialog: Dialog | None) -> Report:
        """Start a command and wait until it ends, or kill it after its timeout."""
        process: int | None = None
        try:
            try:
                process = await self._start(program, deadline)
            except _REPLY_LOST as error:
                if dialog is not None:
                    await self._end(number, None)  # nothing would answer its prompt
                    raise
                return await self._recover(number, deadline, error)
            return await self._result(number, process, deadline, dialog)
        except BaseException as error:
            # After the timeout of Ansible's task, or an interrupt by the user, nothing waits for the command.
            if isinstance(error, CommandTimeoutError) or not isinstance(error, QgaError):
                await self._end(number, process)
            raise

    async def alias(self, path: str, deadline: Deadline) -> str:
        """Return a path by which the agent can open the file at ``path``: JSON carries Unicode only, but a path may
        have any bytes.

        :raises FileTransferError: no link to it can be made
        :raises QgaError: a request to the agent failed
        """
        if is_utf8(path):
            return path
        self._aliases += 1
        link = f"{self._aliases}.link"
        await self._prepare(deadline)
        variables = {"p": path, "d": self._directory or "", "t": self._token, "link": link}
        made = await scripts.ask(self.agent, scripts.LINK, variables, deadline=deadline)
        if made.status != 0:
            raise FileTransferError(f"cannot make a link to '{visible(path)}': {stderr_text(made.errors)}")
        return f"{self._directory}/{link}"

    async def clean(self) -> None:
        """Remove the connection's files in the guest. If the agent does not reply, they stay there."""
        is_used, self._is_used, self._directory, self._drop = self._is_used, False, None, ""
        if not is_used or self._is_lost:
            return
        with contextlib.suppress(QgaError):
            program = scripts.script(scripts.CLEAN, {"t": self._token}, self._places)
            await execute(self.agent, program, Deadline(self.timings.clean))

    # Starting a command.

    async def _start(self, program: Program, deadline: Deadline) -> int:
        """Start a program that makes the directory if there is none.

        :raises QgaError: as :func:`start` does
        """
        try:
            process = await start(self.agent, program, deadline)
        except _REPLY_LOST:
            self._is_used = True
            raise
        self._is_used = True
        return process

    async def _prepare(self, whole: Deadline) -> None:
        """Make the connection's private directory in the guest, with the files for data of the next command.

        :raises NoPlaceError: no directory can be made
        """
        if self._directory is not None and self._drop:
            return
        deadline = self._patience(whole)
        process = await self._start(self._program(scripts.PREPARE, "0", self._dropping()), deadline)
        ended = await end_of(self.agent, process, deadline)
        if ended is None:
            await scripts.stop(self.agent, process)
            if whole.expired():
                raise TransferTimeoutError(f"creating a directory in the guest timed out after {whole.seconds:g} s")
            raise UnresponsiveError("creating a directory in the guest timed out")
        try:
            report = reported(ended, self._token, "0")
        except NoPlaceError as error:
            places = ", ".join(map(visible, self._places))
            raise NoPlaceError(f"{error.message} (guest_directories: {places})") from error
        self._settle(report)

    async def _runner(
        self, number: str, command: str, data: bytes, dialog: Dialog | None, deadline: Deadline
    ) -> Program:
        """Return the program that runs a command. First store data that does not fit into a request in the guest."""
        if self._module_cache:
            data = scripts.with_cache(command, data, self._places)
        script = scripts.RUN if dialog is None else scripts.RUN_WITH_DIALOG
        budget = self.limits.request - len(json.dumps(script)) * 3 // 4 - len(scripts.LEAD) - _VARIABLES
        size = len(scripts.quoted(command).encode("utf-8", "surrogateescape"))
        stores_command = size > min(budget // 2, _MAX_ARGUMENT)
        stores_input = len(data) > (budget if stores_command else budget - size)
        self._stored = ""
        if stores_command or stores_input or dialog is not None:
            await self._prepare(deadline)
            self._stored = self._drop
        if stores_command:
            sourced = _sourced(command, self._executable)
            await self._store("command", sourced.encode("utf-8", "surrogateescape"), deadline)
            command = ""
        if stores_input:
            await self._store("input", data, deadline)
            data = b""
        before, self._read = self._read, ""
        variables = {
            **self._dropping(),
            "limit": str(self.limits.output + 1),
            "stored": self._stored,
            "stdin": "stored" if stores_input else "",
            "rounds": "" if dialog is None else str(int((dialog.timeout + _DIALOG_PATIENCE) * _LOOKS)),
            "before": before,
            "lead": scripts.LEAD,
            "sh": self._executable,
            "cmd": command,
        }
        return self._program(script, number, variables, data)

    def _dropping(self) -> dict[str, str]:
        self._drop, self._next_drop = "", secrets.token_hex(16)
        return {"drop": self._next_drop}

    def _program(
        self, script: str, number: str, variables: Mapping[str, str] | None = None, data: bytes = b""
    ) -> Program:
        spare = secrets.token_hex(16)
        known = {"d": self._directory or "", "n": number, "t": self._token, "spare": spare}
        return scripts.script(script, {**known, **(variables or {})}, self._places, data)

    async def _store(self, kind: str, data: bytes, deadline: Deadline) -> None:
        # "r+b" opens only an existing file. Its name is secret, so no other user can have created it.
        path = f"{self._directory}/{self._stored}.{kind}"
        async with GuestFile(self.agent, path, "r+b", self.limits.request, deadline) as file:
            await file.write(data)

    # Getting its result.

    async def _result(self, number: str, process: int, deadline: Deadline, dialog: Dialog | None) -> Report:
        ended = None
        if dialog is not None:
            try:
                path = f"{self._directory}/{number}"
                ended = await become_user(self.agent, path, process, dialog, self._store, deadline)
            except CommandTimeoutError:
                raise  # the caller kills it
            except QgaError:
                await self._end(number, process)  # nothing would answer its prompt
                raise
        try:
            if ended is None:
                ended = await end_of(self.agent, process, deadline, self.limits.patience)
            if ended is None:
                raise scripts.timed_out(self.limits.exec_timeout)
            report = reported(ended, self._token, number)
        except _TRANSIENT as error:
            report = await self._recover(number, deadline, _unknown(error))
        if report.state != "done":
            raise ResultLostError("the shell in the guest that ran the command was killed before it was done")
        return report

    async def _recover(self, number: str, deadline: Deadline, unknown: QgaError) -> Report:
        """Find out the state of a command whose end or start was not reported.

        :raises QgaError: ``unknown``, if the guest does not know the command; or the agent stays unavailable
        """
        last = Deadline(deadline.remaining() + self.timings.grace)
        patience = self._patience(last)
        begin = Deadline(self.timings.begin)
        polling = Polling(self.agent, self.limits.patience)
        while True:
            try:
                report = await self._look(number, last)
            except _TRANSIENT as another:
                if patience.remaining() < RETRY:
                    if deadline.expired():
                        await self._end(number, None)  # the agent may get requests although its replies are lost
                    self._is_lost = True
                    raise another from unknown
                await polling.retry(patience)
                continue
            if report.state == "done":
                return report
            if report.state == "gone":
                raise ResultLostError("the command was killed when its agent stopped or the guest went down")
            if report.state == "running":
                unknown = _unknown(unknown)
                if deadline.expired():
                    raise scripts.timed_out(self.limits.exec_timeout)
            elif begin.expired():
                await self._end(number, None)
                self._directory = None  # it may be gone as well
                raise unknown
            patience = self._patience(last)
            with contextlib.suppress(*_TRANSIENT):  # the next request will fail
                await polling.pause(deadline)

    def _patience(self, deadline: Deadline) -> Deadline:
        """Return the deadline for an unavailable agent, which is not after ``deadline``."""
        return Deadline(min(self.limits.patience, deadline.remaining()))

    async def _look(self, number: str, deadline: Deadline) -> Report:
        program = self._program(scripts.LOOK, number)
        ended = await execute(self.agent, program, self._patience(deadline))
        if ended is None:
            raise UnresponsiveError("the guest did not report the state of the command in time")
        return reported(ended, self._token, number)

    def _settle(self, report: Report) -> None:
        """
        :raises RemoteProtocolError: the reported place does not exist
        """
        if report.place >= len(self._places):
            raise RemoteProtocolError("the guest's shell reported a directory in an unknown place")
        if self._directory is None:
            self._directory = f"{self._places[report.place]}/{report.name}"
        self._drop = self._next_drop

    async def _finish(self, number: str, report: Report, deadline: Deadline) -> Finished:
        """
        :raises CommandTimeoutError: the command's output was not read by the deadline
        :raises QgaError: its output cannot be read completely
        """
        streams = (report.output, report.errors)
        try:
            output, errors = [await self._written(number, stream, deadline) for stream in streams]
        except TransferTimeoutError as error:
            raise CommandTimeoutError(
                f"the command ended, but reading its output timed out after {self.limits.exec_timeout:g} s"
            ) from error
        self._read = number
        if not report.is_kept:
            raise OutputLostError("the guest could not save the command's output; its disk may be full")
        return Finished(report.status, output, errors)

    async def _written(self, number: str, stream: str, deadline: Deadline) -> bytes:
        """Return the command's output on a stream; an empty name means no output."""
        if not stream:
            return b""
        patience = self._patience(deadline)
        polling = Polling(self.agent, self.limits.patience)
        refusal: CommandFailedError | None = None
        while True:
            try:
                if refusal is not None and (await self._look(number, deadline)).state != "done":
                    self._directory = None  # it may be gone as well
                    raise _unknown(refusal)
                path, limit = f"{self._directory}/{number}.{stream}", self.limits.output
                return await read_whole(self.agent, path, limit, self.limits.reply, deadline)
            except CommandFailedError as error:
                # A restarted agent has lost its open files; a rebooted guest may have lost the files, too.
                if refusal is not None:
                    raise
                refusal = error
            except FileTooLongError as error:
                raise OutputTooLongError(f"the command wrote more than {limit} bytes and was killed") from error
            except _TRANSIENT:
                await polling.retry(patience)
                if patience.expired():  # another attempt would time out at once
                    self._is_lost = True
                    raise
                continue
            await polling.retry(patience)

    async def _end(self, number: str, process: int | None) -> None:
        """Kill a command, and have the agent forget it. Errors of the agent are ignored."""
        with contextlib.suppress(QgaError):
            await execute(self.agent, self._program(scripts.END, number), Deadline(scripts.END_PATIENCE))
            if process is not None:
                await end_of(self.agent, process, Deadline(scripts.END_PATIENCE))


def _unknown(error: QgaError) -> QgaError:
    """Return the error for a guest that no longer knows a command that it started."""
    lost = ResultLostError("the guest no longer knows the command: the guest was rebooted or restored meanwhile")
    lost.__cause__ = error
    return lost


def _sourced(command: str, shell: str) -> str:
    """Return the text of a file that does the same as the command when it is sourced.

    From ``SHELL -c SCRIPT``, in which Ansible wraps a script, take the script: as an argument, it could be longer than
    the 131,072 bytes that Linux allows (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h).
    """
    start = f"{shell} -c "
    try:
        words = shlex.split(command[len(start) :]) if command.startswith(start) else []
    except ValueError:
        return command
    return words[0] if len(words) == 1 and command == start + shlex.quote(words[0]) else command
