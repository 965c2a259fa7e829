"""The event loop: the order of its calls, and when it sleeps."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_handler_is_called_once_for_data_and_once_for_an_end(turned: Any, pair: Any) -> None:
    masks: list[int] = []
    turned.loop.watch(pair[0].fileno(), masks.append)
    pair[1].send(b"x")
    turned.settle()
    assert len(masks) == 1, "unread bytes must not keep the loop awake"
    assert masks[0] & select.EPOLLIN
    pair[1].close()
    turned.settle()
    assert len(masks) == 2, "a lasting end of file must not, either"
    assert masks[1] & select.EPOLLHUP


def test_a_descriptor_that_is_no_longer_watched_is_not_handled_in_the_same_round(turned: Any) -> None:
    called: list[int] = []
    ends = [socket.socketpair(), socket.socketpair()]

    def first_come(mask: int) -> None:
        called.append(mask)
        for near, _far in ends:
            turned.loop.unwatch(near.fileno())

    for near, far in ends:
        turned.loop.watch(near.fileno(), first_come)
        far.send(b"x")
    turned.settle()
    assert len(called) == 1
    for near, far in ends:
        near.close()
        far.close()


def test_handlers_are_called_for_writing_only_on_request(turned: Any, pair: Any) -> None:
    masks: list[int] = []
    near = pair[0].fileno()
    turned.loop.watch(near, masks.append)
    for wanted, seen in ((False, []), (True, [select.EPOLLOUT]), (False, [select.EPOLLOUT])):
        turned.loop.watch_writing(near, wanted)
        turned.settle()
        assert masks == seen


def test_timers_run_in_the_order_of_their_times_and_not_early(turned: Any) -> None:
    done: list[str] = []
    began = time.monotonic()
    turned.loop.later(0.02, lambda: done.append("second"))
    turned.loop.later(0.01, lambda: done.append("first"))
    turned.loop.later(0.03, lambda: done.append("third"))
    turned.until(lambda: len(done) == 3)
    assert done == ["first", "second", "third"]
    assert time.monotonic() - began >= 0.03


def test_a_timer_can_be_canceled_even_by_another_one_that_is_due_at_the_same_time(turned: Any) -> None:
    done: list[str] = []
    late = turned.loop.later(-1, lambda: done.append("late"))

    def early() -> None:
        done.append("early")
        turned.loop.cancel(late)

    turned.loop.later(-2, early)
    turned.settle()
    assert done == ["early"]


def test_soon_actions_never_keep_a_descriptor_waiting(turned: Any, pair: Any) -> None:
    rounds = 0

    def again() -> None:
        nonlocal rounds
        rounds += 1
        turned.loop.soon(again)

    turned.loop.watch(pair[0].fileno(), lambda _mask: turned.loop.stop())
    turned.loop.soon(again)
    pair[1].send(b"x")
    assert turned.loop.run() == 0
    assert rounds <= 1


def test_now_is_when_the_loop_woke_up(turned: Any, pair: Any) -> None:
    seen: list[float] = []

    def slow(_mask: int) -> None:
        seen.append(turned.loop.now)
        while time.monotonic() <= turned.loop.now:
            pass
        seen.append(turned.loop.now)
        turned.loop.look_at_clock()
        seen.append(turned.loop.now)

    turned.loop.watch(pair[0].fileno(), slow)
    before = time.monotonic()
    pair[1].send(b"x")
    turned.settle()
    assert before <= seen[0] == seen[1] < seen[2]


def test_a_signal_is_handled_in_the_loop(turned: Any) -> None:
    seen: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        turned.loop.on_signal(signal.SIGUSR1, lambda: seen.append(1))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == [], "a signal must not run anything in the middle of a request"
        turned.settle()
        assert seen == [1]
    finally:
        os.close(signal.set_wakeup_fd(-1))
        signal.signal(signal.SIGUSR1, before)
        os.close(turned.loop._wakeup)
