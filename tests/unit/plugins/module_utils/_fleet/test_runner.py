"""Running many guests: no guest delays or hides the others."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
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
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import opt_out, results
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import fleet_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import (
    Guest,
    RunOptions,
    run_all,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.suspects import USUAL, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition
from tests.fakes.libvirt import FakeHypervisor

FOREVER = 60.0  # seconds; no test waits that long
OPTIONS = RunOptions(timeout=5.0)
TOUCHING = RunOptions(timeout=5.0, touches_clock=True)
QUICK = Timings(restart=0.05, retry=0.001, suspect_retry=0.001, turn=0.001)
PATIENT = QUICK._replace(restart=10.0)
OPTED_OUT = f'<resync xmlns="{opt_out.NAMESPACE}" enabled="no"/>'
GONE = HypervisorUnavailableError("cannot connect")
OFF = NotRunningError("it is shut off")


class FakeChannel(Channel):
    """Each call raises the next of ``troubles``, or answers if none is left.

    Opening does the same with ``open_troubles``.
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

    @property
    def commands(self) -> list[str]:
        return [command for command, _timeout in self.asked]

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

    async def metadata(self, namespace: str, timeout: float) -> str | None:  # noqa: ARG002  # the contract's
        return self._mark

    async def close(self) -> None:
        self.closed += 1

    def guest(self, name: str = "web1", **more: Any) -> Guest:
        return Guest(name, self.open, **more)


def some_guests(number: int) -> list[Guest]:
    return [FakeChannel().guest(f"web{which}") for which in range(1, number + 1)]


async def ask(agent: GuestAgent) -> GuestResult:
    await agent.call("guest-get-time")
    return GuestResult({"figure": 1})


async def linger(_agent: GuestAgent) -> GuestResult:
    await pause(FOREVER)
    return GuestResult({})


def run(
    guests: Sequence[Guest],
    work: results.Work = ask,
    options: RunOptions = OPTIONS,
    concurrency: int = 20,
    deadline: float = math.inf,
    timings: Timings = QUICK,
) -> tuple[GuestResult, ...]:
    return run_all(guests, work, options, concurrency, Deadline(deadline), timings)


def outcome(result: GuestResult) -> tuple[str, str | None]:
    """Return its status, and the code of its error or reason."""
    return result.status, (result.entry.get("error") or result.entry.get("reason") or {}).get("code")


def run_one(
    guest: Guest, work: results.Work = ask, options: RunOptions = OPTIONS, timings: Timings = QUICK
) -> tuple[str, str | None]:
    (only,) = run([guest], work, options, timings=timings)
    return outcome(only)


def never_opened() -> Channel:
    raise AssertionError("this guest must not be opened")


class TestOneGuest:
    def test_an_error_becomes_the_guests_result(self) -> None:
        error = UnresponsiveError("it keeps silent")
        channel = FakeChannel(troubles=[error], mark=OPTED_OUT)  # this does not forbid reading
        (each,) = run([channel.guest()])
        assert each.error is error
        assert each.as_dict() == {"name": "web1", "status": "failed", "error": error.as_dict()}
        assert (channel.asked, channel.closed) == ([("guest-get-time", 5.0)], 1)

    @pytest.mark.parametrize(("is_optional", "status"), [(True, "skipped"), (False, "failed")])
    def test_a_guest_with_a_known_problem_is_not_opened(self, is_optional: bool, status: str) -> None:
        guest = Guest("web1", never_opened, is_optional=is_optional, problem=OFF)
        assert run_one(guest) == (status, "not_running")


class TestInternalErrors:
    @pytest.mark.parametrize(
        "arguments",
        [
            {"troubles": [ZeroDivisionError("division by zero")]},
            {"open_troubles": [ZeroDivisionError("division by zero")]},
            {"mark": "<not xml"},
        ],
        ids=["work", "opening", "metadata"],
    )
    def test_an_internal_error_fails_only_the_guest_that_caused_it(self, arguments: dict[str, Any]) -> None:
        channel = FakeChannel(**arguments)
        found = run([*some_guests(1), channel.guest(is_optional=True), *some_guests(1)], options=TOUCHING)
        assert [outcome(each) for each in found] == [("done", None), ("failed", "internal_error"), ("done", None)]
        assert channel.closed == ("open_troubles" not in arguments)
        error = found[1].entry["error"]
        assert error["hint"] == "Please report it, with the task and the version of the agent."
        if "mark" not in arguments:
            assert error["message"] == "internal error: ZeroDivisionError: division by zero"

    def test_an_interruption_is_not_an_internal_error(self) -> None:
        channel = FakeChannel()

        async def interrupted(_agent: GuestAgent) -> GuestResult:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_one(channel.guest(), interrupted)
        assert channel.closed == 1


