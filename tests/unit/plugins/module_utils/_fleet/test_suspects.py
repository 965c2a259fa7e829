"""Finding the guest whose answer breaks a shared connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import Multiplexer
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import pause
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import Guest, Runner, RunOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.suspects import (
    MOST_BREAKS_ALONE,
    Suspicion,
    Timings,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned

BROKEN = HypervisorUnavailableError("the connection broke", in_call=True)
AWAY = HypervisorUnavailableError("cannot connect")
SILENT = UnresponsiveError("silent")
QUICK = Timings(retry=0.001, suspect_retry=0.001, turn=0.001)


class Play:
    """A guest that follows a script: each time it is run, its first exchange raises the next of ``troubles``, if any.

    ``modes`` lists the modes in which its channel was opened. ``meanwhile`` is awaited during each exchange.
    """

    def __init__(
        self,
        name: str = "web1",
        troubles: Sequence[QgaError] = (),
        can_be_apart: bool = True,
        meanwhile: Callable[[Play], Awaitable[None]] | None = None,
    ) -> None:
        self.name = name
        self.troubles = list(troubles)
        self.modes: list[str] = []
        self.meanwhile = meanwhile
        self.guest = Guest(
            name,
            lambda: self._open("shared"),
            f"uuid of {name}",
            open_apart=(lambda: self._open("apart")) if can_be_apart else None,
        )

    def _open(self, mode: str) -> Channel:
        self.modes.append(mode)
        return _PlayedChannel(self, self.troubles.pop(0) if self.troubles else None)


class _PlayedChannel(Channel):
    def __init__(self, play: Play, trouble: QgaError | None) -> None:
        self._play = play
        self._trouble = trouble

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # the contract's
        if self._play.meanwhile is not None:
            await self._play.meanwhile(self._play)
        if self._trouble is not None:
            raise self._trouble
        return Exchange(Returned({}), 0, 1)

    async def close(self) -> None:
        pass


async def work(agent: GuestAgent) -> str:
    for _exchange in range(4):
        await agent.call("guest-ping")
    return "done"


async def absorbing_work(agent: GuestAgent) -> str:
    """Continue after a break, like a resync whose step broke the connection."""
    try:
        return await work(agent)
    except HypervisorUnavailableError:
        return "broken"


def run(runner: Runner, *plays: Play, doing: Callable[[GuestAgent], Awaitable[str]] = work) -> list[Any]:
    """Return the result of each: its return value, or the error."""
    ended: dict[int, Any] = {}

    async def run_one(play: Play) -> Any:
        try:
            return await runner.run(play.guest, doing, RunOptions(timeout=5.0))
        except QgaError as error:
            return error

    Multiplexer[Any](len(plays), ended.__setitem__).run(iter([run_one(play) for play in plays]))
    return [ended[number] for number in range(len(plays))]


def run_one(runner: Runner, play: Play, doing: Callable[[GuestAgent], Awaitable[str]] = work) -> Any:
    (result,) = run(runner, play, doing=doing)
    return result


def modes_of(runner: Runner, *troubles: QgaError, doing: Callable[[GuestAgent], Awaitable[str]] = work) -> list[str]:
    """Return the modes in which the channel of web1 was opened in one run."""
    play = Play(troubles=troubles)
    run_one(runner, play, doing)
    return play.modes


@pytest.mark.parametrize(
    ("can_be_apart", "others_broke", "modes"),
    [
        (True, [False, False, False], ["shared", "apart", "alone", "guilty"]),
        (False, [False, False], ["shared", "alone", "guilty"]),
        (True, [True, True, True, False], ["shared", "apart", "alone", "alone", "guilty"]),
        (True, [True] * 5, ["shared", "apart", "alone", "alone", "alone", "guilty"]),
    ],
)
def test_a_suspect_takes_the_next_way_at_each_break(
    can_be_apart: bool, others_broke: list[bool], modes: list[str]
) -> None:
    suspicion = Suspicion("shared", can_be_apart)
    found = [suspicion.mode]
    for others in others_broke:
        suspicion.on_break(BROKEN, others)
        found.append(suspicion.mode if suspicion.verdict() is None else "guilty")
    assert found == modes


class TestASuspect:
    @pytest.mark.parametrize(
        ("troubles", "modes"),
        [
            ([BROKEN, BROKEN], ["shared", "apart", "apart"]),
            ([AWAY], ["shared"] * 2),
            ([AWAY] * 5, ["shared"] * 6),
            ([BROKEN, AWAY, AWAY, BROKEN, AWAY], ["shared", *["apart"] * 5]),
        ],
        ids=["breaks", "away once", "away", "breaks while the daemon is away"],
    )
    def test_is_asked_apart_only_after_its_exchange_broke_a_connection(
        self, troubles: list[QgaError], modes: list[str]
    ) -> None:
        play = Play(troubles=troubles)
        assert run_one(Runner(QUICK), play) == "done"
        assert play.modes == modes

    @pytest.mark.parametrize(("can_be_apart", "breaks"), [(True, 3), (False, 2)])
    def test_fails_if_it_breaks_the_connection_when_it_is_asked_alone(self, can_be_apart: bool, breaks: int) -> None:
        assert run_one(Runner(QUICK), Play(troubles=[BROKEN] * (breaks - 1), can_be_apart=can_be_apart)) == "done"
        play = Play(troubles=[BROKEN] * breaks, can_be_apart=can_be_apart)
        error = run_one(Runner(QUICK), play)
        assert isinstance(error, HypervisorUnavailableError)
        assert (error.in_call, error.message, len(play.modes)) == (True, BROKEN.message, breaks)
        assert "tried separately" in error.hint

    def test_with_another_error_reports_that_error(self) -> None:
        assert run_one(Runner(QUICK), Play(troubles=[BROKEN, SILENT])) is SILENT

    @pytest.mark.parametrize("troubles", [[], [BROKEN]], ids=["away", "away after a break"])
    def test_is_not_guilty_if_the_daemon_stays_away(self, troubles: list[QgaError]) -> None:
        runner = Runner(QUICK._replace(restart=0.02))
        error = run_one(runner, Play(troubles=[*troubles, *[AWAY] * 10_000]))
        assert isinstance(error, HypervisorUnavailableError)
        assert not error.in_call

    def test_fails_after_it_breaks_the_connection_again_and_the_others_succeed(self) -> None:
        hostile = Play("hostile", [BROKEN] * 100)
        results = run(Runner(QUICK), hostile, *(Play(f"web{number}", [BROKEN]) for number in range(4)))
        assert results[0].code == "hypervisor_unavailable"
        assert results[1:] == ["done"] * 4
        # A turn proves nothing while other connections still break, which takes longer on a busy machine.
        assert 3 <= len(hostile.modes) <= 2 + MOST_BREAKS_ALONE


class TestTheNextRun:
    def test_of_a_cleared_suspect_is_shared_again(self) -> None:
        runner = Runner(QUICK)
        assert modes_of(runner, BROKEN) == ["shared", "apart"]
        assert modes_of(runner) == ["shared"]

    def test_of_a_guilty_guest_is_apart_until_it_succeeds(self) -> None:
        runner = Runner(QUICK)
        assert runner.verdict(Play().guest) is None
        assert len(modes_of(runner, *[BROKEN] * 3)) == 3
        assert runner.verdict(Play().guest) is not None
        assert runner.verdict(Play("another").guest) is None
        assert modes_of(runner, BROKEN) == ["apart"]
        assert modes_of(runner) == ["apart"]
        assert modes_of(runner) == ["shared"]

    def test_after_work_survived_a_break_begins_in_the_next_way_until_the_guest_is_guilty(self) -> None:
        runner = Runner(QUICK)
        for mode in ("shared", "apart", "apart"):
            assert runner.verdict(Play().guest) is None
            assert modes_of(runner, BROKEN, doing=absorbing_work) == [mode]
        assert runner.verdict(Play().guest) is not None

    def test_after_work_that_broke_nothing_is_shared_again(self) -> None:
        runner = Runner(QUICK)
        modes = [modes_of(runner, *troubles, doing=absorbing_work) for troubles in ([BROKEN], [], [])]
        assert modes == [["shared"], ["apart"], ["shared"]]

    def test_forgets_the_oldest_guilty_guest_if_there_are_too_many(self) -> None:
        runner = Runner(QUICK, most_remembered=2)
        for name in ("a", "b", "c"):
            assert run_one(runner, Play(name, [BROKEN] * 3)).in_call
        assert [name for name in "abc" if runner.verdict(Play(name).guest) is not None] == ["b", "c"]


class TestTurnsOfGuestsThatAreAskedAlone:
    @staticmethod
    def suspects(names: Sequence[str], meanwhile: Callable[[Play], Awaitable[None]]) -> list[Play]:
        return [Play(name, [BROKEN], can_be_apart=False, meanwhile=meanwhile) for name in names]

    def test_only_one_is_asked_at_a_time(self) -> None:
        under_way: list[str] = []

        async def watch(play: Play) -> None:
            if len(play.modes) > 1:
                under_way.append(play.name)
                await pause(0.002)
                assert under_way == [play.name]
                under_way.clear()

        assert run(Runner(QUICK), *self.suspects("abcde", watch)) == ["done"] * 5

    @pytest.mark.parametrize("slow", [1, 3])
    def test_a_turn_lasts_one_exchange_and_goes_to_the_guest_that_used_the_least_time(self, slow: int) -> None:
        order: list[str] = []

        async def take_time(play: Play) -> None:
            if play.name == "slow":
                await pause(0.05)
            if len(play.modes) > 1:
                order.append(play.name)

        plays = self.suspects(["slow"] * slow + ["prompt"] * 7, take_time)
        assert run(Runner(QUICK), *plays) == ["done"] * len(plays)
        last_prompt = len(order) - order[::-1].index("prompt")
        # Each slow guest has one turn before it is known to be slow, and at most one more.
        assert order[:last_prompt].count("slow") <= 2 * slow

    def test_a_guest_that_fails_during_its_turn_gives_it_back(self) -> None:
        # On a busy machine, connections of others may break during its first two turns. The third is always its own.
        troubles = {"evil": [BROKEN] * 4, "silent": [BROKEN, SILENT], "web1": [BROKEN]}
        results = run(Runner(QUICK), *(Play(name, each, can_be_apart=False) for name, each in troubles.items()))
        assert [getattr(each, "code", each) for each in results] == ["hypervisor_unavailable", "unresponsive", "done"]
