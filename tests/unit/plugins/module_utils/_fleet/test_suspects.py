"""Finding out at which guest's answer a shared connection breaks."""

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

OPTIONS = RunOptions(timeout=5.0)


BROKEN = HypervisorUnavailableError("the connection broke", in_call=True)


AWAY = HypervisorUnavailableError("cannot connect")


EXCHANGES = 4


QUICK = Timings(retry=0.001, suspect_retry=0.001, turn=0.001)


class Play:
    """A guest by what comes of each time that it is done: troubles at its first exchange, and none when all are said.

    ``ways`` are those in which its channel was opened.
    """

    def __init__(
        self,
        name: str = "web1",
        troubles: Sequence[QgaError] = (),
        seconds: float = 0.0,
        has_way_apart: bool = True,
        exchanged: list[str] | None = None,
    ) -> None:
        self._troubles = list(troubles)
        self.seconds = seconds
        self.ways: list[str] = []
        self.exchanged = [] if exchanged is None else exchanged
        self.metadata: str | None = None
        self.guest = Guest(
            name,
            lambda: self._open("shared"),
            f"uuid of {name}",
            open_apart=(lambda: self._open("apart")) if has_way_apart else None,
        )

    def _open(self, way: str) -> Channel:
        self.ways.append(way)
        return _PlayedChannel(self, self._troubles.pop(0) if self._troubles else None)


class _PlayedChannel(Channel):
    def __init__(self, play: Play, trouble: QgaError | None) -> None:
        self._play = play
        self._trouble = trouble

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # the contract's
        if self._play.seconds:
            await pause(self._play.seconds)
        if self._trouble is not None:
            raise self._trouble
        self._play.exchanged.append(self._play.guest.name)
        return Exchange(Returned({}), 0, 1)

    async def metadata(self, namespace: str, timeout: float) -> str | None:  # noqa: ARG002
        return self._play.metadata

    async def close(self) -> None:
        pass


async def work(agent: GuestAgent) -> str:
    for _exchange in range(EXCHANGES):
        await agent.call("guest-ping")
    return "done"


def run(runner: Runner, *plays: Play, doing: Callable[[GuestAgent], Awaitable[str]] = work) -> list[Any]:
    """The result of each: what it returned, or the error."""
    ended: dict[int, Any] = {}

    async def run_one(play: Play) -> Any:
        try:
            return await runner.run(play.guest, doing, OPTIONS)
        except QgaError as error:
            return error

    Multiplexer[Any](len(plays), ended.__setitem__).run(iter([run_one(play) for play in plays]))
    return [ended[number] for number in range(len(plays))]


def run_one(runner: Runner, play: Play, doing: Callable[[GuestAgent], Awaitable[str]] = work) -> Any:
    (result,) = run(runner, play, doing=doing)
    return result


