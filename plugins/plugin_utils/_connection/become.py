# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Becoming another user by a command that may ask for a password, where there is no terminal."""

from __future__ import annotations

from typing import Any, Protocol

from ...module_utils._untrusted import visible
from .errors import BecomeError


class Become(Protocol):
    """What is used of Ansible's become plugins. ``prompt`` is the text to wait for, if there is one such text."""

    prompt: Any

    def check_success(self, b_output: bytes) -> bool: ...

    def check_password_prompt(self, b_output: bytes) -> bool: ...


class BecomeDialogue:
    """Gives the password if it is asked for, and only then: else it would be the first line of the command's input."""

    def __init__(self, become: Become, password: bytes, timeout: float) -> None:
        self.timeout = timeout
        self._become = become
        self._password = password
        self._seen_output = 0
        self._seen_errors = 0
        self._is_given = False

    def is_over(self, output: bytes) -> bool:
        return self._become.check_success(output)

    def answer(self, output: bytes, errors: bytes) -> bytes | None:
        """
        :raises BecomeError: the password is asked for again
        """
        asked = (output[self._seen_output :], errors[self._seen_errors :])
        if not any(map(self._become.check_password_prompt, asked)):
            return None
        if self._is_given:
            said = visible(self.without_prompt(errors).decode("utf-8", "replace").strip())
            raise BecomeError(f"the become password was not accepted: {said}")
        self._is_given = True
        self._seen_output, self._seen_errors = len(output), len(errors)
        return self._password

    def without_prompt(self, errors: bytes) -> bytes:
        """What the command wrote itself. A prompt is known by its text, or left where it is."""
        prompt = self._become.prompt
        if not isinstance(prompt, str) or not prompt:
            return errors
        before, found, behind = errors.partition(prompt.encode("utf-8"))
        return before + behind.lstrip(b" ") if found else errors
