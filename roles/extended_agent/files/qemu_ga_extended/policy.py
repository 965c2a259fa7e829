# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which commands are refused: by this agent's lists, by the stock agent's, and while file systems are frozen.

A command of this agent's needs the permission of the stock agent's counterpart: an administrator who has disabled
``guest-set-time`` wants no clock set, under whatever name. An allow list of this agent that names a command is an
explicit permission.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

from guest_agent._protocol.commands import CATALOGUE, FROZEN_ALLOWED

from .refusal import FROZEN, NOT_ALLOWED, Refusal, disabled, not_found
from .stock import GET_TIME, INFO, Stock

# What is answered here although the stock agent has it, too: these must live when it does not.
ANSWERED_FOR_STOCK = frozenset(("guest-sync", "guest-sync-delimited", "guest-ping", "guest-get-time", "guest-info"))
EXTENDED = frozenset(name for name, command in CATALOGUE.items() if command.origin == "extended")
OWN_COMMANDS = ANSWERED_FOR_STOCK | EXTENDED

# What is answered here, and the stock agent's command of which the permission counts.
COUNTERPARTS: Mapping[str, str] = {
    **{command: command for command in ANSWERED_FOR_STOCK},
    "guest-update-time": "guest-set-time",
    "guest-get-clock": GET_TIME,
    "guest-get-command-info": INFO,
}
# A stock agent that does not list its commands forbids none of these.
_HARMLESS = frozenset(("guest-sync", "guest-sync-delimited", "guest-ping"))


class Lists(NamedTuple):
    """As qemu-ga has them: with an allow list all others are refused, and the block list goes before it."""

    allowed: frozenset[str] | None = None
    blocked: frozenset[str] = frozenset()

    def admit(self, command: str) -> bool:
        return command not in self.blocked and (self.allowed is None or self.name(command))

    def name(self, command: str) -> bool:
        """Return whether the allow list names it."""
        return self.allowed is not None and command in self.allowed


class Policy:
    def __init__(self, lists: Lists, stock: Stock) -> None:
        self._lists = lists
        self._stock = stock

    def refusal(self, command: str) -> Refusal | None:
        """Why this agent does not carry the command out or pass it on; the stock agent may still refuse it."""
        if self._stock.is_frozen and command in OWN_COMMANDS and command not in FROZEN_ALLOWED:
            return disabled(command, FROZEN)
        if not self._lists.admit(command):
            return not_found(command) if self._is_lacking(command) else disabled(command, NOT_ALLOWED)
        if command not in OWN_COMMANDS or (command in EXTENDED and self._lists.name(command)):
            return None
        return self._stock_refusal(command)

    def _is_lacking(self, command: str) -> bool:
        """Return whether neither agent has the command: as qemu-ga, a list refuses only what there is."""
        info = self._stock.info
        return (
            info is not None and info.refused is None and command not in info.commands and command not in OWN_COMMANDS
        )

    def _stock_refusal(self, command: str) -> Refusal | None:
        """Its administrator's word holds for what is answered in its place, and for what does the same."""
        info, counterpart = self._stock.info, COUNTERPARTS[command]
        if info is None:  # it has never been heard, nor has an agent before this one heard it
            return None
        if info.refused is not None and counterpart == INFO:
            refused = info.refused
            return Refusal(refused.description, refused.kind) if command == INFO else disabled(command, NOT_ALLOWED)
        known = info.commands.get(counterpart)
        if known is None:
            # What an agent before 1.5 lacks (guest-get-time, guest-set-time) is ours to give. One that may not list
            # what it has is restricted, and by what more is not known.
            is_ours = info.refused is None or counterpart in _HARMLESS
            return None if is_ours else disabled(command, NOT_ALLOWED)
        # When the list was made while file systems were frozen, it calls everything but these disabled, and says
        # nothing of its lists.
        if known.enabled or (self._stock.is_list_frozen and counterpart not in FROZEN_ALLOWED):
            return None
        return disabled(command, NOT_ALLOWED)

    def is_enabled(self, command: str) -> bool:
        """Return what ``guest-info`` lists for a command of either agent."""
        if self.refusal(command) is not None or (self._stock.is_frozen and command not in FROZEN_ALLOWED):
            return False
        info = self._stock.info
        known = info.commands.get(command) if info is not None else None
        return known is None or known.enabled