class TestASuspect:
    def test_is_asked_apart_and_then_alone(self) -> None:
        play = Play(troubles=[BROKEN, BROKEN])
        assert run_one(Runner(QUICK), play) == "done"
        assert play.ways == ["shared", "apart", "apart"]

    def test_has_failed_when_it_breaks_the_connection_though_it_is_asked_alone(self) -> None:
        play = Play(troubles=[BROKEN] * 3)
        error = run_one(Runner(QUICK), play)
        assert isinstance(error, HypervisorUnavailableError)
        assert error.in_call
        assert "tried apart from the others" in error.hint
        assert len(play.ways) == 3

    def test_without_a_way_apart_is_asked_alone(self) -> None:
        play = Play(troubles=[BROKEN], has_way_apart=False)
        assert run_one(Runner(QUICK), play) == "done"
        assert run_one(Runner(QUICK), Play(troubles=[BROKEN] * 2, has_way_apart=False)).in_call

    @pytest.mark.parametrize("away", [1, 5])
    def test_is_none_because_the_daemon_is_away(self, away: int) -> None:
        play = Play(troubles=[AWAY] * away)
        assert run_one(Runner(QUICK), play) == "done"
        assert set(play.ways) == {"shared"}

    def test_stays_one_while_the_daemon_is_away(self) -> None:
        play = Play(troubles=[BROKEN, AWAY, AWAY, BROKEN, AWAY])
        assert run_one(Runner(QUICK), play) == "done"
        assert play.ways == ["shared", *["apart"] * 5]

    def test_that_fails_otherwise_has_that_error(self) -> None:
        error = run_one(Runner(QUICK), Play(troubles=[BROKEN, UnresponsiveError("silent")]))
        assert error.code == "unresponsive"

    def test_is_one_only_until_it_is_done(self) -> None:
        runner = Runner(QUICK)
        assert run_one(runner, Play(troubles=[BROKEN])) == "done"
        again = Play()
        assert run_one(runner, again) == "done"
        assert again.ways == ["shared"]

    def test_does_it_again_when_tried_apart_and_has_failed_while_the_others_are_done(self) -> None:
        hostile = Play("hostile", [BROKEN] * 100)
        results = run(Runner(QUICK), hostile, *(Play(f"web{number}", [BROKEN]) for number in range(4)))
        assert results[0].code == "hypervisor_unavailable"
        assert results[1:] == ["done"] * 4
        # A turn proves nothing while other connections are still breaking, which takes longer on a busy machine.
        assert 3 <= len(hostile.ways) <= 2 + MOST_BREAKS_ALONE

    @pytest.mark.parametrize(
        ("has_way_apart", "others_broke", "ways"),
        [
            (True, [False, False, False], ["shared", "apart", "alone", "guilty"]),
            (False, [False, False], ["shared", "alone", "guilty"]),
            (True, [True, True, True, False], ["shared", "apart", "alone", "alone", "guilty"]),
            (True, [True] * 5, ["shared", "apart", "alone", "alone", "alone", "guilty"]),
        ],
    )
    def test_goes_from_way_to_way(self, has_way_apart: bool, others_broke: list[bool], ways: list[str]) -> None:
        suspicion = Suspicion("shared", has_way_apart)
        found = [suspicion.way]
        for others in others_broke:
            suspicion.on_break(BROKEN, others)
            found.append(suspicion.way if suspicion.verdict() is None else "guilty")
        assert found == ways


async def absorbing_work(agent: GuestAgent) -> str:
    """Goes on after a break, as a resync does whose step broke the connection."""
    try:
        return await work(agent)
    except HypervisorUnavailableError:
        return "broken"


class TestASuspectWhoseBreakTheWorkGotOver:
    def test_is_asked_in_the_next_way_each_time_until_it_is_found_out(self) -> None:
        runner = Runner(QUICK)
        ways = []
        for _time in range(3):
            assert runner.verdict(Play().guest) is None
            play = Play(troubles=[BROKEN])
            assert run_one(runner, play, absorbing_work) == "broken"
            ways += play.ways
        assert ways == ["shared", "apart", "apart"]
        assert runner.verdict(Play().guest) is not None

    def test_is_none_any_more_when_it_broke_nothing(self) -> None:
        runner = Runner(QUICK)
        ways = []
        for troubles in ([BROKEN], [], []):
            play = Play(troubles=troubles)
            run_one(runner, play, absorbing_work)
            ways += play.ways
        assert ways == ["shared", "apart", "shared"]


def test_what_a_daemon_that_stays_away_ends_is_not_the_guests_doing() -> None:
    for troubles in ([AWAY] * 10_000, [BROKEN, *[AWAY] * 10_000]):
        error = run_one(Runner(QUICK._replace(restart=0.02)), Play(troubles=troubles))
        assert isinstance(error, HypervisorUnavailableError)
        assert not error.in_call


