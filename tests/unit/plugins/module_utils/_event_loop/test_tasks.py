from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import in_asyncio, tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import (
    Deadline,
    Received,
    Task,
    Turns,
    pause,
    received,
    run,
    writable,
)

from tests.support import many_tasks
from tests.support.many_tasks import fill, pauses

SHORT = 0.05  # s; the timeouts are tested with real waits
SLACK = 4.0  # s; a busy machine may take this much longer; a wait that does not time out takes longer still

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Two ends of a connection, of which the first does not block."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


@contextmanager
def lasting(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert seconds <= time.monotonic() - started < seconds + SLACK


class TestTurns:
    """On a clock that only waiting advances."""

    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [100.0]
        monkeypatch.setattr(tasks, "time", SimpleNamespace(monotonic=lambda: now[0]))
        return now

    @staticmethod
    async def work(turns: Turns, seconds: float, done: list[str], name: str) -> None:
        async with turns.turn():
            done.append(f"{name} begins")
            await pause(seconds)
            done.append(f"{name} ends")

    @staticmethod
    def together(now: list[float], waiting: list[Task[None]]) -> None:
        """Continue the task that is due first, until all have ended."""
        due = {number: (now[0], each) for number, each in enumerate(waiting)}
        while due:
            number = min(due, key=lambda each: (due[each][0], each))
            now[0] = max(now[0], due[number][0])
            try:
                due[number] = (due[number][1].send(None).until, due[number][1])
            except StopIteration:
                del due[number]

    @pytest.mark.parametrize(
        ("seconds", "expected", "most"),
        [
            pytest.param(
                {"a": 0.1, "b": 0.1, "c": 0.1},
                ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"],
                0.4,
                id="they take turns in the order in which they came",
            ),
            pytest.param(
                {"slow": 60.0, "b": 0.0, "c": 0.0},
                ["slow begins", "b begins", "b ends", "c begins", "c ends", "slow ends"],
                60.0,
                id="one that takes longer does not keep others waiting",
            ),
            pytest.param(
                {"a": 1.2, "b": 0.9, "c": 0.1},
                ["a begins", "b begins", "a ends", "b ends", "c begins", "c ends"],
                2.2,
                id="the late end of a turn does not end the next turn",
            ),
        ],
    )
    def test_turns_begin_and_end_in_order(
        self, now: list[float], seconds: dict[str, float], expected: list[str], most: float
    ) -> None:
        turns, done = Turns(1.0), list[str]()
        self.together(now, [self.work(turns, each, done, name) for name, each in seconds.items()])
        assert done == expected
        assert now[0] <= 100.0 + most

    @pytest.mark.parametrize("is_in_turn", [True, False])
    def test_a_closed_coroutine_makes_room(self, now: list[float], is_in_turn: bool) -> None:
        turns, done = Turns(1.0), list[str]()
        first, second = (self.work(turns, 0.5, done, name) for name in ("first", "second"))
        first.send(None)
        second.send(None)
        (first if is_in_turn else second).close()
        self.together(now, [self.work(turns, 0.1, done, "third"), second if is_in_turn else first])
        assert "third ends" in done
        assert ("second ends" if is_in_turn else "first ends") in done


def test_a_deadline_ends_once_and_never_turns_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    deadline = Deadline(2.5)
    assert deadline.at == 102.5
    for now[0], remaining in ((100.0, 2.5), (102.0, 0.5), (102.5, 0.0), (110.0, 0.0)):
        assert (deadline.remaining(), deadline.expired()) == (remaining, remaining == 0.0)


Loop = Callable[[Task[Any]], Any]


LOOPS: dict[str, Loop] = {
    "for one task": run,
    "for many": lambda task: many_tasks.run(task)[0][1],
    "in asyncio": lambda task: asyncio.run(in_asyncio.run(task)),
}


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Loop:
    return LOOPS[request.param]


async def reading(end: socket.socket, seconds: float = 5.0) -> Received | None:
    return await received(end.fileno(), Deadline(seconds))


async def writing(end: socket.socket, seconds: float = 5.0) -> Received | None:
    return await writable(end.fileno(), Deadline(seconds))


class TestRunning:
    def test_it_returns_the_tasks_result_or_raises_its_error(self, loop: Loop) -> None:
        async def fails() -> None:
            await pause(0.0)
            raise ZeroDivisionError("its own")

        assert loop(pauses(0.0, "done")) == "done"
        with pytest.raises(ZeroDivisionError, match="its own"):
            loop(fails())

    @pytest.mark.parametrize(("seconds", "least"), [(SHORT, SHORT), (0.0, 0.0), (-1.0, 0.0)])
    def test_a_pause_takes_its_time(self, loop: Loop, seconds: float, least: float) -> None:
        with lasting(least):
            loop(pauses(seconds))


class TestReading:
    def test_bytes_that_are_there_are_read_even_after_the_deadline(self, loop: Loop, ends: Ends) -> None:
        here, there = ends
        there.send(b"reply")
        assert loop(reading(here, -1.0)).data == b"reply"

    def test_later_bytes_are_waited_for_and_stamped_when_they_are_read(self, loop: Loop, ends: Ends) -> None:
        here, there = ends
        later = threading.Timer(SHORT, lambda: there.send(b"late"))
        started_ns = time.monotonic_ns()
        later.start()
        found = loop(reading(here))
        later.join()
        assert found.data == b"late"
        assert started_ns + SHORT * 1e9 <= found.at_ns <= time.monotonic_ns()

    def test_long_data_is_read_in_chunks_and_the_end_is_empty(self, loop: Loop, ends: Ends) -> None:
        here, there = ends
        there.send(b"x" * 5000)
        there.close()
        assert [len(loop(reading(here)).data) for _read in range(3)] == [4096, 904, 0]

    def test_nothing_by_the_deadline_is_none(self, loop: Loop, ends: Ends) -> None:
        with lasting(SHORT):
            assert loop(reading(ends[0], SHORT)) is None

    def test_an_error_is_raised_where_it_is_awaited(self, loop: Loop, ends: Ends) -> None:
        here, there = ends
        here.send(b"unread by them")
        there.close()

        async def goes_on() -> str:
            with pytest.raises(ConnectionResetError):
                await reading(here)
            await pause(0.0)
            return "it goes on"

        assert loop(goes_on()) == "it goes on"

    @pytest.mark.parametrize("trouble", [BlockingIOError, InterruptedError])
    def test_a_descriptor_that_was_reported_ready_but_is_empty_is_waited_for_again(
        self, loop: Loop, ends: Ends, monkeypatch: pytest.MonkeyPatch, trouble: type[OSError]
    ) -> None:
        here, there = ends
        there.send(b"reply")
        troubles = [trouble(), trouble()]
        read = os.read

        def read_at_last(descriptor: int, size: int) -> bytes:
            if troubles:
                raise troubles.pop()
            return read(descriptor, size)

        monkeypatch.setattr(os, "read", read_at_last)
        assert loop(reading(here)).data == b"reply"
        assert troubles == []

    def test_false_reports_do_not_extend_the_deadline(self, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks, "is_ready", lambda *_what: True)
        with lasting(SHORT):
            assert run(reading(ends[0], SHORT)) is None

    @pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1500, reason="descriptors are limited")
    def test_descriptors_above_those_of_select_can_be_waited_for(self, ends: Ends) -> None:
        here, there = ends
        there.send(b"x")
        os.dup2(here.fileno(), 1500)
        with socket.socket(fileno=1500) as high:
            assert run(reading(high)) is not None


