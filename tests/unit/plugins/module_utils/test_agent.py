from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import CommandState
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandError,
    CommandFailedError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    NotSupportedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned

from tests.fakes.guest import (
    EXTENDED_COMMANDS,
    SECOND,
    STOCK_COMMANDS,
    SimulatedGuest,
    TimeLine,
    disabled,
    failed,
    not_found,
)
from tests.support.blocking import BlockingAgent


def informed(guest: SimulatedGuest, value: Any) -> None:
    guest.handlers["guest-info"] = lambda _arguments: Returned(value)


def test_where_the_host_knows_no_devices_of_the_guest_there_are_none(agent: BlockingAgent) -> None:
    assert agent.macs() == ()


class TestInfo:
    def test_it_is_asked_for_once(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        for _time in range(3):
            assert agent.info.version == "10.0.13"
        assert guest.requests == [("guest-info", {})]

    def test_what_each_command_is(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        informed(
            guest,
            {
                "version": "8.2",
                "supported_commands": [
                    {"name": "guest-ping", "enabled": True, "success-response": True},
                    {"name": "guest-exec", "enabled": False, "success-response": True},
                    {"name": "guest-shutdown", "enabled": True, "success-response": False},
                    {"name": "guest-from-the-future", "enabled": True, "success-response": False, "more": [1]},
                ],
            },
        )
        assert agent.info.commands == {
            "guest-ping": CommandState(True, True),
            "guest-exec": CommandState(False, True),
            "guest-shutdown": CommandState(True, False),
            "guest-from-the-future": CommandState(True, False),
        }

    def test_an_agent_before_1_7_tells_nothing_of_answers(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        names = ("guest-ping", "guest-shutdown", "guest-suspend-ram", "guest-from-the-past")
        informed(guest, {"version": "1.5", "supported_commands": [{"name": n, "enabled": True} for n in names]})
        answers = {name: state.success_response for name, state in agent.info.commands.items()}
        assert answers == {
            "guest-ping": True,
            "guest-shutdown": False,
            "guest-suspend-ram": False,
            "guest-from-the-past": True,
        }

    def test_null_is_absent(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        listed = [
            None,
            {"name": "guest-ping", "enabled": True, "success-response": None, "since": None},
            {"name": "guest-shutdown", "enabled": True, "success-response": None},
            {"name": "guest-exec", "enabled": None},
            {"name": "guest-get-time"},
        ]
        informed(guest, {"version": "1.0-go", "supported_commands": listed})
        assert agent.info.commands == {
            "guest-ping": CommandState(True, True),
            "guest-shutdown": CommandState(True, False),
            "guest-exec": CommandState(False, True),
            "guest-get-time": CommandState(False, True),
        }

    @pytest.mark.parametrize("listed", [{"supported_commands": None}, {}], ids=["null", "none"])
    def test_no_list_is_an_empty_one(self, guest: SimulatedGuest, agent: BlockingAgent, listed: dict[str, Any]) -> None:
        informed(guest, {"version": "1.0-go", **listed})
        assert agent.info.commands == {}

    @pytest.mark.parametrize(
        "value",
        [
            None,
            [],
            "10.0",
            {},
            {"version": 10},
            {"version": "9", "supported_commands": ["guest-ping"]},
            {"version": "9", "supported_commands": [{}]},
            {"version": "9", "supported_commands": [{"name": 7}]},
            *({"version": "9", "supported_commands": listed} for listed in ({}, "guest-ping", 1)),
            *(
                {"version": "9", "supported_commands": [{"name": "guest-ping", member: value}]}
                for member in ("enabled", "success-response")
                for value in ("true", 1, 1.0, [], {})
            ),
        ],
    )
    def test_another_shape_breaks_the_protocol(
        self, guest: SimulatedGuest, agent: BlockingAgent, value: object
    ) -> None:
        informed(guest, value)
        with pytest.raises(RemoteProtocolError, match="guest-info"):
            str(agent.info)

    @pytest.mark.parametrize(
        ("commands", "extended"),
        [
            (STOCK_COMMANDS, False),
            ((*STOCK_COMMANDS, "guest-get-clock"), False),
            ((*STOCK_COMMANDS, "guest-update-time"), False),
            (EXTENDED_COMMANDS, True),
        ],
    )
    def test_which_agent_it_is(self, line: TimeLine, commands: tuple[str, ...], extended: bool) -> None:
        assert BlockingAgent(SimulatedGuest(line, commands=commands), 5.0).info.is_extended is extended


class TestKnowing:
    @pytest.mark.parametrize("name", ["guest-get-load", "guest-exec"])
    def test_what_is_missing_or_disabled_is_not_known(
        self, guest: SimulatedGuest, agent: BlockingAgent, name: str
    ) -> None:
        guest.commands["guest-exec"] = {"name": "guest-exec", "enabled": False, "success-response": True}
        assert not agent.knows(name)
        assert agent.knows("guest-get-time")

    @pytest.mark.parametrize(
        ("name", "known"), [("guest-get-time", True), ("guest-update-time", False), ("guest-nonsense", False)]
    )
    def test_an_agent_that_hides_its_list_is_believed_to_be_a_stock_one(
        self, guest: SimulatedGuest, agent: BlockingAgent, name: str, known: bool
    ) -> None:
        guest.handlers["guest-info"] = lambda _arguments: disabled("guest-info")
        assert agent.knows(name) is known

    def test_an_agent_that_does_not_answer_is_no_stock_one(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        guest.handlers["guest-info"] = guest.times_out()
        with pytest.raises(ExchangeTimeoutError):
            agent.knows("guest-get-time")

    def test_requiring_what_is_there_runs_nothing(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        agent.require("guest-set-time")
        assert guest.asked("guest-set-time") == []

    def test_requiring_what_is_disabled(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        guest.commands["guest-set-time"]["enabled"] = False
        with pytest.raises(CommandDisabledError, match="administrator has disabled guest-set-time"):
            agent.require("guest-set-time")

    def test_requiring_what_a_frozen_guest_refuses(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        guest.commands["guest-set-time"]["enabled"] = False
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Returned("frozen")
        with pytest.raises(FrozenError):
            agent.require("guest-set-time")

    @pytest.mark.parametrize(("name", "hint"), [("guest-get-load", "too old"), ("guest-update-time", "extended_agent")])
    def test_requiring_what_is_missing(self, agent: BlockingAgent, name: str, hint: str) -> None:
        with pytest.raises(CommandNotFoundError, match=name) as caught:
            agent.require(name)
        assert hint in caught.value.hint
        assert caught.value.command == name

    def test_requiring_what_only_an_extended_agent_has_from_one_that_hides_its_list(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        guest.handlers["guest-info"] = lambda _arguments: disabled("guest-info")
        with pytest.raises(CommandError):
            agent.require("guest-update-time")


class TestCalling:
    def test_it_is_given_the_arguments_and_the_time_limit(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        agent.call("guest-ping")
        agent.call("guest-set-time", {"time": SECOND}, timeout=10.0)
        assert guest.requests == [("guest-ping", {}), ("guest-set-time", {"time": SECOND})]
        assert guest.timeouts == [5.0, 10.0]

    def test_arguments_may_be_made_when_it_is_sent(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        exchange = agent.exchange("guest-set-time", lambda now_ns: {"time": now_ns})
        assert guest.requests == [("guest-set-time", {"time": exchange.sent_ns})]
        assert exchange.value == {}

    @pytest.mark.parametrize(
        ("name", "listed", "expected"),
        [
            ("guest-ping", None, True),
            ("guest-suspend-ram", None, False),
            ("guest-suspend-ram", True, True),
            ("guest-from-the-future", False, False),
            ("guest-from-the-future", None, True),
        ],
    )
    def test_whether_a_reply_is_expected_is_the_agents_word_before_the_catalogues(
        self, guest: SimulatedGuest, agent: BlockingAgent, name: str, listed: bool | None, expected: bool
    ) -> None:
        guest.commands[name] = {"name": name, "enabled": True}
        if listed is not None:
            guest.commands[name]["success-response"] = listed
        guest.handlers[name] = lambda _arguments: Returned({})
        if listed is not None:
            str(agent.info)
        agent.call(name)
        assert guest.expected_replies[-1] is expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("refused", "kind"),
        [
            (failed("hwclock failed"), CommandFailedError),
            (not_found("guest-get-time"), CommandNotFoundError),
            (disabled("guest-get-time"), CommandDisabledError),
            (Refused("CommandNotFound", "The command X has been disabled for this instance"), CommandDisabledError),
            (Refused("SomethingElse", "whatever"), CommandFailedError),
            (Refused("GenericError", "The command X has been disabled for this instance"), CommandDisabledError),
            (Refused("CommandDisabled", "The command X has been disabled for this instance"), CommandDisabledError),
            (Refused("GenericError", "The command guest-get-time has not been found"), CommandNotFoundError),
            (Refused("GenericError", "Command not allowed while filesystem is frozen"), FrozenError),
            (Refused("CommandNotFound", "Command X has been disabled: the agent is in frozen state"), FrozenError),
            (failed("this feature or command is not currently supported"), NotSupportedError),
            (Refused("Unsupported", "nope"), NotSupportedError),
        ],
    )
    def test_what_they_mean(
        self, guest: SimulatedGuest, agent: BlockingAgent, refused: Refused, kind: type[QgaError]
    ) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: refused
        with pytest.raises(CommandError, match="guest-get-time") as caught:
            agent.call("guest-get-time")
        assert caught.value.__class__ is kind
        assert caught.value.command == "guest-get-time"

    @pytest.mark.parametrize(
        ("command", "hint"), [("guest-set-time", "apt install util-linux-extra"), ("guest-get-time", "system lacks")]
    )
    def test_what_a_guest_does_not_support_says_what_to_do(
        self, guest: SimulatedGuest, agent: BlockingAgent, command: str, hint: str
    ) -> None:
        guest.handlers[command] = lambda _arguments: failed("this feature or command is not currently supported")
        with pytest.raises(NotSupportedError, match=f"refused {command}: this feature") as caught:
            agent.call(command)
        assert hint in caught.value.hint

    @pytest.mark.parametrize("kind", ["GenericError", "CommandDisabled", "CommandNotFound"])
    def test_a_frozen_guest_is_asked_whether_it_is_whatever_the_class(
        self, guest: SimulatedGuest, agent: BlockingAgent, kind: str
    ) -> None:
        words = "The command guest-get-time has been disabled for this instance"
        guest.handlers["guest-get-time"] = lambda _arguments: Refused(kind, words)
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Returned("frozen")
        with pytest.raises(FrozenError, match="file systems are frozen") as caught:
            agent.call("guest-get-time")
        assert "thaw" in caught.value.hint.lower()

    def test_the_agents_words_are_kept(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: failed("the reason")
        with pytest.raises(CommandFailedError, match="refused guest-get-time: the reason"):
            agent.call("guest-get-time")

    @pytest.mark.parametrize("status", [Returned("thawed"), Returned(None), failed("no"), disabled("x")])
    def test_whoever_does_not_say_that_it_is_frozen_is_not(
        self, guest: SimulatedGuest, agent: BlockingAgent, status: Reply
    ) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: disabled("guest-get-time")
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: status
        with pytest.raises(CommandDisabledError):
            agent.call("guest-get-time")

    def test_what_a_frozen_guest_allows_is_the_administrators_when_refused(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        guest.handlers["guest-info"] = lambda _arguments: disabled("guest-info")
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Returned("frozen")
        with pytest.raises(CommandDisabledError):
            agent.call("guest-info")
        assert guest.asked("guest-fsfreeze-status") == []

    def test_a_refused_status_is_asked_for_once(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: disabled("guest-fsfreeze-status")
        with pytest.raises(CommandDisabledError):
            agent.call("guest-fsfreeze-status")
        assert len(guest.asked("guest-fsfreeze-status")) == 1
