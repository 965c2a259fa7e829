# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _agent as agent_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandFailedError,
    DeadlineError,
    HypervisorUnavailableError,
    NotConfiguredError,
    NotConnectedError,
    NotConvergedError,
    NotFoundError,
    NotRunningError,
    OptedOutError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import multiplexer
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline, pause
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import results, runner
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import fleet_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.opt_out import NAMESPACE
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import (
    Attended,
    Outcome,
    attend,
    count,
    ended,
    failed,
    verdict,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import Attendance, Guest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import Limits

from tests.support.fake_hypervisor import Definition, FakeHypervisor, threads_of_lines
from tests.support.fake_libvirt import PAUSED, SHUT_OFF

FOREVER = 60.0  # s; no test waits for it
ATTENDANCE = Attendance(timeout=5.0)
OPTED_OUT = f'<resync xmlns="{NAMESPACE}" enabled="no"/>'


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(agent_module, "_RETRY_SECONDS", 0.01)


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


async def ask(agent: GuestAgent) -> Outcome:
    await agent.call("guest-get-time")
    return Outcome({"figure": 1})


def attended(
    guests: Sequence[Guest],
    work: results.Work = ask,
    attendance: Attendance = ATTENDANCE,
    concurrency: int = 20,
    deadline: float = math.inf,
) -> tuple[Attended, ...]:
    return attend(guests, work, attendance, concurrency, Deadline(deadline))


def attended_alone(guest: Guest, work: results.Work = ask, attendance: Attendance = ATTENDANCE) -> Attended:
    (only,) = attended([guest], work, attendance)
    return only


def code(each: Attended) -> str | None:
    """Of the error or of the reason, whichever it has."""
    told = [each.outcome.entry[member] for member in ("error", "reason") if member in each.outcome.entry]
    assert len(told) <= 1
    return told[0]["code"] if told else None


def never_opened() -> Channel:
    raise AssertionError("this guest is not to be touched")


class TestWhatBecomesOfAGuest:
    def test_work_that_ended_well_has_the_status_that_it_gives_itself(self) -> None:
        async def correct(_agent: GuestAgent) -> Outcome:
            return Outcome({"figure": 2}, status="corrected", changed=True)

        each = attended_alone(FakeChannel().guest(), correct)
        assert each.status == "corrected"
        assert each.outcome.changed
        assert each.as_dict() == {"name": "web1", "status": "corrected", "figure": 2}

    def test_its_entry_has_its_uuid_and_its_warnings_if_there_are_any(self) -> None:
        guest = FakeChannel().guest(uuid="1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b")
        assert Attended(guest, "done", Outcome({"figure": 1}, warnings=("coarse", "ahead"))).as_dict() == {
            "name": "web1",
            "uuid": "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b",
            "status": "done",
            "figure": 1,
            "warnings": ["coarse", "ahead"],
        }

    def test_it_failed(self) -> None:
        error = UnresponsiveError("it keeps silent")
        channel = FakeChannel(troubles=[error])
        each = attended_alone(channel.guest())
        assert each.status == "failed"
        assert each.outcome.error is error
        assert each.as_dict() == {"name": "web1", "status": "failed", "error": error.as_dict()}
        assert channel.closed == 1

    def test_its_error_is_kept_without_what_the_code_worked_on(self) -> None:
        async def fail(agent: GuestAgent) -> Outcome:
            try:
                await agent.call("guest-get-time")
                raise ValueError("a long text")
            except ValueError as error:
                raise RemoteProtocolError("nonsense") from error

        async def report(agent: GuestAgent) -> Outcome:
            try:
                return await fail(agent)
            except RemoteProtocolError as error:
                return Outcome(error.as_dict(), error=error)

        for work in (fail, report):
            error = attended_alone(FakeChannel().guest(), work).outcome.error
            assert isinstance(error, RemoteProtocolError)
            assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)

    def test_work_that_says_so_has_failed_and_keeps_its_figures(self) -> None:
        error = NotConvergedError("still off")

        async def in_vain(_agent: GuestAgent) -> Outcome:
            return Outcome({"figure": 3, "error": error.as_dict()}, status="corrected", error=error)

        each = attended_alone(FakeChannel().guest(), in_vain)
        assert each.as_dict() == {"name": "web1", "status": "failed", "figure": 3, "error": error.as_dict()}

    def test_the_channel_is_opened_once_and_closed(self) -> None:
        channel = FakeChannel()
        attended_alone(channel.guest())
        assert (channel.opened, channel.closed) == (1, 1)

    def test_a_problem_that_is_known_is_its_failure_and_it_is_not_touched(self) -> None:
        problem = NotRunningError("it is shut off")
        each = attended_alone(Guest("web1", never_opened, problem=problem))
        assert (each.status, each.outcome.error) == ("failed", problem)

    def test_the_time_limit_is_each_exchanges(self) -> None:
        channel = FakeChannel()
        attended_alone(channel.guest(), attendance=Attendance(1.5))
        assert channel.asked == [("guest-get-time", 1.5)]

    def test_an_agent_that_boots_is_waited_for_if_that_is_wanted(self) -> None:
        troubles = [NotConnectedError("booting"), UnresponsiveError("starting"), None]
        channel = FakeChannel(troubles)
        each = attended_alone(channel.guest(), attendance=Attendance(5.0, wait_timeout=FOREVER))
        assert each.status == "done"
        assert [command for command, _timeout in channel.asked] == ["guest-info"] * 3 + ["guest-get-time"]
        assert attended_alone(FakeChannel(troubles).guest()).status == "failed"


