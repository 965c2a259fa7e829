"""What an agent is waited for: to be there, and to be thawed."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    ExchangeTimeoutError,
    FrozenError,
    HypervisorUnavailableError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    PermissionDeniedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline, run
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned

from tests.fakes.guest import SECOND, SimulatedGuest, TimeLine, disabled
from tests.support.blocking import BlockingAgent


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
