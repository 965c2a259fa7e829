# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The meaning of an agent's refusal, on any channel.

The error class says little: a disabled command is ``CommandDisabled`` in QEMU 0.15 to 1.1, ``GenericError`` from 1.2 to
4.1 and ``CommandNotFound`` since 4.2, and libvirt drops the class. The words are nearly the same in all versions
(``qapi/qmp-dispatch.c`` and ``qerror.h``). So the words decide, and the class only if the words are unknown.
"""

from __future__ import annotations

import re
from enum import Enum

from .._protocol.messages import Refused


class Meaning(Enum):
    """``DISABLED`` may also mean that file systems are frozen; ``guest-fsfreeze-status`` reports whether they are."""

    FROZEN = "frozen"
    DISABLED = "disabled"
    UNSUPPORTED = "unsupported"
    MISSING = "missing"
    FAILED = "failed"


# libvirt writes "The command has been disabled for this instance" for an error without words (qemuAgentStringifyError).
_COMMAND = r"(?:the )?command(?: (?!(?:has|is|was|not) )(?P<command>\S+))? "
_IS_DISABLED = _COMMAND + r"(?:is |has been )?(?:disabled|not allowed)\b"

# A refusal of this class (None: of any class) that begins with these words has this meaning. The first match counts.
_ROWS = (
    # "Command X has been disabled: the agent is in frozen state" (qga/main.c, before QEMU 10.0); other agents:
    # "Command not allowed while filesystem is frozen".
    (None, _IS_DISABLED + r".*\bfrozen\b", Meaning.FROZEN),
    (None, _IS_DISABLED, Meaning.DISABLED),
    (None, _COMMAND + r"(?:has |was |is )?not (?:been )?found\b", Meaning.MISSING),
    # QERR_UNSUPPORTED, and the errors of guest-suspend-ram and the like (qga/commands-posix.c and commands-win32.c).
    (None, r"this feature or command is not currently supported", Meaning.UNSUPPORTED),
    (None, r"[^:'\"/]*\bnot supported by (?:the )?(?:OS|guest)\b", Meaning.UNSUPPORTED),
    ("CommandNotFound", r".*\bdisabled\b", Meaning.DISABLED),
    ("CommandNotFound", "", Meaning.MISSING),
    ("CommandDisabled", "", Meaning.DISABLED),
    ("Unsupported", "", Meaning.UNSUPPORTED),
)
_MEANINGS = tuple((kind, re.compile(words, re.IGNORECASE | re.DOTALL), meaning) for kind, words, meaning in _ROWS)

# The longest command name and the sentence around it are far shorter; the rest is the guest's own text.
_LONGEST_WORDS = 1024

# QEMU 10.0.13 has one class for commands that are missing and for those that are disabled for any reason.
_NOT_FOUND = frozenset((Meaning.FROZEN, Meaning.DISABLED, Meaning.MISSING))


def meaning_of(refused: Refused) -> Meaning:
    """Return the meaning of a refusal by its words and its class."""
    words = refused.description[:_LONGEST_WORDS]
    fitting = (meaning for kind, rule, meaning in _MEANINGS if kind in (None, refused.kind) and rule.match(words))
    return next(fitting, Meaning.FAILED)


def command_named(refused: Refused) -> str | None:
    """Return the command that the refusal names; None: it names none."""
    words = refused.description[:_LONGEST_WORDS]
    found = re.match(_COMMAND, words, re.IGNORECASE)
    return None if found is None else found["command"]


def from_words(description: str) -> Refused:
    """Return a refusal with these words and the class that QEMU 10.0.13 has for them."""
    refused = Refused("GenericError", description)
    return Refused("CommandNotFound", description) if meaning_of(refused) in _NOT_FOUND else refused