UNUSABLE: set[type[QgaError]] = {NotRunningError, NotConfiguredError, NotConnectedError, OptedOutError, NotFoundError}


def kinds(kind: type[QgaError] = QgaError) -> list[type[QgaError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]


class TestSkipping:
    @pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
    def test_a_guest_that_was_matched_is_skipped_if_it_is_none_of_those_that_were_meant(
        self, kind: type[QgaError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "_RESTART_SECONDS", 0.0)
        error = kind("trouble")
        matched, named = (FakeChannel(troubles=[error]) for _guest in range(2))
        of_matched, of_named = attended([matched.guest(is_optional=True), named.guest()])
        if kind in UNUSABLE:
            assert of_matched.as_dict() == {"name": "web1", "status": "skipped", "reason": error.as_dict()}
            assert of_matched.outcome.error is None
        else:
            assert of_matched.as_dict() == {"name": "web1", "status": "failed", "error": error.as_dict()}
        assert of_named.as_dict() == {"name": "web1", "status": "failed", "error": error.as_dict()}

    def test_the_codes(self) -> None:
        skipped = {
            kind.code
            for kind in kinds()
            if failed(Guest("web1", never_opened, is_optional=True), kind("")).status == "skipped"
        }
        assert skipped == {"not_running", "not_configured", "not_connected", "opted_out", "not_found"}

    @pytest.mark.parametrize("kind", sorted(UNUSABLE, key=lambda kind: kind.code))
    def test_an_error_after_the_work_began_is_a_failure(self, kind: type[QgaError]) -> None:
        async def lose(_agent: GuestAgent) -> Outcome:
            error = kind("it went away meanwhile")
            return Outcome({"error": error.as_dict()}, error=error)

        each = attended_alone(FakeChannel().guest(is_optional=True), lose)
        assert (each.status, code(each)) == ("failed", kind.code)

    @pytest.mark.parametrize(("is_optional", "status"), [(True, "skipped"), (False, "failed")])
    def test_a_problem_that_is_known_counts_the_same(self, is_optional: bool, status: str) -> None:
        guest = Guest("web1", never_opened, is_optional=is_optional, problem=NotRunningError("it is shut off"))
        each = attended_alone(guest)
        assert (each.status, code(each)) == (status, "not_running")

    def test_an_agent_that_does_not_come_in_time_is_skipped_after_the_wait(self) -> None:
        channel = FakeChannel(troubles=[NotConnectedError("none runs")] * 100)
        each = attended_alone(channel.guest(is_optional=True), attendance=Attendance(5.0, wait_timeout=0.05))
        assert (each.status, code(each)) == ("skipped", "not_connected")
        assert len(channel.asked) > 1


class TestTheMark:
    def test_it_is_asked_for_only_by_what_touches_the_clock(self) -> None:
        reading, setting = FakeChannel(), FakeChannel()
        attended_alone(reading.guest())
        attended_alone(setting.guest(), attendance=Attendance(1.5, touches_clock=True))
        assert reading.asked_metadata == []
        assert setting.asked_metadata == [(NAMESPACE, 1.5)]

    @pytest.mark.parametrize(("is_optional", "status"), [(True, "skipped"), (False, "failed")])
    def test_who_must_not_be_touched_is_not_even_asked(self, is_optional: bool, status: str) -> None:
        channel = FakeChannel(mark=OPTED_OUT)
        attendance = Attendance(5.0, wait_timeout=FOREVER, touches_clock=True)
        each = attended_alone(channel.guest(is_optional=is_optional), attendance=attendance)
        assert (each.status, code(each)) == (status, "opted_out")
        assert channel.asked == []
        assert channel.closed == 1

    def test_it_does_not_forbid_reading(self) -> None:
        assert attended_alone(FakeChannel(mark=OPTED_OUT).guest()).status == "done"


class TestDefects:
    def test_one_that_is_met_with_one_guest_is_that_guests_alone(self) -> None:
        first, second, third = (
            FakeChannel(),
            FakeChannel(troubles=[ZeroDivisionError("division by zero")]),
            FakeChannel(),
        )
        found = attended([first.guest("web1"), second.guest("web2"), third.guest("web3")])
        assert [each.status for each in found] == ["done", "failed", "done"]
        assert found[1].outcome.error is not None
        assert found[1].outcome.error.as_dict() == {
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
        attendance = Attendance(5.0, touches_clock=True)
        found = attended([channel.guest(is_optional=True), *some_guests(1)], attendance=attendance)
        assert [code(each) for each in found] == ["internal_error", None]
        assert found[0].status == "failed"

    def test_an_interruption_is_none(self) -> None:
        channel = FakeChannel()

        async def interrupted(_agent: GuestAgent) -> Outcome:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            attended_alone(channel.guest(), interrupted)
        assert channel.closed == 1


class TestAConnectionThatBreaksAtAnAnswer:
    """All that were asked just then are begun anew, and whose answer did it is found out."""

    broken = HypervisorUnavailableError("the connection broke", in_call=True)

    @pytest.fixture(autouse=True)
    def _no_pauses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "_RETRY_SECONDS", 0.0)
        monkeypatch.setattr(runner, "_TURN_SECONDS", 0.001)

    def test_who_does_it_again_when_tried_apart_has_failed_and_the_others_are_done(self) -> None:
        hostile = FakeChannel(troubles=[self.broken] * 100)
        others = [FakeChannel(troubles=[self.broken]) for _number in range(4)]
        found = attended([hostile.guest("web0"), *(channel.guest("web") for channel in others)])
        assert [each.status for each in found] == ["failed", *["done"] * 4]
        # A turn proves nothing while other connections are still breaking, which takes longer on a busy machine.
        assert 2 <= hostile.opened <= 1 + runner._MOST_BREAKS_ALONE
        error = found[0].outcome.error
        assert error is not None
        assert error.code == "hypervisor_unavailable"
        assert "tried apart from the others" in error.hint

    def test_they_are_tried_apart_one_after_the_other(self) -> None:
        under_way: list[str] = []

        class Watched(FakeChannel):
            async def call(self, request: Request, timeout: float) -> Exchange:
                if self.opened == 2:
                    under_way.append(request.execute)
                    await pause(0.01)
                    assert len(under_way) == 1
                    under_way.pop()
                return await super().call(request, timeout)

        channels = [Watched(troubles=[self.broken]) for _number in range(5)]
        found = attended([channel.guest("web") for channel in channels])
        assert [each.status for each in found] == ["done"] * 5

    def test_a_daemon_that_is_still_away_at_its_turn_is_waited_for(self) -> None:
        channel = FakeChannel(troubles=[self.broken, HypervisorUnavailableError("cannot connect")])
        assert attended_alone(channel.guest()).status == "done"
        assert channel.opened == 3

    def test_one_that_stays_away_is_not_waited_for_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "_RESTART_SECONDS", 0.05)
        gone = HypervisorUnavailableError("cannot connect")
        channels = [FakeChannel(troubles=[self.broken, *[gone] * 10_000]) for _number in range(2)]
        found = attended([channel.guest("web") for channel in channels])
        assert [each.status for each in found] == ["failed"] * 2


class TestAHypervisorThatIsGone:
    gone = HypervisorUnavailableError("cannot connect")

    def test_it_may_come_back(self) -> None:
        channel = FakeChannel(open_troubles=[self.gone] * 3)
        assert attended_alone(channel.guest()).status == "done"
        assert (channel.opened, channel.closed) == (4, 1)

    def test_what_was_begun_is_begun_anew(self) -> None:
        channel = FakeChannel(troubles=[None, self.gone])

        async def ask_thrice(agent: GuestAgent) -> Outcome:
            for command in ("guest-get-users", "guest-get-time", "guest-get-fsinfo"):
                await agent.call(command)
            return Outcome({})

        assert attended_alone(channel.guest(), ask_thrice).status == "done"
        assert [command for command, _timeout in channel.asked] == [
            "guest-get-users",
            "guest-get-time",
            "guest-info",
            "guest-get-users",
            "guest-get-time",
            "guest-get-fsinfo",
        ]
        assert (channel.opened, channel.closed) == (2, 2)

    def test_it_has_its_time_and_then_the_guest_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "_RESTART_SECONDS", 0.1)
        channel = FakeChannel(open_troubles=[self.gone] * 1000)
        began = time.monotonic()
        each = attended_alone(channel.guest(is_optional=True))
        assert time.monotonic() - began >= 0.1
        assert (each.status, code(each)) == ("failed", "hypervisor_unavailable")
        assert channel.opened > 2

    def test_another_error_meanwhile_is_the_guests(self) -> None:
        channel = FakeChannel(open_troubles=[self.gone, NotFoundError("it was undefined")])
        each = attended_alone(channel.guest(is_optional=True))
        assert (each.status, code(each)) == ("skipped", "not_found")

    def test_the_others_go_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "_RESTART_SECONDS", 0.05)
        found = attended([FakeChannel(open_troubles=[self.gone] * 1000).guest(), *some_guests(3)], concurrency=1)
        assert [each.status for each in found] == ["failed", "done", "done", "done"]

    def test_agents_have_to_be_found_again_so_later_guests_are_waited_for(self) -> None:
        unlucky = FakeChannel(open_troubles=[self.gone])
        later = FakeChannel(troubles=[NotConnectedError("not found yet")] * 3)
        found = attended([unlucky.guest("web1"), later.guest("web2", is_optional=True)], concurrency=1)
        assert [each.status for each in found] == ["done", "done"]
        assert [command for command, _timeout in unlucky.asked] == ["guest-info", "guest-get-time"]
        assert [command for command, _timeout in later.asked] == ["guest-info"] * 4 + ["guest-get-time"]

    def test_without_that_they_are_not(self) -> None:
        later = FakeChannel(troubles=[NotConnectedError("none runs")])
        found = attended([*some_guests(1), later.guest(is_optional=True)], concurrency=1)
        assert [each.status for each in found] == ["done", "skipped"]

    def test_a_longer_wait_stays_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "_RESTART_SECONDS", 0.05)
        waits: list[float] = []

        async def wait(_agent: GuestAgent, seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr(GuestAgent, "wait", wait)
        guests = [FakeChannel(open_troubles=[self.gone]).guest(), *some_guests(1)]
        attended(guests, attendance=Attendance(5.0, wait_timeout=20.0), concurrency=1)
        assert waits == [20.0, 20.0]
        waits.clear()
        attended([FakeChannel(open_troubles=[self.gone]).guest(), *some_guests(1)], concurrency=1)
        assert waits == [0.05, 0.05]


async def linger(_agent: GuestAgent) -> Outcome:
    await pause(FOREVER)
    return Outcome({})


class TestTheDeadline:
    @pytest.mark.slow
    def test_what_is_done_by_then_stands(self) -> None:
        slow = FakeChannel()

        async def ask_or_linger(agent: GuestAgent) -> Outcome:
            return await (linger if channel_of(agent) is slow else ask)(agent)

        found = attended([slow.guest(), *some_guests(2)], ask_or_linger, deadline=1.0)
        assert [each.status for each in found] == ["failed", "done", "done"]

    def test_a_guest_that_was_begun(self) -> None:
        channel = FakeChannel()
        (each,) = attended([channel.guest(is_optional=True)], linger, deadline=0.05)
        assert each.status == "failed"
        assert each.outcome.error is not None
        assert each.outcome.error.as_dict() == {
            "code": "deadline",
            "message": "the deadline of 0.05 s passed before it was done",
            "hint": DeadlineError.default_hint,
        }
        assert channel.closed == 1

    def test_a_guest_that_was_not_begun(self) -> None:
        begun, other = FakeChannel(), FakeChannel()
        found = attended([begun.guest(), other.guest(is_optional=True)], linger, concurrency=1, deadline=0.05)
        assert [each.outcome.error and each.outcome.error.message for each in found] == [
            "the deadline of 0.05 s passed before it was done",
            "the deadline of 0.05 s passed before it was begun",
        ]
        assert code(found[1]) == "deadline"
        assert other.opened == 0

    def test_a_guest_that_does_not_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        soon = partial(multiplexer.Multiplexer, timings=multiplexer.Timings(grace=0.05))
        monkeypatch.setattr(multiplexer, "Multiplexer", soon)
        channel = FakeChannel()

        async def stubborn(agent: GuestAgent) -> Outcome:
            try:
                return await linger(agent)
            except DeadlineError:
                return await linger(agent)

        (each,) = attended([channel.guest()], stubborn, deadline=0.05)
        assert each.outcome.error is not None
        assert each.outcome.error.message == "the deadline of 0.05 s passed before it came to an end"
        assert (each.status, code(each), channel.closed) == ("failed", "deadline", 1)

    def test_a_guest_whose_hypervisor_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runner, "_RETRY_SECONDS", FOREVER)
        guests = [FakeChannel(open_troubles=[TestAHypervisorThatIsGone.gone]).guest(), *some_guests(2)]
        found = attended(guests, deadline=0.05)
        assert [code(each) for each in found] == ["deadline", None, None]

    def test_a_problem_that_is_known_is_told_rather(self) -> None:
        off = Guest("db1", never_opened, is_optional=True, problem=NotRunningError("it is shut off"))
        found = attended([*some_guests(1), off], linger, concurrency=1, deadline=0.05)
        assert [(each.status, code(each)) for each in found] == [("failed", "deadline"), ("skipped", "not_running")]

    def test_one_that_has_passed_before_there_was_a_guest(self) -> None:
        found = attended([Guest("web1", never_opened), Guest("web2", never_opened)], deadline=0.0)
        assert [code(each) for each in found] == ["deadline", "deadline"]


