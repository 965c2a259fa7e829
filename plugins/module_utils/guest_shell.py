# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in a guest, each in a shell of its own: begun once, awaited within limits, and their results not lost."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shlex
from typing import NamedTuple, Protocol

from . import guest_scripts
from .agent import GuestAgent
from .errors import (
    CommandDisabledError,
    CommandError,
    CommandFailedError,
    ExchangeTimeoutError,
    FrozenError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotRunningError,
    QgaError,
    RemoteProtocolError,
    UnresponsiveError,
)
from .exec_errors import (
    BecomeError,
    CommandTimeoutError,
    NoPlaceError,
    OutputLostError,
    OutputTooLongError,
    ResultLostError,
    TransferTimeoutError,
)
from .guest_exec import RETRY, Ended, Polling, Program, UnknownProcessError, end_of, execute, outcome, start
from .guest_files import FileTooLongError, read_file, read_whole, write_file
from .module_cache import with_cache
from .shell_words import unwrapped
from .untrusted import visible
from .waiting import NEVER, Deadline

# The reply may have been lost, or the agent is only away for a moment: what became of the command can be asked.
_UNHEARD = (
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotRunningError,
    RemoteProtocolError,
    UnresponsiveError,
)
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

# Of these, a shell need not be told where they begin and end.
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")

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
        self._directory: str | None = None
        # Without a directory, which ones the command that runs may have made; and all that may be left of earlier ones.
        self._candidates: tuple[str, ...] = ()
        self._left: tuple[str, ...] = ()
        self._is_lost = False
        self._read = ""  # the last command whose output was taken
        self._deadline = NEVER  # of the command that runs

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
        deadline = self._deadline = Deadline(self.limits.exec_timeout)
        try:
            program = await self._runner(number, command, data, dialogue is not None)
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
                process = await start(self.agent, program, deadline)
            except _UNHEARD as error:
                if dialogue is not None:
                    await self._end(number, None)  # nobody would answer what it asks
                    raise
                return await self._recover(number, deadline, error)
            except QgaError:
                self._candidates = ()  # the agent has refused
                raise
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

    async def ask(self, script: str, data: bytes = b"", deadline: Deadline | None = None) -> Finished:
        """Run a short script of ours directly. Its result is as easily lost as a reply, so it has to be one that may be
        run again. Without a deadline it has ``exec_timeout``.

        :raises CommandTimeoutError: it took too long
        :raises QgaError: the agent could not be asked
        """
        program = Program("/bin/sh", ("-c", guest_scripts.ENVIRONMENT + script, "qga"), data)
        ended = await execute(self.agent, program, deadline or Deadline(self.limits.exec_timeout))
        if ended is None:
            raise self._too_slow()
        if ended.exit_status is None or ended.is_truncated:
            raise ResultLostError("a short script in the guest was ended before it was done")
        return Finished(ended.exit_status, ended.output, ended.errors)

    async def clean(self) -> None:
        """Remove what is kept in the guest. Should it not answer, it stays there."""
        left = (*self._left, *self._candidates, *([] if self._directory is None else [self._directory]))
        self._left, self._candidates, self._directory = (), (), None
        if not left or self._is_lost:
            return
        with contextlib.suppress(QgaError):
            await execute(self.agent, Program("rm", ("-rf", *left)), Deadline(_CLEAN_PATIENCE))

    # Beginning.

    async def _prepare(self) -> str:
        """The connection's directory in the guest, which only its agent's user can look into.

        :raises NoPlaceError: there is none
        """
        said = ""
        for path in () if self._directory is not None else self._paths():
            deadline = Deadline(min(self.limits.patience, self._deadline.remaining()))
            ended = await execute(self.agent, Program("mkdir", ("-m", "700", path)), deadline)
            if ended is None:
                raise UnresponsiveError("the guest did not make a directory in time")
            if ended.exit_status == 0:
                self._directory = path
                break
            said = visible(_text(ended.errors).strip())
        if self._directory is None:
            raise NoPlaceError("the guest cannot keep a command in any of {}: {}".format(", ".join(self._places), said))
        return self._directory

    def _paths(self) -> tuple[str, ...]:
        # Who cannot guess a name cannot make it first.
        name = f"qga-{secrets.token_hex(16)}"
        return tuple(f"{place}/{name}" for place in self._places)

    async def _runner(self, number: str, command: str, data: bytes, asks: bool) -> Program:
        """The program that runs a command. What does not fit into a request is laid down in the guest before."""
        shell, command = unwrapped(command, self._executable)
        if self._caches_modules:
            data = with_cache(command, data, self._places)
        budget = self.limits.request * 4 // 3 - _carried(guest_scripts.RUN)
        self._left, self._candidates = (*self._left, *self._candidates), ()
        is_small = _carried(command) <= budget // 2 and len(data) * 4 // 3 <= budget - _carried(command)
        if self._directory is None and is_small and not asks and all(map(_PLAIN.fullmatch, self._places)):
            self._candidates = self._paths()
        else:
            await self._prepare()
        if _carried(command) > budget // 2:
            path = await self._lay_down(f"{number}.command", command.encode("utf-8", "surrogateescape"))
            command = f". {shlex.quote(path)}"
        input_file = ""
        if len(data) * 4 // 3 > budget - _carried(command):
            input_file = f"{number}.input"
            await self._lay_down(input_file, data)
            data = b""
        mark = "" if self._candidates else guest_scripts.MARK.format(shlex.quote(f"{self._directory}/{number}"))
        limit = str(self.limits.output + 1)
        asking = "asks" if asks else ""
        before, self._read = self._read, ""
        return self._script(
            guest_scripts.RUN, number, limit, input_file, asking, before, shell, mark + command, data=data
        )

    def _script(self, script: str, number: str, *arguments: str, data: bytes = b"") -> Program:
        words = ("-c", script, "qga", self._directory or "", number, self._token, *arguments, *self._candidates)
        return Program("/bin/sh", words, data)

    async def _lay_down(self, name: str, data: bytes) -> str:
        path = f"{self._directory}/{name}"
        await write_file(self.agent, path, data, self.limits.request, self._deadline)
        return path

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
                    await self._say(f"{path}.go", b"", deadline)
                    return None
                ended = await outcome(self.agent, process, deadline)
                if ended is not None:
                    return ended
                answer = dialogue.answer(output, errors)
                if answer is not None:
                    await self._say(f"{path}.answer", answer + b"\n", deadline)
        except (ExchangeTimeoutError, TransferTimeoutError, UnresponsiveError) as error:
            if not deadline.expired():
                raise
            cause = error
        if whole.expired():
            raise self._too_slow() from cause
        raise BecomeError(f"nothing came of becoming another user within {dialogue.timeout:g} s") from cause

    async def _say(self, path: str, data: bytes, deadline: Deadline) -> None:
        await write_file(self.agent, path, data, self.limits.request, deadline)

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
                self._candidates = ()
                raise unknown
            patience = self._patience(last)
            with contextlib.suppress(*_PASSING):  # the next look shows it
                await polling.pause(deadline)

    def _patience(self, deadline: Deadline) -> Deadline:
        """How long an agent that is away is waited for, if not beyond that."""
        return Deadline(min(self.limits.patience, deadline.remaining()))

    async def _look(self, number: str, deadline: Deadline) -> _Report:
        program = self._script(guest_scripts.LOOK, number)
        ended = await execute(self.agent, program, self._patience(deadline))
        if ended is None:
            raise UnresponsiveError("the guest did not say in time what became of the command")
        return _reported(ended, self._token, number)

    def _settle(self, report: _Report) -> None:
        """
        :raises RemoteProtocolError: the command is said to have made a directory that it could not
        """
        known = self._candidates or (self._directory,)
        if report.place >= len(known):
            raise RemoteProtocolError("the guest's shell reported to have made a directory that it was not given")
        self._directory, self._candidates = known[report.place], ()

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
            await execute(self.agent, self._script(guest_scripts.END, number), Deadline(_END_PATIENCE))
            if process is not None:
                await end_of(self.agent, process, Deadline(_END_PATIENCE))


