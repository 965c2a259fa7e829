"""Working through guests: none holds up or hides the others."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    DeadlineError,
    HypervisorUnavailableError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline, pause
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import results
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.opt_out import NAMESPACE
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import Guest, RunOptions, run_all
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.suspects import Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned

FOREVER = 60.0  # s; no test waits for it


OPTIONS = RunOptions(timeout=5.0)


OPTED_OUT = f'<resync xmlns="{NAMESPACE}" enabled="no"/>'


class FakeChannel(Channel):
    """Each call takes the next of ``troubles``: it raises that, or answers if it is None. It answers when all is said.

    Opening it is the same with ``open_troubles``.
    """

    def __init__(
        self,
        troubles: Iterable[Exception | None] = (),
        open_troubles: Iterable[Exception] = (),
        mark: str | None = None,
    ) -> None:
        self._troubles = iter(troubles)
        self._open_troubles = iter(open_troubles)
        self._mark = mark
        self.opened = 0
        self.closed = 0
        self.asked: list[tuple[str, float]] = []
        self.asked_metadata: list[tuple[str, float]] = []

    def open(self) -> Channel:
        self.opened += 1
        trouble = next(self._open_troubles, None)
        if trouble is not None:
            raise trouble
        return self

    async def call(self, request: Request, timeout: float) -> Exchange:
        self.asked.append((request.execute, timeout))
        trouble = next(self._troubles, None)
        if trouble is not None:
            raise trouble
        return Exchange(Returned({}), 0, 1)

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        self.asked_metadata.append((namespace, timeout))
        return self._mark

    async def close(self) -> None:
        self.closed += 1

    def guest(self, name: str = "web1", **more: Any) -> Guest:
        return Guest(name, self.open, **more)


def channel_of(agent: GuestAgent) -> FakeChannel:
    """The one that was opened, below the runner's."""
    channel: FakeChannel = agent._channel._channel  # type: ignore[attr-defined]
    return channel


def some_guests(number: int) -> list[Guest]:
    return [FakeChannel().guest(f"web{which}") for which in range(1, number + 1)]


async def ask(agent: GuestAgent) -> GuestResult:
    await agent.call("guest-get-time")
    return GuestResult({"figure": 1})


QUICK = Timings(restart=0.05, retry=0.01, suspect_retry=0.001, turn=0.001)


def run(
    guests: Sequence[Guest],
    work: results.Work = ask,
    options: RunOptions = OPTIONS,
    concurrency: int = 20,
    deadline: float = math.inf,
    timings: Timings = QUICK,
) -> tuple[GuestResult, ...]:
    return run_all(guests, work, options, concurrency, Deadline(deadline), timings)


def run_one(guest: Guest, work: results.Work = ask, options: RunOptions = OPTIONS) -> GuestResult:
    (only,) = run([guest], work, options)
    return only


def code(each: GuestResult) -> str | None:
    """Of the error or of the reason, whichever it has."""
    found = [each.entry[member] for member in ("error", "reason") if member in each.entry]
    assert len(found) <= 1
    return found[0]["code"] if found else None


def never_opened() -> Channel:
    raise AssertionError("this guest is not to be touched")


class TestOneGuest:
    def test_it_failed(self) -> None:
        error = UnresponsiveError("it keeps silent")
        channel = FakeChannel(troubles=[error])
        each = run_one(channel.guest())
        assert each.status == "failed"
        assert each.error is error
        assert each.as_dict() == {"name": "web1", "status": "failed", "error": error.as_dict()}
        assert channel.closed == 1

    def test_a_problem_that_is_known_is_its_failure_and_it_is_not_touched(self) -> None:
        problem = NotRunningError("it is shut off")
        each = run_one(Guest("web1", never_opened, problem=problem))
        assert (each.status, each.error) == ("failed", problem)

    def test_the_time_limit_is_each_exchanges(self) -> None:
        channel = FakeChannel()
        run_one(channel.guest(), options=RunOptions(1.5))
        assert channel.asked == [("guest-get-time", 1.5)]

    def test_an_agent_that_boots_is_waited_for_if_that_is_wanted(self) -> None:
        troubles = [NotConnectedError("booting"), UnresponsiveError("starting"), None]
        channel = FakeChannel(troubles)
        each = run_one(channel.guest(), options=RunOptions(5.0, wait_timeout=FOREVER))
        assert each.status == "done"
        assert [command for command, _timeout in channel.asked] == ["guest-info"] * 3 + ["guest-get-time"]
        assert run_one(FakeChannel(troubles).guest()).status == "failed"


