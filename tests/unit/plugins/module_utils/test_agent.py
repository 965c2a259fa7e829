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

# As libvirt reports it, without the class.
MAYBE_FROZEN = Refused("GenericError", "The command guest-get-time has been disabled for this instance")


def answers(guest: SimulatedGuest, command: str, *replies: QgaError | Reply) -> None:
    """Answer the command with each of these in turn, and with the last one from then on."""
    left = list(replies)

    def answer(_arguments: Any) -> Reply:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, QgaError):
            raise reply
        return reply

    guest.handlers[command] = answer


def test_there_are_no_macs_if_the_host_does_not_know_any(agent: BlockingAgent) -> None:
    assert agent.macs() == ()


class TestInfo:
    def test_it_is_asked_for_once(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        for _time in range(3):
            assert agent.info.version == "10.0.13"
        assert guest.requests == [("guest-info", {})]

    # Agents before 1.7 do not list whether a command answers. A null counts as absent.
    @pytest.mark.parametrize(
        ("listed", "commands"),
        [
            (
                [
                    None,
                    {"name": "guest-ping", "enabled": True, "success-response": None, "since": None},
                    {"name": "guest-exec", "enabled": False, "success-response": True},
                    {"name": "guest-shutdown", "enabled": True},
                    {"name": "guest-suspend-ram", "enabled": None},
                    {"name": "guest-get-time"},
                    {"name": "guest-from-the-future", "enabled": True, "success-response": False, "more": [1]},
                ],
                {
                    "guest-ping": CommandState(True, True),
                    "guest-exec": CommandState(False, True),
                    "guest-shutdown": CommandState(True, False),
                    "guest-suspend-ram": CommandState(False, False),
                    "guest-get-time": CommandState(False, True),
                    "guest-from-the-future": CommandState(True, False),
                },
            ),
            (None, {}),
        ],
    )
    def test_it_has_the_state_of_each_command(
        self, guest: SimulatedGuest, agent: BlockingAgent, listed: Any, commands: dict[str, CommandState]
    ) -> None:
        answers(guest, "guest-info", Returned({"version": "1.0-go", "supported_commands": listed}))
        assert agent.info.commands == commands

    @pytest.mark.parametrize(
        "value",
        [
            *(None, [], "10.0", {}, {"version": 10}),
            *(
                {"version": "9", "supported_commands": listed}
                for listed in ({}, 1, ["guest-ping"], [{}], [{"name": 7}])
            ),
            *(
                {"version": "9", "supported_commands": [{"name": "guest-ping", member: value}]}
                for member in ("enabled", "success-response")
                for value in ("true", 1, 1.0, [], {})
            ),
        ],
    )
    def test_another_shape_is_a_protocol_error(
        self, guest: SimulatedGuest, agent: BlockingAgent, value: object
    ) -> None:
        answers(guest, "guest-info", Returned(value))
        with pytest.raises(RemoteProtocolError, match="guest-info"):
            str(agent.info)

    @pytest.mark.parametrize(
        ("commands", "is_extended"),
        [
            (STOCK_COMMANDS, False),
            ((*STOCK_COMMANDS, "guest-get-clock"), False),
            ((*STOCK_COMMANDS, "guest-update-time"), False),
            (EXTENDED_COMMANDS, True),
        ],
    )
    def test_only_the_extended_agent_has_both_of_its_commands(
        self, line: TimeLine, commands: tuple[str, ...], is_extended: bool
    ) -> None:
        assert BlockingAgent(SimulatedGuest(line, commands=commands), 5.0).info.is_extended is is_extended


class TestKnowing:
    def test_missing_and_disabled_commands_are_not_known_and_requiring_them_is_an_error(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        guest.commands["guest-set-time"]["enabled"] = False
        names = ("guest-get-time", "guest-set-time", "guest-get-load", "guest-update-time")
        assert [agent.knows(name) for name in names] == [True, False, False, False]
        agent.require("guest-get-time")
        with pytest.raises(CommandDisabledError, match="administrator has disabled guest-set-time"):
            agent.require("guest-set-time")
        answers(guest, "guest-fsfreeze-status", Returned("frozen"))
        with pytest.raises(FrozenError):
            agent.require("guest-set-time")
        for name, hint in (("guest-get-load", "too old"), ("guest-update-time", "extended_agent")):
            with pytest.raises(CommandNotFoundError, match=name) as caught:
                agent.require(name)
            assert hint in caught.value.hint
            assert caught.value.command == name
        assert {name for name, _arguments in guest.requests} == {"guest-info", "guest-fsfreeze-status"}

    def test_an_agent_that_hides_its_list_is_taken_for_a_stock_agent(
        self, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        answers(guest, "guest-info", disabled("guest-info"))
        names = ("guest-get-time", "guest-update-time", "guest-nonsense")
        assert [agent.knows(name) for name in names] == [True, False, False]
        with pytest.raises(CommandError):
            agent.require("guest-update-time")
        guest.handlers["guest-info"] = guest.times_out()
        with pytest.raises(ExchangeTimeoutError):
            agent.knows("guest-get-time")


class TestCalling:
    def test_the_channel_gets_the_arguments_and_the_timeout(self, guest: SimulatedGuest, agent: BlockingAgent) -> None:
        agent.call("guest-ping")
        agent.call("guest-set-time", {"time": SECOND}, timeout=10.0)
        exchange = agent.exchange("guest-set-time", lambda now_ns: {"time": now_ns})
        assert exchange.value == {}
        assert guest.requests == [
            ("guest-ping", {}),
            ("guest-set-time", {"time": SECOND}),
            ("guest-set-time", {"time": exchange.sent_ns}),
        ]
        assert guest.timeouts == [5.0, 10.0, 5.0]

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
    def test_the_agents_list_overrides_the_catalog_on_whether_a_command_answers(
        self, guest: SimulatedGuest, agent: BlockingAgent, name: str, listed: bool | None, expected: bool
    ) -> None:
        guest.commands[name] = {"name": name, "enabled": True}
        if listed is not None:
            guest.commands[name]["success-response"] = listed
            str(agent.info)
        answers(guest, name, Returned({}))
        agent.call(name)
        assert guest.expected_replies[-1] is expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("refused", "kind", "says"),
        [
            (failed("hwclock failed"), CommandFailedError, "the agent refused guest-set-time: hwclock failed"),
            (failed("\x1b[2J{{ x }}"), CommandFailedError, r"the agent refused guest-set-time: \x1b[2J\x7b{ x }}"),
            (not_found("guest-set-time"), CommandNotFoundError, "the agent has no command guest-set-time"),
            (disabled("X"), CommandDisabledError, "the guest's administrator has disabled guest-set-time"),
            (MAYBE_FROZEN, CommandDisabledError, "the guest's administrator has disabled guest-set-time"),
            (
                Refused("CommandNotFound", "Command X has been disabled: the agent is in frozen state"),
                FrozenError,
                "the agent refused guest-set-time: the guest's file systems are frozen",
            ),
            (
                failed("this feature or command is not currently supported"),
                NotSupportedError,
                "the agent refused guest-set-time: this feature or command is not currently supported",
            ),
        ],
    )
    def test_each_meaning_has_its_error(
        self, guest: SimulatedGuest, agent: BlockingAgent, refused: Refused, kind: type[CommandError], says: str
    ) -> None:
        answers(guest, "guest-set-time", refused)
        with pytest.raises(kind) as caught:
            agent.call("guest-set-time")
        assert caught.value.__class__ is kind
        assert (caught.value.message, caught.value.command) == (says, "guest-set-time")
        assert ("apt install util-linux-extra" in caught.value.hint) is (kind is NotSupportedError)

    @pytest.mark.parametrize("kind", ["GenericError", "CommandDisabled", "CommandNotFound"])
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (Returned("frozen"), FrozenError),
            *((status, CommandDisabledError) for status in (Returned("thawed"), Returned(None), failed("no"))),
            (disabled("x"), CommandDisabledError),
        ],
    )
    def test_after_a_disabled_command_the_guest_is_asked_whether_it_is_frozen(
        self, guest: SimulatedGuest, agent: BlockingAgent, kind: str, status: Reply, error: type[CommandError]
    ) -> None:
        answers(guest, "guest-get-time", Refused(kind, MAYBE_FROZEN.description))
        answers(guest, "guest-fsfreeze-status", status)
        with pytest.raises(error) as caught:
            agent.call("guest-get-time")
        assert caught.value.hint == error.default_hint

    @pytest.mark.parametrize(("command", "times"), [("guest-info", 0), ("guest-fsfreeze-status", 1)])
    def test_after_a_disabled_command_that_a_frozen_guest_allows_it_is_not_asked(
        self, guest: SimulatedGuest, agent: BlockingAgent, command: str, times: int
    ) -> None:
        answers(guest, "guest-fsfreeze-status", Returned("frozen"))
        answers(guest, command, disabled(command))
        with pytest.raises(CommandDisabledError):
            agent.call(command)
        assert len(guest.asked("guest-fsfreeze-status")) == times


