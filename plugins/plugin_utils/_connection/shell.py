# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in a guest, each in a shell of its own: begun once, awaited within limits, and their results not lost.

Theory of operation. A command is begun by one request, whose script (``guest/run.sh``) keeps all that is known of the
command in files of the connection's directory. If a reply is lost, or the agent is another process by then, another
script (``guest/look.sh``) finds those files and reports what has become of the command.

The directory. The first script makes it, in the first of several places that it can use, so that no request is needed
for that alone; which place it was is in the script's report. Until one has come, the scripts look in all places for the
directory in which the command was begun, and know it by a file whose name is the connection's secret.

===========================  ==================================  ========================================
``_directory``               how it comes about                  what a script does
===========================  ==================================  ========================================
None: one of several places  at first; the guest knows nothing   ``run`` makes one; ``look`` and ``end``
                             of a command any more; after        search all places
                             ``clean``
a path                       a report of ``run``, ``prepare``    each enters it; if it is gone or not the
                             or ``look``                         connection's any more, ``run`` and ``prepare``
                                                                 fail, and ``look`` knows of no command
===========================  ==================================  ========================================

A command. ``run`` starts it, waits for its end (``_result``), and reads what it wrote (``_finish``). What is lost on
the way leads to ``_recover``, which asks again and again; the first row that applies is what is done:

=====================  =====================================  =====================================================
report of ``look``     while                                  what is done
=====================  =====================================  =====================================================
none, or a refusal     the agent is away for ``patience``     the agent's error; out of time, it is ended before
none, or a refusal     otherwise                              ask again
``done``               at any time                            its result
``gone``               at any time                            ``ResultLostError``: it ended with agent or guest
``running``            its time is over                       ``CommandTimeoutError``; the caller ends it
``running``            otherwise                              ask again; from now on it is known to have begun
anything else          for ``Timings.begin``                  ask again: the request may not have arrived yet
anything else          after that                             it is kept from beginning, and the first error raised
=====================  =====================================  =====================================================