class TestAll:
    def test_none(self) -> None:
        assert attended([]) == ()

    def test_they_come_in_their_order_in_whichever_order_they_end(self) -> None:
        pauses = {FakeChannel(): 0.06, FakeChannel(): 0.0, FakeChannel(): 0.03}
        order: list[float] = []

        async def take_some_time(agent: GuestAgent) -> Outcome:
            seconds = pauses[channel_of(agent)]
            await pause(seconds)
            order.append(seconds)
            return Outcome({"paused": seconds})

        found = attended([channel.guest(f"web{seconds}") for channel, seconds in pauses.items()], take_some_time)
        assert order == [0.0, 0.03, 0.06]
        assert [(each.guest.name, each.outcome.entry["paused"]) for each in found] == [
            ("web0.06", 0.06),
            ("web0.0", 0.0),
            ("web0.03", 0.03),
        ]

    def test_two_of_one_name_are_two(self) -> None:
        first, second = FakeChannel(), FakeChannel(troubles=[UnresponsiveError("silent")])
        assert [each.status for each in attended([first.guest(), second.guest()])] == ["done", "failed"]

    def test_no_more_are_worked_on_than_that(self) -> None:
        now: list[int] = []
        most: list[int] = []

        async def work(agent: GuestAgent) -> Outcome:
            now.append(1)
            most.append(len(now))
            await pause(0.002)
            now.pop()
            return await ask(agent)

        assert len(attended(some_guests(12), work, concurrency=3)) == 12
        assert max(most) == 3