class TestPatienceWithAFrozenGuest:
    """For tasks that must not fail during a backup."""

    def frozen_until(self, guest: SimulatedGuest, seconds: float) -> None:
        thawed_ns = guest.line.now_ns + round(seconds * SECOND)

        def is_frozen() -> bool:
            return guest.line.now_ns < thawed_ns

        guest.handlers["guest-get-time"] = lambda _arguments: MAYBE_FROZEN if is_frozen() else Returned(1)
        guest.handlers["guest-fsfreeze-status"] = lambda _arguments: Returned("frozen" if is_frozen() else "thawed")

    def test_the_command_is_repeated_and_another_client_can_thaw_the_guest_meanwhile(
        self, line: TimeLine, guest: SimulatedGuest
    ) -> None:
        self.frozen_until(guest, 1.2)
        assert BlockingAgent(guest, 5.0, frozen_patience=20.0).call("guest-get-time") == 1
        assert line.slept == [0.5, 0.5, 0.5]
        assert guest.let_gos == 3

    @pytest.mark.parametrize(("patience", "waited"), [(3.0, (2.5, 3.0)), (0.0, (0.0, 0.0))])
    def test_the_wait_ends_after_the_patience(
        self, line: TimeLine, guest: SimulatedGuest, patience: float, waited: tuple[float, float]
    ) -> None:
        self.frozen_until(guest, 1000.0)
        with pytest.raises(FrozenError):
            BlockingAgent(guest, 5.0, frozen_patience=patience).call("guest-get-time")
        assert waited[0] <= sum(line.slept) <= waited[1]
        assert guest.let_gos == len(line.slept)

    def test_the_guest_may_be_thawed_before_it_is_asked_whether_it_is_frozen(
        self, line: TimeLine, guest: SimulatedGuest
    ) -> None:
        answers(guest, "guest-get-time", MAYBE_FROZEN, Returned(1))
        assert BlockingAgent(guest, 5.0, frozen_patience=20.0).call("guest-get-time") == 1
        assert line.slept == []

    @pytest.mark.parametrize(
        "status", ["Command X has been disabled: the agent is in frozen state", "Command X has been disabled", None]
    )
    def test_a_disabled_command_is_not_waited_for(
        self, line: TimeLine, guest: SimulatedGuest, status: str | None
    ) -> None:
        answers(guest, "guest-get-time", disabled("guest-get-time"))
        if status is not None:
            answers(guest, "guest-fsfreeze-status", Refused("GenericError", status))
        with pytest.raises(CommandDisabledError):
            run(GuestAgent(guest, 5.0, frozen_patience=60.0).call("guest-get-time", deadline=Deadline(5.0)))
        assert line.slept == []
        assert len(guest.asked("guest-get-time")) == 2