class TestSkipping:
    def test_an_error_after_the_work_began_is_a_failure(self) -> None:
        async def lose(_agent: GuestAgent) -> GuestResult:
            error = NotConnectedError("it went away meanwhile")
            return GuestResult({"error": error.as_dict()}, error=error)

        each = run_one(FakeChannel().guest(is_optional=True), lose)
        assert (each.status, code(each)) == ("failed", "not_connected")

    @pytest.mark.parametrize(("is_optional", "status"), [(True, "skipped"), (False, "failed")])
    def test_a_problem_that_is_known_counts_the_same(self, is_optional: bool, status: str) -> None:
        guest = Guest("web1", never_opened, is_optional=is_optional, problem=NotRunningError("it is shut off"))
        each = run_one(guest)
        assert (each.status, code(each)) == (status, "not_running")

    def test_an_agent_that_does_not_come_in_time_is_skipped_after_the_wait(self) -> None:
        channel = FakeChannel(troubles=[NotConnectedError("none runs")] * 100)
        each = run_one(channel.guest(is_optional=True), options=RunOptions(5.0, wait_timeout=0.3))
        assert (each.status, code(each)) == ("skipped", "not_connected")
        assert len(channel.asked) > 1


class TestTheMark:
    def test_it_is_asked_for_only_by_what_touches_the_clock(self) -> None:
        reading, setting = FakeChannel(), FakeChannel()
        run_one(reading.guest())
        run_one(setting.guest(), options=RunOptions(1.5, touches_clock=True))
        assert reading.asked_metadata == []
        assert setting.asked_metadata == [(NAMESPACE, 1.5)]

    @pytest.mark.parametrize(("is_optional", "status"), [(True, "skipped"), (False, "failed")])
    def test_who_must_not_be_touched_is_not_even_asked(self, is_optional: bool, status: str) -> None:
        channel = FakeChannel(mark=OPTED_OUT)
        options = RunOptions(5.0, wait_timeout=FOREVER, touches_clock=True)
        each = run_one(channel.guest(is_optional=is_optional), options=options)
        assert (each.status, code(each)) == (status, "opted_out")
        assert channel.asked == []
        assert channel.closed == 1

    def test_it_does_not_forbid_reading(self) -> None:
        assert run_one(FakeChannel(mark=OPTED_OUT).guest()).status == "done"


class TestDefects:
    def test_one_that_is_met_with_one_guest_is_that_guests_alone(self) -> None:
        first, second, third = (
            FakeChannel(),
            FakeChannel(troubles=[ZeroDivisionError("division by zero")]),
            FakeChannel(),
        )
        found = run([first.guest("web1"), second.guest("web2"), third.guest("web3")])
        assert [each.status for each in found] == ["done", "failed", "done"]
        assert found[1].error is not None
        assert found[1].error.as_dict() == {
            "code": "internal_error",
            "message": "a defect of this collection: ZeroDivisionError: division by zero",
            "hint": "Please report it, with what the task was and the version of the agent.",
        }
        assert [channel.closed for channel in (first, second, third)] == [1, 1, 1]

    @pytest.mark.parametrize(
        "channel",
        [FakeChannel(open_troubles=[KeyError("x")]), FakeChannel(mark="<not xml")],
        ids=["opening", "metadata"],
    )
    def test_wherever_it_is_met(self, channel: FakeChannel) -> None:
        options = RunOptions(5.0, touches_clock=True)
        found = run([channel.guest(is_optional=True), *some_guests(1)], options=options)
        assert [code(each) for each in found] == ["internal_error", None]
        assert found[0].status == "failed"

    def test_an_interruption_is_none(self) -> None:
        channel = FakeChannel()

        async def interrupted(_agent: GuestAgent) -> GuestResult:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_one(channel.guest(), interrupted)
        assert channel.closed == 1


