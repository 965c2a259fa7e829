# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in a guest, each in a shell of its own: begun once, awaited within limits, and their results not lost."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from typing import Mapping, NamedTuple, Protocol

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import (
    CommandDisabledError,
    CommandError,
    CommandFailedError,
    ExchangeTimeoutError,
    FrozenError,
    UnresponsiveError,
)
from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._protocol.errors import QgaError, RemoteProtocolError
from ...module_utils._untrusted import visible
from . import scripts
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
from .files import FileTooLongError, GuestFile, read_file, read_whole
from .programs import AWAY, RETRY, Ended, Polling, Program, UnknownProcessError, end_of, execute, outcome, start

# The reply may have been lost, or the agent is only away for a moment: what became of the command can be asked.
_UNHEARD = (*AWAY, RemoteProtocolError)
# What passes as well, once a command was begun. Who is frozen may have been thawed before it could be asked, and seems
# to have the commands disabled then.
_PASSING = (*_UNHEARD, CommandDisabledError, FrozenError, UnknownProcessError)

# Seconds.
_BEGIN_PATIENCE = 5.0
_END_PATIENCE = 5.0
_CLEAN_PATIENCE = 2.0
# What a command that ended in time has written may still be read for so long after that time. And if the agent is away
# when it is over, that is how long it is waited for, to end the command.
_GRACE = 5.0

# The longest command that is an argument: Linux takes 128 KiB for each (MAX_ARG_STRLEN, execve(2)).
_MOST_ARGUMENT = 96 * 1024

# The bytes of a script's words besides the command and lead.sh: numbers, secrets, paths.
_WORDS = 1024

# How often RUN looks for an answer, at the most, and how much longer than the dialogue it does. 1/s, and seconds.
_LOOKS = 20
_DIALOGUE_PATIENCE = 10.0

# What a password prompt stands in is short.
_MOST_HEARD = 16 * 1024


class Limits(NamedTuple):
    """``request`` and ``reply`` are the bytes of input, output or a file that one exchange carries at the most; on the
    wire, as base64, they are a third more.

    ``output`` is for each stream of a command, ``fetch`` for a file that is fetched; both are in bytes.
    ``exec_timeout`` is for all of a command, or for a file, in seconds, and infinite for none; ``patience`` is how long
    an agent may be away in the middle of a command.
    """

    request: int
    reply: int
    output: int
    exec_timeout: float
    patience: float
    fetch: int = 1024**3


# Of these it is likely that a status above 128 stands for them; the others are exit statuses of programs, too.
_DEADLY = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}


class Finished(NamedTuple):
    """What came of a command. Its status is above 128, as shells have it, if a signal ended it."""

    status: int
    output: bytes
    errors: bytes

    @property
    def epitaph(self) -> bytes:
        """What there is to say of a command that a signal ended; empty for others."""
        number = self.status - 128
        if number not in _DEADLY:
            return b""
        line = f"signal {number} ({_DEADLY[number]}) ended the command, by its exit status {self.status}\n"
        return (b"" if self.errors[-1:] in (b"", b"\n") else b"\n") + line.encode("ascii")


class Dialogue(Protocol):
    """What is said to a command before it gets its input."""

    timeout: float  # seconds

    def is_over(self, output: bytes) -> bool:
        """Whether the command has what it wanted, by all that it has written so far."""

    def answer(self, output: bytes, errors: bytes) -> bytes | None:
        """What to say now, without the end of the line. None: nothing.

        :raises QgaError: it is of no use to go on
        """