class TestABreaker:
    """It has failed once, and comes again: to a service."""

    @staticmethod
    def known(runner: Runner, name: str = "web1") -> None:
        assert run_one(runner, Play(name, [BROKEN] * 3)).in_call

    def test_is_asked_alone_at_once(self) -> None:
        runner = Runner(QUICK)
        self.known(runner)
        play = Play(troubles=[BROKEN])
        assert run_one(runner, play).in_call
        assert play.ways == ["apart"]

    def test_is_none_any_more_when_it_was_done(self) -> None:
        runner = Runner(QUICK)
        self.known(runner)
        assert run_one(runner, Play()) == "done"
        play = Play()
        run_one(runner, play)
        assert play.ways == ["shared"]

    def test_is_known(self) -> None:
        runner = Runner(QUICK)
        assert runner.verdict(Play().guest) is None
        self.known(runner)
        assert runner.verdict(Play().guest) is not None
        assert runner.verdict(Play("another").guest) is None

    def test_is_forgotten_when_there_are_too_many(self) -> None:
        runner = Runner(QUICK, most_remembered=2)
        for name in ("a", "b", "c"):
            self.known(runner, name)
        assert [name for name in "abc" if runner.verdict(Play(name).guest) is not None] == ["b", "c"]


class TestTurns:
    """Of those that are asked alone."""

    @staticmethod
    def suspects(make: Callable[..., Play], slow: int, prompt: int) -> list[Play]:
        order: list[str] = []
        plays = [make(f"slow{each}", seconds=0.05, exchanged=order) for each in range(slow)]
        return [*plays, *(make(f"prompt{each}", exchanged=order) for each in range(prompt))]

    @staticmethod
    def make(name: str, **more: Any) -> Play:
        return Play(name, [BROKEN], has_way_apart=False, **more)

    def test_only_one_is_asked_at_a_time(self) -> None:
        under_way: list[str] = []

        class Watched(Play):
            def _open(self, way: str) -> Channel:
                channel = super()._open(way)
                call = channel.call

                async def watched(request: Request, timeout: float) -> Exchange:
                    if len(self.ways) > 1:
                        under_way.append(self.guest.name)
                        await pause(0.002)
                        assert under_way == [self.guest.name]
                        under_way.clear()
                    return await call(request, timeout)

                channel.call = watched  # type: ignore[method-assign]
                return channel

        plays = [Watched(f"web{number}", [BROKEN], has_way_apart=False) for number in range(5)]
        assert run(Runner(QUICK), *plays) == ["done"] * 5

    @pytest.mark.parametrize("slow", [1, 3])
    def test_a_turn_lasts_one_exchange_and_goes_to_who_has_had_the_least(self, slow: int) -> None:
        plays = self.suspects(self.make, slow, prompt=7)
        assert run(Runner(QUICK), *plays) == ["done"] * len(plays)
        order = plays[0].exchanged
        last_prompt = max(number for number, name in enumerate(order) if name.startswith("prompt"))
        # Each slow one has had a turn before it was known to be slow, and one more at the most.
        assert sum(name.startswith("slow") for name in order[:last_prompt]) <= 2 * slow

    def test_who_fails_at_its_turn_gives_it_back(self) -> None:
        # On a busy machine, others' connections may break at its first turns: the third one is its own in any case.
        broken = Play("evil", [BROKEN] * 4, has_way_apart=False)
        silent = Play("silent", [BROKEN, UnresponsiveError("silent")], has_way_apart=False)
        results = run(Runner(QUICK), broken, silent, Play("web1", [BROKEN], has_way_apart=False))
        assert [getattr(each, "code", each) for each in results] == ["hypervisor_unavailable", "unresponsive", "done"]


def test_a_channel_that_stands_for_another_passes_everything_on() -> None:
    marked = Play(troubles=[BROKEN], has_way_apart=False)
    marked.metadata = '<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>'
    runner = Runner(QUICK)

    async def pinned(agent: GuestAgent) -> str:
        await agent.call("guest-ping")
        agent.pin()
        await agent.require_same()
        await agent.come_next()
        return "done"

    async def ask(touches_clock: bool) -> Any:
        try:
            return await runner.run(marked.guest, pinned, RunOptions(5.0, touches_clock=touches_clock))
        except QgaError as error:
            return error.code

    found: dict[int, Any] = {}
    Multiplexer[Any](1, found.__setitem__).run(iter([ask(False)]))
    assert found[0] == "done"
    run_one(runner, Play(marked.guest.name, [BROKEN] * 3))
    Multiplexer[Any](1, found.__setitem__).run(iter([ask(True)]))
    assert found[0] == "opted_out"
