"""Many tasks on one thread, with real descriptors; ``test_tasks.py`` tests the answers to their waits."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import Multiplexer, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import (
    Deadline,
    Task,
    pause,
    received,
)

from tests.fakes.guest import SECOND, TimeLine
from tests.support.many_tasks import FOREVER, Pair, pauses, receives, returns, run


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair() for _pair in range(4)]
    yield made
    for pair in made:
        pair.close()


class TestWaiting:
    def test_tasks_wait_concurrently_and_end_in_their_own_order(self, line: TimeLine) -> None:
        tasks = (pauses(0.06, "late"), pauses(0.02, "soon"), returns("now"))
        assert run(*tasks, clock=line.monotonic) == [(2, "now"), (1, "soon"), (0, "late")]

    def test_a_task_may_wait_for_several_descriptors_in_turn(self, pairs: list[Pair]) -> None:
        async def by_turns() -> bytes:
            data = b""
            for turn in range(6):
                pairs[turn % 2].theirs.send(b"%d" % turn)
                data += (await receives(pairs[turn % 2])).data
            return data

        assert run(by_turns()) == [(0, b"012345")]

    def test_a_descriptor_that_was_closed_and_reopened_is_waited_for(self) -> None:
        async def reconnects() -> list[bytes]:
            data = []
            for turn in range(3):
                pair = Pair()
                pair.theirs.send(b"%d" % turn)
                data.append((await receives(pair)).data)
                pair.close()
            return data

        assert dict(run(reconnects(), reconnects())) == {0: [b"0", b"1", b"2"], 1: [b"0", b"1", b"2"]}

    def test_bytes_that_arrive_while_no_task_waits_are_read_later(self, pairs: list[Pair]) -> None:
        async def late() -> bytes:
            await receives(pairs[0], 0.01)
            pairs[0].theirs.send(b"meanwhile")
            await pause(0.02)
            return (await receives(pairs[0])).data

        assert run(late()) == [(0, b"meanwhile")]


class TimeIsUpError(Exception):
    pass


class TestTheEnd:
    @pytest.mark.parametrize("concurrency", [1, 20])
    def test_finished_tasks_count_and_the_others_get_an_error(
        self, line: TimeLine, pairs: list[Pair], concurrency: int
    ) -> None:
        async def waits(pair: Pair) -> str:
            try:
                await receives(pair)
            except TimeIsUpError:
                return "late"
            return "done"

        pairs[0].theirs.send(b"x")
        ended: dict[int, str] = {}
        only_when_ended = Timings(patience=FOREVER)  # here, a waiting task makes no room for another
        begun = Multiplexer(concurrency, ended.__setitem__, only_when_ended, line.monotonic).run(
            (waits(pair) for pair in pairs), line.monotonic() + 0.1, TimeIsUpError
        )
        assert ended == {0: "done", **dict.fromkeys(range(1, begun), "late")}
        assert begun == (2 if concurrency == 1 else 4)

    def test_a_late_task_may_still_release_its_resources(self, line: TimeLine, pairs: list[Pair]) -> None:
        async def polite() -> bytes:
            with contextlib.suppress(TimeIsUpError):
                await receives(pairs[0])
            pairs[0].theirs.send(b"the rest")
            return (await receives(pairs[0])).data

        limits = {"until": line.monotonic() + 0.05, "time_is_up": TimeIsUpError}
        assert run(polite(), clock=line.monotonic, **limits) == [(0, b"the rest")]

    def test_a_task_that_does_not_end_is_closed(self, line: TimeLine, pairs: list[Pair]) -> None:
        closed = []

        async def stubborn(number: int) -> None:
            try:
                while True:
                    with contextlib.suppress(TimeIsUpError):
                        await receives(pairs[number])
            finally:
                try:
                    await pause(FOREVER * number)
                finally:
                    closed.append(True)

        limits = {"until": line.monotonic() + 0.05, "time_is_up": TimeIsUpError}
        assert run(stubborn(0), stubborn(1), timings=Timings(grace=0.05), clock=line.monotonic, **limits) == []
        assert closed == [True, True]

    def test_no_descriptor_or_thread_is_left(self, pairs: list[Pair]) -> None:
        before = set(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        run(*(receives(pair, 0.01) for pair in pairs))
        assert set(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == threads


class TestAddedTasks:
    def test_they_are_run_after_the_last_of_the_others_has_ended(self) -> None:
        ended: list[Any] = []
        multiplexer: Multiplexer[Any] = Multiplexer(1, lambda _number, result: ended.append(result))

        async def adds(left: int) -> int:
            if left:
                multiplexer.add(adds(left - 1))
            return left

        multiplexer.run(iter([adds(3)]))
        assert ended == [3, 2, 1, 0]

    def test_they_are_closed_without_being_started_when_the_time_is_up(self, line: TimeLine) -> None:
        begun: list[int] = []

        async def begins(number: int) -> None:
            begun.append(number)

        multiplexer: Multiplexer[Any] = Multiplexer(1, lambda _number, _result: None, clock=line.monotonic)

        async def adds_when_it_is_late() -> None:
            with contextlib.suppress(TimeoutError):
                await pause(FOREVER)
            tasks.append(begins(1))
            multiplexer.add(tasks[0])

        tasks: list[Any] = []
        multiplexer.run(iter([adds_when_it_is_late()]), line.monotonic() + 0.02)
        assert begun == []
        assert tasks[0].cr_frame is None


class TestConcurrency:
    def test_it_is_not_exceeded_and_tasks_are_created_only_when_there_is_room(self, line: TimeLine) -> None:
        made: list[int] = []
        working: set[int] = set()
        seen: list[tuple[int, int]] = []

        async def work(number: int) -> None:
            working.add(number)
            seen.append((len(working), number - len(made)))
            for _step in range(5):
                await pause(0.001)
            working.discard(number)

        def make() -> Iterator[Task[None]]:
            for number in range(20):
                made.append(number)
                yield work(number)

        Multiplexer[None](3, lambda _number, _result: None, clock=line.monotonic).run(make())
        assert max(working for working, _ahead in seen) == 3
        assert {ahead for _working, ahead in seen} == {-1}
        assert len(seen) == 20

    def test_a_task_that_only_waits_makes_room_for_others(self, pairs: list[Pair]) -> None:
        async def wake_the_silent() -> str:
            for pair in pairs:
                pair.theirs.send(b"x")
            return "last"

        # With one at a time, the silent tasks come first; only if they make room can the last one wake them.
        ended = run(*(receives(pair) for pair in pairs), wake_the_silent(), concurrency=1)
        assert ended[0] == (4, "last")
        assert len(ended) == 5

    def test_a_task_that_gets_a_byte_now_and_then_makes_room_for_others(
        self, line: TimeLine, pairs: list[Pair]
    ) -> None:
        """All of its waits are one operation with one deadline."""

        async def gets_drips() -> int:
            deadline, count = Deadline(FOREVER), 0
            pairs[0].theirs.send(b".")
            while not (await received(pairs[0].ours.fileno(), deadline)).data.endswith(b"x"):
                count += 1
                line.now_ns += SECOND // 200  # the next byte comes 5 ms later
                pairs[0].theirs.send(b".")
            return count

        async def ends_it() -> str:
            pairs[0].theirs.send(b"x")
            return "last"

        ended = run(gets_drips(), ends_it(), concurrency=1, clock=line.monotonic)
        assert ended[0] == (1, "last")
        assert ended[1][1] > 2

    def test_a_task_that_has_waited_long_in_total_makes_room_for_others(self, line: TimeLine) -> None:
        is_over: list[bool] = []

        async def is_always_a_little_late() -> int:
            count = 0
            while not is_over:
                await pause(0.01)
                count += 1
            return count

        async def ends_it() -> None:
            is_over.append(True)

        timings = Timings(most_waited=0.1)
        ended = run(is_always_a_little_late(), ends_it(), concurrency=1, timings=timings, clock=line.monotonic)
        assert [number for number, _result in ended] == [1, 0]

    def test_the_process_raises_its_limit_of_descriptors(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
            Multiplexer(1, lambda _number, _result: None)
            raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            assert raised > 256 or raised == hard
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @pytest.mark.slow
    def test_more_silent_tasks_than_descriptors_wait_for_their_turn(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = len(os.listdir("/proc/self/fd"))
        most = []

        async def silent() -> None:
            pair = Pair()
            most.append(len(os.listdir("/proc/self/fd")))
            await receives(pair, 0.3)
            pair.close()

        multiplexer: Multiplexer[None] = Multiplexer(50, lambda _number, _result: None)
        multiplexer._most = 8
        multiplexer.run(silent() for _each in range(20))
        assert len(most) == 20
        assert max(most) - in_use <= 2 * 8 + 4
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


class TestComputing:
    """On a time line that advances only by computing and waiting, so that the order does not depend on the machine."""

    @pytest.fixture(autouse=True)
    def at(self, line: TimeLine) -> None:
        self.line = line

    def compute(self, seconds: float) -> None:
        self.line.now_ns += round(seconds * SECOND)

    def run(self, *given: Task[Any], concurrency: int = 20) -> None:
        run(*given, concurrency=concurrency, clock=self.line.monotonic)

    def test_the_task_that_has_computed_the_least_runs_first(self, pairs: list[Pair]) -> None:
        order: list[str] = []

        async def reads(name: str, pair: Pair, seconds: float, times: int) -> None:
            deadline = Deadline(FOREVER)
            for _time in range(times):
                await received(pair.ours.fileno(), deadline)
                order.append(name)
                self.compute(seconds)

        for pair in pairs[:3]:
            pair.theirs.send(b"x" * 100_000)
        costly = [reads("costly", pair, 0.01, 20) for pair in pairs[:2]]
        self.run(*costly, reads("cheap", pairs[2], 0.0, 20), concurrency=20)
        last_cheap = max(number for number, name in enumerate(order) if name == "cheap")
        assert order[:last_cheap].count("costly") <= 4

    def test_a_long_running_task_does_not_come_after_all_new_ones(self) -> None:
        order: list[str] = []

        async def lasts() -> None:
            self.compute(0.006)
            await pause(0.5)
            order.append("lasting")

        async def is_new() -> None:
            await pause(0.5)
            for _time in range(10):
                order.append("new")
                self.compute(0.001)
                await pause(0.0)

        self.run(lasts(), *(is_new() for _each in range(20)), concurrency=50)
        assert order.index("lasting") <= 21

    def test_a_task_that_has_computed_a_lot_is_given_smaller_chunks(self, pairs: list[Pair]) -> None:
        sizes: list[int] = []

        async def reads() -> None:
            deadline = Deadline(FOREVER)
            for _time in range(4):
                found = await received(pairs[0].ours.fileno(), deadline)
                assert found is not None
                sizes.append(len(found.data))
                self.compute(0.01)

        pairs[0].theirs.send(b"x" * 100_000)
        self.run(reads())
        assert (sizes[0], sizes[-1]) == (4096, 512)
