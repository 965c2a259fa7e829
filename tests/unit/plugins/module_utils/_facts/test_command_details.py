from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandNotFoundError
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.command_details import command_details
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOGUE
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError

from tests.fakes.guest import EXTENDED_COMMANDS, TimeLine, not_found
from tests.support.blocking import blocking
from tests.support.telling_guest import full_guest, says

details_of = blocking(command_details)


class TestCommandDetails:
    def test_a_stock_command_is_the_catalogues(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-set-time"]["enabled"] = False
        details = details_of(GuestAgent(guest, 5.0), "guest-set-time")
        assert details == {
            "name": "guest-set-time",
            "present": True,
            "enabled": False,
            "success_response": True,
            "since": "1.5",
            "description": CATALOGUE["guest-set-time"].description,
            "arguments": [{"name": "time", "type": "int", "optional": True}],
            "returns": "none",
            "origin": "stock",
            "details_from": "catalogue",
        }

    def test_what_the_agent_says_of_answers_goes_before_the_catalogue(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-ping"]["success-response"] = False
        assert details_of(GuestAgent(guest, 5.0), "guest-ping")["success_response"] is False

    def test_a_command_that_the_agent_lacks(self, line: TimeLine) -> None:
        details = details_of(GuestAgent(full_guest(line), 5.0), "guest-exec")
        assert (details["present"], details["enabled"], details["details_from"]) == (False, False, "catalogue")

    def test_a_command_that_only_the_agent_knows(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-novel"] = {"name": "guest-novel", "enabled": True, "success-response": True}
        assert details_of(GuestAgent(guest, 5.0), "guest-novel") == {
            "name": "guest-novel",
            "present": True,
            "enabled": True,
            "success_response": True,
            "details_from": "agent",
        }

    def test_a_command_that_nobody_knows(self, line: TimeLine) -> None:
        with pytest.raises(CommandNotFoundError, match="guest-nonsense") as caught:
            details_of(GuestAgent(full_guest(line), 5.0), "guest-nonsense")
        assert "spelling" in caught.value.hint

    def test_the_extended_agent_is_asked(self, line: TimeLine) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS)
        says(guest, "guest-get-command-info", {"name": "guest-ping", "success-response": True, "since": "0.15.0"})
        details = details_of(GuestAgent(guest, 5.0), "guest-ping")
        assert guest.asked("guest-get-command-info") == [{"name": "guest-ping"}]
        assert details == {
            "name": "guest-ping",
            "success_response": True,
            "since": "0.15.0",
            "present": True,
            "details_from": "agent",
        }

    @pytest.mark.parametrize("value", [None, [], "text", 1])
    def test_an_ill_shaped_answer_of_its(self, line: TimeLine, value: Any) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS)
        says(guest, "guest-get-command-info", value)
        with pytest.raises(RemoteProtocolError, match="where an object belongs"):
            details_of(GuestAgent(guest, 5.0), "guest-ping")

    def test_an_unknown_name_is_refused_by_it(self, line: TimeLine) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS)
        guest.handlers["guest-get-command-info"] = lambda _arguments: not_found("guest-nonsense")
        with pytest.raises(CommandNotFoundError):
            details_of(GuestAgent(guest, 5.0), "guest-nonsense")