class TestAHypervisorThatIsGone:
    gone = HypervisorUnavailableError("cannot connect")

    def test_it_may_come_back(self) -> None:
        channel = FakeChannel(open_troubles=[self.gone] * 3)
        assert run_one(channel.guest()).status == "done"
        assert (channel.opened, channel.closed) == (4, 1)

    def test_what_was_begun_is_begun_anew(self) -> None:
        channel = FakeChannel(troubles=[None, self.gone])

        async def ask_thrice(agent: GuestAgent) -> GuestResult:
            for command in ("guest-get-users", "guest-get-time", "guest-get-fsinfo"):
                await agent.call(command)
            return GuestResult({})

        assert run_one(channel.guest(), ask_thrice).status == "done"
        assert [command for command, _timeout in channel.asked] == [
            "guest-get-users",
            "guest-get-time",
            "guest-info",
            "guest-get-users",
            "guest-get-time",
            "guest-get-fsinfo",
        ]
        assert (channel.opened, channel.closed) == (2, 2)

    def test_it_has_its_time_and_then_the_guest_fails(self) -> None:
        channel = FakeChannel(open_troubles=[self.gone] * 1000)
        began = time.monotonic()
        each = run_one(channel.guest(is_optional=True))
        assert time.monotonic() - began >= QUICK.restart
        assert (each.status, code(each)) == ("failed", "hypervisor_unavailable")
        assert channel.opened > 2

    def test_another_error_meanwhile_is_the_guests(self) -> None:
        channel = FakeChannel(open_troubles=[self.gone, NotFoundError("it was undefined")])
        each = run_one(channel.guest(is_optional=True))
        assert (each.status, code(each)) == ("skipped", "not_found")

    def test_agents_have_to_be_found_again_so_later_guests_are_waited_for(self) -> None:
        unlucky = FakeChannel(open_troubles=[self.gone])
        later = FakeChannel(troubles=[NotConnectedError("not found yet")] * 3)
        guests = [unlucky.guest("web1"), later.guest("web2", is_optional=True)]
        found = run(guests, concurrency=1, timings=QUICK._replace(restart=10.0))
        assert [each.status for each in found] == ["done", "done"]
        assert [command for command, _timeout in unlucky.asked] == ["guest-info", "guest-get-time"]
        assert [command for command, _timeout in later.asked] == ["guest-info"] * 4 + ["guest-get-time"]

    def test_a_longer_wait_stays_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []

        async def wait(_agent: GuestAgent, seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr(GuestAgent, "wait", wait)
        guests = [FakeChannel(open_troubles=[self.gone]).guest(), *some_guests(1)]
        run(guests, options=RunOptions(5.0, wait_timeout=20.0), concurrency=1)
        assert waits == [20.0, 20.0]
        waits.clear()
        run([FakeChannel(open_troubles=[self.gone]).guest(), *some_guests(1)], concurrency=1)
        assert waits == [0.05, 0.05]


async def linger(_agent: GuestAgent) -> GuestResult:
    await pause(FOREVER)
    return GuestResult({})


class TestTheDeadline:
    @pytest.mark.slow
    def test_what_is_done_by_then_stands(self) -> None:
        slow = FakeChannel()

        async def ask_or_linger(agent: GuestAgent) -> GuestResult:
            return await (linger if channel_of(agent) is slow else ask)(agent)

        found = run([slow.guest(), *some_guests(2)], ask_or_linger, deadline=1.0)
        assert [each.status for each in found] == ["failed", "done", "done"]

    def test_a_guest_that_was_begun(self) -> None:
        channel = FakeChannel()
        (each,) = run([channel.guest(is_optional=True)], linger, deadline=0.05)
        assert each.status == "failed"
        assert each.error is not None
        assert each.error.as_dict() == {
            "code": "deadline",
            "message": "the deadline of 0.05 s passed before it was done",
            "hint": DeadlineError.default_hint,
        }
        assert channel.closed == 1

    def test_a_guest_that_was_not_begun(self) -> None:
        begun, other = FakeChannel(), FakeChannel()
        found = run([begun.guest(), other.guest(is_optional=True)], linger, concurrency=1, deadline=0.05)
        assert [each.error and each.error.message for each in found] == [
            "the deadline of 0.05 s passed before it was done",
            "the deadline of 0.05 s passed before it was begun",
        ]
        assert code(found[1]) == "deadline"
        assert other.opened == 0

    def test_a_guest_that_does_not_let_go(self) -> None:
        channel = FakeChannel()

        async def stubborn(agent: GuestAgent) -> GuestResult:
            try:
                return await linger(agent)
            except DeadlineError:
                return await linger(agent)

        (each,) = run([channel.guest()], stubborn, deadline=0.05)
        assert each.error is not None
        assert each.error.message == "the deadline of 0.05 s passed before it came to an end"
        assert (each.status, code(each), channel.closed) == ("failed", "deadline", 1)

    def test_a_guest_whose_hypervisor_is_waited_for(self) -> None:
        guests = [FakeChannel(open_troubles=[TestAHypervisorThatIsGone.gone]).guest(), *some_guests(2)]
        found = run(guests, deadline=0.05, timings=Timings(retry=FOREVER))
        assert [code(each) for each in found] == ["deadline", None, None]

    def test_a_problem_that_is_known_is_told_rather(self) -> None:
        off = Guest("db1", never_opened, is_optional=True, problem=NotRunningError("it is shut off"))
        found = run([*some_guests(1), off], linger, concurrency=1, deadline=0.05)
        assert [(each.status, code(each)) for each in found] == [("failed", "deadline"), ("skipped", "not_running")]

    def test_one_that_has_passed_before_there_was_a_guest(self) -> None:
        found = run([Guest("web1", never_opened), Guest("web2", never_opened)], deadline=0.0)
        assert [code(each) for each in found] == ["deadline", "deadline"]


class TestAll:
    def test_none(self) -> None:
        assert run([]) == ()

    def test_they_come_in_their_order_in_whichever_order_they_end(self) -> None:
        pauses = {FakeChannel(): 0.06, FakeChannel(): 0.0, FakeChannel(): 0.03}
        order: list[float] = []

        async def take_some_time(agent: GuestAgent) -> GuestResult:
            seconds = pauses[channel_of(agent)]
            await pause(seconds)
            order.append(seconds)
            return GuestResult({"paused": seconds})

        found = run([channel.guest(f"web{seconds}") for channel, seconds in pauses.items()], take_some_time)
        assert order == [0.0, 0.03, 0.06]
        assert [(each.name, each.entry["paused"]) for each in found] == [
            ("web0.06", 0.06),
            ("web0.0", 0.0),
            ("web0.03", 0.03),
        ]

    def test_two_of_one_name_are_two(self) -> None:
        first, second = FakeChannel(), FakeChannel(troubles=[UnresponsiveError("silent")])
        assert [each.status for each in run([first.guest(), second.guest()])] == ["done", "failed"]

    def test_no_more_are_worked_on_than_that(self) -> None:
        now: list[int] = []
        most: list[int] = []

        async def work(agent: GuestAgent) -> GuestResult:
            now.append(1)
            most.append(len(now))
            await pause(0.002)
            now.pop()
            return await ask(agent)

        assert len(run(some_guests(12), work, concurrency=3)) == 12
        assert max(most) == 3