class GuestShell:
    """A POSIX shell in the guest behind ``agent``, which has answered before.

    ``executable`` is what commands are run by; ``places`` are the directories in the guest of which one may be used.
    ``caches_modules``: whether compiled code of Ansible's modules is kept in one of them, longer than this shell is.
    """

    def __init__(
        self,
        agent: GuestAgent,
        executable: str,
        places: tuple[str, ...],
        limits: Limits,
        caches_modules: bool = False,
    ) -> None:
        self.agent = agent
        self.limits = limits
        self._executable = executable
        self._places = places
        self._caches_modules = caches_modules
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
            raise self._too_slow() from error
        report = await self._carry_out(number, program, deadline, dialogue)
        self._settle(report)
        finished = await self._finish(number, report, Deadline(max(deadline.remaining(), _GRACE)))
        if dialogue is not None and not dialogue.is_over(finished.output):
            said = visible(_text(finished.errors).strip()) or "nothing"
            raise BecomeError(f"the command ended before it was another user's, and said: {said}")
        return finished

    async def _carry_out(self, number: str, program: Program, deadline: Deadline, dialogue: Dialogue | None) -> _Report:
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
            return await self._attend(number, process, deadline, dialogue)
        except CommandTimeoutError:
            await self._end(number, process)
            raise
        except QgaError:
            raise
        except BaseException:
            # A task's own time limit, or the operator: nobody waits for the command any more.
            await self._end(number, process)
            raise

    async def ask(
        self, script: str, words: Mapping[str, str], data: bytes = b"", deadline: Deadline | None = None
    ) -> Finished:
        """Run a short script of ours directly, with these words. Its result is as easily lost as a reply, so it has
        to be one that may be run again. Without a deadline it has ``exec_timeout``.

        :raises CommandTimeoutError: it took too long, and was ended
        :raises QgaError: the agent could not be asked
        """
        program = scripts.script(script, words, data=data)
        deadline = deadline or Deadline(self.limits.exec_timeout)
        process = await start(self.agent, program, deadline)
        try:
            ended = await end_of(self.agent, process, deadline)
            if ended is None:
                raise self._too_slow()
        except CommandTimeoutError:
            await self._stop(process)
            raise
        except QgaError:
            raise
        except BaseException:
            await self._stop(process)
            raise
        if ended.exit_status is None or ended.is_truncated:
            raise ResultLostError("a short script in the guest was ended before it was done")
        return Finished(ended.exit_status, ended.output, ended.errors)

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
        words = {"p": path, "d": await self._prepare(deadline), "t": self._token, "link": link}
        made = await self.ask(scripts.LINK, words, deadline=deadline)
        if made.status != 0:
            said = visible(_text(made.errors).strip())
            raise FileTransferError(f"{visible(path)} cannot be opened by a link: {said}")
        return f"{self._directory}/{link}"

    async def clean(self) -> None:
        """Remove what is kept in the guest. Should it not answer, it stays there."""
        is_used, self._is_used, self._directory, self._drop = self._is_used, False, None, ""
        if not is_used or self._is_lost:
            return
        with contextlib.suppress(QgaError):
            program = scripts.script(scripts.CLEAN, {"t": self._token}, self._places)
            await execute(self.agent, program, Deadline(_CLEAN_PATIENCE))

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

    async def _prepare(self, whole: Deadline) -> str:
        """The connection's directory in the guest, which only its agent's user can look into, with the files that
        something can be laid down in for the next command.

        :raises NoPlaceError: there is none
        """
        if self._directory is not None and self._drop:
            return self._directory
        deadline = self._patience(whole)
        process = await self._start(self._program(scripts.PREPARE, "0", self._dropping()), deadline)
        ended = await end_of(self.agent, process, deadline)
        if ended is None:
            await self._stop(process)
            if whole.expired():
                raise TransferTimeoutError(f"the guest did not make a directory within {whole.seconds:g} s")
            raise UnresponsiveError("the guest did not make a directory in time")
        try:
            report = _reported(ended, self._token, "0")
        except NoPlaceError as error:
            places = ", ".join(map(visible, self._places))
            raise NoPlaceError(f"{error.message} (of {places})") from error
        self._settle(report)
        if self._directory is None:
            raise RemoteProtocolError("the guest's shell did not report which directory it made")
        return self._directory

    async def _runner(
        self, number: str, command: str, data: bytes, dialogue: Dialogue | None, deadline: Deadline
    ) -> Program:
        """The program that runs a command. What does not fit into a request is laid down in the guest before."""
        if self._caches_modules:
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
            await self._lay_down("command", command.encode("utf-8", "surrogateescape"), deadline)
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

    # Talking to it.

    async def _converse(self, path: str, process: int, dialogue: Dialogue, whole: Deadline) -> Ended | None:
        """Answer what the command asks, and let it have its input. How it ended, if it did not get that far.

        :raises BecomeError: it took too long, however much the guest has sent meanwhile
        :raises CommandTimeoutError: the time for the ``whole`` command is over
        :raises QgaError: as :meth:`Dialogue.answer` does
        """
        deadline = Deadline(min(dialogue.timeout, whole.remaining()))
        polling = Polling()
        cause: QgaError | None = None
        try:
            while not deadline.expired():
                await polling.pause(deadline)
                output, errors = [await self._heard(f"{path}.{name}", deadline) for name in ("out", "err")]
                if dialogue.is_over(output):
                    await self._lay_down("go", b"\n", deadline)
                    return None
                ended = await outcome(self.agent, process, deadline)
                if ended is not None:
                    return ended
                answer = dialogue.answer(output, errors)
                if answer is not None:
                    await self._lay_down("answer", answer + b"\n", deadline)
        except (ExchangeTimeoutError, TransferTimeoutError, UnresponsiveError) as error:
            if not deadline.expired():
                raise
            cause = error
        if whole.expired():
            raise self._too_slow() from cause
        raise BecomeError(f"nothing came of becoming another user within {dialogue.timeout:g} s") from cause

    async def _heard(self, path: str, deadline: Deadline) -> bytes:
        try:
            return await read_file(self.agent, path, _MOST_HEARD, _MOST_HEARD, deadline)
        except CommandError:
            return b""  # it is not there yet

    # What became of it.

    async def _attend(self, number: str, process: int, deadline: Deadline, dialogue: Dialogue | None) -> _Report:
        ended = None
        if dialogue is not None:
            try:
                ended = await self._converse(f"{self._directory}/{number}", process, dialogue, deadline)
            except CommandTimeoutError:
                raise  # and it is ended as any other
            except QgaError:
                await self._end(number, process)  # nobody would answer what it asks
                raise
        try:
            if ended is None:
                ended = await end_of(self.agent, process, deadline, self.limits.patience)
            if ended is None:
                raise self._too_slow()
            report = _reported(ended, self._token, number)
        except _PASSING as error:
            report = await self._recover(number, deadline, _unknown(error))
        if report.state != "done":
            raise ResultLostError("the shell in the guest that ran the command was ended before it was done")
        return report

    async def _recover(self, number: str, deadline: Deadline, unknown: QgaError) -> _Report:
        """Find out what has become of a command whose end, or begin, was not told.

        :raises QgaError: ``unknown``, if the guest knows nothing of it; or the agent does not come back
        """
        last = Deadline(deadline.remaining() + _GRACE)
        patience = self._patience(last)
        begin = Deadline(_BEGIN_PATIENCE)
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
                    raise self._too_slow()
            elif begin.expired():
                await self._end(number, None)  # nor may it begin behind anybody's back
                self._directory = None  # it may be gone as well
                raise unknown
            patience = self._patience(last)
            with contextlib.suppress(*_PASSING):  # the next look shows it
                await polling.pause(deadline)

    def _patience(self, deadline: Deadline) -> Deadline:
        """How long an agent that is away is waited for, if not beyond that."""
        return Deadline(min(self.limits.patience, deadline.remaining()))

    async def _look(self, number: str, deadline: Deadline) -> _Report:
        program = self._program(scripts.LOOK, number)
        ended = await execute(self.agent, program, self._patience(deadline))
        if ended is None:
            raise UnresponsiveError("the guest did not say in time what became of the command")
        return _reported(ended, self._token, number)

    def _settle(self, report: _Report) -> None:
        """
        :raises RemoteProtocolError: the command is said to have made a directory that it could not
        """
        if report.place >= len(self._places):
            raise RemoteProtocolError("the guest's shell reported to have made a directory that it was not given")
        if self._directory is None:
            self._directory = f"{self._places[report.place]}/{report.name}"
        self._drop = self._next_drop

    async def _finish(self, number: str, report: _Report, deadline: Deadline) -> Finished:
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
        """What the command wrote to a stream; nothing, if it has no name."""
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
                if patience.remaining() < RETRY:
                    self._is_lost = True
                    raise
            await polling.retry(patience)

    def _too_slow(self) -> CommandTimeoutError:
        return CommandTimeoutError(f"the command did not end within {self.limits.exec_timeout:g} s, and was ended")

    async def _end(self, number: str, process: int | None) -> None:
        """End a command, and have the agent forget it; as far as it listens."""
        with contextlib.suppress(QgaError):
            await execute(self.agent, self._program(scripts.END, number), Deadline(_END_PATIENCE))
            if process is not None:
                await end_of(self.agent, process, Deadline(_END_PATIENCE))

    async def _stop(self, process: int) -> None:
        """End a program that was started directly, and all that it has begun."""
        with contextlib.suppress(QgaError):
            program = scripts.script(scripts.STOP, {"process": str(process)})
            await execute(self.agent, program, Deadline(_END_PATIENCE))
            await end_of(self.agent, process, Deadline(_END_PATIENCE))


