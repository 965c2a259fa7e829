# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many conversations on one thread, with real descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import multiplexer
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import Multiplexer
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import (
    Conversation,
    Deadline,
    Received,
    pause,
    received,
    writable,
)

FOREVER = 60.0


class Pair:
    """Two ends of a socket: ours, which conversations wait on, and theirs."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair() for _pair in range(4)]
    yield made
    for pair in made:
        pair.close()


def run(*conversations: Conversation[Any], concurrency: int = 20, **limits: Any) -> list[tuple[int, Any]]:
    """What they returned, in the order in which they ended."""
    ended: list[tuple[int, Any]] = []
    multiplexer: Multiplexer[Any] = Multiplexer(concurrency, lambda number, result: ended.append((number, result)))
    multiplexer.run(iter(conversations), **limits)
    return ended


async def returns(value: Any) -> Any:
    return value


async def pauses(seconds: float, value: Any = None) -> Any:
    await pause(seconds)
    return value


async def receives(pair: Pair, seconds: float = FOREVER) -> Received | None:
    return await received(pair.ours.fileno(), Deadline(seconds))


def fill(end: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            end.send(bytes(65536))


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

    def test_who_has_waited_for_long_in_all_makes_room_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(multiplexer, "_MOST_WAITED_SECONDS", 0.1)
        is_over: list[bool] = []

        async def is_always_a_little_late() -> int:
            count = 0
            while not is_over:
                await pause(0.01)
                count += 1
            return count

        async def ends_it() -> None:
            is_over.append(True)

        ended = run(is_always_a_little_late(), ends_it(), concurrency=1)
        assert [number for number, _result in ended] == [1, 0]

    def test_they_are_begun_in_their_order(self) -> None:
        begun = []

        async def begins(number: int) -> None:
            begun.append(number)
            await pause(0.001)

        run(*(begins(number) for number in range(10)), concurrency=2)
        assert begun == list(range(10))

    def test_conversations_are_made_only_when_their_turn_comes(self) -> None:
        made = []

        def make() -> Iterator[Conversation[None]]:
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


class TimeIsUpError(Exception):
    pass


class TestTheEnd:
    @pytest.mark.parametrize("concurrency", [1, 20])
    def test_what_was_done_counts_and_the_rest_is_told(
        self, pairs: list[Pair], concurrency: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(multiplexer, "_PATIENCE_SECONDS", FOREVER)  # who waits makes no room here

        async def waits(pair: Pair) -> str:
            try:
                await receives(pair)
            except TimeIsUpError:
                return "told"
            return "done"

        pairs[0].theirs.send(b"x")
        ended: dict[int, str] = {}
        begun = Multiplexer(concurrency, ended.__setitem__).run(
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

    def test_who_does_not_end_is_closed(self, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
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

        monkeypatch.setattr(
            "ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer._GRACE_SECONDS", 0.05
        )
        ended = run(stubborn(), awaits_while_it_closes(), until=time.monotonic() + 0.05, time_is_up=TimeIsUpError)
        assert ended == []
        assert closed == [True, True]

    def test_nothing_is_left_open(self, pairs: list[Pair]) -> None:
        before = set(os.listdir("/proc/self/fd"))
        threads = threading.active_count()
        run(*(receives(pair, 0.01) for pair in pairs))
        assert set(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == threads


class TestAddedConversations:
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
            conversations.append(begins(1))
            multiplexer.add(conversations[0])

        conversations: list[Any] = []
        multiplexer.run(iter([adds_when_it_is_late()]), time.monotonic() + 0.02)
        assert begun == []
        assert conversations[0].cr_frame is None