class TestAHypervisorThatIsGone:
    @pytest.mark.parametrize(
        ("open_troubles", "ended", "closed"),
        [
            ([GONE] * 3, ("done", None), 1),
            ([GONE, NotFoundError("it was undefined")], ("skipped", "not_found"), 0),
        ],
        ids=["comes back", "another error meanwhile"],
    )
    def test_connecting_is_retried(
        self, open_troubles: list[Exception], ended: tuple[str, str | None], closed: int
    ) -> None:
        channel = FakeChannel(open_troubles=open_troubles)
        assert run_one(channel.guest(is_optional=True), timings=PATIENT) == ended
        assert (channel.opened, channel.closed) == (len(open_troubles) + closed, closed)

    def test_the_guest_fails_after_the_timeout_for_a_restart(self) -> None:
        channel = FakeChannel(open_troubles=[GONE] * 1000)
        began = time.monotonic()
        assert run_one(channel.guest(is_optional=True)) == ("failed", "hypervisor_unavailable")
        assert time.monotonic() - began >= QUICK.restart
        assert channel.opened > 2

    def test_interrupted_work_starts_again(self) -> None:
        channel = FakeChannel(troubles=[None, GONE])

        async def ask_twice(agent: GuestAgent) -> GuestResult:
            for command in ("guest-get-users", "guest-get-time"):
                await agent.call(command)
            return GuestResult({})

        assert run_one(channel.guest(), ask_twice, timings=PATIENT) == ("done", None)
        assert channel.commands == ["guest-get-users", "guest-get-time", "guest-info", *channel.commands[:2]]
        assert (channel.opened, channel.closed) == (2, 2)

    def test_agents_of_later_guests_are_waited_for_until_libvirt_knows_them_again(self) -> None:
        unlucky = FakeChannel(open_troubles=[GONE])
        later = FakeChannel(troubles=[NotConnectedError("not found yet")] * 3)
        guests = [unlucky.guest("web1"), later.guest("web2", is_optional=True)]
        found = run(guests, concurrency=1, timings=PATIENT)
        assert [each.status for each in found] == ["done", "done"]
        assert unlucky.commands == ["guest-info", "guest-get-time"]
        assert later.commands == ["guest-info"] * 4 + ["guest-get-time"]

    @pytest.mark.parametrize(("asked_for", "waited"), [(0.0, 0.05), (20.0, 20.0)])
    def test_agents_are_waited_for_at_least_as_long_as_requested(
        self, monkeypatch: pytest.MonkeyPatch, asked_for: float, waited: float
    ) -> None:
        waits: list[float] = []

        async def wait(_agent: GuestAgent, seconds: float) -> None:
            waits.append(seconds)

        monkeypatch.setattr(GuestAgent, "wait", wait)
        guests = [FakeChannel(open_troubles=[GONE]).guest(), *some_guests(1)]
        run(guests, options=RunOptions(5.0, wait_timeout=asked_for), concurrency=1)
        assert waits == [waited, waited]


