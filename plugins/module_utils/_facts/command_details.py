# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The details of one agent command, from the catalog and from this guest's agent."""

from __future__ import annotations

from typing import Any

from .._agent import GuestAgent
from .._errors import CommandNotFoundError
from .._protocol.commands import CATALOG
from .shapes import facts_of

_DESCRIBED = ("success_response", "since", "description", "arguments", "returns", "origin")


async def command_details(agent: GuestAgent, name: str) -> dict[str, Any]:
    """Return the details of one agent command; ``details_from`` is their source.

    The extended agent is asked (``guest-get-command-info``). The stock agent reports only whether the command is
    enabled and whether it answers on success; the rest comes from the catalog.

    :raises CommandNotFoundError: neither the agent nor the catalog has the command
    """
    if await agent.knows("guest-get-command-info"):
        details = facts_of("guest-get-command-info", await agent.call("guest-get-command-info", {"name": name}))
        return dict(details, present=True, details_from="agent")
    state = (await agent.info()).commands.get(name)
    entry = CATALOG.get(name)
    if state is None and entry is None:
        raise CommandNotFoundError(
            f"neither the agent nor the catalog has a command '{name}'",
            "Check the spelling; gather_subset=commands lists this agent's commands.",
            name,
        )
    details = {"name": name, "present": state is not None, "enabled": state is not None and state.enabled}
    if entry is not None:
        details.update((member, getattr(entry, member)) for member in _DESCRIBED)
        details["arguments"] = [argument._asdict() for argument in entry.arguments]
    if state is not None:
        details["success_response"] = state.success_response
    details["details_from"] = "agent" if entry is None else "catalog"
    return details
