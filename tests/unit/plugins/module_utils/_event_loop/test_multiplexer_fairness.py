"""How many tasks are worked on at the same time, and which of them goes on first."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import Multiplexer, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline, Task, pause, received

from tests.support.many_tasks import FOREVER, Pair, pauses, receives, run


class TestConcurrency:
    def test_no_more_are_worked_on_than_that(self) -> None:
        working: set[int] = set()
        most = []

        async def work(number: int) -> None:
            working.add(number)
            most.append(len(working))
            for _step in range(5):
                await pause(0.001)
            working.discard(number)

        run(*(work(number) for number in range(20)), concurrency=3)
        assert max(most) == 3
        assert len(most) == 20

    def test_who_only_waits_makes_room_for_others(self, pairs: list[Pair]) -> None:
        async def wake_the_silent() -> str:
            for pair in pairs:
                pair.theirs.send(b"x")
            return "last"

        # With one at a time, the silent ones come first; only if they make room is there somebody to wake them.
        ended = run(*(receives(pair) for pair in pairs), wake_the_silent(), concurrency=1)
        assert ended[0] == (4, "last")
        assert len(ended) == 5

    def test_who_gets_a_byte_now_and_then_makes_room_for_others(self, pairs: list[Pair]) -> None:
        """It is one operation, which has one deadline."""

        async def gets_drips() -> int:
            deadline, count = Deadline(FOREVER), 0
            while True:
                found = await received(pairs[0].ours.fileno(), deadline)
                assert found is not None
                if found.data.endswith(b"x"):
                    return count
                count += 1

        is_over = threading.Event()

        def drip() -> None:
            while not is_over.wait(0.005):
                pairs[0].theirs.send(b".")
            pairs[0].theirs.send(b"x")

        async def ends_it() -> str:
            is_over.set()
            return "last"

        dripping = threading.Thread(target=drip)
        dripping.start()
        ended = run(gets_drips(), ends_it(), concurrency=1)
        dripping.join()
        assert ended[0] == (1, "last")
        assert ended[1][1] > 2

    def test_who_has_waited_for_long_in_all_makes_room_for_others(self) -> None:
        is_over: list[bool] = []

        async def is_always_a_little_late() -> int:
            count = 0
            while not is_over:
                await pause(0.01)
                count += 1
            return count

        async def ends_it() -> None:
            is_over.append(True)

        ended = run(is_always_a_little_late(), ends_it(), concurrency=1, timings=Timings(most_waited=0.1))
        assert [number for number, _result in ended] == [1, 0]

    def test_they_are_begun_in_their_order(self) -> None:
        begun = []

        async def begins(number: int) -> None:
            begun.append(number)
            await pause(0.001)

        run(*(begins(number) for number in range(10)), concurrency=2)
        assert begun == list(range(10))

    def test_tasks_are_made_only_when_their_turn_comes(self) -> None:
        made = []

        def make() -> Iterator[Task[None]]:
            for number in range(6):
                made.append(number)
                yield pauses(0.001)

        at_end = []
        multiplexer: Multiplexer[None] = Multiplexer(2, lambda _number, _result: at_end.append(len(made)))
        multiplexer.run(make())
        assert at_end[0] <= 3

    def test_the_process_allows_itself_the_descriptors_that_it_may(self) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
            Multiplexer(1, lambda _number, _result: None)
            raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            assert raised > 256 or raised == hard
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    @pytest.mark.slow
    def test_more_silent_ones_than_descriptors_wait_for_their_turn(self) -> None:
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
    """Whatever a guest sends: who has it decoded lets go first whoever has computed less."""

    @staticmethod
    def compute(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            pass

    def test_who_has_computed_the_least_goes_on_first(self, pairs: list[Pair]) -> None:
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
        run(*costly, reads("cheap", pairs[2], 0.0, 20), concurrency=20)
        last_cheap = max(number for number, name in enumerate(order) if name == "cheap")
        assert order[:last_cheap].count("costly") <= 4

    def test_who_lasts_for_long_does_not_come_after_all_that_are_new(self) -> None:
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

        run(lasts(), *(is_new() for _each in range(20)), concurrency=50)
        assert order.index("lasting") <= 21

    def test_who_has_computed_a_lot_is_given_less_at_a_time(self, pairs: list[Pair]) -> None:
        sizes: list[int] = []

        async def reads() -> None:
            deadline = Deadline(FOREVER)
            for _time in range(4):
                found = await received(pairs[0].ours.fileno(), deadline)
                assert found is not None
                sizes.append(len(found.data))
                self.compute(0.01)

        pairs[0].theirs.send(b"x" * 100_000)
        run(reads())
        assert (sizes[0], sizes[-1]) == (4096, 512)