class TestWriting:
    def test_room_is_reported_at_once_without_reading(self, loop: Loop, ends: Ends) -> None:
        here, there = ends
        there.send(b"reply")
        assert loop(writing(here)) is not None
        assert here.recv(100) == b"reply"

    def test_no_room_by_the_deadline_is_none(self, loop: Loop, ends: Ends) -> None:
        fill(ends[0])
        with lasting(SHORT):
            assert loop(writing(ends[0], SHORT)) is None


@contextmanager
def alarms(handler: Any, *times: float) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, *times)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


class TestSignals:
    def test_a_signal_does_not_end_the_wait(self, loop: Loop, ends: Ends) -> None:
        here, there = ends
        rang: list[int] = []

        def ring(_number: int, _frame: object) -> None:
            rang.append(len(rang))
            if len(rang) == 3:
                there.send(b"after the signals")

        with alarms(ring, SHORT, SHORT):
            assert loop(reading(here)).data == b"after the signals"

    @pytest.mark.parametrize("what", ["a pause", "a descriptor"])
    def test_a_keyboard_interrupt_runs_the_cleanup(self, ends: Ends, what: str) -> None:
        notes: list[str] = []

        def interrupt(_number: int, _frame: object) -> NoReturn:
            raise KeyboardInterrupt

        async def waits() -> None:
            try:
                await (pause(5.0) if what == "a pause" else received(ends[0].fileno(), Deadline(5.0)))
                notes.append("not interrupted")
            finally:
                notes.append("finally")
                await pause(SHORT)
                notes.append("after a wait")

        with lasting(SHORT), alarms(interrupt, SHORT), pytest.raises(KeyboardInterrupt):
            run(waits())
        assert notes == ["finally", "after a wait"]
