# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs in a guest: starting one through its agent, and waiting for its end."""

from __future__ import annotations

import base64
import binascii
import contextlib
from typing import Any, Mapping, NamedTuple

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import (
    CommandFailedError,
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotRunningError,
    UnresponsiveError,
)
from ...module_utils._event_loop.tasks import NEVER, Deadline, pause
from ...module_utils._protocol.errors import QgaError, RemoteProtocolError
from ...module_utils._protocol.messages import expect_object
from ...module_utils._protocol.numbers import expect_integer

# Each question costs the guest a wake-up, and each pause may be what the caller waits for in vain: so a pause is a part
# of the time that has passed. Seconds.
_FIRST_PAUSE = 0.004
_LONGEST_PAUSE = 1.0
_PART_OF_ELAPSED = 0.0625

# The agent is away, perhaps only for a moment; or its reply was lost.
AWAY = (
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotRunningError,
    UnresponsiveError,
)

# What could not be asked is asked again after so many seconds.
RETRY = 0.2

# Where an agent's socket serves one client at a time, others may have it in pauses of that length; and in any pause if
# it was held for so many seconds, since the next client stands in line. Proxmox VE gives its guest-ping three
# (qga_check_running in PVE/QemuServer/Agent.pm of qemu-server), and a backup skips its freeze if there is no answer.
_LONG_PAUSE = 0.125
_MOST_HELD = 1.0


class Program(NamedTuple):
    """A mere name as ``path`` is looked for on the agent's PATH. It begins in ``/``, with the agent's environment."""

    path: str
    arguments: tuple[str, ...] = ()
    input: bytes = b""


class Ended(NamedTuple):
    """How a program ended: with an exit status, or by a signal.

    ``is_truncated``: the agent kept only the beginning of what it wrote (16 MiB of each stream,
    ``GUEST_EXEC_MAX_OUTPUT`` in qga/commands.c, QEMU 10.0.13).
    """

    exit_status: int | None
    signal: int | None
    output: bytes
    errors: bytes
    is_truncated: bool


class UnknownProcessError(CommandFailedError):
    """The agent knows nothing of the process: it has told of its end already, or is not the one that started it."""


class Polling:
    """The pauses between questions: short at first, and longer the longer it takes.

    In the longer ones ``shared`` is left to its other clients, if it is given, and at least once a second. One that has
    it after the pause is waited for, up to ``patience`` seconds.
    """

    def __init__(self, shared: GuestAgent | None = None, patience: float = 0.0) -> None:
        self._begun = Deadline(0.0)
        self._shared = shared
        self._patience = patience

    async def pause(self, deadline: Deadline) -> None:
        """Pause until the next question is due, or until the deadline.

        :raises QgaError: the agent was let go of, and could not be had back
        """
        elapsed = Deadline(0.0).at - self._begun.at
        seconds = min(max(_FIRST_PAUSE, elapsed * _PART_OF_ELAPSED), _LONGEST_PAUSE)
        await self._rest(seconds, deadline, 0.0 if seconds >= _LONG_PAUSE else _MOST_HELD)

    async def retry(self, deadline: Deadline) -> None:
        """Pause before a question that was not answered, or was refused, is asked again. A client that has frozen the
        guest needs the agent to thaw it.
        """
        with contextlib.suppress(QgaError):  # the next question shows it
            await self._rest(RETRY, deadline, 0.0)

    async def _rest(self, seconds: float, deadline: Deadline, held: float) -> None:
        if self._shared is not None:
            await self._shared.let_go(held)
        await pause(min(seconds, deadline.remaining()))
        if self._shared is not None:
            await self._shared.regain(max(self._shared.within(deadline), min(self._patience, deadline.remaining())))


async def start(agent: GuestAgent, program: Program, deadline: Deadline = NEVER) -> int:
    """Start a program, by the deadline; its process in the guest.

    :raises CommandError: the agent does not start programs, or there is no such program
    :raises QgaError: the agent could not be asked; the program may have been started then
    """
    arguments: dict[str, Any] = {"path": program.path, "arg": list(program.arguments), "capture-output": True}
    if program.input:
        arguments["input-data"] = base64.b64encode(program.input).decode("ascii")
    started = expect_object(await agent.call("guest-exec", arguments, deadline=deadline), "guest-exec")
    return expect_integer(started.get("pid"), "the pid of a process")


async def poll(agent: GuestAgent, process: int, deadline: Deadline = NEVER) -> Ended | None:
    """How the process ended. None: it has not. The agent reports an end only once; it has to answer by the deadline.

    :raises UnknownProcessError: the agent does not know it
    :raises QgaError: the agent could not be asked
    """
    try:
        value = await agent.call("guest-exec-status", {"pid": process}, deadline=deadline)
    except CommandFailedError as error:
        raise UnknownProcessError(error.message, error.hint, error.command) from None
    status = expect_object(value, "guest-exec-status")
    if status.get("exited") is not True:
        if status.get("exited") is not False:
            raise RemoteProtocolError("the agent returned a guest-exec-status that does not say whether it has exited")
        return None
    ended = Ended(
        _integer_if_there(status, "exitcode"),
        _integer_if_there(status, "signal"),
        decoded(status.get("out-data", ""), "output"),
        decoded(status.get("err-data", ""), "errors"),
        any(status.get(key, False) is not False for key in ("out-truncated", "err-truncated")),
    )
    if ended.exit_status is None and ended.signal is None:
        # An agent with something to hide.
        raise RemoteProtocolError("the agent returned a guest-exec-status of a process that ended in no way")
    return ended


async def execute(agent: GuestAgent, program: Program, deadline: Deadline) -> Ended | None:
    """Run a program to its end. None: it has not ended by the deadline.

    :raises QgaError: as :func:`start` and :func:`poll` do
    """
    process = await start(agent, program, deadline)
    return await end_of(agent, process, deadline)


async def end_of(agent: GuestAgent, process: int, deadline: Deadline, patience: float | None = None) -> Ended | None:
    """How the process ended. None: it has not, by the deadline.

    With ``patience``, others may have the agent meanwhile, see :class:`Polling`: only where an answer that is lost, or
    a refusal because they have frozen the guest, is not the end.

    :raises QgaError: as :func:`poll` and :meth:`Polling.pause` do
    """
    polling = Polling() if patience is None else Polling(agent, patience)
    while True:
        await polling.pause(deadline)
        ended = await poll(agent, process, deadline)
        if ended is not None or deadline.expired():
            return ended


def decoded(value: Any, what: str) -> bytes:
    """The bytes that an agent sent as base64.

    :raises RemoteProtocolError: it is none
    """
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise RemoteProtocolError(f"the agent returned {what} that is no base64")


def _integer_if_there(status: Mapping[str, Any], key: str) -> int | None:
    return expect_integer(status[key], key) if key in status else None
