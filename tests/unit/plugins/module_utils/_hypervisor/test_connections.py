# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    HypervisorUnavailableError,
    MissingLibraryError,
    NotConfiguredError,
    NotFoundError,
    PermissionDeniedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.threads import BoundedCaller, StillBusyError
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import (
    NEW,
    PROVEN,
    SLOW,
    SUSPECT,
    Hypervisor,
    Lane,
    Line,
    import_libvirt,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.support.blocking import Blocking
from tests.support.fake_libvirt import FakeLibvirt, LibvirtError
from tests.support.until import until

URI = "qemu:///system"
SHORT = 0.05  # s; threads are real here
SLACK = 4.0  # s; a busy machine may take this much longer, and what is not given up takes longer still


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    fake = FakeLibvirt()
    monkeypatch.setattr(module, "import_libvirt", lambda: (fake, fake))
    return fake


@pytest.fixture
def line(fake: FakeLibvirt) -> Iterator[Line]:  # noqa: ARG001  # in place before the line
    made = Line(URI, 5)
    yield made
    made.close()


@pytest.fixture
def caller() -> Iterator[Blocking]:
    made = Blocking(BoundedCaller())
    yield made
    made.close()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Lets go of what hangs when the test is over."""
    event = threading.Event()
    yield event
    event.set()


class Jobs:
    """Jobs that hang until they are let go of, and what became of them."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._let_go: dict[str, threading.Event] = {}
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.threads: set[threading.Thread] = set()

    def submit(self, lane: Lane, *names: str) -> None:
        for name in names:
            self._let_go[name] = threading.Event()
            self._line.submit(lane, self._job(name))

    def _job(self, name: str) -> Callable[[], None]:
        def job() -> None:
            with self._lock:
                self.begun.append(name)
                self.threads.add(threading.current_thread())
            self._let_go[name].wait(30.0)
            with self._lock:
                self.ended.append(name)

        return job

    def let_go(self, *names: str) -> None:
        for name in names:
            self._let_go[name].set()
            until(lambda name=name: name in self.ended, f"{name} does not end")

    def let_all_go(self) -> None:
        for event in self._let_go.values():
            event.set()

    def settle(self, *begun: str) -> None:
        """These and no others have begun, and no other begins."""
        until(lambda: len(self.begun) >= len(begun), "they do not begin")
        time.sleep(SHORT)
        assert sorted(self.begun) == sorted(begun)


@pytest.fixture
def jobs(line: Line) -> Iterator[Jobs]:
    made = Jobs(line)
    yield made
    made.let_all_go()


class TestThreads:
    def test_none_is_started_before_there_is_something_to_do(self, fake: FakeLibvirt) -> None:
        before = threading.active_count()
        line = Line(URI, 5)
        assert threading.active_count() == before
        assert fake.uris == []
        line.close()

    def test_one_does_for_one_job_after_the_other(self, line: Line, jobs: Jobs) -> None:
        for number in range(5):
            jobs.submit(PROVEN, str(number))
            jobs.let_go(str(number))
            until(lambda: line.load == 0, "the line is still busy")
        assert len(jobs.threads) == 1
        (thread,) = jobs.threads
        assert thread.daemon, "one that hangs keeps nobody from exiting"
        assert thread.name == f"libvirt {URI}"

    def test_as_many_are_started_as_there_are_jobs_and_no_more_than_the_connection_carries(
        self, line: Line, jobs: Jobs
    ) -> None:
        jobs.submit(PROVEN, "a", "b")
        jobs.settle("a", "b")
        assert len(jobs.threads) == 2
        jobs.submit(PROVEN, "c", "d", "e", "f", "g")
        jobs.settle("a", "b", "c", "d", "e")
        assert len(jobs.threads) == 5
        assert line.load == 7
        jobs.let_go("c")
        jobs.settle("a", "b", "c", "d", "e", "f")
        assert len(jobs.threads) == 5

    @pytest.mark.usefixtures("fake")
    def test_a_line_of_one_does_one_job_at_a_time_of_whatever_kind(self) -> None:
        line = Line(URI)
        assert not line.is_shared
        jobs = Jobs(line)
        jobs.submit(SUSPECT, "suspect")
        jobs.settle("suspect")
        jobs.submit(NEW, "new")
        jobs.submit(PROVEN, "proven")
        jobs.settle("suspect")
        jobs.let_go("suspect")
        jobs.settle("suspect", "proven")
        jobs.let_go("proven")
        jobs.settle("suspect", "proven", "new")
        jobs.let_all_go()
        line.close()

    def test_progress_is_what_begins_and_what_ends(
        self, line: Line, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_OVERTIME_SECONDS", 0.0)
        time.sleep(SHORT)
        assert line.workers(NEW).are_stuck(SHORT)
        jobs.submit(NEW, "a")
        jobs.settle("a")
        assert not line.workers(SUSPECT).are_stuck(SLACK)
        time.sleep(SHORT)
        assert line.are_stuck(SHORT)
        jobs.let_go("a")
        until(lambda: not line.are_stuck(SHORT), "it stays stuck")

    def test_a_shared_line_is_given_the_time_by_which_libvirts_own_limits_are_late(self, line: Line) -> None:
        time.sleep(SHORT)
        assert not line.are_stuck(SHORT)

    @pytest.mark.slow
    def test_a_job_that_waits_behind_hanging_ones_of_its_lane_begins_as_soon_as_one_ends(
        self, line: Line, jobs: Jobs, caller: Blocking
    ) -> None:
        jobs.submit(PROVEN, "a", "b", "c", "d", "e")
        jobs.settle("a", "b", "c", "d", "e")
        with pytest.raises(StillBusyError):
            caller.run(lambda: "too late", SHORT, line.workers(PROVEN))
        jobs.let_go("a")
        assert caller.run(lambda: "in time", 5.0, line.workers(PROVEN)) == "in time"


class TestLanes:
    @pytest.mark.parametrize("lane", [NEW, SLOW])
    def test_new_and_slow_ones_never_take_all_threads(self, jobs: Jobs, lane: Lane) -> None:
        jobs.submit(lane, "a", "b", "c", "d", "e", "f")
        jobs.settle("a", "b", "c", "d")
        jobs.submit(PROVEN, "proven")
        jobs.settle("a", "b", "c", "d", "proven")
        jobs.let_go("proven")
        jobs.settle("a", "b", "c", "d", "proven")
        jobs.let_go("a")
        jobs.settle("a", "b", "c", "d", "proven", "e")

    def test_suspect_ones_spare_two(self, jobs: Jobs) -> None:
        jobs.submit(SUSPECT, "a", "b", "c", "d", "e")
        jobs.settle("a", "b", "c")
        jobs.submit(NEW, "new", "newer")
        jobs.settle("a", "b", "c", "new")
        jobs.submit(PROVEN, "proven")
        jobs.settle("a", "b", "c", "new", "proven")
        jobs.let_go("new", "proven")
        jobs.settle("a", "b", "c", "new", "proven", "newer")
        jobs.let_go("newer")
        jobs.let_go("b")
        jobs.settle("a", "b", "c", "new", "proven", "newer", "d")

    def test_proven_ones_may_take_all(self, jobs: Jobs) -> None:
        jobs.submit(PROVEN, "a", "b", "c", "d", "e")
        jobs.settle("a", "b", "c", "d", "e")

    def test_proven_ones_go_first_and_suspect_ones_last(self, jobs: Jobs) -> None:
        jobs.submit(PROVEN, "1", "2", "3", "4", "5")
        jobs.settle("1", "2", "3", "4", "5")
        jobs.submit(SUSPECT, "suspect")
        jobs.submit(SLOW, "slow")
        jobs.submit(NEW, "new")
        jobs.submit(PROVEN, "proven", "also proven")
        jobs.let_go("1", "2")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven")
        jobs.let_go("3")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven")
        jobs.let_go("4")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven", "new")
        jobs.let_go("5")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven", "new", "slow")
        jobs.let_go("proven", "also proven")
        jobs.settle("1", "2", "3", "4", "5", "proven", "also proven", "new", "slow", "suspect")
        assert jobs.begun[5:] == ["proven", "also proven", "new", "slow", "suspect"]

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("lane", [PROVEN, NEW, SLOW, SUSPECT])
    def test_within_a_lane_who_comes_first_goes_first(self, lane: Lane) -> None:
        line = Line(URI)
        ran: list[int] = []
        for number in range(20):
            line.submit(lane, lambda number=number: ran.append(number))
        line.close()
        until(lambda: line.load == 0, "the line is still busy")
        assert ran == list(range(20))

    def test_all_that_was_submitted_is_done_in_the_end(self, line: Line) -> None:
        ran: list[tuple[Lane, int]] = []
        for number in range(50):
            for lane in (SUSPECT, SLOW, NEW, PROVEN):
                line.submit(lane, lambda what=(lane, number): ran.append(what))
        until(lambda: len(ran) == 200, "not all ran")
        assert len(set(ran)) == 200

    @pytest.mark.parametrize(("lane", "held"), [(SUSPECT, "abc"), (SLOW, "abcd")])
    def test_within_a_lane_the_one_goes_first_that_has_held_threads_for_the_shortest_time(
        self, line: Line, jobs: Jobs, lane: Lane, held: str
    ) -> None:
        jobs.submit(lane, *held)
        jobs.settle(*held)
        ran: list[str] = []
        for name, seconds in (("long", 9.0), ("short", 0.5), ("longer", 20.0), ("as short", 0.5)):
            line.workers(lane, seconds).submit(lambda name=name: ran.append(name))
        jobs.let_go("a")
        until(lambda: len(ran) == 4, "not all ran")
        assert ran == ["short", "as short", "long", "longer"]


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
        ran: list[int] = []
        for number in range(200):
            line.submit(PROVEN, lambda number=number: ran.append(number))
        until(lambda: len(ran) == 200, "not all ran")
        assert hypervisor.reserve._connections == {}

    @pytest.mark.parametrize(("lane", "held"), [(PROVEN, "abcde"), (NEW, "abcd"), (SLOW, "abcd")])
    def test_makes_the_calls_of_others_when_long_calls_hold_all_threads_that_they_might_have(
        self, jobs: Jobs, lane: Lane, held: str
    ) -> None:
        jobs.submit(PROVEN, *held)
        jobs.settle(*held)
        jobs.submit(lane, "one", "other", "third")
        until(lambda: {"one", "other", "third"} <= set(jobs.begun), "they do not begin")

    def test_makes_no_call_of_a_suspect(self, jobs: Jobs) -> None:
        jobs.submit(SUSPECT, "a", "b", "c")
        jobs.settle("a", "b", "c")
        jobs.submit(SUSPECT, "d")
        time.sleep(3 * module._HELD_UP_SECONDS)
        jobs.settle("a", "b", "c")

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
    def test_the_threads_end(self, line: Line, jobs: Jobs) -> None:
        jobs.submit(PROVEN, "a", "b", "c")
        jobs.let_go("a", "b", "c")
        line.close()
        for thread in jobs.threads:
            thread.join(5.0)
            assert not thread.is_alive()

    def test_the_connection_is_closed_once_behind_the_calls_that_still_run(
        self, fake: FakeLibvirt, line: Line, jobs: Jobs, caller: Blocking
    ) -> None:
        caller.run(line.connection, 5.0, line.workers())
        jobs.submit(SUSPECT, "a", "b", "c", "waiting")
        jobs.settle("a", "b", "c")
        began = time.monotonic()
        line.close()
        line.close()
        assert time.monotonic() - began < SLACK, "closing waits for nothing"
        jobs.let_go("a", "b")
        jobs.settle("a", "b", "c", "waiting")
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
        jobs.submit(PROVEN, "a")
        jobs.let_go("a")
        line.close()
        for thread in jobs.threads:
            thread.join(5.0)
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


class TestTheConnection:
    def test_it_is_opened_by_the_first_call_and_shared_by_all(
        self, fake: FakeLibvirt, line: Line, caller: Blocking
    ) -> None:
        found = [caller.run(line.connection, 5.0, line.workers(lane)) for lane in (NEW, PROVEN, SLOW, SUSPECT)]
        assert found == [fake.connections[0]] * 4
        assert fake.uris == [URI]

    def test_calls_at_the_same_time_open_one(self, fake: FakeLibvirt, line: Line) -> None:
        fake.open_waits_for = threading.Event()
        found: list[Any] = []
        for _call in range(5):
            line.submit(PROVEN, lambda: found.append(line.connection()))
        until(lambda: fake.uris == [URI], "nobody connects")
        time.sleep(SHORT)
        fake.open_waits_for.set()
        until(lambda: len(found) == 5, "not all have a line")
        assert fake.uris == [URI]
        assert found == [fake.connections[0]] * 5

    def test_one_that_broke_is_opened_anew_by_the_next_call(
        self, fake: FakeLibvirt, line: Line, caller: Blocking
    ) -> None:
        old = caller.run(line.connection, 5.0, line.workers())
        assert line.is_alive(old)
        fake.break_connections()
        assert not line.is_alive(old)
        new = caller.run(line.connection, 5.0, line.workers())
        assert new is not old
        assert line.is_alive(new)
        assert caller.run(line.connection, 5.0, line.workers()) is new

    def test_one_that_does_not_say_whether_it_lives_does_not(
        self, fake: FakeLibvirt, line: Line, caller: Blocking
    ) -> None:
        old = caller.run(line.connection, 5.0, line.workers())
        fake.connections[0].alive_error = LibvirtError(1)
        assert not line.is_alive(old)
        assert caller.run(line.connection, 5.0, line.workers()) is not old

    @pytest.mark.parametrize(
        ("code", "int1", "kind"),
        [
            (38, 13, PermissionDeniedError),  # EACCES
            (38, 1, PermissionDeniedError),  # EPERM
            (38, 2, HypervisorUnavailableError),  # ENOENT
            (38, 111, HypervisorUnavailableError),  # ECONNREFUSED
            (libvirt.VIR_ERR_AUTH_FAILED, 0, PermissionDeniedError),
            (libvirt.VIR_ERR_AUTH_CANCELLED, 0, PermissionDeniedError),
            (libvirt.VIR_ERR_AUTH_UNAVAILABLE, 0, PermissionDeniedError),
            (libvirt.VIR_ERR_ACCESS_DENIED, 0, PermissionDeniedError),
            (libvirt.VIR_ERR_NO_CONNECT, 0, HypervisorUnavailableError),
            (libvirt.VIR_ERR_INTERNAL_ERROR, 0, HypervisorUnavailableError),
        ],
    )
    def test_one_that_cannot_be_opened_is_told_by_its_kind_and_tried_again_by_the_next_call(
        self, fake: FakeLibvirt, line: Line, caller: Blocking, code: int, int1: int, kind: type[QgaError]
    ) -> None:
        fake.open_error = LibvirtError(code, "Verbindung fehlgeschlagen", int1)
        with pytest.raises(QgaError) as caught:
            caller.run(line.connection, 5.0, line.workers())
        assert caught.value.__class__ is kind
        assert URI in caught.value.message
        assert "Verbindung fehlgeschlagen" in caught.value.message
        fake.open_error = None
        assert line.is_alive(caller.run(line.connection, 5.0, line.workers()))


def test_the_threads_of_a_line_hold_nothing_of_a_job_that_is_done(line: Line) -> None:
    class Thing:
        pass

    thing = Thing()
    held = weakref.ref(thing)
    line.submit(PROVEN, partial(id, thing))
    del thing
    until(lambda: held() is None, "an idle thread holds its last job")


class TestAHypervisor:
    def test_it_has_a_few_lines_of_as_many_calls_as_a_connection_carries(self, fake: FakeLibvirt) -> None:
        hypervisor = Hypervisor(URI)
        assert len(hypervisor.lines) == 3
        for line in hypervisor.lines:
            assert line.is_shared
            jobs = Jobs(line)
            jobs.submit(PROVEN, *"abcdef")
            jobs.settle(*"abcde")
            jobs.let_all_go()
        hypervisor.close()
        assert fake.uris == [], "nobody has asked for a connection"

    @pytest.mark.usefixtures("fake")
    def test_who_asks_for_a_line_gets_the_one_with_the_least_to_do(self) -> None:
        hypervisor = Hypervisor(URI)
        first, second, third = map(Jobs, hypervisor.lines)
        first.submit(SUSPECT, *"abcdefg")
        second.submit(PROVEN, "a")
        third.submit(NEW, "a", "b")
        assert hypervisor.line() is hypervisor.lines[1]
        first.let_all_go()
        until(lambda: hypervisor.line() is hypervisor.lines[0], "the first line is not given again")
        second.let_all_go()
        third.let_all_go()
        hypervisor.close()

    @pytest.mark.usefixtures("fake")
    def test_silent_guests_of_all_lines_are_given_up_at_the_same_instant(self) -> None:
        hypervisor = Hypervisor(URI)
        assert {line.suspects_until for line in hypervisor.lines} == {math.inf}
        hypervisor.give_up_suspects_at(5.0)
        assert {line.suspects_until for line in hypervisor.lines} == {5.0}
        hypervisor.close()

    def test_closing_closes_all_of_their_connections(self, fake: FakeLibvirt, caller: Blocking) -> None:
        hypervisor = Hypervisor(URI)
        for line in hypervisor.lines:
            caller.run(line.connection, 5.0, line.workers())
        assert fake.uris == [URI] * 3
        hypervisor.close()
        hypervisor.close()
        until(lambda: fake.closes == 3, "not all are closed")


class TestTheLibrary:
    def test_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "libvirt", None)
        with pytest.raises(MissingLibraryError, match="libvirt-python cannot be imported") as caught:
            Line(URI)
        assert "python3-libvirt" in caught.value.hint

    def test_libvirt_is_silenced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        handlers: list[Any] = []

        class Quiet:
            @staticmethod
            def registerErrorHandler(handler: Any, _context: object) -> None:  # noqa: N802  # libvirt's name
                handlers.append(handler)

        monkeypatch.setitem(sys.modules, "libvirt", Quiet)
        monkeypatch.setitem(sys.modules, "libvirt_qemu", Quiet)
        assert import_libvirt() == (Quiet, Quiet)
        assert handlers[0](None, ()) is None

    def test_a_line_to_the_real_one(self, caller: Blocking) -> None:
        line = Line("test:///default", 5)
        connection = caller.run(line.connection, 5.0, line.workers())
        assert line.is_alive(connection)
        assert caller.run(line.connection, 5.0, line.workers()) is connection
        line.close()

    def test_what_an_error_says_is_cut_for_all_who_hold_it(self) -> None:
        error = LibvirtError(1, "a" * 10_000)
        error.err = (*error.err[:4], "%s", "b" * 10_000, *error.err[6:])
        assert module.known(error) is error
        assert error.err == (1, 0, "a" * 4096, 2, "%s", "b" * 4096, None, 0, 0)
        assert str(error) == "a" * 4096

    def test_a_driver_that_cannot_tell_whether_it_lives_does(self, fake: FakeLibvirt, caller: Blocking) -> None:
        line = Line(URI)
        connection = caller.run(line.connection, 5.0, line.workers())
        for code, lives in ((3, True), (84, True), (1, False)):
            fake.connections[0].alive_error = LibvirtError(code)
            assert line.is_alive(connection) is lives
        line.close()

    @pytest.mark.parametrize("code", [3, 84, 67])
    def test_a_driver_that_has_no_domains_has_no_agents(self, fake: FakeLibvirt, caller: Blocking, code: int) -> None:
        line = Line("interface:///system")
        fake.open_error = LibvirtError(code, "not supported by the connection driver: virConnectListAllDomains")
        with pytest.raises(NotConfiguredError, match="libvirt's driver for interface:///system has no guest agents"):
            caller.run(line.connection, 5.0, line.workers())
        line.close()

    def test_an_error_that_the_binding_lost_is_known_all_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        look_up = libvirt.virConnect.lookupByName

        def look_up_and_collect_garbage(connection: libvirt.virConnect, name: str) -> libvirt.virDomain:
            with contextlib.suppress(libvirt.libvirtError):
                return look_up(connection, name)
            libvirt.virResetLastError()
            raise libvirt.libvirtError("virDomainLookupByName() failed")

        monkeypatch.setattr(libvirt.virConnect, "lookupByName", look_up_and_collect_garbage)
        with Blocking(LibvirtChannel("nosuch", "test:///default")) as channel, pytest.raises(NotFoundError):
            channel.call(Request("guest-ping"), 5.0)
