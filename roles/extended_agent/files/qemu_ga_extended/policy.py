# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which commands are refused: by this agent's lists, by the stock agent's, and while file systems are frozen.

Each of this agent's own commands needs the permission of its counterpart in the stock agent: an administrator who has
disabled ``guest-set-time`` does not want the clock set by a command with another name either. If an allow list of this
agent names the command, that is an explicit permission.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

from guest_agent._protocol.commands import CATALOG, FROZEN_ALLOWED

from .refusal import FROZEN, NOT_ALLOWED, Refusal, disabled, not_found
from .stock import GET_TIME, INFO, Stock

# Commands that the stock agent has, too, but that must work even while it hangs.
ANSWERED_FOR_STOCK = frozenset(("guest-sync", "guest-sync-delimited", "guest-ping", "guest-get-time", "guest-info"))
EXTENDED = frozenset(name for name, command in CATALOG.items() if command.origin == "extended")
OWN_COMMANDS = ANSWERED_FOR_STOCK | EXTENDED

# This agent's own commands, and the stock agent's commands whose permissions they need.
COUNTERPARTS: Mapping[str, str] = {
    **{command: command for command in ANSWERED_FOR_STOCK},
    "guest-update-time": "guest-set-time",
    "guest-get-clock": GET_TIME,
    "guest-get-command-info": INFO,
}
# Allowed even if the stock agent does not list its commands.
_HARMLESS = frozenset(("guest-sync", "guest-sync-delimited", "guest-ping"))


class Lists(NamedTuple):
    """As in qemu-ga: with an allow list, all other commands are refused, and the block list overrides it."""

    allowed: frozenset[str] | None = None
    blocked: frozenset[str] = frozenset()

    def admit(self, command: str) -> bool:
        return command not in self.blocked and (self.allowed is None or self.name(command))

    def name(self, command: str) -> bool:
        """Return whether the allow list names the command."""
        return self.allowed is not None and command in self.allowed


class Policy:
    def __init__(self, lists: Lists, stock: Stock) -> None:
        self._lists = lists
        self._stock = stock

    def refusal(self, command: str) -> Refusal | None:
        """Return why this agent does not run or forward the command, or None. The stock agent may still refuse it."""
        if self._stock.is_frozen and command in OWN_COMMANDS and command not in FROZEN_ALLOWED:
            return disabled(command, FROZEN)
        if not self._lists.admit(command):
            return not_found(command) if self._is_lacking(command) else disabled(command, NOT_ALLOWED)
        if command not in OWN_COMMANDS or (command in EXTENDED and self._lists.name(command)):
            return None
        return self._stock_refusal(command)

    def _is_lacking(self, command: str) -> bool:
        """Return whether neither agent has the command: as in qemu-ga, a list refuses only commands that exist."""
        info = self._stock.info
        return (
            info is not None and info.refused is None and command not in info.commands and command not in OWN_COMMANDS
        )

    def _stock_refusal(self, command: str) -> Refusal | None:
        """Return the stock agent's refusal of the command or its counterpart, or None: its lists apply here, too."""
        info, counterpart = self._stock.info, COUNTERPARTS[command]
        if info is None:  # neither this agent nor an earlier one has received its list
            return None
        if info.refused is not None and counterpart == INFO:
            refused = info.refused
            return Refusal(refused.description, refused.kind) if command == INFO else disabled(command, NOT_ALLOWED)
        known = info.commands.get(counterpart)
        if known is None:
            # Commands that agents before 1.5 lack (guest-get-time, guest-set-time) are allowed. An agent that may not
            # list its commands is restricted in ways that are not known.
            is_allowed = info.refused is None or counterpart in _HARMLESS
            return None if is_allowed else disabled(command, NOT_ALLOWED)
        # A list from while file systems were frozen has all commands disabled except FROZEN_ALLOWED, so it does not
        # show what the administrator has disabled.
        if known.enabled or (self._stock.is_list_frozen and counterpart not in FROZEN_ALLOWED):
            return None
        return disabled(command, NOT_ALLOWED)

    def is_enabled(self, command: str) -> bool:
        """Return the ``enabled`` value that ``guest-info`` lists for a command of either agent."""
        if self.refusal(command) is not None or (self._stock.is_frozen and command not in FROZEN_ALLOWED):
            return False
        info = self._stock.info
        known = info.commands.get(command) if info is not None else None
        return known is None or known.enabled
