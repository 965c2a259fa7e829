"""Connections to libvirt and their threads: their number, the calls that they make, and closing them."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Iterator
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
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import (
    Hypervisor,
    Line,
    import_libvirt,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import (
    HELD_BACK,
    NEW,
    PROVEN,
    SLOW,
    Lane,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.libvirt_replies import LibvirtError
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.line_jobs import SHORT, SLACK, URI, Jobs
from tests.support.until import until


class TestTheConnection:
    def test_the_first_call_opens_it_and_all_calls_share_it(self, fake: FakeLibvirt, line: Line) -> None:
        fake.open_waits_for = threading.Event()
        found: list[Any] = []
        for lane in (PROVEN, PROVEN, NEW, SLOW, HELD_BACK):
            line.submit(lane, lambda: found.append(line.connection()))
        until(lambda: fake.uris == [URI], "no thread connects")
        time.sleep(SHORT)
        fake.open_waits_for.set()
        until(lambda: len(found) == 5, "not all have a connection")
        assert fake.uris == [URI]
        assert found == [fake.connections[0]] * 5

    @pytest.mark.parametrize("how", ["it broke", "its state is unknown"])
    def test_the_next_call_reopens_it_if_it_is_not_alive(
        self, fake: FakeLibvirt, line: Line, caller: Blocking, how: str
    ) -> None:
        old = caller.run(line.connection, 5.0, line.workers())
        assert line.is_alive(old)
        if how == "it broke":
            fake.break_connections()
        else:
            fake.connections[0].alive_error = LibvirtError(1)
        assert not line.is_alive(old)
        new = caller.run(line.connection, 5.0, line.workers())
        assert new is not old
        assert line.is_alive(new)
        assert caller.run(line.connection, 5.0, line.workers()) is new

    @pytest.mark.parametrize("code", [3, 84])
    def test_it_counts_as_alive_if_the_driver_does_not_report_that(
        self, fake: FakeLibvirt, line: Line, caller: Blocking, code: int
    ) -> None:
        connection = caller.run(line.connection, 5.0, line.workers())
        fake.connections[0].alive_error = LibvirtError(code)
        assert line.is_alive(connection)

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
            # A driver without domains has no agents.
            (libvirt.VIR_ERR_NO_SUPPORT, 0, NotConfiguredError),
            (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, 0, NotConfiguredError),
            (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, 0, NotConfiguredError),
        ],
    )
    def test_failing_to_open_it_is_an_error_of_its_class_and_the_next_call_retries(
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


class TestAHypervisor:
    def test_it_returns_the_line_with_the_smallest_load(self, fake: FakeLibvirt) -> None:
        hypervisor = Hypervisor(URI)
        first, second, third = map(Jobs, hypervisor.lines)
        first.submit(HELD_BACK, *"abcdefg")
        second.submit(PROVEN, "a")
        third.submit(NEW, "a", "b")
        assert hypervisor.line() is hypervisor.lines[1]
        first.let_all_go()
        until(lambda: hypervisor.line() is hypervisor.lines[0], "the first line is not returned again")
        second.let_all_go()
        third.let_all_go()
        hypervisor.close()
        assert fake.uris == [], "no call needed a connection"

    def test_closing_it_closes_the_connections_of_all_lines(self, fake: FakeLibvirt, caller: Blocking) -> None:
        hypervisor = Hypervisor(URI)
        for line in hypervisor.lines:
            caller.run(line.connection, 5.0, line.workers())
        assert fake.uris == [URI] * 3
        hypervisor.close()
        hypervisor.close()
        until(lambda: fake.closes == 3, "not all are closed")


class TestTheLibrary:
    def test_a_missing_library_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "libvirt", None)
        with pytest.raises(MissingLibraryError) as caught:
            Line(URI)
        assert caught.value.message.startswith(f"the library libvirt-python cannot be imported by {sys.executable}: ")
        assert "ansible_python_interpreter" in caught.value.hint

    def test_it_prints_no_error(self, capfd: pytest.CaptureFixture[str]) -> None:
        library, _for_qemu = import_libvirt()
        with pytest.raises(library.libvirtError):
            library.open("nonsense:///system")
        assert capfd.readouterr() == ("", "")

    def test_the_texts_of_an_error_are_truncated_in_place(self) -> None:
        error = LibvirtError(1, "a" * 10_000)
        error.err = (*error.err[:4], "%s", "b" * 10_000, *error.err[6:])
        assert module.known(error) is error
        assert error.err == (1, 0, "a" * 4096, 2, "%s", "b" * 4096, None, 0, 0)
        assert str(error) == "a" * 4096

    def test_the_details_of_an_error_are_known_even_if_the_binding_lost_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look_up = libvirt.virConnect.lookupByName

        def look_up_and_collect_garbage(connection: libvirt.virConnect, name: str) -> libvirt.virDomain:
            with contextlib.suppress(libvirt.libvirtError):
                return look_up(connection, name)
            libvirt.virResetLastError()
            raise libvirt.libvirtError("virDomainLookupByName() failed")

        monkeypatch.setattr(libvirt.virConnect, "lookupByName", look_up_and_collect_garbage)
        with Blocking(LibvirtChannel("nosuch", "test:///default")) as channel, pytest.raises(NotFoundError):
            channel.call(Request("guest-ping"), 5.0)


class TestThreads:
    def test_one_is_started_for_each_waiting_job_up_to_the_calls_of_a_connection(self, line: Line, jobs: Jobs) -> None:
        for name in "12345":
            jobs.submit(PROVEN, name)
            jobs.let_go(name)
            until(lambda: line.load == 0, "the line is still busy")
        assert len(jobs.threads) == 1, "one thread is enough for one job after the other"
        jobs.submit(PROVEN, *"abcdefg")
        jobs.settle(*"12345abcde")
        assert line.load == 7
        jobs.let_go("c")
        jobs.settle(*"12345abcdef")
        assert {(thread.daemon, thread.name) for thread in jobs.threads} == {(True, f"libvirt {URI}")}
        assert len(jobs.threads) == 5

    @pytest.mark.usefixtures("fake")
    def test_a_line_with_one_thread_runs_one_job_at_a_time_from_any_lane(self) -> None:
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
    def test_a_job_that_begins_or_ends_is_progress(self) -> None:
        line, shared = Line(URI), Line(URI, 5)
        jobs = Jobs(line)
        time.sleep(SHORT)
        assert line.workers(NEW).are_stuck(SHORT)
        assert not shared.are_stuck(SHORT), "it does not allow for libvirt's late timeouts"
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
    """The reserve of a hypervisor where only the first line is used."""

    @pytest.fixture
    def hypervisor(self, fake: FakeLibvirt, request: pytest.FixtureRequest) -> Iterator[Hypervisor]:  # noqa: ARG002  # installed before it
        made = Hypervisor(URI, getattr(request, "param", module.HELD_UP_SECONDS))
        yield made
        made.close()

    @pytest.fixture
    def line(self, hypervisor: Hypervisor) -> Line:
        return hypervisor.lines[0]

    @pytest.mark.parametrize("hypervisor", [60.0], indirect=True)
    def test_it_makes_no_calls_while_no_thread_is_held_up(self, jobs: Jobs) -> None:
        jobs.submit(PROVEN, *"abcdef")
        jobs.settle(*"abcde")
        jobs.let_go("c")
        jobs.settle(*"abcdef")

    @pytest.mark.parametrize(("lane", "held"), [(PROVEN, "abcde"), (NEW, "abcd"), (SLOW, "abcd")])
    def test_it_makes_calls_of_others_when_long_calls_hold_all_of_their_threads(
        self, jobs: Jobs, lane: Lane, held: str
    ) -> None:
        jobs.submit(PROVEN, *held)
        jobs.settle(*held)
        jobs.submit(lane, "one", "other", "third")
        until(lambda: {"one", "other", "third"} <= set(jobs.begun), "they do not begin")

    def test_it_makes_no_call_of_a_guest_that_is_held_back(self, jobs: Jobs) -> None:
        jobs.submit(HELD_BACK, *"abc")
        jobs.settle(*"abc")
        jobs.submit(HELD_BACK, "d")
        time.sleep(3 * module.HELD_UP_SECONDS)
        jobs.settle(*"abc")

    def test_its_threads_and_those_of_the_other_lines_are_limited(self, jobs: Jobs) -> None:
        most = module.FLEET_CONNECTIONS * module.CALLS_PER_CONNECTION + module.RESERVE_THREADS
        names = [str(number) for number in range(most + 2)]
        jobs.submit(PROVEN, *names)
        until(lambda: len(jobs.begun) == most, "they do not begin")
        time.sleep(3 * module.HELD_UP_SECONDS)
        assert len(jobs.begun) == most
        jobs.let_go(jobs.begun[0])
        until(lambda: len(jobs.begun) == most + 1, "the next one does not begin")

    def test_idle_threads_of_other_lines_help_when_long_calls_hold_all_of_its_own(
        self, hypervisor: Hypervisor, jobs: Jobs, released: threading.Event
    ) -> None:
        for _thread in range(module.RESERVE_THREADS):
            hypervisor.reserve.submit(PROVEN, lambda: released.wait(10))
        jobs.submit(PROVEN, *"abcde")
        jobs.settle(*"abcde")
        jobs.submit(PROVEN, "one", "other")
        jobs.submit(NEW, "third")
        until(lambda: {"one", "other", "third"} <= set(jobs.begun), "they do not begin")

    def test_each_of_its_threads_has_its_own_connection_which_breaks_alone(
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

    def test_it_makes_the_calls_of_other_lines_on_its_own_connections(
        self, fake: FakeLibvirt, line: Line, jobs: Jobs
    ) -> None:
        jobs.submit(PROVEN, *"abcde")
        jobs.settle(*"abcde")
        with Blocking(LibvirtChannel("web1", URI, line)) as channel:
            assert channel.call(Request("guest-ping"), 1.5).value == {}
        assert line._connections == {}
        assert len(fake.uris) == 1


class TestClosing:
    def test_the_connection_is_closed_once_after_the_calls_that_still_run(
        self, fake: FakeLibvirt, line: Line, jobs: Jobs, caller: Blocking
    ) -> None:
        caller.run(line.connection, 5.0, line.workers())
        jobs.submit(HELD_BACK, *"abc", "waiting")
        jobs.settle(*"abc")
        began = time.monotonic()
        line.close()
        line.close()
        assert time.monotonic() - began < SLACK, "closing waits"
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

    def test_a_connection_whose_daemon_has_gone_is_closed_quietly(
        self, fake: FakeLibvirt, line: Line, caller: Blocking
    ) -> None:
        fake.close_error = LibvirtError(38)
        caller.run(line.connection, 5.0, line.workers())
        line.close()
        assert fake.closed.wait(5.0)  # an error on that thread would fail the test

    def test_a_connection_that_is_slow_to_close_does_not_block(
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


def test_the_threads_of_a_line_keep_no_reference_to_a_finished_job(line: Line) -> None:
    thing = threading.Event()
    held = weakref.ref(thing)
    line.submit(PROVEN, partial(id, thing))
    del thing
    until(lambda: held() is None, "an idle thread keeps its last job")
