# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Privilege escalation by a command that may ask for a password, without a terminal.

Theory of operation. At first ``guest/run.sh`` gives the command no input, and saves its output as it arrives. This is
polled for up to ``become_success_timeout``. Each time, the first row that applies decides:

====================================  ==================================================================================
seen                                  action
====================================  ==================================================================================
the become plugin's success marker    write the file "go": the command gets its input, and is awaited like any other
the command has ended                 its result shows whether escalation succeeded; see ``GuestShell.run``
a prompt, for the first time          write the file "answer": the password is the command's first input
a prompt, after the password          ``BecomeError``: the password was not accepted
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
from .results import stderr_text
from .scripts import timed_out

# Bytes. Output up to and including a password prompt is short.
_PROMPT_LIMIT = 16 * 1024


class Dialog:
    """Sends the password only if the command asks for it; otherwise it would be the first line of the command's input.

    ``become`` is an Ansible become plugin. Its ``prompt`` is the text to wait for, if there is one.
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
        :raises BecomeError: the command asks for the password again
        """
        asked = (output[self._seen_output :], errors[self._seen_errors :])
        if not any(map(self._become.check_password_prompt, asked)):
            return None
        if self._is_given:
            raise BecomeError(f"the become password was not accepted: {stderr_text(self.without_prompt(errors))}")
        self._is_given = True
        self._seen_output, self._seen_errors = len(output), len(errors)
        return self._password

    def without_prompt(self, errors: bytes) -> bytes:
        """Return the command's own output. A prompt is removed if its text is known."""
        prompt = self._become.prompt
        if not isinstance(prompt, str) or not prompt:
            return errors
        before, found, after = errors.partition(prompt.encode("utf-8"))
        return before + after.lstrip(b" ") if found else errors


async def become_user(
    agent: GuestAgent,
    path: str,
    process: int,
    dialog: Dialog,
    store: Callable[[str, bytes, Deadline], Awaitable[None]],
    whole: Deadline,
) -> Ended | None:
    """Answer the command's prompt and release its input. Return how the command ended if it ended before that.

    ``path`` is the path of its output files, without ``.out`` or ``.err``.

    :raises BecomeError: it took too long, no matter what the guest sent meanwhile; or as :meth:`Dialog.answer` does
    :raises CommandTimeoutError: the deadline of the ``whole`` command has passed
    :raises QgaError: a request to the agent failed
    """
    deadline = Deadline(min(dialog.timeout, whole.remaining()))
    polling = Polling()
    cause: QgaError | None = None
    try:
        while not deadline.expired():
            await polling.pause(deadline)
            output, errors = [await _written_so_far(agent, f"{path}.{name}", deadline) for name in ("out", "err")]
            if dialog.is_over(output):
                await store("go", b"\n", deadline)
                return None
            ended = await poll(agent, process, deadline)
            if ended is not None:
                return ended
            answer = dialog.answer(output, errors)
            if answer is not None:
                await store("answer", answer + b"\n", deadline)
    except (ExchangeTimeoutError, TransferTimeoutError, UnresponsiveError) as error:
        if not deadline.expired():
            raise
        cause = error
    if whole.expired():
        raise timed_out(whole.seconds) from cause
    raise BecomeError(f"privilege escalation timed out after {dialog.timeout:g} s") from cause


async def _written_so_far(agent: GuestAgent, path: str, deadline: Deadline) -> bytes:
    try:
        return await read_file(agent, path, _PROMPT_LIMIT, _PROMPT_LIMIT, deadline)
    except CommandError:
        return b""  # the file does not exist yet
