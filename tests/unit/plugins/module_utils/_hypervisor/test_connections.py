"""Connections to libvirt."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
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
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import HELD_BACK, NEW, PROVEN, SLOW
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.libvirt_replies import LibvirtError
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.line_jobs import SHORT, URI, Jobs
from tests.support.until import until


class TestTheConnection:
    def test_it_is_opened_by_the_first_call_and_shared_by_all(self, fake: FakeLibvirt, line: Line) -> None:
        fake.open_waits_for = threading.Event()
        found: list[Any] = []
        for lane in (PROVEN, PROVEN, NEW, SLOW, HELD_BACK):
            line.submit(lane, lambda: found.append(line.connection()))
        until(lambda: fake.uris == [URI], "nobody connects")
        time.sleep(SHORT)
        fake.open_waits_for.set()
        until(lambda: len(found) == 5, "not all have a line")
        assert fake.uris == [URI]
        assert found == [fake.connections[0]] * 5

    @pytest.mark.parametrize("how", ["it broke", "it does not say whether it lives"])
    def test_one_that_does_not_live_is_opened_anew_by_the_next_call(
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
    def test_a_driver_that_cannot_tell_whether_it_lives_does(
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
            # A driver that has no domains has no agents.
            (libvirt.VIR_ERR_NO_SUPPORT, 0, NotConfiguredError),
            (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, 0, NotConfiguredError),
            (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, 0, NotConfiguredError),
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


class TestAHypervisor:
    def test_it_has_a_few_lines_of_which_the_one_with_the_least_to_do_is_given(self, fake: FakeLibvirt) -> None:
        hypervisor = Hypervisor(URI)
        first, second, third = map(Jobs, hypervisor.lines)
        first.submit(HELD_BACK, *"abcdefg")
        second.submit(PROVEN, "a")
        third.submit(NEW, "a", "b")
        assert hypervisor.line() is hypervisor.lines[1]
        first.let_all_go()
        until(lambda: hypervisor.line() is hypervisor.lines[0], "the first line is not given again")
        second.let_all_go()
        third.let_all_go()
        hypervisor.close()
        assert fake.uris == [], "nobody has asked for a connection"

    @pytest.mark.usefixtures("fake")
    def test_silent_guests_of_all_lines_are_given_up_at_the_same_instant(self) -> None:
        hypervisor = Hypervisor(URI)
        assert {line.held_back_until for line in hypervisor.lines} == {math.inf}
        hypervisor.give_up_held_back_at(5.0)
        assert {line.held_back_until for line in hypervisor.lines} == {5.0}
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

    def test_what_an_error_says_is_cut_for_all_who_hold_it(self) -> None:
        error = LibvirtError(1, "a" * 10_000)
        error.err = (*error.err[:4], "%s", "b" * 10_000, *error.err[6:])
        assert module.known(error) is error
        assert error.err == (1, 0, "a" * 4096, 2, "%s", "b" * 4096, None, 0, 0)
        assert str(error) == "a" * 4096

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
