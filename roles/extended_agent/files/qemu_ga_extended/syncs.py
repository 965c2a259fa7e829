# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Syncs to the stock agent: this agent's own requests, with a number that is returned.

A sync is guest-sync-delimited or, once the stock agent has refused that, guest-sync. A refusal is an answer, too: it
arrives in order, and no other command's error begins with the same words. If both are refused, the refusals serve as
syncs for the rest of the connection.
"""

from __future__ import annotations

import random
import re
from typing import Any

from guest_agent._protocol import framing, messages, values
from guest_agent._protocol.errors import RemoteProtocolError

from .log import Log
from .stream import Data

# In the order in which they are tried. The reply to the first begins with 0xFF, whatever came before it.
DELIMITED = "guest-sync-delimited"
_SYNCS = (DELIMITED, "guest-sync")
# A longer reply is checked only by its outer form before it is forwarded; a shorter one is parsed.
_INSPECTED_BYTES = 64 * 1024
# The errors for a disabled or unknown command, of QEMU 10.0 (qapi/qmp-dispatch.c) and of versions up to 4.1.
_REFUSAL = re.compile(r"(?:The c|C)ommand (\S+) has (?:been disabled|not been found)")


class Sync:
    """A sync that has not been answered yet."""

    __slots__ = ("command", "number")

    def __init__(self, command: str) -> None:
        self.command = command
        self.number = random.randrange(1, 2**31)  # noqa: S311  # it distinguishes replies and is not a secret

    def request(self) -> bytes:
        return values.encode(messages.request(self.command, {"id": self.number}))

    def is_returned(self, line: Data) -> bool:
        """Return whether the line ends with the number's return. Anything before it is ignored: it may be the end of an
        abandoned reply.
        """
        position = line.rfind(framing.DELIMITER if self.command == DELIMITED else b"{")
        if position < 0 or len(line) - position > _INSPECTED_BYTES:
            return False
        return bool(_decoded(line[position:].lstrip(framing.DELIMITER)) == {"return": self.number})

    def is_refused(self, line: Data) -> bool:
        """Return whether the line refuses this command."""
        if len(line) > _INSPECTED_BYTES or self.command.encode() not in line:
            return False
        try:
            reply = messages.read_reply(_decoded(line))
        except RemoteProtocolError:
            return False
        match = _REFUSAL.match(reply.description) if isinstance(reply, messages.Refused) else None
        return match is not None and match[1] == self.command


class Syncs:
    """The choice of syncs on one connection. ``command``: the one to send. ``refused``: those known to be refused."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.command = DELIMITED
        self._is_without = False  # logged that all are refused
        self.refused: set[str] = set()

    def begin(self) -> None:
        """Begin a connection: nothing is known to be refused on it."""
        self.command = DELIMITED
        self.refused.clear()

    def was_answered(self, sync: Sync, is_refused: bool) -> bool:
        """Process the answer to a sync; return whether another command is used from now on."""
        if not is_refused:
            self._is_without = False
            return False
        self.refused.add(sync.command)
        if sync.command != self.command:
            return False  # it was sent before the refusal was known
        following = _SYNCS[_SYNCS.index(sync.command) + 1 :]
        if following:
            self.command = following[0]
            self._log.info(f"the stock agent refuses {sync.command}: using {self.command} instead")
        elif not self._is_without:
            self._is_without = True
            refused = " and ".join(_SYNCS)
            self._log.error(f"the stock agent refuses {refused}: matching its replies by their order")
        return bool(following)


def is_reply(line: Data) -> bool:
    """Return whether the line is a reply and can be forwarded."""
    if len(line) > _INSPECTED_BYTES:
        return line.startswith(b"{") and line.endswith((b"}\n", b"}\r\n")) and line.isascii()
    return messages.is_reply(line)


def _decoded(line: Data) -> Any:
    try:
        return values.decode(bytes(line))
    except RemoteProtocolError:
        return None