What does not fit into the request (a long command, much input), and whatever is said to a command that asks for a
password, is laid down in files of the directory under names that are secret: ``prepare`` makes the directory for them.
"""

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
from .become import Dialogue, become_user
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
from .files import FileTooLongError, GuestFile, is_text, read_whole
from .options import Settings
from .programs import AWAY, RETRY, Polling, Program, UnknownProcessError, end_of, execute, start
from .results import USUAL, Finished, Report, Timings, reported, said

# The reply may have been lost, or the agent is only away for a moment: what became of the command can be asked.
_UNHEARD = (*AWAY, RemoteProtocolError)
# What passes as well, once a command was begun. Who is frozen may have been thawed before it could be asked, and seems
# to have the commands disabled then.
_PASSING = (*_UNHEARD, CommandDisabledError, FrozenError, UnknownProcessError)

# The longest command that is an argument: Linux takes 128 KiB for each (MAX_ARG_STRLEN, execve(2)).
_MOST_ARGUMENT = 96 * 1024

# The bytes of a script's words besides the command and lead.sh: numbers, secrets, paths.
_WORDS = 1024

# How often dialogue.sh looks for an answer at the most, and how much longer than the dialogue. 1/s, and seconds.
_LOOKS = 20
_DIALOGUE_PATIENCE = 10.0


class GuestShell:
    """A POSIX shell in the guest of ``agent``, which has answered before."""

    def __init__(self, agent: GuestAgent, settings: Settings, timings: Timings = USUAL) -> None:
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
        # How the names of what is laid down begin: for the command that runs, and for the next one; empty for none.
        self._laid = ""
        self._drop = ""
        self._next_drop = ""
        self._is_used = False
        self._is_lost = False
        self._read = ""  # the last command whose output was taken

    async def run(self, command: str, data: bytes = b"", dialogue: Dialogue | None = None) -> Finished:
        """Run a command to its end, with ``data`` for its input.

        :raises CommandTimeoutError: it took too long, and was ended; or what it wrote did not come in time
        :raises ResultLostError: what came of it cannot be known
        :raises OutputTooLongError: it wrote more than the limit
        :raises FileTransferError: the guest withholds what it wrote
        :raises OutputLostError: the guest could not keep what it wrote
        :raises NoPlaceError: no directory could be made for it
        :raises QgaError: the agent could not be asked
        """
        self._commands += 1
        number = str(self._commands)
        deadline = Deadline(self.limits.exec_timeout)
        try:
            program = await self._runner(number, command, data, dialogue, deadline)
        except TransferTimeoutError as error:
            raise scripts.too_slow(self.limits.exec_timeout) from error
        report = await self._carry_out(number, program, deadline, dialogue)
        self._settle(report)
        finished = await self._finish(number, report, Deadline(max(deadline.remaining(), self.timings.grace)))
        if dialogue is not None and not dialogue.is_over(finished.output):
            it_said = said(finished.errors) or "nothing"
            raise BecomeError(f"the command ended before it was another user's, and said: {it_said}")
        return finished

    async def _carry_out(self, number: str, program: Program, deadline: Deadline, dialogue: Dialogue | None) -> Report:
        """Start a command and wait for its end; what does not end in time is ended."""
        process: int | None = None
        try:
            try:
                process = await self._start(program, deadline)
            except _UNHEARD as error:
                if dialogue is not None:
                    await self._end(number, None)  # nobody would answer what it asks
                    raise
                return await self._recover(number, deadline, error)
            return await self._result(number, process, deadline, dialogue)
        except BaseException as error:
            # After a task's own time limit, or because of the operator, nobody waits for the command any more.
            if isinstance(error, CommandTimeoutError) or not isinstance(error, QgaError):
                await self._end(number, process)
            raise

    async def alias(self, path: str, deadline: Deadline) -> str:
        """Return a path by which the agent can open what is at ``path``: JSON carries Unicode only, and a path may have
        any bytes.

        :raises FileTransferError: it cannot be linked to
        :raises QgaError: the agent could not be asked
        """
        if is_text(path):
            return path
        self._aliases += 1
        link = f"{self._aliases}.link"
        await self._prepare(deadline)
        words = {"p": path, "d": self._directory or "", "t": self._token, "link": link}
        made = await scripts.ask(self.agent, scripts.LINK, words, deadline=deadline)
        if made.status != 0:
            raise FileTransferError(f"{visible(path)} cannot be opened by a link: {said(made.errors)}")
        return f"{self._directory}/{link}"

    async def clean(self) -> None:
        """Remove what is kept in the guest. Should it not answer, it stays there."""
        is_used, self._is_used, self._directory, self._drop = self._is_used, False, None, ""
        if not is_used or self._is_lost:
            return
        with contextlib.suppress(QgaError):
            program = scripts.script(scripts.CLEAN, {"t": self._token}, self._places)
            await execute(self.agent, program, Deadline(self.timings.clean))

    # Beginning.

    async def _start(self, program: Program, deadline: Deadline) -> int:
        """Start a program that makes the directory, if there is none.

        :raises QgaError: as :func:`start` does
        """
        try:
            process = await start(self.agent, program, deadline)
        except _UNHEARD:
            self._is_used = True
            raise
        self._is_used = True
        return process

    async def _prepare(self, whole: Deadline) -> None:
        """Make the connection's directory in the guest, which only its agent's user can look into, with the files that
        something can be laid down in for the next command.

        :raises NoPlaceError: there is none
        """
        if self._directory is not None and self._drop:
            return
        deadline = self._patience(whole)
        process = await self._start(self._program(scripts.PREPARE, "0", self._dropping()), deadline)
        ended = await end_of(self.agent, process, deadline)
        if ended is None:
            await scripts.stop(self.agent, process)
            if whole.expired():
                raise TransferTimeoutError(f"the guest did not make a directory within {whole.seconds:g} s")
            raise UnresponsiveError("the guest did not make a directory in time")
        try:
            report = reported(ended, self._token, "0")
        except NoPlaceError as error:
            places = ", ".join(map(visible, self._places))
            raise NoPlaceError(f"{error.message} (of {places})") from error
        self._settle(report)

    async def _runner(
        self, number: str, command: str, data: bytes, dialogue: Dialogue | None, deadline: Deadline
    ) -> Program:
        """The program that runs a command. What does not fit into a request is laid down in the guest before."""
        if self._module_cache:
            data = scripts.with_cache(command, data, self._places)
        script = scripts.RUN if dialogue is None else scripts.RUN_ASKING
        budget = self.limits.request - len(json.dumps(script)) * 3 // 4 - len(scripts.LEAD) - _WORDS
        size = len(scripts.quoted(command).encode("utf-8", "surrogateescape"))
        lays_command = size > min(budget // 2, _MOST_ARGUMENT)
        lays_input = len(data) > (budget if lays_command else budget - size)
        self._laid = ""
        if lays_command or lays_input or dialogue is not None:
            await self._prepare(deadline)
            self._laid = self._drop
        if lays_command:
            sourced = _sourced(command, self._executable)
            await self._lay_down("command", sourced.encode("utf-8", "surrogateescape"), deadline)
            command = ""
        if lays_input:
            await self._lay_down("input", data, deadline)
            data = b""
        before, self._read = self._read, ""
        words = {
            **self._dropping(),
            "limit": str(self.limits.output + 1),
            "laid": self._laid,
            "stdin": "laid" if lays_input else "",
            "rounds": "" if dialogue is None else str(int((dialogue.timeout + _DIALOGUE_PATIENCE) * _LOOKS)),
            "before": before,
            "lead": scripts.LEAD,
            "sh": self._executable,
            "cmd": command,
        }
        return self._program(script, number, words, data)

    def _dropping(self) -> dict[str, str]:
        self._drop, self._next_drop = "", secrets.token_hex(16)
        return {"drop": self._next_drop}

    def _program(self, script: str, number: str, words: Mapping[str, str] | None = None, data: bytes = b"") -> Program:
        spare = secrets.token_hex(16)
        known = {"d": self._directory or "", "n": number, "t": self._token, "spare": spare}
        return scripts.script(script, {**known, **(words or {})}, self._places, data)

    async def _lay_down(self, kind: str, data: bytes, deadline: Deadline) -> None:
        # Only into a file that is there: its name is a secret of the directory's, which nobody else can have made.
        path = f"{self._directory}/{self._laid}.{kind}"
        async with GuestFile(self.agent, path, "r+b", self.limits.request, deadline) as file:
            await file.write(data)

    # What became of it.

    async def _result(self, number: str, process: int, deadline: Deadline, dialogue: Dialogue | None) -> Report:
        ended = None
        if dialogue is not None:
            try:
                path = f"{self._directory}/{number}"
                ended = await become_user(self.agent, path, process, dialogue, self._lay_down, deadline)
            except CommandTimeoutError:
                raise  # and it is ended as any other
            except QgaError:
                await self._end(number, process)  # nobody would answer what it asks
                raise
        try:
            if ended is None:
                ended = await end_of(self.agent, process, deadline, self.limits.patience)
            if ended is None:
                raise scripts.too_slow(self.limits.exec_timeout)
            report = reported(ended, self._token, number)
        except _PASSING as error:
            report = await self._recover(number, deadline, _unknown(error))
        if report.state != "done":
            raise ResultLostError("the shell in the guest that ran the command was ended before it was done")
        return report

    async def _recover(self, number: str, deadline: Deadline, unknown: QgaError) -> Report:
        """Find out what has become of a command whose end, or begin, was not reported.

        :raises QgaError: ``unknown``, if the guest knows nothing of it; or the agent does not come back
        """
        last = Deadline(deadline.remaining() + self.timings.grace)
        patience = self._patience(last)
        begin = Deadline(self.timings.begin)
        polling = Polling(self.agent, self.limits.patience)
        while True:
            try:
                report = await self._look(number, last)
            except _PASSING as another:
                if patience.remaining() < RETRY:
                    if deadline.expired():
                        await self._end(number, None)  # the agent may hear what it does not answer
                    self._is_lost = True
                    raise another from unknown
                await polling.retry(patience)
                continue
            if report.state == "done":
                return report
            if report.state == "gone":
                raise ResultLostError("the command was ended together with the agent or the guest that ran it")
            if report.state == "running":
                unknown = _unknown(unknown)
                if deadline.expired():
                    raise scripts.too_slow(self.limits.exec_timeout)
            elif begin.expired():
                await self._end(number, None)
                self._directory = None  # it may be gone as well
                raise unknown
            patience = self._patience(last)
            with contextlib.suppress(*_PASSING):  # the next look shows it
                await polling.pause(deadline)

    def _patience(self, deadline: Deadline) -> Deadline:
        """How long an agent that is away is waited for, if not beyond that."""
        return Deadline(min(self.limits.patience, deadline.remaining()))

    async def _look(self, number: str, deadline: Deadline) -> Report:
        program = self._program(scripts.LOOK, number)
        ended = await execute(self.agent, program, self._patience(deadline))
        if ended is None:
            raise UnresponsiveError("the guest did not say in time what became of the command")
        return reported(ended, self._token, number)

    def _settle(self, report: Report) -> None:
        """
        :raises RemoteProtocolError: the command is said to have made a directory that it could not
        """
        if report.place >= len(self._places):
            raise RemoteProtocolError("the guest's shell reported to have made a directory that it was not given")
        if self._directory is None:
            self._directory = f"{self._places[report.place]}/{report.name}"
        self._drop = self._next_drop

    async def _finish(self, number: str, report: Report, deadline: Deadline) -> Finished:
        """
        :raises CommandTimeoutError: what the command wrote is not here by the deadline
        :raises QgaError: it cannot be had whole
        """
        streams = (report.output, report.errors)
        try:
            output, errors = [await self._written(number, stream, deadline) for stream in streams]
        except TransferTimeoutError as error:
            raise CommandTimeoutError(
                f"the command ended, but its output was not read within {self.limits.exec_timeout:g} s"
            ) from error
        self._read = number
        if not report.is_kept:
            raise OutputLostError("the guest could not keep what the command wrote: a disk may be full there")
        return Finished(report.status, output, errors)

    async def _written(self, number: str, stream: str, deadline: Deadline) -> bytes:
        """Return what the command wrote to a stream; nothing, if it has no name."""
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
                # An agent that was started anew knows no file that was open before; a guest, none at all.
                if refusal is not None:
                    raise
                refusal = error
            except FileTooLongError as error:
                raise OutputTooLongError(f"the command wrote more than {limit} bytes, and was ended there") from error
            except _PASSING:
                await polling.retry(patience)
                if patience.expired():  # another attempt would only find that its time is over
                    self._is_lost = True
                    raise
                continue
            await polling.retry(patience)

    async def _end(self, number: str, process: int | None) -> None:
        """End a command, and have the agent forget it; as far as it listens."""
        with contextlib.suppress(QgaError):
            await execute(self.agent, self._program(scripts.END, number), Deadline(scripts.END_PATIENCE))
            if process is not None:
                await end_of(self.agent, process, Deadline(scripts.END_PATIENCE))


def _unknown(error: QgaError) -> QgaError:
    """Return the error of a guest that knows nothing of a command that it has begun."""
    lost = ResultLostError("the guest knows nothing of the command any more: it was started anew or restored meanwhile")
    lost.__cause__ = error
    return lost


def _sourced(command: str, shell: str) -> str:
    """Return what a file has to hold so that sourcing it does the same as the command.

    Of ``SHELL -c SCRIPT``, as Ansible wraps a script, it is the script: as an argument, it might be longer than the
    131,072 bytes that Linux allows (MAX_ARG_STRLEN, include/uapi/linux/binfmts.h).
    """
    start = f"{shell} -c "
    try:
        words = shlex.split(command[len(start) :]) if command.startswith(start) else []
    except ValueError:
        return command
    return words[0] if len(words) == 1 and command == start + shlex.quote(words[0]) else command
