from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandNotFoundError
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.command_details import command_details
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError

from tests.fakes.guest import EXTENDED_COMMANDS, SimulatedGuest, TimeLine, full_guest, not_found, says
from tests.support.blocking import blocking


def details_of(guest: SimulatedGuest, name: str) -> dict[str, Any]:
    details: dict[str, Any] = blocking(command_details)(GuestAgent(guest, 5.0), name)
    return details


class TestAStockAgent:
    def test_the_catalog_adds_the_details_that_the_agent_does_not_report(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-set-time"] = {"name": "guest-set-time", "enabled": False, "success-response": False}
        assert details_of(guest, "guest-set-time") == {
            "name": "guest-set-time",
            "present": True,
            "enabled": False,
            "success_response": False,
            "since": "1.5",
            "description": CATALOG["guest-set-time"].description,
            "arguments": [{"name": "time", "type": "int", "optional": True}],
            "returns": "none",
            "origin": "stock",
            "details_from": "catalog",
        }

    def test_a_command_that_the_agent_lacks_is_described_as_absent(self, line: TimeLine) -> None:
        details = details_of(full_guest(line), "guest-exec")
        assert (details["present"], details["enabled"], details["details_from"]) == (False, False, "catalog")

    def test_a_command_that_the_catalog_lacks_is_described_by_the_agent(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-novel"] = {"name": "guest-novel", "enabled": True, "success-response": True}
        assert details_of(guest, "guest-novel") == {
            "name": "guest-novel",
            "present": True,
            "enabled": True,
            "success_response": True,
            "details_from": "agent",
        }

    def test_an_unknown_command_is_an_error(self, line: TimeLine) -> None:
        with pytest.raises(CommandNotFoundError, match="guest-nonsense") as caught:
            details_of(full_guest(line), "guest-nonsense")
        assert "spelling" in caught.value.hint


class TestTheExtendedAgent:
    def test_describes_its_own_commands(self, line: TimeLine) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS)
        reply = {"name": "guest-ping", "since": "0.15.0"}
        says(guest, "guest-get-command-info", reply)
        assert details_of(guest, "guest-ping") == {**reply, "present": True, "details_from": "agent"}
        assert guest.asked("guest-get-command-info") == [{"name": "guest-ping"}]

    def test_may_not_know_the_command_or_return_an_ill_formed_reply(self, line: TimeLine) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS)
        guest.handlers["guest-get-command-info"] = lambda _arguments: not_found("guest-nonsense")
        with pytest.raises(CommandNotFoundError):
            details_of(guest, "guest-nonsense")
        says(guest, "guest-get-command-info", [])
        with pytest.raises(RemoteProtocolError, match="where an object belongs"):
            details_of(guest, "guest-ping")
