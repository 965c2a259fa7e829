"""A watcher of fake hypervisors: their connections, and the notices about their guests."""

from __future__ import annotations

import resource
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.multiplexer import Multiplexer
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch import causes
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.notices import (
    Connected,
    Lost,
    Notice,
    NotNeeded,
    Stale,
    WatchedGuest,
    Withdrawn,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.sources.libvirt import Retries
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.states import Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.watcher import Watcher

from tests.fakes.domains import PAUSED, Definition, uuid_of
from tests.fakes.libvirt import AGENT_CONNECTED, AGENT_DISCONNECTED, Connection, FakeHypervisor, settle
from tests.fakes.libvirt_replies import SYSTEM_ERROR, LibvirtError

HERE = "test:///here"
THERE = "test:///there"
PATIENCE = 30.0
RETRIES = Retries(first=0.005, longest=0.02)
# Timeouts for a notice that must arrive, and for one that must not.
LONG = 10.0
SHORT = 0.05

UNPAUSED, SAVED, RESTORED, FROM_FILE = (4, 0), (5, 4), (2, 2), (4, 2)

MakeWatcher = Callable[..., Watcher]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> FakeHypervisor:
    """A fake libvirt-python. All URIs lead to the same hypervisor."""
    fake = FakeHypervisor()
    monkeypatch.setattr(connections, "import_libvirt", lambda: (fake, fake))
    return fake


@pytest.fixture
def make(here: FakeHypervisor) -> Iterator[MakeWatcher]:
    made: list[Watcher] = []

    def watcher(*uris: str, **options: Any) -> Watcher:
        made.append(Watcher(uris or (HERE,), **{"patience": PATIENCE, "retries": RETRIES, **options}))
        return made[-1]

    yield watcher
    for each in made:
        each.close()
    here.wait_until_all_is_released()


def next_notice(watcher: Watcher, seconds: float = LONG) -> Notice | None:
    """Return the next notice, or None after the timeout."""
    found: list[Notice | None] = []

    async def ask() -> Notice | None:
        try:
            return await watcher.next()
        except TimeoutError:
            return None

    multiplexer: Multiplexer[Notice | None] = Multiplexer(1, lambda _number, notice: found.append(notice))
    multiplexer.run(iter([ask()]), time.monotonic() + seconds)
    return found[0]


def no_notice(watcher: Watcher) -> bool:
    settle()
    return next_notice(watcher, SHORT) is None


def guest(name: str, uri: str = HERE) -> WatchedGuest:
    return WatchedGuest(uri, uuid_of(name), name)


def stale(notice: Notice | None) -> tuple[WatchedGuest, str]:
    assert isinstance(notice, Stale), notice
    return notice.guest, notice.cause


def fire(hypervisor: FakeHypervisor, name: str, *events: tuple[int, int]) -> None:
    for event, detail in events:
        hypervisor.fire_lifecycle(name, event, detail)


def pair(watcher: Watcher) -> set[tuple[WatchedGuest, str]]:
    return {stale(next_notice(watcher)), stale(next_notice(watcher))}


@pytest.fixture
def watcher(here: FakeHypervisor, make: MakeWatcher) -> Watcher:
    """A watcher of one guest that made no scan at the start."""
    here.definitions = [Definition("web")]
    watcher = make(scans_at_start=False, timings=Timings(unreached=50_000_000))
    assert next_notice(watcher) == Connected(HERE, 1)
    return watcher


class TestAtTheStart:
    def test_all_running_guests_with_an_agent_channel_are_noticed(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.definitions = [
            Definition("web"),
            Definition("db", channel_state="disconnected"),
            Definition("idle", state=PAUSED),
            Definition("appliance", channel_state=None),
        ]
        watcher = make()
        assert next_notice(watcher) == Connected(HERE, 3)
        assert stale(next_notice(watcher)) == (guest("web"), causes.WATCH_BEGAN)
        assert no_notice(watcher)
        here.fire_agent("db", AGENT_CONNECTED)
        assert stale(next_notice(watcher)) == (guest("db"), causes.WATCH_BEGAN)

    def test_an_unreachable_hypervisor_is_one_notice_and_is_watched_later(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.stop_daemon()
        watcher = make()
        lost = next_notice(watcher)
        assert isinstance(lost, Lost)
        assert (lost.error.code, HERE in lost.error.message) == ("hypervisor_unavailable", True)
        # The error is kept, so it must not hold references.
        assert (lost.error.__traceback__, lost.error.__cause__, lost.error.__context__) == (None, None, None)
        assert no_notice(watcher)
        here.definitions = [Definition("web")]
        here.start_daemon()
        assert next_notice(watcher) == Connected(HERE, 1)
        assert stale(next_notice(watcher)) == (guest("web"), causes.WATCH_BEGAN)


def test_events_of_a_guest_become_notices(here: FakeHypervisor, watcher: Watcher) -> None:
    assert no_notice(watcher)
    begun_ns = time.monotonic_ns()
    fire(here, "web", SAVED)
    here.fire_agent("web", AGENT_DISCONNECTED)
    fire(here, "web", RESTORED, FROM_FILE)
    assert no_notice(watcher)
    here.fire_agent("web", AGENT_CONNECTED)
    notice = next_notice(watcher)
    assert stale(notice) == (guest("web"), causes.RESTORED)
    assert isinstance(notice, Stale)
    assert begun_ns <= notice.since_ns <= time.monotonic_ns()
    watcher.retry_later(notice)
    assert next_notice(watcher) == notice
    watcher.done(notice.guest)

    here.fire_agent("web", AGENT_DISCONNECTED)
    fire(here, "web", (3, 0), UNPAUSED, (3, 0))
    assert next_notice(watcher) == Withdrawn(guest("web"), causes.RESUMED, "paused")
    here.fire_reboot("web")
    here.fire_reboot("web")
    assert next_notice(watcher) == NotNeeded(guest("web"), causes.RESET)
    assert no_notice(watcher)


class TestALostConnection:
    def test_is_restored_each_time_and_all_guests_are_noticed(self, here: FakeHypervisor, watcher: Watcher) -> None:
        for number in range(1, 4):
            here.stop_daemon()
            assert isinstance(next_notice(watcher), Lost)
            here.definitions = [Definition("web"), Definition(f"new{number}")]
            here.start_daemon()
            assert next_notice(watcher) == Connected(HERE, 2)
            assert pair(watcher) == {(guest(name), causes.WATCH_RESUMED) for name in ("web", f"new{number}")}
            for name in ("web", f"new{number}"):
                watcher.done(guest(name))
        fire(here, "web", (3, 0), UNPAUSED)
        assert stale(next_notice(watcher)) == (guest("web"), causes.RESUMED)
        (living,) = [each for each in here.connections if not each.is_broken]
        assert living.registered_events == [0, 1, 18]

    def test_leaves_retries_to_the_next_scan(self, here: FakeHypervisor, watcher: Watcher) -> None:
        fire(here, "web", UNPAUSED)
        notice = next_notice(watcher)
        assert isinstance(notice, Stale)
        here.stop_daemon()
        assert isinstance(next_notice(watcher), Lost)
        watcher.retry_later(notice)
        assert no_notice(watcher)
        here.start_daemon()
        assert next_notice(watcher) == Connected(HERE, 1)
        assert stale(next_notice(watcher)) == (guest("web"), causes.WATCH_RESUMED)

    def test_holds_notices_back_until_it_is_restored(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition(name, channel_state="disconnected") for name in ("web", "db")]
        watcher = make(patience=0.05)
        assert next_notice(watcher) == Connected(HERE, 2)
        here.stop_daemon()
        assert isinstance(next_notice(watcher), Lost)
        assert no_notice(watcher)
        del here.definitions[1]
        here.start_daemon()
        assert next_notice(watcher) == Connected(HERE, 1)
        assert next_notice(watcher) == Withdrawn(guest("db"), causes.WATCH_BEGAN, "stopped")
        assert stale(next_notice(watcher)) == (guest("web"), causes.WATCH_BEGAN)

    def test_during_a_scan_withdraws_no_guest(
        self, here: FakeHypervisor, make: MakeWatcher, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here.definitions = [Definition("web"), Definition("db")]
        usual, looks = Connection.call, iter([False, True])

        def call(connection: Connection, name: str) -> Any:
            if name == "XMLDesc" and next(looks, False):
                here.break_connections()
            return usual(connection, name)

        monkeypatch.setattr(Connection, "call", call)
        watcher = make()
        assert isinstance(next_notice(watcher), Lost)
        assert next_notice(watcher) == Connected(HERE, 2)
        assert pair(watcher) == {(guest("web"), causes.WATCH_BEGAN), (guest("db"), causes.WATCH_BEGAN)}

    def test_while_guests_are_listed_is_reported(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.list_error = LibvirtError(SYSTEM_ERROR, "the daemon is ending")
        watcher = make()
        assert isinstance(next_notice(watcher), Lost)
        here.list_error = None
        assert next_notice(watcher) == Connected(HERE, 0)

    def test_does_not_touch_other_hypervisors(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web")]
        watcher = make(HERE, THERE, scans_at_start=False)
        assert {next_notice(watcher), next_notice(watcher)} == {Connected(HERE, 1), Connected(THERE, 1)}
        here.hang_up(here.connections[0])
        lost = next_notice(watcher)
        assert isinstance(lost, Lost)
        assert next_notice(watcher) == Connected(lost.uri, 1)
        assert stale(next_notice(watcher)) == (guest("web", lost.uri), causes.WATCH_RESUMED)
        watcher.done(guest("web", lost.uri))
        fire(here, "web", (3, 0), UNPAUSED)
        assert pair(watcher) == {(guest("web", uri), causes.RESUMED) for uri in (HERE, THERE)}


class TestItsCost:
    def test_memory_does_not_grow_with_the_number_of_events(self, here: FakeHypervisor, watcher: Watcher) -> None:
        names = [f"guest-{number}" for number in range(10)]

        def happen(times: int) -> None:
            """Fire events without taking the notices."""
            for _time in range(times):
                for name in names:
                    fire(here, name, (3, 0), UNPAUSED)
                    here.fire_agent(name, AGENT_CONNECTED)
                    here.fire_reboot(name)
                settle()

        happen(3)
        tracemalloc.start()
        try:
            happen(1)
            before, _peak = tracemalloc.get_traced_memory()
            happen(200)
            after, _peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 10_000
        assert isinstance(next_notice(watcher), NotNeeded)

    def test_an_idle_watcher_does_not_wake_up_and_closing_releases_everything(
        self, here: FakeHypervisor, watcher: Watcher
    ) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF)
        assert next_notice(watcher, 0.3) is None
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert after.ru_nvcsw - before.ru_nvcsw < 20
        watcher.close()
        here.wait_until_all_is_released()
        assert [each for each in threading.enumerate() if each.name.startswith("libvirt watch")] == []

    def test_closing_does_not_wait_for_a_hypervisor_that_does_not_answer(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.open_waits_for = threading.Event()
        watcher = make()
        begun = time.monotonic()
        watcher.close()
        assert time.monotonic() - begun < 5
        here.open_waits_for.set()
        here.wait_until_all_is_released()
