# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of refused commands, with the stock agent's texts and classes (QEMU 10.0.13)."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818  # a reply, not an internal error
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

# Errors that any system call may cause: the system's own, too little memory, and what Python raises if a process or
# thread cannot be started.
FAILURES = (OSError, MemoryError, RuntimeError)


def reason_of(error: BaseException) -> str:
    """Return the system's text for an error, or Python's. It contains no data from requests."""
    words = getattr(error, "strerror", None) or str(error)
    return words or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