def with_status(status: str, name: str = "web1", kind: type[QgaError] = UnresponsiveError) -> Attended:
    guest = Guest(name, never_opened)
    return failed(guest, kind("trouble")) if status == "failed" else ended(guest, Outcome({}, status))


def with_statuses(*statuses: str) -> list[Attended]:
    return [with_status(status, f"web{number}") for number, status in enumerate(statuses, 1)]


class TestCounting:
    def test_every_status_is_counted_also_those_that_did_not_occur(self) -> None:
        found = with_statuses("corrected", "skipped", "failed", "corrected", "unchanged", "skipped", "skipped")
        assert count(found, ("corrected", "unchanged", "other")) == {
            "total": 7,
            "corrected": 2,
            "unchanged": 1,
            "other": 0,
            "skipped": 3,
            "failed": 1,
        }

    def test_nobody(self) -> None:
        assert count([], ("gathered",)) == {"total": 0, "gathered": 0, "skipped": 0, "failed": 0}


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("statuses", "fails"),
        [
            ((), set()),
            (("done", "done"), set()),
            (("skipped", "skipped"), set()),
            (("done", "skipped"), set()),
            (("done", "failed"), {"any"}),
            (("done", "skipped", "failed"), {"any"}),
            (("failed",), {"any", "all"}),
            (("failed", "failed"), {"any", "all"}),
            (("failed", "skipped"), {"any", "all"}),
        ],
    )
    @pytest.mark.parametrize("fail_on", ["any", "all", "none"])
    def test_when_the_whole_run_fails(self, fail_on: str, statuses: Sequence[str], fails: set[str]) -> None:
        assert (verdict(with_statuses(*statuses), fail_on) is not None) == (fail_on in fails)

    def test_it_tells_how_many_and_which_and_why(self) -> None:
        found = [with_status("failed", "web1"), with_status("done"), with_status("failed", "db1", CommandFailedError)]
        error = verdict(found, "any")
        assert error is not None
        assert error.code == "guests_failed"
        assert error.message == "2 of 3 guests failed: web1 (unresponsive), db1 (command_failed)"
        assert "fail_on" in error.hint

    @pytest.mark.parametrize(
        ("number", "end"), [(5, "web5 (unresponsive)"), (6, "and 1 more"), (200, "web5 (unresponsive) and 195 more")]
    )
    def test_of_many_it_names_five(self, number: int, end: str) -> None:
        error = verdict(with_statuses(*["failed"] * number), "any")
        assert error is not None
        assert error.message.startswith(f"{number} of {number} guests failed: web1 (unresponsive), web2 (unresponsive)")
        assert error.message.endswith(end)
        assert error.message.count("web") == 5