def first_answers(guest: SimulatedGuest, *replies: QgaError | Reply) -> None:
    answers(guest, "guest-ping", *replies)
    guest.handlers["guest-info"] = guest.handlers["guest-ping"]


class TestWaiting:
    def test_an_agent_that_answers_is_asked_for_its_list_first_and_later_for_a_ping(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent
    ) -> None:
        agent.wait(60.0)
        assert agent.knows("guest-get-time")
        agent.wait(60.0)
        assert guest.requests == [("guest-info", {}), ("guest-ping", {})]
        assert line.slept == []

    @pytest.mark.parametrize("reply", [Returned({"version": 7}), disabled("guest-info")], ids=["unreadable", "refusal"])
    def test_any_reply_ends_the_wait(self, guest: SimulatedGuest, agent: BlockingAgent, reply: Reply) -> None:
        answers(guest, "guest-ping", reply)
        agent.wait(60.0)
        agent.wait(60.0)
        answers(guest, "guest-info", reply)
        agent = BlockingAgent(guest, 5.0)
        agent.wait(60.0)
        with pytest.raises((RemoteProtocolError, CommandDisabledError), match=r"without a version|disabled guest-info"):
            str(agent.info)

    @pytest.mark.parametrize("has_answered", [False, True])
    @pytest.mark.parametrize(
        ("trouble", "passes"),
        [
            *((trouble, (True, True)) for trouble in (NotConnectedError, UnresponsiveError, ExchangeTimeoutError)),
            *((trouble, (False, False)) for trouble in (NotConfiguredError, NotFoundError, NotRunningError)),
            *((trouble, (False, False)) for trouble in (PermissionDeniedError, RemoteProtocolError)),
            (HypervisorUnavailableError, (False, True)),  # it may be a restart if the agent has answered before
        ],
    )
    def test_only_temporary_problems_are_waited_for(
        self,
        line: TimeLine,
        guest: SimulatedGuest,
        agent: BlockingAgent,
        trouble: type[QgaError],
        passes: tuple[bool, bool],
        has_answered: bool,
    ) -> None:
        if has_answered:
            agent.call("guest-get-time")
        first_answers(guest, trouble("not yet"), trouble("not yet"), Returned({}))
        if passes[has_answered]:
            agent.wait(60.0)
            assert line.slept == [0.2, 0.2]
        else:
            with pytest.raises(trouble):
                agent.wait(60.0)
            assert line.slept == []

    @pytest.mark.parametrize("last", [NotConnectedError, HypervisorUnavailableError])
    @pytest.mark.parametrize("wait_timeout", [0.5, 8.0, 60.0])
    def test_the_wait_ends_in_time_with_the_last_reason(
        self, line: TimeLine, guest: SimulatedGuest, agent: BlockingAgent, wait_timeout: float, last: type[QgaError]
    ) -> None:
        agent.call("guest-get-time")
        first_answers(guest, UnresponsiveError("first"), last("last"))
        began_ns = line.now_ns
        with pytest.raises(last, match="last"):
            agent.wait(wait_timeout)
        assert wait_timeout - 0.25 <= (line.now_ns - began_ns) / SECOND <= wait_timeout + 0.01
        # No exchange may take longer than the remaining time, but each gets a second.
        assert guest.timeouts[-1] == 1.0
        assert all(1.0 <= limit <= 5.0 for limit in guest.timeouts)