def is_text(path: str) -> bool:
    """Whether JSON can carry a path, of whose bytes those that are not UTF-8 are surrogates (:func:`os.fsdecode`)."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _unknown(error: QgaError) -> QgaError:
    """What it means if the guest knows nothing of a command that it has begun."""
    lost = ResultLostError("the guest knows nothing of the command any more: it was started anew or restored meanwhile")
    lost.__cause__ = error
    return lost


# -------------------------------------------------------------------------------------------------------- the reports


class _Report(NamedTuple):
    """What a script says of a command. ``output`` and ``errors`` are the names of streams, if they are not empty.

    ``name`` is that of the directory, in the place of that number.
    """

    state: str
    status: int = 0
    is_kept: bool = True
    output: str = ""
    errors: str = ""
    place: int = 0
    name: str = ""


_WHERE = r"(0|[1-9][0-9]?) (qga-[A-Za-z0-9]{1,64})\Z"
_READY = re.compile(_WHERE)
_DONE = re.compile(r"(0|[1-9][0-9]{0,2}) (kept|lost) (out|-) (err|-) " + _WHERE)


def _reported(ended: Ended, token: str, number: str) -> _Report:
    """
    :raises NoPlaceError: the script could not begin
    :raises ResultLostError: it was ended before it was done
    :raises UnknownProcessError: it is another program's output
    """
    said = visible(_text(ended.errors).strip()) or "nothing"
    if ended.exit_status == scripts.NOT_BEGUN:
        raise NoPlaceError(f"the guest cannot keep a command, and said: {said}")
    if ended.signal is not None:
        raise ResultLostError(f"signal {ended.signal} ended the shell in the guest that looked after the command")
    words = _text(ended.output[:1000]).rstrip("\n").split(" ", 4)
    if words[:3] != [scripts.REPORT, token, number] or len(words) < 4:
        raise UnknownProcessError(f"the guest's shell did not report as it should; it said: {said}")
    if words[3] == "ready":
        ready = _READY.match("".join(words[4:]))
        if ready is None:
            raise RemoteProtocolError("the guest's shell reported of a directory in no known way")
        return _Report("ready", place=int(ready.group(1)), name=ready.group(2))
    if words[3] != "done":
        return _Report(words[3])
    found = _DONE.match("".join(words[4:]))
    if found is None:
        raise RemoteProtocolError("the guest's shell reported of the end of a command in no known way")
    status, kept, output, errors, place, name = found.groups()
    return _Report("done", int(status), kept == "kept", output.strip("-"), errors.strip("-"), int(place), name)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
