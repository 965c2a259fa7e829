# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils.channels.bounded import BoundedCaller, StillBusyError

NAME = "bounded caller under test"


@pytest.fixture
def caller() -> Iterator[BoundedCaller]:
    made = BoundedCaller(NAME)
    yield made
    made.stop()


def test_a_call_returns_what_the_function_returns(caller: BoundedCaller) -> None:
    assert caller.run(lambda: 42, 5.0) == 42
    assert caller.run(lambda: "again", 5.0) == "again"


def test_a_call_raises_what_the_function_raises(caller: BoundedCaller) -> None:
    with pytest.raises(ZeroDivisionError):
        caller.run(lambda: 1 // 0, 5.0)
    assert caller.run(lambda: 42, 5.0) == 42


def test_calls_run_on_one_thread_which_keeps_nobody_from_exiting(caller: BoundedCaller) -> None:
    one, other = (caller.run(threading.current_thread, 5.0) for _call in range(2))
    assert one is other
    assert one is not threading.current_thread()
    assert one.daemon
    assert one.name == NAME


def test_a_call_that_takes_too_long_is_left_behind_and_its_result_dropped(caller: BoundedCaller) -> None:
    release = threading.Event()
    started = time.monotonic()
    with pytest.raises(StillBusyError):
        caller.run(lambda: release.wait(30.0), 0.05)
    assert time.monotonic() - started < 1.05
    release.set()
    assert caller.run(lambda: "the next", 5.0) == "the next"


def test_a_call_behind_a_hanging_one_gives_up_in_time_and_is_never_run(caller: BoundedCaller) -> None:
    release = threading.Event()
    ran: list[str] = []
    with pytest.raises(StillBusyError):
        caller.run(lambda: release.wait(30.0), 0.05)
    with pytest.raises(StillBusyError):
        caller.run(lambda: ran.append("given up"), 0.05)
    release.set()
    caller.run(lambda: ran.append("asked for"), 5.0)
    assert ran == ["asked for"]


def test_what_is_posted_runs_in_its_turn_and_is_not_waited_for(caller: BoundedCaller) -> None:
    release = threading.Event()
    ran: list[str] = []

    def posted() -> None:
        release.wait(30.0)
        ran.append("posted")
        raise ValueError("nobody hears of this")

    caller.post(posted)
    assert ran == []
    release.set()
    caller.run(lambda: ran.append("run"), 5.0)
    assert ran == ["posted", "run"]


def test_stopping_ends_the_thread_behind_the_calls_before_it() -> None:
    caller = BoundedCaller(NAME)
    thread = caller.run(threading.current_thread, 5.0)
    ran: list[str] = []
    caller.post(lambda: ran.append("posted"))
    caller.stop()
    thread.join(5.0)
    assert not thread.is_alive()
    assert ran == ["posted"]