GUESTS = 200
SILENT = frozenset(f"guest{number}" for number in range(5, GUESTS, 10))
OPTIONS: dict[str, Any] = {
    "uri": "qemu:///system",
    "timeout": 3.0,
    "exclude": [],
    "skip_unusable": False,
    "allow_empty": False,
}


async def ask_several_times(agent: GuestAgent) -> Outcome:
    for command in ("guest-get-time", "guest-get-osinfo", "guest-get-time"):
        await agent.call(command)
    return Outcome({})


@dataclasses.dataclass
class Watched:
    """What came of the domains of a hypervisor, and the names of the guests in the order in which they ended."""

    order: list[str] = dataclasses.field(default_factory=list)
    attended: dict[str, Attended] = dataclasses.field(default_factory=dict)

    def attend(
        self, domains: list[str], attendance: Attendance, concurrency: int = 20, deadline: float = math.inf
    ) -> None:
        with fleet_of({**OPTIONS, "domains": domains}, Limits()) as found:
            guests = [dataclasses.replace(guest, open=self._watching(guest)) for guest in found.guests]
            ended = attend(guests, ask_several_times, attendance, concurrency, Deadline(deadline))
        self.attended = {each.guest.name: each for each in ended}

    def _watching(self, guest: Guest) -> Callable[[], Channel]:
        def open_watched() -> Channel:
            channel = guest.open()
            close = channel.close

            async def close_watched() -> None:
                await close()
                self.order.append(guest.name)

            channel.close = close_watched  # type: ignore[method-assign]
            return channel

        return open_watched

    def of(self, status: str) -> set[str]:
        return {name for name, each in self.attended.items() if each.status == status}

    def codes(self) -> set[str | None]:
        return {code(each) for each in self.attended.values()}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    fake = FakeHypervisor([Definition(f"guest{number}") for number in range(1, GUESTS + 1)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()
    fake.wait_until_all_is_given_back()


# Of a class, but no methods of it: on Python 3.9, pytest takes no static ones.
@pytest.fixture(scope="class")
def silent_hypervisor() -> Iterator[FakeHypervisor]:
    """Every tenth guest's agent hangs."""
    fake = FakeHypervisor(
        [Definition(f"guest{number}", is_silent=f"guest{number}" in SILENT) for number in range(1, GUESTS + 1)]
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(connections, "import_libvirt", fake.modules)
        yield fake


@pytest.fixture(scope="class")
def silent_run(silent_hypervisor: FakeHypervisor) -> Watched:  # noqa: ARG001  # in place before the run
    watched = Watched()
    watched.attend(["*"], Attendance(3.0))
    return watched


@pytest.mark.slow
class TestSilentDomains:
    """A hypervisor of which every tenth guest's agent hangs. These tests look at one run, which takes a while."""

    def test_they_fail_and_the_others_are_done(self, silent_run: Watched) -> None:
        assert silent_run.of("failed") == SILENT
        assert len(silent_run.of("done")) == GUESTS - len(SILENT)
        assert silent_run.codes() == {"unresponsive", None}

    def test_the_others_are_done_while_they_are_still_waited_for(self, silent_run: Watched) -> None:
        healthy = GUESTS - len(SILENT)
        assert not SILENT & set(silent_run.order[:healthy])
        assert set(silent_run.order[healthy:]) == SILENT

    def test_each_is_begun_once(self, silent_run: Watched) -> None:
        assert len(silent_run.order) == len(set(silent_run.order)) == GUESTS

    def test_the_daemon_is_never_asked_more_than_it_can_work_on(
        self, silent_hypervisor: FakeHypervisor, silent_run: Watched
    ) -> None:
        assert len(silent_run.attended) == GUESTS
        assert silent_hypervisor.most_calls < 20
        assert silent_hypervisor.most_calls_of_a_connection <= 5
        assert len(silent_hypervisor.connections) <= 3 + 4

    def test_what_is_said_once_is_not_asked_twice(self, silent_hypervisor: FakeHypervisor, silent_run: Watched) -> None:
        asked = [domain for domain, _command in silent_hypervisor.commands]
        # A ping to see whether it answers, and then the work.
        assert all(asked.count(name) <= 4 for name in silent_run.of("done"))
        assert all(asked.count(name) <= 2 for name in SILENT)
        # Once, and again for those that were asked over another connection while silent ones held theirs.
        assert GUESTS <= silent_hypervisor.calls["lookupByName"] == silent_hypervisor.calls["state"] < 2 * GUESTS

    @pytest.mark.usefixtures("silent_run")
    def test_nothing_stays_behind(self, silent_hypervisor: FakeHypervisor) -> None:
        silent_hypervisor.wait_until_all_is_given_back()


class TestThroughLibvirt:
    def test_a_thousand_at_once_take_three_connections(self, fake: FakeHypervisor) -> None:
        watched = Watched()
        watched.attend(["*"], Attendance(3.0, touches_clock=True), concurrency=1000)
        assert len(watched.of("done")) == GUESTS
        assert len(fake.connections) == 3
        assert fake.most_calls <= 15
        assert fake.most_calls_of_a_connection <= 5

    def test_a_connection_that_breaks_in_the_middle_costs_no_guest(self, fake: FakeHypervisor) -> None:
        fake.at_agent_command = dict.fromkeys((100, 101, 350), fake.break_connections)
        watched = Watched()
        watched.attend(["*"], Attendance(3.0))
        assert len(watched.of("done")) == GUESTS
        assert len(fake.connections) > 3

    def test_a_daemon_that_is_away_for_a_while_costs_no_guest(self, fake: FakeHypervisor) -> None:
        fake.at_agent_command = {300: lambda: fake.go_away(attempts=50)}
        watched = Watched()
        watched.attend(["*"], Attendance(3.0))
        assert len(watched.of("done")) == GUESTS

    @pytest.mark.slow
    def test_a_daemon_that_stays_away_costs_those_that_were_not_done(
        self, fake: FakeHypervisor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runner, "_RESTART_SECONDS", 0.2)
        monkeypatch.setattr(runner, "_RETRY_SECONDS", 0.1)
        fake.at_agent_command = {300: fake.go_away}
        watched = Watched()
        watched.attend(["*"], Attendance(3.0))
        done, lost = watched.of("done"), watched.of("failed")
        assert done
        assert lost
        assert done | lost == {each.name for each in fake.definitions}
        assert {code(watched.attended[name]) for name in lost} == {"hypervisor_unavailable"}

    def test_guests_that_a_pattern_matched_and_that_cannot_be_used_are_skipped(self, fake: FakeHypervisor) -> None:
        fake.definitions = [
            Definition("good"),
            Definition("off", state=SHUT_OFF),
            Definition("paused", state=PAUSED),
            Definition("bare", channel_state=None),
            Definition("without", channel_state="disconnected"),
            Definition("kept", metadata=OPTED_OUT),
        ]
        reasons = {
            "good": None,
            "off": "not_running",
            "paused": "not_running",
            "bare": "not_configured",
            "without": "not_connected",
            "kept": "opted_out",
        }
        for domains, status in ((["*"], "skipped"), ([*reasons, "gone"], "failed")):
            watched = Watched()
            watched.attend(domains, Attendance(3.0, touches_clock=True))
            expected = reasons if status == "skipped" else {**reasons, "gone": "not_found"}
            assert {name: code(each) for name, each in watched.attended.items()} == expected
            assert watched.of("done") == {"good"}
            assert watched.of(status) == set(expected) - {"good"}
        assert all(domain in ("good", "bare", "without") for domain, _command in fake.commands)

    def test_one_that_was_shut_off_meanwhile_is_skipped_too(self, fake: FakeHypervisor) -> None:
        fake.definitions = [Definition("web1"), Definition("web2")]
        with fleet_of({**OPTIONS, "domains": ["*"]}, Limits()) as found:
            fake.definitions[0].state = SHUT_OFF
            fake.definitions.pop()
            assert [(each.status, code(each)) for each in attended(found.guests)] == [
                ("skipped", "not_running"),
                ("skipped", "not_found"),
            ]

    @pytest.mark.slow
    def test_calls_that_hang_are_left_behind_at_the_deadline(self, fake: FakeHypervisor) -> None:
        silent = {each.name for each in fake.definitions[:: GUESTS // 4]}
        for each in fake.definitions:
            each.is_silent = each.name in silent
        watched = Watched()
        watched.attend(["*"], Attendance(FOREVER), deadline=5.0)
        assert threads_of_lines(), "they still wait for the hypervisor"
        assert watched.of("failed") == silent
        assert watched.codes() == {"deadline", None}
        fake.release()
        fake.wait_until_all_is_given_back()