class TestTheDeadline:
    def test_unfinished_guests_fail_unless_their_problem_was_known(self) -> None:
        begun = FakeChannel()
        others = [
            Guest("web2", never_opened, is_optional=True),
            Guest("db1", never_opened, is_optional=True, problem=OFF),
        ]
        found = run([begun.guest(is_optional=True), *others], linger, concurrency=1, deadline=0.05)
        assert begun.closed == 1
        assert [each.status for each in found] == ["failed", "failed", "skipped"]
        for each, end in zip(found, ("ended", "began"), strict=False):
            message = f"the deadline of 0.05 s passed before work on the guest {end}"
            assert each.entry["error"] == DeadlineError(message).as_dict()

    def test_work_that_ignores_the_deadline_is_abandoned(self) -> None:
        channel = FakeChannel()

        async def stubborn(agent: GuestAgent) -> GuestResult:
            try:
                return await linger(agent)
            except DeadlineError:
                return await linger(agent)

        (each,) = run([channel.guest()], stubborn, deadline=0.05)
        assert str(each.error) == "the deadline of 0.05 s passed before work on the guest ended"
        assert (outcome(each), channel.closed) == (("failed", "deadline"), 1)

    def test_results_are_kept_while_another_guest_waits_for_its_hypervisor(self) -> None:
        guests = [FakeChannel(open_troubles=[GONE]).guest(), *some_guests(2)]
        found = run(guests, deadline=0.05, timings=Timings(retry=FOREVER))
        assert [outcome(each) for each in found] == [("failed", "deadline"), ("done", None), ("done", None)]

    def test_a_deadline_that_passed_before_the_first_guest_fails_it(self) -> None:
        (each,) = run([Guest("web1", never_opened)], deadline=0.0)
        assert outcome(each) == ("failed", "deadline")


class TestAll:
    def test_no_guests_give_no_results(self) -> None:
        assert run([]) == ()

    def test_results_are_in_the_order_of_the_guests_not_of_their_ends(self) -> None:
        turns = iter([2, 0, 1])  # they begin in this order
        ended: list[int] = []

        async def await_its_turn(_agent: GuestAgent) -> GuestResult:
            turn = next(turns)
            while len(ended) < turn:
                await pause(0.001)
            ended.append(turn)
            return GuestResult({"turn": turn})

        found = run([FakeChannel().guest("all of one name") for _guest in range(3)], await_its_turn)
        assert [each.entry["turn"] for each in found] == [2, 0, 1]

    def test_no_more_guests_run_at_once_than_allowed(self) -> None:
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


# ---------------------------------------------------------------------------------------- a hypervisor with many guests

DONE = {f"guest{number}": ("done", None) for number in range(1, 201)}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    fake = FakeHypervisor(map(Definition, DONE))
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()
    fake.wait_until_all_is_released()


async def ask_several_times(agent: GuestAgent) -> GuestResult:
    for command in ("guest-get-time", "guest-get-osinfo", "guest-get-time"):
        await agent.call(command)
    return GuestResult({})


def run_domains(*domains: str, concurrency: int = 20) -> dict[str, tuple[str, str | None]]:
    params = {"uri": "qemu:///system", "timeout": 3.0, "exclude": [], "skip_unusable": False, "allow_empty": False}
    with fleet_of({**params, "domains": domains}, Limits()) as found:
        results = run(found.guests, ask_several_times, TOUCHING, concurrency, timings=USUAL)
    return {each.name: outcome(each) for each in results}


def test_a_thousand_guests_at_once_use_three_connections(fake: FakeHypervisor) -> None:
    assert run_domains("*", concurrency=1000) == DONE
    assert len(fake.connections) == 3
    assert fake.most_calls <= 15
    assert fake.most_calls_of_a_connection <= 5


def test_no_guest_fails_if_connections_break_and_the_daemon_is_away_for_a_while(fake: FakeHypervisor) -> None:
    fake.at_agent_command = {
        **dict.fromkeys((100, 101, 350), fake.break_connections),
        450: lambda: fake.go_away(attempts=50),
    }
    assert run_domains("*") == DONE
    assert len(fake.connections) > 3


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_unusable_guests_are_skipped_if_only_matched_and_fail_if_named(fake: FakeHypervisor, status: str) -> None:
    fake.definitions = [
        Definition("good"),
        Definition("off", state=SHUT_OFF),
        Definition("paused", state=PAUSED),
        Definition("bare", channel_state=None),
        Definition("without", channel_state="disconnected"),
        Definition("kept", metadata=OPTED_OUT),
    ]
    reasons = {
        "off": "not_running",
        "paused": "not_running",
        "bare": "not_configured",
        "without": "not_connected",
        "kept": "opted_out",
        **({"gone": "not_found"} if status == "failed" else {}),
    }
    found = run_domains("*") if status == "skipped" else run_domains("good", *reasons)
    assert found == {"good": ("done", None), **{name: (status, code) for name, code in reasons.items()}}
    assert {domain for domain, _command in fake.commands} <= {"good", "bare", "without"}
