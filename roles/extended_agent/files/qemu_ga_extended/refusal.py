# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of commands that are not carried out, in the stock agent's words and classes (QEMU 10.0.13)."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  # an answer, not a defect
    """``kind`` is "GenericError" or "CommandNotFound", the only classes that qemu-ga uses."""

    def __init__(self, description: str, kind: str = "GenericError") -> None:
        super().__init__(description)
        self.description = description
        self.kind = kind


def not_found(command: str) -> Refusal:
    return Refusal(f"The command {command} has not been found", "CommandNotFound")


def disabled(command: str, reason: str) -> Refusal:
    return Refusal(f"Command {command} has been disabled: {reason}", "CommandNotFound")


NOT_ALLOWED = "the command is not allowed"
FROZEN = "the agent is in frozen state"

# What the system may fail with at any call: its own errors, too little memory, and Python's word for processes and
# threads that cannot be started.
FAILURES = (OSError, MemoryError, RuntimeError)


def reason_of(error: BaseException) -> str:
    """Return the system's own words for an error, or Python's. They hold nothing of what a request carried."""
    words = getattr(error, "strerror", None) or str(error)
    return words or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
