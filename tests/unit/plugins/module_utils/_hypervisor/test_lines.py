"""The threads of lines: how many there are, whose calls they make, and how they end."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Hypervisor, Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import (
    HELD_BACK,
    LANES,
    NEW,
    PROVEN,
    SLOW,
    Lane,
)

from tests.fakes.libvirt_replies import LibvirtError
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.line_jobs import SHORT, SLACK, URI, Jobs
from tests.support.until import until


class TestThreads:
    def test_one_does_for_one_job_after_the_other_and_none_is_started_before_there_is_one(
        self, line: Line, jobs: Jobs
    ) -> None:
        before = threading.enumerate()
        for number in range(5):
            jobs.submit(PROVEN, str(number))
            jobs.let_go(str(number))
            until(lambda: line.load == 0, "the line is still busy")
        (thread,) = jobs.threads
        assert thread not in before
        assert thread.daemon, "one that hangs keeps no program from exiting"
        assert thread.name == f"libvirt {URI}"

    def test_as_many_are_started_as_there_are_jobs_and_no_more_than_the_connection_carries(
        self, line: Line, jobs: Jobs
    ) -> None:
        jobs.submit(PROVEN, *"ab")
        jobs.settle(*"ab")
        assert len(jobs.threads) == 2
        jobs.submit(PROVEN, *"cdefg")
        jobs.settle(*"abcde")
        assert line.load == 7
        jobs.let_go("c")
        jobs.settle(*"abcdef")
        assert len(jobs.threads) == 5

    @pytest.mark.usefixtures("fake")
    def test_a_line_of_one_does_one_job_at_a_time_of_whatever_kind(self) -> None:
        line = Line(URI)
        jobs = Jobs(line)
        jobs.submit(HELD_BACK, "held back")
        jobs.settle("held back")
        jobs.submit(NEW, "new")
        jobs.submit(PROVEN, "proven")
        jobs.let_go("held back")
        jobs.settle("held back", "proven")
        jobs.let_go("proven")
        jobs.settle("held back", "proven", "new")
        jobs.let_all_go()
        line.close()

    @pytest.mark.usefixtures("fake")
    def test_progress_is_what_begins_and_what_ends(self) -> None:
        line, shared = Line(URI), Line(URI, 5)
        jobs = Jobs(line)
        time.sleep(SHORT)
        assert line.workers(NEW).are_stuck(SHORT)
        assert not shared.are_stuck(SHORT), "it is given the time by which libvirt's own limits are late"
        jobs.submit(NEW, "a")
        jobs.settle("a")
        assert not line.workers(HELD_BACK).are_stuck(SLACK)
        time.sleep(SHORT)
        assert line.are_stuck(SHORT)
        jobs.let_go("a")
        until(lambda: not line.are_stuck(SHORT), "it stays stuck")
        line.close()
        shared.close()


class TestTheReserve:
    """Of a hypervisor whose first line is the only one that is used."""

    @pytest.fixture
    def hypervisor(self, fake: FakeLibvirt) -> Iterator[Hypervisor]:  # noqa: ARG002  # in place before it
        made = Hypervisor(URI)
        yield made
        made.close()

    @pytest.fixture
    def line(self, hypervisor: Hypervisor) -> Line:
        return hypervisor.lines[0]

    def test_is_of_no_use_while_no_thread_is_held_up(self, hypervisor: Hypervisor, line: Line) -> None:
        ran: list[tuple[Lane, int]] = []
        for number in range(50):
            for lane in LANES:
                line.submit(lane, lambda what=(lane, number): ran.append(what))
        until(lambda: len(ran) == 200, "not all ran")
        assert len(set(ran)) == 200
        assert hypervisor.reserve._connections == {}

    @pytest.mark.parametrize(("lane", "held"), [(PROVEN, "abcde"), (NEW, "abcd"), (SLOW, "abcd")])
    def test_makes_the_calls_of_others_when_long_calls_hold_all_threads_that_they_might_have(
        self, jobs: Jobs, lane: Lane, held: str
    ) -> None:
        jobs.submit(PROVEN, *held)
        jobs.settle(*held)
        jobs.submit(lane, "one", "other", "third")
        until(lambda: {"one", "other", "third"} <= set(jobs.begun), "they do not begin")

    def test_makes_no_call_of_one_that_is_held_back(self, jobs: Jobs) -> None:
        jobs.submit(HELD_BACK, *"abc")
        jobs.settle(*"abc")
        jobs.submit(HELD_BACK, "d")
        time.sleep(3 * module._HELD_UP_SECONDS)
        jobs.settle(*"abc")

    def test_is_bounded_and_so_are_the_other_lines(self, jobs: Jobs) -> None:
        most = module.FLEET_CONNECTIONS * module.CALLS_PER_CONNECTION + module.RESERVE_THREADS
        names = [str(number) for number in range(most + 2)]
        jobs.submit(PROVEN, *names)
        until(lambda: len(jobs.begun) == most, "they do not begin")
        time.sleep(3 * module._HELD_UP_SECONDS)
        assert len(jobs.begun) == most
        jobs.let_go(jobs.begun[0])
        until(lambda: len(jobs.begun) == most + 1, "the next one does not begin")

    def test_is_helped_by_idle_threads_of_other_lines_when_long_calls_hold_all_of_its_own(
        self, hypervisor: Hypervisor, jobs: Jobs, released: threading.Event
    ) -> None:
        for _thread in range(module.RESERVE_THREADS):
            hypervisor.reserve.submit(PROVEN, lambda: released.wait(10))
        jobs.submit(PROVEN, *"abcde")
        jobs.settle(*"abcde")
        jobs.submit(PROVEN, "one", "other")
        jobs.submit(NEW, "third")
        until(lambda: {"one", "other", "third"} <= set(jobs.begun), "they do not begin")

    def test_has_a_connection_for_each_thread_which_breaks_alone(
        self, fake: FakeLibvirt, hypervisor: Hypervisor, released: threading.Event
    ) -> None:
        found: list[Any] = []

        def connect() -> None:
            found.append(hypervisor.reserve.connection())
            released.wait(10)

        for _thread in range(module.RESERVE_THREADS):
            hypervisor.reserve.submit(NEW, connect)
        until(lambda: len(found) == module.RESERVE_THREADS, "they do not begin")
        assert len(set(map(id, found))) == module.RESERVE_THREADS
        found[0].is_broken = True
        assert [hypervisor.reserve.is_alive(each) for each in found] == [False, True, True, True]
        assert len(fake.uris) == module.RESERVE_THREADS

    def test_calls_are_made_on_its_own_connections_whichever_line_they_are_of(
        self, fake: FakeLibvirt, line: Line, jobs: Jobs
    ) -> None:
        jobs.submit(PROVEN, *"abcde")
        jobs.settle(*"abcde")
        with Blocking(LibvirtChannel("web1", URI, line)) as channel:
            assert channel.call(Request("guest-ping"), 1.5).value == {}
        assert line._connections == {}
        assert len(fake.uris) == 1


class TestClosing:
    def test_the_connection_is_closed_once_behind_the_calls_that_still_run(
        self, fake: FakeLibvirt, line: Line, jobs: Jobs, caller: Blocking
    ) -> None:
        caller.run(line.connection, 5.0, line.workers())
        jobs.submit(HELD_BACK, *"abc", "waiting")
        jobs.settle(*"abc")
        began = time.monotonic()
        line.close()
        line.close()
        assert time.monotonic() - began < SLACK, "closing waits for nothing"
        jobs.let_go("a", "b")
        jobs.settle(*"abc", "waiting")
        jobs.let_go("waiting")
        time.sleep(SHORT)
        assert not fake.closed.is_set()
        jobs.let_go("c")
        assert fake.closed.wait(5.0)
        for thread in jobs.threads:
            thread.join(5.0)
            assert not thread.is_alive()
        assert fake.closes == 1

    def test_one_that_was_never_opened_is_not_closed(self, fake: FakeLibvirt, line: Line, jobs: Jobs) -> None:
        jobs.submit(PROVEN, *"abc")
        jobs.let_go(*"abc")
        line.close()
        for thread in jobs.threads:
            thread.join(5.0)
            assert not thread.is_alive()
        assert fake.closes == 0

    def test_a_connection_whose_daemon_has_gone_is_closed_quietly(
        self, fake: FakeLibvirt, line: Line, caller: Blocking
    ) -> None:
        fake.close_error = LibvirtError(38)
        caller.run(line.connection, 5.0, line.workers())
        line.close()
        assert fake.closed.wait(5.0)  # an error on that thread would fail the test

    def test_a_connection_that_cannot_be_closed_at_once_holds_up_nobody(
        self, fake: FakeLibvirt, line: Line, caller: Blocking, released: threading.Event
    ) -> None:
        fake.close_waits_for = released
        caller.run(line.connection, 5.0, line.workers())
        line.close()
        assert fake.closed.wait(5.0)
        began = time.monotonic()
        line.close()
        assert line.load == 0
        assert time.monotonic() - began < SLACK


def test_the_threads_of_a_line_hold_nothing_of_a_job_that_is_done(line: Line) -> None:
    thing = threading.Event()
    held = weakref.ref(thing)
    line.submit(PROVEN, partial(id, thing))
    del thing
    until(lambda: held() is None, "an idle thread holds its last job")
