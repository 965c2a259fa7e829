# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import CommandState, GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandError,
    CommandFailedError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    HypervisorUnavailableError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    NotSupportedError,
    PermissionDeniedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline, run
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned

from tests.support.blocking import BlockingAgent
from tests.support.simulated_guest import (
    EXTENDED_COMMANDS,
    SECOND,
    STOCK_COMMANDS,
    SimulatedGuest,
    TimeLine,
    disabled,
    failed,
    not_found,
)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> TimeLine:
    line = TimeLine()
    line.install(monkeypatch)
    return line


@pytest.fixture
def guest(line: TimeLine) -> SimulatedGuest:
    return SimulatedGuest(line)


@pytest.fixture
def agent(guest: SimulatedGuest) -> BlockingAgent:
    return BlockingAgent(guest, 5.0)


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

    def test_a_command_that_is_not_said_to_be_enabled_is_not(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        informed(guest, {"version": "9", "supported_commands": [{"name": "guest-ping"}]})
        assert not agent.info.enabled("guest-ping")

    def test_null_is_absent(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        listed = [
            None,
            {"name": "guest-ping", "enabled": True, "success-response": None, "since": None},
            {"name": "guest-shutdown", "enabled": True, "success-response": None},
            {"name": "guest-exec", "enabled": None},
        ]
        informed(guest, {"version": "1.0-go", "supported_commands": listed})
        assert agent.info.commands == {
            "guest-ping": CommandState(True, True),
            "guest-shutdown": CommandState(True, False),
            "guest-exec": CommandState(False, True),
        }

    def test_a_list_that_is_null_is_an_empty_one(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        informed(guest, {"version": "1.0-go", "supported_commands": None})
        assert agent.info.commands == {}

    def test_no_list_is_an_empty_one(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        informed(guest, {"version": "0.14"})
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
        with pytest.raises(FrozenError):
            agent.call("guest-get-time")

    def test_the_agents_words_are_kept(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: failed("the reason")
        with pytest.raises(CommandFailedError, match="refused guest-get-time: the reason"):
            agent.call("guest-get-time")

    def test_a_frozen_guest_is_told_from_an_administrators_block(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: disabled("guest-get-time")
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Returned("frozen")
        with pytest.raises(FrozenError, match="file systems are frozen") as caught:
            agent.call("guest-get-time")
        assert "thaw" in caught.value.hint.lower()

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


class TestAFrozenGuest:
    """``frozen_patience`` is for those whose work must not fail because a backup is made."""

    def frozen_until(self, guest: SimulatedGuest, seconds: float) -> None:
        thawed_ns = guest.line.now_ns + round(seconds * SECOND)

        def is_frozen() -> bool:
            return guest.line.now_ns < thawed_ns

        guest.handlers["guest-get-time"] = lambda _arguments: (
            Refused("GenericError", "The command guest-get-time has been disabled for this instance")
            if is_frozen()
            else Returned(1)
        )
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Returned("frozen" if is_frozen() else "thawed")

    def test_is_waited_for_and_what_it_refused_is_asked_again(self, line: TimeLine, guest: SimulatedGuest) -> None:
        self.frozen_until(guest, 4.0)
        assert BlockingAgent(guest, 5.0, frozen_patience=20.0).call("guest-get-time") == 1
        assert sum(line.slept) >= 3.5
        assert set(line.slept) == {0.5}

    def test_can_be_thawed_by_another_client_meanwhile(self, line: TimeLine, guest: SimulatedGuest) -> None:
        self.frozen_until(guest, 1.2)
        BlockingAgent(guest, 5.0, frozen_patience=20.0).call("guest-get-time")
        assert guest.let_gos == len(line.slept) == 3

    def test_is_not_waited_for_longer_than_that(self, line: TimeLine, guest: SimulatedGuest) -> None:
        self.frozen_until(guest, 1000.0)
        with pytest.raises(FrozenError):
            BlockingAgent(guest, 5.0, frozen_patience=3.0).call("guest-get-time")
        assert 2.5 <= sum(line.slept) <= 3.0

    def test_may_be_thawed_before_it_can_be_asked_whether_it_is(self, line: TimeLine, guest: SimulatedGuest) -> None:
        refusals = [Refused("GenericError", "The command guest-get-time has been disabled for this instance")]
        guest.handlers["guest-get-time"] = lambda _arguments: refusals.pop() if refusals else Returned(1)
        assert BlockingAgent(guest, 5.0, frozen_patience=20.0).call("guest-get-time") == 1
        assert line.slept == []

    @pytest.mark.parametrize(
        "words", ["Command X has been disabled: the agent is in frozen state", "Command X has been disabled"]
    )
    def test_who_says_so_when_asked_whether_it_is_outlives_no_deadline(
        self, line: TimeLine, guest: SimulatedGuest, words: str
    ) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: disabled("guest-get-time")
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Refused("GenericError", words)
        with pytest.raises(CommandDisabledError):
            run(GuestAgent(guest, 5.0, frozen_patience=60.0).call("guest-get-time", deadline=Deadline(5.0)))
        assert line.slept == []

    def test_is_told_at_once_to_all_others(self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        self.frozen_until(guest, 1.0)
        with pytest.raises(FrozenError):
            agent.call("guest-get-time")
        assert line.slept == []
        assert guest.let_gos == 0

    def test_is_not_one_that_has_a_command_disabled(self, line: TimeLine, guest: SimulatedGuest) -> None:
        guest.handlers["guest-get-time"] = lambda _arguments: disabled("guest-get-time")
        with pytest.raises(CommandDisabledError):
            BlockingAgent(guest, 5.0, frozen_patience=20.0).call("guest-get-time")
        assert line.slept == []
        assert len(guest.asked("guest-get-time")) == 2


def answers(guest: SimulatedGuest, *troubles: QgaError | Reply) -> None:
    """To a sign of life, each of these in turn, and the last of them for good."""
    left = list(troubles)

    def answer(_arguments: Any) -> Reply:
        trouble = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(trouble, QgaError):
            raise trouble
        return trouble

    guest.handlers["guest-ping"] = guest.handlers["guest-info"] = answer


class TestWaiting:
    def test_an_agent_that_is_there_is_not_waited_for(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        agent.wait(60.0)
        assert line.slept == []
        assert guest.requests == [("guest-info", {})]

    def test_what_it_can_do_is_known_then_and_a_ping_is_enough_the_next_time(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        agent.wait(60.0)
        assert agent.knows("guest-get-time")
        agent.wait(60.0)
        assert guest.requests == [("guest-info", {}), ("guest-ping", {})]

    def test_a_list_that_is_none_is_a_sign_of_life_and_the_trouble_of_whoever_needs_it(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        answers(guest, Returned({"version": 7}))
        agent.wait(60.0)
        with pytest.raises(RemoteProtocolError, match="without a version"):
            agent.knows("guest-get-time")

    @pytest.mark.parametrize("trouble", [NotConnectedError, UnresponsiveError, ExchangeTimeoutError])
    def test_what_passes_by_itself_is_waited_for(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent, trouble: type[QgaError]
    ) -> None:
        answers(guest, trouble("not yet"), trouble("not yet"), Returned({}))
        agent.wait(60.0)
        assert line.slept == [0.2, 0.2]

    @pytest.mark.parametrize(
        "trouble",
        [
            NotConfiguredError,
            NotFoundError,
            NotRunningError,
            PermissionDeniedError,
            HypervisorUnavailableError,
            RemoteProtocolError,
        ],
    )
    def test_anything_else_fails_at_once(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent, trouble: type[QgaError]
    ) -> None:
        answers(guest, trouble("for good"))
        with pytest.raises(trouble):
            agent.wait(60.0)
        assert line.slept == []

    def test_a_hypervisor_that_is_restarted_is_waited_for_where_it_was_there_before(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        agent.call("guest-get-time")
        answers(guest, HypervisorUnavailableError("restarted"), NotConnectedError("not yet"), Returned({}))
        agent.wait(60.0)
        assert line.slept == [0.2, 0.2]

    def test_but_no_longer_than_for_anything_else(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        agent.call("guest-get-time")
        answers(guest, HypervisorUnavailableError("stopped for good"))
        began_ns = line.now_ns
        with pytest.raises(HypervisorUnavailableError, match="for good"):
            agent.wait(3.0)
        assert 2.75 <= (line.now_ns - began_ns) / SECOND <= 3.01

    def test_a_refusal_is_an_answer(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        answers(guest, disabled("guest-info"))
        agent.wait(60.0)

    def test_that_of_a_ping_too(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        agent.wait(60.0)
        answers(guest, disabled("guest-ping"))
        agent.wait(60.0)
        assert guest.asked("guest-ping") == [{}]

    @pytest.mark.parametrize("wait_timeout", [0.5, 3.0, 60.0])
    def test_it_ends_in_time_with_the_last_reason(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent, wait_timeout: float
    ) -> None:
        answers(guest, UnresponsiveError("first"), NotConnectedError("last"))
        began_ns = line.now_ns
        with pytest.raises(NotConnectedError, match="last"):
            agent.wait(wait_timeout)
        taken = (line.now_ns - began_ns) / SECOND
        assert wait_timeout - 0.25 <= taken <= wait_timeout + 0.01

    def test_no_question_may_take_longer_than_is_left_but_each_gets_a_second(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        answers(guest, NotConnectedError("not yet"))
        with pytest.raises(NotConnectedError):
            agent.wait(8.0)
        assert guest.timeouts[0] == 5.0
        assert guest.timeouts[-1] == 1.0
        assert all(1.0 <= limit <= 5.0 for limit in guest.timeouts)
