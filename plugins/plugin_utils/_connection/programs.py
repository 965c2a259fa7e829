# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs in a guest: starting one through its agent, and waiting until it ends."""

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

# Each poll wakes the guest up, and each pause can delay the caller. So a pause is a fraction of the time that has
# passed. Seconds.
_FIRST_PAUSE = 0.004
_LONGEST_PAUSE = 1.0
_PART_OF_ELAPSED = 0.0625

# The agent is unavailable, perhaps only for a moment; or its reply was lost.
AWAY = (
    ExchangeTimeoutError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotRunningError,
    UnresponsiveError,
)

# Seconds before a failed request is repeated.
RETRY = 0.2

# A socket that serves one client at a time is released in pauses of at least _LONG_PAUSE, and in any pause after it was
# held for _MAX_HELD. Seconds. Proxmox VE waits three seconds for its guest-ping (qga_check_running in
# PVE/QemuServer/Agent.pm of qemu-server), and a backup skips its freeze if there is no reply.
_LONG_PAUSE = 0.125
_MAX_HELD = 1.0


class Program(NamedTuple):
    """A ``path`` without a slash is searched on the agent's PATH. The program starts in ``/``, with the agent's
    environment.
    """

    path: str
    arguments: tuple[str, ...] = ()
    input: bytes = b""


class Ended(NamedTuple):
    """How a program ended: with an exit status, or by a signal.

    ``is_truncated``: the agent kept only the beginning of its output (16 MiB of each stream, ``GUEST_EXEC_MAX_OUTPUT``
    in qga/commands.c, QEMU 10.0.13).
    """

    exit_status: int | None
    signal: int | None
    output: bytes
    errors: bytes
    is_truncated: bool


class UnknownProcessError(CommandFailedError):
    """The agent does not know the process: it has already reported its end, or another agent started it."""


class Polling:
    """The pauses between polls: short at first, and longer over time.

    If ``shared`` is given, it is released for other clients in the longer pauses, and at least once a second. If
    another client holds it after the pause, this waits for it for up to ``patience`` seconds.
    """

    def __init__(self, shared: GuestAgent | None = None, patience: float = 0.0) -> None:
        self._begun = Deadline(0.0)
        self._shared = shared
        self._patience = patience

    async def pause(self, deadline: Deadline) -> None:
        """Pause until the next poll is due, or until the deadline.

        :raises QgaError: the agent was released, and could not be regained
        """
        elapsed = Deadline(0.0).at - self._begun.at
        seconds = min(max(_FIRST_PAUSE, elapsed * _PART_OF_ELAPSED), _LONGEST_PAUSE)
        await self._rest(seconds, deadline, 0.0 if seconds >= _LONG_PAUSE else _MAX_HELD)

    async def retry(self, deadline: Deadline) -> None:
        """Pause before a failed or refused request is repeated. The agent is released meanwhile, because a client that
        has frozen the guest needs it to thaw the guest.
        """
        with contextlib.suppress(QgaError):  # the next request will fail
            await self._rest(RETRY, deadline, 0.0)

    async def _rest(self, seconds: float, deadline: Deadline, held: float) -> None:
        if self._shared is not None:
            await self._shared.let_go(held)
        await pause(min(seconds, deadline.remaining()))
        if self._shared is not None:
            await self._shared.regain(max(self._shared.within(deadline), min(self._patience, deadline.remaining())))


async def start(agent: GuestAgent, program: Program, deadline: Deadline = NEVER) -> int:
    """Start a program by the deadline, and return its process ID in the guest.

    :raises CommandError: the agent does not start programs, or the program does not exist
    :raises QgaError: the request failed; the program may have been started
    """
    arguments: dict[str, Any] = {"path": program.path, "arg": list(program.arguments), "capture-output": True}
    if program.input:
        arguments["input-data"] = base64.b64encode(program.input).decode("ascii")
    started = expect_object(await agent.call("guest-exec", arguments, deadline=deadline), "guest-exec")
    return expect_integer(started.get("pid"), "the pid of a process")


async def poll(agent: GuestAgent, process: int, deadline: Deadline = NEVER) -> Ended | None:
    """Return how the process ended, or None if it has not ended. The agent reports an end only once.

    :raises UnknownProcessError: the agent does not know the process
    :raises QgaError: the request failed, or there was no reply by the deadline
    """
    try:
        value = await agent.call("guest-exec-status", {"pid": process}, deadline=deadline)
    except CommandFailedError as error:
        raise UnknownProcessError(error.message, error.hint, error.command) from None
    status = expect_object(value, "guest-exec-status")
    if status.get("exited") is not True:
        if status.get("exited") is not False:
            raise RemoteProtocolError("the agent returned a guest-exec-status without a valid member exited")
        return None
    ended = Ended(
        _integer_if_there(status, "exitcode"),
        _integer_if_there(status, "signal"),
        decoded(status.get("out-data", ""), "output"),
        decoded(status.get("err-data", ""), "errors"),
        any(status.get(key, False) is not False for key in ("out-truncated", "err-truncated")),
    )
    if ended.exit_status is None and ended.signal is None:
        raise RemoteProtocolError("the agent returned a guest-exec-status with neither an exit status nor a signal")
    return ended


async def execute(agent: GuestAgent, program: Program, deadline: Deadline) -> Ended | None:
    """Run a program and return how it ended, or None if it has not ended by the deadline.

    :raises QgaError: as :func:`start` and :func:`poll` do
    """
    process = await start(agent, program, deadline)
    return await end_of(agent, process, deadline)


async def end_of(agent: GuestAgent, process: int, deadline: Deadline, patience: float | None = None) -> Ended | None:
    """Wait until the process ends. Return how it ended, or None if it has not ended by the deadline.

    With ``patience``, the agent is released for other clients meanwhile; see :class:`Polling`. Use this only if the
    caller can recover from a lost reply, and from a refusal because another client has frozen the guest.

    :raises QgaError: as :func:`poll` and :meth:`Polling.pause` do
    """
    polling = Polling() if patience is None else Polling(agent, patience)
    while True:
        await polling.pause(deadline)
        ended = await poll(agent, process, deadline)
        if ended is not None or deadline.expired():
            return ended


def decoded(value: Any, what: str) -> bytes:
    """Return the bytes that an agent sent as base64.

    :raises RemoteProtocolError: this is not base64
    """
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise RemoteProtocolError(f"the agent returned {what} that is not base64")


def _integer_if_there(status: Mapping[str, Any], key: str) -> int | None:
    return expect_integer(status[key], key) if key in status else None
