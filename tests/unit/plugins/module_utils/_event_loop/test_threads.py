from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import threads as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.threads import (
    BoundedCaller,
    StillBusyError,
    Worker,
)

from tests.support.blocking import Blocking
from tests.support.until import until

pytestmark = pytest.mark.slow

NAME = "worker under test"
SHORT = 0.05  # s; the timeouts are tested with real threads
SLACK = 4.0  # s; a busy machine may take this much longer; a call that does not time out takes longer still


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(NAME)
    yield made
    made.stop()


def hanging(until: threading.Event) -> Callable[[], object]:
    return partial(until.wait, 30.0)


@contextmanager
def given_up_within(least: float, most: float = SLACK) -> Iterator[None]:
    started = time.monotonic()
    with pytest.raises(StillBusyError):
        yield
    assert least <= time.monotonic() - started < least + most


class TestACall:
    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
    def test_it_returns_the_functions_result_or_raises_its_error(
        self, caller: Blocking, worker: Worker, error: type[BaseException]
    ) -> None:
        def fail() -> None:
            raise error

        assert caller.run(lambda: 42, 5.0, worker) == 42
        with pytest.raises(error):
            caller.run(fail, 5.0, worker)
        assert caller.run(lambda: "again", 5.0, worker) == "again"

    def test_it_runs_on_the_workers_daemon_thread(self, worker: Worker) -> None:
        callers = [Blocking(BoundedCaller()) for _caller in range(3)]
        threads = {caller.run(threading.current_thread, 5.0, worker) for caller in callers for _call in range(2)}
        assert [(thread.daemon, thread.name) for thread in threads] == [(True, NAME)]
        for caller in callers:
            caller.close()


class Thing:
    """An object that a job holds, to check later whether it is still referenced."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Disable the garbage collector: only dropping the last reference frees an object."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
class TestReferences:
    def test_the_result_or_error_of_a_call_is_held_only_by_the_caller(self, caller: Blocking, worker: Worker) -> None:
        def fail(thing: Thing) -> None:
            raise ValueError(thing)

        returned = weakref.ref(caller.run(Thing, 5.0, worker))
        thing = Thing()
        raised = weakref.ref(thing)
        function = partial(fail, thing)
        del thing
        with suppress(ValueError):
            caller.run(function, 5.0, worker)
        del function
        until(lambda: returned() is raised() is None, "it is still referenced")

    @pytest.mark.parametrize("is_error", [False, True])
    def test_the_late_result_of_a_call_that_timed_out_is_dropped(
        self, caller: Blocking, worker: Worker, released: threading.Event, is_error: bool
    ) -> None:
        made: list[weakref.ref[Thing]] = []

        def late() -> Thing:
            released.wait(30.0)
            thing = Thing()
            made.append(weakref.ref(thing))
            if is_error:
                raise ValueError(thing)
            return thing

        with pytest.raises(StillBusyError) as kept:
            caller.run(late, SHORT, worker)
        released.set()
        until(lambda: bool(made) and made[0]() is None, "the late result is still referenced")
        assert kept.value.__traceback__ is not None


class TestATimeout:
    def test_a_call_that_takes_too_long_is_abandoned_and_the_calls_after_it_never_run_late(
        self, caller: Blocking, worker: Worker, released: threading.Event
    ) -> None:
        ran: list[str] = []
        with given_up_within(SHORT):
            caller.run(hanging(released), SHORT, worker)
        with given_up_within(SHORT):
            caller.run(lambda: ran.append("given up"), SHORT, worker)
        other = Worker("another")
        caller.run(lambda: ran.append("on another thread"), 5.0, other)
        other.stop()
        released.set()
        caller.run(lambda: ran.append("asked for"), 5.0, worker)
        assert ran == ["on another thread", "asked for"]

    def test_at_until_a_call_is_given_up_even_if_it_has_not_begun_and_is_never_run(
        self, caller: Blocking, worker: Worker
    ) -> None:
        ran: list[str] = []
        # Each job makes progress, so without ``until`` the call would be waited for.
        for _job in range(100):
            worker.submit(lambda: time.sleep(SHORT))
        with given_up_within(2 * SHORT, 98 * SHORT):
            caller.run(lambda: ran.append("given up"), 10 * SHORT, worker, time.monotonic() + 2 * SHORT)
        caller.run(lambda: ran.append("asked for"), 30.0, worker)
        assert ran == ["asked for"]

    def test_at_until_a_call_is_given_up_even_if_its_timeout_ends_later(
        self, caller: Blocking, worker: Worker, released: threading.Event
    ) -> None:
        with given_up_within(SHORT):
            caller.run(hanging(released), 20.0, worker, time.monotonic() + SHORT)

    def test_waiting_for_jobs_that_make_progress_does_not_count_for_the_timeout(
        self, caller: Blocking, worker: Worker, released: threading.Event
    ) -> None:
        for _job in range(9):
            worker.submit(lambda: time.sleep(SHORT))
        with given_up_within((9 + 6) * SHORT):
            caller.run(hanging(released), 6 * SHORT, worker)

    def test_a_call_that_begins_right_when_its_wait_ends_has_its_full_timeout(
        self, caller: Blocking, worker: Worker, released: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class JustMissed(Deadline):
            """Lets the call begin right after its deadline was found to have expired."""

            def expired(self) -> bool:
                is_over = super().expired()
                if is_over and not released.is_set():
                    released.set()
                    until(lambda: bool(begun), "it does not begin")
                return is_over

        monkeypatch.setattr(module, "Deadline", JustMissed)
        begun: list[str] = []

        def function() -> str:
            begun.append("begun")
            time.sleep(SHORT)
            return "done"

        worker.submit(hanging(released))
        assert caller.run(function, 4 * SHORT, worker) == "done"

    def test_a_late_ring_is_not_taken_for_the_end_of_the_next_call(
        self, caller: Blocking, worker: Worker, released: threading.Event
    ) -> None:
        def slow() -> str:
            time.sleep(2 * SHORT)
            return "its own"

        with given_up_within(SHORT):
            caller.run(hanging(released), SHORT, worker)
        released.set()
        assert caller.run(slow, 5.0, worker) == "its own"


class TestAWorker:
    def test_stopping_ends_the_thread_after_the_jobs_before_it(self, caller: Blocking) -> None:
        worker = Worker(NAME)
        thread = caller.run(threading.current_thread, 5.0, worker)
        ran: list[str] = []
        worker.submit(lambda: time.sleep(SHORT))
        worker.submit(lambda: ran.append("submitted"))
        worker.stop()
        thread.join(5.0)
        assert not thread.is_alive()
        assert ran == ["submitted"]


class TestClosing:
    def test_it_closes_both_descriptors_and_a_later_ring_writes_into_no_other_file(
        self, worker: Worker, released: threading.Event
    ) -> None:
        caller = Blocking(BoundedCaller())
        numbers = (caller._bell.descriptor, caller._bell._writer)
        with given_up_within(SHORT):
            caller.run(hanging(released), SHORT, worker)
        caller.close()
        reader, writer = os.pipe()
        try:
            assert (reader, writer) == numbers, "the numbers are not reused, so this proves nothing"
            caller.close()
            os.set_blocking(reader, False)
            released.set()
            assert Blocking(BoundedCaller()).run(lambda: "after it", 5.0, worker) == "after it"
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
        finally:
            os.close(reader)
            os.close(writer)


def test_ringing_a_bell_never_blocks_even_if_it_is_not_read() -> None:
    bell = module.Bell()
    try:
        for _ring in range(100_000):
            bell.ring()
        assert os.read(bell.descriptor, 1) == b"\0"
    finally:
        bell.close()