def _unknown(error: QgaError) -> QgaError:
    """What it means if the guest knows nothing of a command that it has begun."""
    lost = ResultLostError("the guest knows nothing of the command any more: it was started anew or restored meanwhile")
    lost.__cause__ = error
    return lost


# -------------------------------------------------------------------------------------------------------- the reports


class _Report(NamedTuple):
    """What a script says of a command. ``output`` and ``errors`` are the names of streams, if they are not empty."""

    state: str
    status: int = 0
    is_kept: bool = True
    output: str = ""
    errors: str = ""
    place: int = 0


_DONE = re.compile(r"(0|[1-9][0-9]{0,2}) (kept|lost) (out|-) (err|-) (0|[1-9][0-9]?)\Z")


def _reported(ended: Ended, token: str, number: str) -> _Report:
    """
    :raises NoPlaceError: the script could not begin
    :raises ResultLostError: it was ended before it was done
    :raises UnknownProcessError: it is another program's output
    """
    said = visible(_text(ended.errors).strip()) or "nothing"
    if ended.exit_status == guest_scripts.NOT_BEGUN:
        raise NoPlaceError(f"the guest cannot keep a command, and said: {said}")
    if ended.signal is not None:
        raise ResultLostError(f"signal {ended.signal} ended the shell in the guest that looked after the command")
    words = _text(ended.output[:1000]).rstrip("\n").split(" ", 4)
    if words[:3] != [guest_scripts.REPORT, token, number] or len(words) < 4:
        raise UnknownProcessError(f"the guest's shell did not report as it should; it said: {said}")
    if words[3] != "done":
        return _Report(words[3])
    found = _DONE.match("".join(words[4:]))
    if found is None:
        raise RemoteProtocolError("the guest's shell reported of the end of a command in no known way")
    status, kept, output, errors, place = found.groups()
    return _Report("done", int(status), kept == "kept", output.strip("-"), errors.strip("-"), int(place))


def _carried(text: str) -> int:
    """The bytes that a text is on the wire, where what is not ASCII takes six and more."""
    return len(json.dumps(text))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
