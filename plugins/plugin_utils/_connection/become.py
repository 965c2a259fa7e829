# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Becoming another user by a command that may ask for a password, where there is no terminal.

Theory of operation. ``guest/run.sh`` gives the command nothing yet, and keeps what it writes as it comes. That is read
again and again, for ``become_success_timeout`` at the most, and each time the first row that applies is what is done:

====================================  ==================================================================================
what is seen                          what is done
====================================  ==================================================================================
the become plugin's mark of success   the file "go" is written: the command gets its input, and is awaited as any other
the command has ended                 its result says whether it was another user's; see ``GuestShell.run``
a prompt, for the first time          the file "answer" is written: the password is the command's first input
a prompt, after the password          ``BecomeError``: it was not accepted
====================================  ==================================================================================
"""

from __future__ import annotations

from typing import Any, Awaitable, Callable

from ...module_utils._agent import GuestAgent
from ...module_utils._errors import CommandError, ExchangeTimeoutError, UnresponsiveError
from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._protocol.errors import QgaError
from .errors import BecomeError, TransferTimeoutError
from .files import read_file
from .programs import Ended, Polling, poll
from .results import said
from .scripts import too_slow

# What a password prompt stands in is short.
_MOST_HEARD = 16 * 1024


class Dialogue:
    """Gives the password if it is asked for, and only then: else it would be the first line of the command's input.

    ``become`` is a plugin of Ansible's, whose ``prompt`` is the text to wait for, if there is one.
    """

    def __init__(self, become: Any, password: bytes, timeout: float) -> None:
        self.timeout = timeout
        self._become = become
        self._password = password
        self._seen_output = 0
        self._seen_errors = 0
        self._is_given = False

    def is_over(self, output: bytes) -> bool:
        return bool(self._become.check_success(output))

    def answer(self, output: bytes, errors: bytes) -> bytes | None:
        """
        :raises BecomeError: the password is asked for again
        """
        asked = (output[self._seen_output :], errors[self._seen_errors :])
        if not any(map(self._become.check_password_prompt, asked)):
            return None
        if self._is_given:
            raise BecomeError(f"the become password was not accepted: {said(self.without_prompt(errors))}")
        self._is_given = True
        self._seen_output, self._seen_errors = len(output), len(errors)
        return self._password

    def without_prompt(self, errors: bytes) -> bytes:
        """Return what the command wrote itself. A prompt is known by its text, or left where it is."""
        prompt = self._become.prompt
        if not isinstance(prompt, str) or not prompt:
            return errors
        before, found, after = errors.partition(prompt.encode("utf-8"))
        return before + after.lstrip(b" ") if found else errors


async def become_user(
    agent: GuestAgent,
    path: str,
    process: int,
    dialogue: Dialogue,
    lay_down: Callable[[str, bytes, Deadline], Awaitable[None]],
    whole: Deadline,
) -> Ended | None:
    """Answer what the command asks, and let it have its input. How it ended, if it did not get that far.

    ``path`` is that of what it writes, without ``.out`` or ``.err``.

    :raises BecomeError: it took too long, however much the guest has sent meanwhile; or as :meth:`Dialogue.answer` does
    :raises CommandTimeoutError: the time for the ``whole`` command is over
    :raises QgaError: the agent could not be asked
    """
    deadline = Deadline(min(dialogue.timeout, whole.remaining()))
    polling = Polling()
    cause: QgaError | None = None
    try:
        while not deadline.expired():
            await polling.pause(deadline)
            output, errors = [await _heard(agent, f"{path}.{name}", deadline) for name in ("out", "err")]
            if dialogue.is_over(output):
                await lay_down("go", b"\n", deadline)
                return None
            ended = await poll(agent, process, deadline)
            if ended is not None:
                return ended
            answer = dialogue.answer(output, errors)
            if answer is not None:
                await lay_down("answer", answer + b"\n", deadline)
    except (ExchangeTimeoutError, TransferTimeoutError, UnresponsiveError) as error:
        if not deadline.expired():
            raise
        cause = error
    if whole.expired():
        raise too_slow(whole.seconds) from cause
    raise BecomeError(f"nothing came of becoming another user within {dialogue.timeout:g} s") from cause


async def _heard(agent: GuestAgent, path: str, deadline: Deadline) -> bytes:
    try:
        return await read_file(agent, path, _MOST_HEARD, _MOST_HEARD, deadline)
    except CommandError:
        return b""  # it is not there yet
