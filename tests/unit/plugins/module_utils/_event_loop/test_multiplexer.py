"""Many tasks on one thread, with real descriptors."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import Multiplexer, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import (
    Deadline,
    pause,
    received,
    writable,
)

from tests.support.many_tasks import FOREVER, Pair, fill, pauses, receives, returns, run


class TestWaiting:
    def test_none_at_all(self) -> None:
        assert run() == []

    def test_what_they_return_comes_with_their_number(self) -> None:
        assert run(returns("a"), returns("b")) == [(0, "a"), (1, "b")]

    def test_they_wait_side_by_side_and_end_in_their_own_order(self) -> None:
        assert run(pauses(0.06, "late"), pauses(0.02, "soon"), returns("now")) == [(2, "now"), (1, "soon"), (0, "late")]

    def test_what_arrives_is_given_with_the_time_of_its_arrival(self, pairs: list[Pair]) -> None:
        async def send_to_the_first() -> int:
            await pause(0.02)
            sent_ns = time.monotonic_ns()
            pairs[0].theirs.send(b"hello")
            return sent_ns

        results = dict(run(receives(pairs[0]), send_to_the_first()))
        assert results[0].data == b"hello"
        assert results[1] <= results[0].at_ns <= time.monotonic_ns()

    def test_the_end_of_a_stream_is_empty_bytes(self, pairs: list[Pair]) -> None:
        pairs[0].theirs.close()
        assert run(receives(pairs[0]))[0][1].data == b""

    def test_nothing_by_the_deadline_is_none(self, pairs: list[Pair]) -> None:
        assert run(receives(pairs[0], 0.03), receives(pairs[1], 0.01)) == [(1, None), (0, None)]

    def test_room_to_write(self, pairs: list[Pair]) -> None:
        async def fill_and_wait() -> tuple[bool, bool]:
            ours, theirs = pairs[0].ours, pairs[0].theirs
            fill(ours)
            is_full = await writable(ours.fileno(), Deadline(0.02)) is None
            theirs.recv(1 << 20)
            return is_full, await writable(ours.fileno(), Deadline(FOREVER)) is not None

        assert run(fill_and_wait()) == [(0, (True, True))]

    def test_a_failed_read_is_raised_where_it_is_awaited(self) -> None:
        async def from_a_reset_connection() -> str:
            listener = socket.create_server(("127.0.0.1", 0))
            ours = socket.create_connection(listener.getsockname())
            theirs, _address = listener.accept()
            ours.setblocking(False)
            theirs.send(b"unread by us")
            ours.send(b"unread by them")
            theirs.close()  # with unread bytes: a reset
            try:
                while await received(ours.fileno(), Deadline(FOREVER)):
                    pass
            except ConnectionResetError:
                return "reset"
            finally:
                ours.close()
                listener.close()
            return "ended"

        assert run(from_a_reset_connection()) == [(0, "reset")]

    def test_one_may_wait_for_several_descriptors_in_turn(self, pairs: list[Pair]) -> None:
        async def by_turns() -> bytes:
            data = b""
            for turn in range(6):
                pair = pairs[turn % 2]
                pair.theirs.send(b"%d" % turn)
                found = await received(pair.ours.fileno(), Deadline(FOREVER))
                assert found is not None
                data += found.data
            return data

        assert run(by_turns()) == [(0, b"012345")]

    def test_a_descriptor_that_was_closed_and_opened_anew_is_another_one(self) -> None:
        async def reconnects() -> list[bytes]:
            data = []
            for turn in range(3):
                pair = Pair()
                pair.theirs.send(b"%d" % turn)
                found = await received(pair.ours.fileno(), Deadline(FOREVER))
                assert found is not None
                data.append(found.data)
                pair.close()
            return data

        assert run(reconnects(), reconnects()) == [(0, [b"0", b"1", b"2"]), (1, [b"0", b"1", b"2"])]

    def test_what_comes_while_nobody_waits_is_there_later(self, pairs: list[Pair]) -> None:
        async def late() -> bytes:
            await receives(pairs[0], 0.01)
            pairs[0].theirs.send(b"meanwhile")
            await pause(0.02)
            found = await receives(pairs[0])
            assert found is not None
            return found.data

        assert run(late()) == [(0, b"meanwhile")]

    def test_a_defect_of_one_is_raised_and_the_others_are_closed(self, pairs: list[Pair]) -> None:
        closed = []

        async def waits() -> None:
            try:
                await receives(pairs[0])
            finally:
                closed.append(True)

        async def is_defective() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            run(waits(), is_defective())
        assert closed == [True]


class TimeIsUpError(Exception):
    pass


class TestTheEnd:
    @pytest.mark.parametrize("concurrency", [1, 20])
    def test_what_was_done_counts_and_the_rest_is_told(self, pairs: list[Pair], concurrency: int) -> None:
        async def waits(pair: Pair) -> str:
            try:
                await receives(pair)
            except TimeIsUpError:
                return "told"
            return "done"

        pairs[0].theirs.send(b"x")
        ended: dict[int, str] = {}
        only_when_ended = Timings(patience=FOREVER)  # one that waits makes no room here
        begun = Multiplexer(concurrency, ended.__setitem__, only_when_ended).run(
            (waits(pair) for pair in pairs), time.monotonic() + 0.1, TimeIsUpError
        )
        assert ended == {0: "done", **dict.fromkeys(range(1, begun), "told")}
        assert begun == (2 if concurrency == 1 else 4)

    def test_those_that_have_not_begun_are_not_begun(self) -> None:
        touched = []

        async def touch() -> None:
            touched.append(True)

        assert run(touch(), until=time.monotonic() - 1) == []
        assert touched == []

    def test_who_was_told_may_still_give_back_what_it_holds(self, pairs: list[Pair]) -> None:
        async def polite() -> bytes:
            try:
                await receives(pairs[0])
            except TimeIsUpError:
                pairs[0].theirs.send(b"the rest")
                found = await receives(pairs[0])
                assert found is not None
                return found.data
            return b""

        assert run(polite(), until=time.monotonic() + 0.05, time_is_up=TimeIsUpError) == [(0, b"the rest")]

    def test_who_does_not_end_is_closed(self, pairs: list[Pair]) -> None:
        closed = []

        async def stubborn() -> None:
            while True:
                try:
                    await receives(pairs[0])
                except TimeIsUpError:
                    continue
                except GeneratorExit:
                    closed.append(True)
                    raise

        async def awaits_while_it_closes() -> None:
            try:
                while True:
                    try:
                        await receives(pairs[1])
                    except TimeIsUpError:
                        continue
            finally:
                try:
                    await pause(FOREVER)
                finally:
                    closed.append(True)

        tasks = (stubborn(), awaits_while_it_closes())
        limits = {"until": time.monotonic() + 0.05, "time_is_up": TimeIsUpError}
        ended = run(*tasks, timings=Timings(grace=0.05), **limits)
        assert ended == []
        assert closed == [True, True]

    def test_nothing_is_left_open(self, pairs: list[Pair]) -> None:
        before = set(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        run(*(receives(pair, 0.01) for pair in pairs))
        assert set(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == threads


class TestAddedTasks:
    def run(self, concurrency: int, added: int = 3) -> list[tuple[int, Any]]:
        """One that adds others, and ends behind them."""
        ended: list[tuple[int, Any]] = []
        multiplexer: Multiplexer[Any] = Multiplexer(concurrency, lambda number, result: ended.append((number, result)))

        async def adds() -> str:
            for number in range(added):
                multiplexer.add(pauses(0.01, f"added {number}"))
            while len(ended) < added:
                await pause(0.01)
            return "first"

        multiplexer.run(iter([adds()]))
        return ended

    @pytest.mark.parametrize("concurrency", [2, 20])
    def test_are_run_beside_the_one_that_adds_them(self, concurrency: int) -> None:
        ended = self.run(concurrency)
        assert sorted(ended[:-1]) == [(1, "added 0"), (2, "added 1"), (3, "added 2")]
        assert ended[-1] == (0, "first")

    def test_are_all_begun_before_anything_is_waited_for(self) -> None:
        events: list[str] = []

        async def begins() -> None:
            events.append("begun")
            await pause(0.05)
            events.append("ended")

        multiplexer: Multiplexer[Any] = Multiplexer(100, lambda _number, _result: None)

        async def adds() -> None:
            for _number in range(50):
                multiplexer.add(begins())

        multiplexer.run(iter([adds()]))
        assert "ended" not in events[:50]

    def test_are_run_though_the_last_of_the_others_has_ended(self) -> None:
        ended: list[Any] = []
        multiplexer: Multiplexer[Any] = Multiplexer(1, lambda _number, result: ended.append(result))

        async def adds(left: int) -> int:
            if left:
                multiplexer.add(adds(left - 1))
            return left

        multiplexer.run(iter([adds(3)]))
        assert ended == [3, 2, 1, 0]

    def test_are_closed_unbegun_when_the_time_is_up(self) -> None:
        begun: list[int] = []

        async def begins(number: int) -> None:
            begun.append(number)

        multiplexer: Multiplexer[Any] = Multiplexer(1, lambda _number, _result: None)

        async def adds_when_it_is_late() -> None:
            with contextlib.suppress(TimeoutError):
                await pause(FOREVER)
            tasks.append(begins(1))
            multiplexer.add(tasks[0])

        tasks: list[Any] = []
        multiplexer.run(iter([adds_when_it_is_late()]), time.monotonic() + 0.02)
        assert begun == []
        assert tasks[0].cr_frame is None
