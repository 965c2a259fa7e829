from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import (
    READING,
    WRITING,
    Deadline,
    Received,
    Task,
    Turns,
    Wait,
    answer_to,
    is_ready,
    pause,
    received,
    run,
    writable,
)

SHORT = 0.05  # s; the limits are tested with real waits
SLACK = 4.0  # s; a busy machine may take this much longer, and what is not given up takes longer still


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection, of which the first does not block."""
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        yield here, there


Ends = tuple[socket.socket, socket.socket]


def fill(connection: socket.socket) -> None:
    """Write until it takes no more."""
    while True:
        try:
            connection.send(b"x" * 65536)
        except BlockingIOError:
            return


class TestTurns:
    """On a time of their own, which only waiting moves on."""

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
        """Go on with whichever is due first, until all have ended."""
        due = {number: (now[0], each) for number, each in enumerate(waiting)}
        while due:
            number = min(due, key=lambda each: (due[each][0], each))
            now[0] = max(now[0], due[number][0])
            try:
                due[number] = (due[number][1].send(None).until, due[number][1])
            except StopIteration:
                del due[number]

    def test_one_goes_after_the_other_in_the_order_in_which_they_came(self, now: list[float]) -> None:
        turns, done = Turns(1.0), list[str]()
        self.together(now, [self.work(turns, 0.1, done, name) for name in "abc"])
        assert done == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]
        assert now[0] < 100.0 + 3 * 0.1 + 0.1

    def test_who_takes_longer_keeps_nobody_waiting(self, now: list[float]) -> None:
        turns, done = Turns(1.0), list[str]()
        self.together(now, [self.work(turns, 60.0 * (name == "slow"), done, name) for name in ("slow", "b", "c")])
        assert done == ["slow begins", "b begins", "b ends", "c begins", "c ends", "slow ends"]

    def test_a_turn_that_was_too_long_is_not_given_back_for_another_one(self, now: list[float]) -> None:
        turns, done = Turns(1.0), list[str]()
        self.together(
            now, [self.work(turns, seconds, done, name) for name, seconds in (("a", 1.2), ("b", 0.9), ("c", 0.1))]
        )
        assert done == ["a begins", "b begins", "a ends", "b ends", "c begins", "c ends"]

    @pytest.mark.parametrize("is_in_turn", [True, False])
    def test_who_is_ended_makes_room(self, now: list[float], is_in_turn: bool) -> None:
        turns, done = Turns(1.0), list[str]()
        first, second = (self.work(turns, 0.5, done, name) for name in ("first", "second"))
        first.send(None)
        second.send(None)
        (first if is_in_turn else second).close()
        self.together(now, [self.work(turns, 0.1, done, "third"), second if is_in_turn else first])
        assert "third ends" in done
        assert ("second ends" if is_in_turn else "first ends") in done


class TestADeadline:
    def test_it_ends_once_and_never_turns_negative(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        deadline = Deadline(2.5)
        assert (deadline.remaining(), deadline.expired()) == (2.5, False)
        now[0] = 102.0
        assert (deadline.remaining(), deadline.expired()) == (0.5, False)
        now[0] = 102.5
        assert (deadline.remaining(), deadline.expired()) == (0.0, True)
        now[0] = 110.0
        assert (deadline.remaining(), deadline.expired()) == (0.0, True)

    def test_it_says_when_that_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        assert Deadline(2.5).at == 102.5


class TestWhatIsWaitedFor:
    """A wait says what for and until when, and leaves the waiting to the event loop."""

    @pytest.fixture(autouse=True)
    def _now(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)

    @pytest.mark.parametrize(
        ("wait", "expected"),
        [
            (lambda: received(7, Deadline(2.0)), Wait(102.0, 7, READING)),
            (lambda: writable(7, Deadline(2.0)), Wait(102.0, 7, WRITING)),
            (lambda: pause(0.5), Wait(100.5, -1, 0)),
        ],
    )
    def test_it_is_plain_data(self, wait: Any, expected: Wait) -> None:
        assert wait() == expected

    def test_awaiting_it_hands_it_over_and_gives_what_is_sent_back(self) -> None:
        task = waiting(received(7, Deadline(2.0)))
        assert task.send(None) == Wait(102.0, 7, READING)
        with pytest.raises(StopIteration) as ended:
            task.send(Received(b"reply", 1))
        assert ended.value.value == Received(b"reply", 1)


async def pausing(seconds: float, value: Any = None) -> Any:
    """A task that waits for so long, and returns ``value`` or raises it."""
    await pause(seconds)
    if isinstance(value, Exception):
        raise value
    return value


async def waiting(wait: Wait) -> Received | None:
    return await wait


def reading(descriptor: int, seconds: float) -> Received | None:
    return run(waiting(received(descriptor, Deadline(seconds))))


def writing(descriptor: int, seconds: float) -> Received | None:
    return run(waiting(writable(descriptor, Deadline(seconds))))


class TestRunning:
    def test_it_returns_what_the_task_does_or_raises_it(self) -> None:
        assert run(pausing(0.0, "done")) == "done"
        with pytest.raises(ZeroDivisionError, match="its own"):
            run(pausing(0.0, ZeroDivisionError("its own")))

    def test_a_task_that_waits_for_nothing(self) -> None:
        async def at_once() -> str:
            return "at once"

        assert run(at_once()) == "at once"

    def test_tasks_call_each_other(self, ends: Ends) -> None:
        here, there = ends

        async def inner() -> bytes:
            found = await received(here.fileno(), Deadline(5.0))
            return b"" if found is None else found.data

        async def outer() -> list[bytes]:
            there.send(b"one")
            first = await inner()
            there.send(b"two")
            return [first, await inner()]

        assert run(outer()) == [b"one", b"two"]

    @pytest.mark.parametrize(("seconds", "least"), [(SHORT, SHORT), (0.0, 0.0), (-1.0, 0.0)])
    def test_a_pause_takes_as_long_as_it_says(self, seconds: float, least: float) -> None:
        started = time.monotonic()
        assert run(pausing(seconds)) is None
        assert least <= time.monotonic() - started < least + SLACK


class TestReading:
    def test_bytes_are_stamped_when_they_were_read(self, ends: Ends) -> None:
        here, there = ends
        there.send(b"reply")
        before_ns = time.monotonic_ns()
        found = reading(here.fileno(), 5.0)
        assert found is not None
        assert found.data == b"reply"
        assert before_ns <= found.at_ns <= time.monotonic_ns()

    def test_bytes_that_come_later_are_waited_for(self, ends: Ends) -> None:
        here, there = ends
        later = threading.Timer(SHORT, lambda: there.send(b"late"))
        started_ns = time.monotonic_ns()
        later.start()
        found = reading(here.fileno(), 5.0)
        later.join()
        assert found is not None
        assert found.data == b"late"
        assert found.at_ns - started_ns >= SHORT * 1e9

    def test_the_end_is_empty(self, ends: Ends) -> None:
        here, there = ends
        there.close()
        found = reading(here.fileno(), 5.0)
        assert found is not None
        assert found.data == b""

    def test_nothing_by_the_deadline_is_none(self, ends: Ends) -> None:
        started = time.monotonic()
        assert reading(ends[0].fileno(), SHORT) is None
        assert SHORT <= time.monotonic() - started < SHORT + SLACK

    def test_what_is_there_is_read_even_behind_the_deadline(self, ends: Ends) -> None:
        here, there = ends
        there.send(b"reply")
        found = reading(here.fileno(), -1.0)
        assert found is not None
        assert found.data == b"reply"

    def test_an_error_is_raised_where_it_is_awaited(self, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
        here, there = ends
        there.send(b"reply")
        reset = OSError(errno.ECONNRESET, "Connection reset by peer")

        def fail(_descriptor: int, _size: int) -> bytes:
            raise reset

        monkeypatch.setattr(os, "read", fail)

        async def goes_on() -> OSError | None:
            caught = None
            try:
                await received(here.fileno(), Deadline(5.0))
            except OSError as error:
                caught = error
            await pause(0.0)  # it goes on
            return caught

        assert run(goes_on()) is reset

    def test_an_error_that_is_not_caught_there_leaves_the_task(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            reading(reader, 5.0)

    @pytest.mark.parametrize("trouble", [BlockingIOError, InterruptedError])
    def test_a_descriptor_that_was_said_to_be_ready_and_has_nothing_is_waited_for_again(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch, trouble: type[OSError]
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
        found = reading(here.fileno(), 5.0)
        assert found is not None
        assert found.data == b"reply"
        assert troubles == []

    def test_one_that_goes_on_so_stretches_no_deadline(self, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tasks, "is_ready", lambda *_what: True)
        started = time.monotonic()
        assert reading(ends[0].fileno(), SHORT) is None
        assert SHORT <= time.monotonic() - started < SHORT + SLACK

    def test_a_signal_in_between_does_not_end_the_wait(self, ends: Ends) -> None:
        here, there = ends
        rang: list[int] = []

        def ring(_number: int, _frame: object) -> None:
            rang.append(len(rang))
            if len(rang) == 3:
                there.send(b"behind the signals")

        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, SHORT, SHORT)
            found = reading(here.fileno(), 5.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert found is not None
        assert found.data == b"behind the signals"
        assert len(rang) >= 3


class TestWriting:
    def test_room_is_told_at_once(self, ends: Ends) -> None:
        assert writing(ends[0].fileno(), 5.0) is not None

    def test_no_room_by_the_deadline_is_none(self, ends: Ends) -> None:
        here, _there = ends
        fill(here)
        started = time.monotonic()
        assert writing(here.fileno(), SHORT) is None
        assert SHORT <= time.monotonic() - started < SHORT + SLACK

    def test_waiting_to_write_reads_nothing(self, ends: Ends) -> None:
        here, there = ends
        there.send(b"reply")
        assert writing(here.fileno(), 5.0) is not None
        assert here.recv(100) == b"reply"


class Interrupted:
    """A task that notes how it ends, and a signal that interrupts whatever is waited for."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def task(self) -> None:
        try:
            await pause(5.0)
            self.notes.append("not interrupted")
        finally:
            self.notes.append("finally")
            await pause(SHORT)
            self.notes.append("behind a wait of its own")


def interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


class TestBeingInterrupted:
    def test_a_keyboard_interrupt_runs_what_is_to_be_done_at_the_end(self) -> None:
        interrupted = Interrupted()
        before = signal.signal(signal.SIGALRM, interrupt)
        started = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, SHORT)
            with pytest.raises(KeyboardInterrupt):
                run(interrupted.task())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert interrupted.notes == ["finally", "behind a wait of its own"]
        assert time.monotonic() - started < SHORT + SLACK

    def test_while_a_descriptor_is_waited_for(self, ends: Ends) -> None:
        before = signal.signal(signal.SIGALRM, interrupt)
        started = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, SHORT)
            with pytest.raises(KeyboardInterrupt):
                reading(ends[0].fileno(), 5.0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
        assert time.monotonic() - started < SHORT + SLACK


class TestParts:
    def test_readiness(self, ends: Ends) -> None:
        here, there = ends
        assert is_ready(here.fileno(), WRITING)
        assert not is_ready(here.fileno(), READING)
        there.send(b"x")
        assert is_ready(here.fileno(), READING)

    def test_readiness_is_waited_for(self, ends: Ends) -> None:
        started = time.monotonic()
        assert not is_ready(ends[0].fileno(), READING, started + SHORT)
        assert SHORT <= time.monotonic() - started < SHORT + SLACK

    @pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 1500, reason="no such descriptors here")
    def test_descriptors_beyond_what_select_can_name(self, ends: Ends) -> None:
        here, there = ends
        there.send(b"x")
        high = os.dup2(here.fileno(), 1500)
        try:
            assert is_ready(high, READING)
            assert reading(high, 5.0) is not None
        finally:
            os.close(high)

    def test_an_answer(self, ends: Ends) -> None:
        here, there = ends
        assert answer_to(writable(here.fileno(), Deadline(1.0))) is not None
        assert answer_to(received(here.fileno(), Deadline(1.0))) is None
        there.send(b"x" * 100_000)
        piece = answer_to(received(here.fileno(), Deadline(1.0)))
        assert piece is not None
        assert 0 < len(piece.data) <= 4096, "whoever sends much does not keep the others waiting for long"
