"""A watcher of hypervisors that are stand-ins: what becomes of connections, and of what they tell."""

from __future__ import annotations

import resource
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import MissingLibraryError
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
# For what has to come, and for what must not.
LONG = 10.0
SHORT = 0.05

BOOTED, UNPAUSED, SAVED, RESTORED, FROM_FILE = (2, 0), (4, 0), (5, 4), (2, 2), (4, 2)

MakeWatcher = Callable[..., Watcher]


class Hypervisors:
    """In place of ``libvirt``, with one stand-in for each uri."""

    libvirtError = LibvirtError  # noqa: N815  # libvirt's name

    def __init__(self, **_unused: Any) -> None:
        self.by_uri = {HERE: FakeHypervisor(), THERE: FakeHypervisor()}
        self.virEventRegisterDefaultImpl = self.by_uri[HERE].virEventRegisterDefaultImpl
        self.virEventRunDefaultImpl = self.by_uri[HERE].virEventRunDefaultImpl

    def open(self, uri: str) -> Any:
        return self.by_uri[uri].open(uri)

    def modules(self) -> tuple[Any, Any]:
        return self, self


@pytest.fixture
def hypervisors(monkeypatch: pytest.MonkeyPatch) -> Hypervisors:
    made = Hypervisors()
    monkeypatch.setattr(connections, "import_libvirt", made.modules)
    return made


@pytest.fixture
def here(hypervisors: Hypervisors) -> FakeHypervisor:
    return hypervisors.by_uri[HERE]


@pytest.fixture
def make(hypervisors: Hypervisors) -> Iterator[MakeWatcher]:
    made: list[Watcher] = []

    def watcher(*uris: str, **options: Any) -> Watcher:
        made.append(Watcher(uris or (HERE,), **{"patience": PATIENCE, "retries": RETRIES, **options}))
        return made[-1]

    yield watcher
    for each in made:
        each.close()
    for each in hypervisors.by_uri.values():
        each.wait_until_all_is_given_back()


def told(watcher: Watcher, seconds: float = LONG) -> Notice | None:
    """The next thing that it tells; None: nothing by then."""
    found: list[Notice | None] = []

    async def ask() -> Notice | None:
        try:
            return await watcher.next()
        except TimeoutError:
            return None

    multiplexer: Multiplexer[Notice | None] = Multiplexer(1, lambda _number, news: found.append(news))
    multiplexer.run(iter([ask()]), time.monotonic() + seconds)
    return found[0]


def told_nothing(watcher: Watcher) -> bool:
    settle()
    return told(watcher, SHORT) is None


def guest(name: str, uri: str = HERE) -> WatchedGuest:
    return WatchedGuest(uri, uuid_of(name), name)


def stale(news: Notice | None) -> tuple[WatchedGuest, str]:
    assert isinstance(news, Stale), news
    return news.guest, news.cause


def fire(hypervisor: FakeHypervisor, name: str, *events: tuple[int, int]) -> None:
    for event, detail in events:
        hypervisor.fire_lifecycle(name, event, detail)


class TestAtTheStart:
    def test_all_running_guests_are_told_of(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web"), Definition("db"), Definition("idle", state=PAUSED)]
        watcher = make()
        assert told(watcher) == Connected(HERE, 2)
        found = {stale(told(watcher)), stale(told(watcher))}
        assert found == {(guest("web"), causes.WATCH_BEGAN), (guest("db"), causes.WATCH_BEGAN)}
        assert told_nothing(watcher)

    def test_no_guest_is_told_of_if_that_is_not_wanted(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web")]
        watcher = make(passes_at_start=False)
        assert told(watcher) == Connected(HERE, 1)
        assert told_nothing(watcher)
        fire(here, "web", UNPAUSED)
        assert stale(told(watcher)) == (guest("web"), causes.RESUMED)

    def test_a_guest_without_a_port_for_an_agent_is_left_out(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("appliance", channel_state=None)]
        watcher = make()
        assert told(watcher) == Connected(HERE, 1)
        assert told_nothing(watcher)

    def test_a_guest_whose_agent_is_not_connected_is_told_of_when_it_is(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.definitions = [Definition("web", channel_state="disconnected")]
        watcher = make()
        assert told(watcher) == Connected(HERE, 1)
        assert told_nothing(watcher)
        here.fire_agent("web", AGENT_CONNECTED)
        assert stale(told(watcher)) == (guest("web"), causes.WATCH_BEGAN)

    def test_a_hypervisor_that_is_not_there_yet_is_said_once_and_found_later(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.stop_daemon()
        watcher = make()
        lost = told(watcher)
        assert isinstance(lost, Lost)
        assert lost.error.code == "hypervisor_unavailable"
        assert HERE in lost.error.message
        assert told_nothing(watcher)
        here.definitions = [Definition("web")]
        here.start_daemon()
        assert told(watcher) == Connected(HERE, 1)
        assert stale(told(watcher)) == (guest("web"), causes.WATCH_BEGAN)

    def test_an_error_that_is_told_holds_nothing_else(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.open_error = LibvirtError(38, "Failed to connect socket")
        lost = told(make())
        assert isinstance(lost, Lost)
        assert (lost.error.__traceback__, lost.error.__cause__, lost.error.__context__) == (None, None, None)

    def test_without_libvirt_python_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nowhere() -> tuple[ModuleType, ModuleType]:
            raise MissingLibraryError("cannot be imported")

        monkeypatch.setattr(connections, "import_libvirt", nowhere)
        with pytest.raises(MissingLibraryError):
            Watcher([HERE])


class TestWhatHappensToAGuest:
    @pytest.fixture
    def watcher(self, here: FakeHypervisor, make: MakeWatcher) -> Watcher:
        here.definitions = [Definition("web"), Definition("db")]
        watcher = make(passes_at_start=False)
        assert isinstance(told(watcher), Connected)
        return watcher

    def test_is_told_when_its_agent_is_there(self, here: FakeHypervisor, watcher: Watcher) -> None:
        begun_ns = time.monotonic_ns()
        fire(here, "web", SAVED)
        here.fire_agent("web", AGENT_DISCONNECTED)
        fire(here, "web", RESTORED, FROM_FILE)
        assert told_nothing(watcher)
        here.fire_agent("web", AGENT_CONNECTED)
        news = told(watcher)
        assert stale(news) == (guest("web"), causes.RESTORED)
        assert isinstance(news, Stale)
        assert begun_ns <= news.since_ns <= time.monotonic_ns()

    def test_is_withdrawn_when_the_guest_goes_to_sleep_again(self, here: FakeHypervisor, watcher: Watcher) -> None:
        here.fire_agent("web", AGENT_DISCONNECTED)
        fire(here, "web", RESTORED, FROM_FILE, (3, 0))
        assert told(watcher) == Withdrawn(guest("web"), causes.RESTORED, "paused")

    def test_is_not_needed_behind_a_reset(self, here: FakeHypervisor, watcher: Watcher) -> None:
        here.fire_reboot("web")
        here.fire_reboot("web")
        assert told(watcher) == NotNeeded(guest("web"), causes.RESET)
        assert told_nothing(watcher)

    def test_is_told_all_the_same_when_patience_ends(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        watcher = make(passes_at_start=False, patience=0.1)
        assert isinstance(told(watcher), Connected)
        here.fire_agent("web", AGENT_DISCONNECTED)
        fire(here, "web", RESTORED, FROM_FILE)
        assert stale(told(watcher)) == (guest("web"), causes.RESTORED)


class TestALostConnection:
    def test_is_made_again_and_all_guests_are_told_of(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web")]
        watcher = make(passes_at_start=False)
        assert told(watcher) == Connected(HERE, 1)
        here.stop_daemon()
        lost = told(watcher)
        assert isinstance(lost, Lost)
        here.definitions.append(Definition("new"))
        here.start_daemon()
        assert told(watcher) == Connected(HERE, 2)
        found = {stale(told(watcher)), stale(told(watcher))}
        assert found == {(guest("web"), causes.WATCH_RESUMED), (guest("new"), causes.WATCH_RESUMED)}
        for name in ("web", "new"):
            watcher.done(guest(name))
        fire(here, "web", (3, 0), UNPAUSED)
        assert stale(told(watcher)) == (guest("web"), causes.RESUMED)

    def test_leaves_what_is_put_back_to_the_look_at_all_guests(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web")]
        watcher = make(passes_at_start=False)
        assert told(watcher) == Connected(HERE, 1)
        fire(here, "web", UNPAUSED)
        news = told(watcher)
        assert isinstance(news, Stale)
        here.stop_daemon()
        assert isinstance(told(watcher), Lost)
        watcher.put_back(news)
        assert told_nothing(watcher)
        here.start_daemon()
        assert told(watcher) == Connected(HERE, 1)
        assert stale(told(watcher)) == (guest("web"), causes.WATCH_RESUMED)

    def test_is_no_reason_to_put_off_what_is_put_back_for_another_reason(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.definitions = [Definition("web")]
        watcher = make(passes_at_start=False, timings=Timings(unreached=50_000_000))
        assert told(watcher) == Connected(HERE, 1)
        fire(here, "web", UNPAUSED)
        news = told(watcher)
        assert isinstance(news, Stale)
        watcher.put_back(news)
        assert told(watcher) == news

    def test_tells_of_no_guest_until_it_is_made_again(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web", channel_state="disconnected")]
        watcher = make(patience=0.05)
        assert told(watcher) == Connected(HERE, 1)
        here.stop_daemon()
        assert isinstance(told(watcher), Lost)
        assert told_nothing(watcher)
        here.start_daemon()
        assert told(watcher) == Connected(HERE, 1)
        assert isinstance(told(watcher), Stale)

    def test_while_guests_are_looked_at_one_by_one_withdraws_none(
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
        assert isinstance(told(watcher), Lost)
        assert told(watcher) == Connected(HERE, 2)
        assert {stale(told(watcher)), stale(told(watcher))} == {
            (guest("web"), causes.WATCH_BEGAN),
            (guest("db"), causes.WATCH_BEGAN),
        }

    def test_is_made_again_however_often(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        watcher = make()
        assert told(watcher) == Connected(HERE, 0)
        for _time in range(5):
            here.stop_daemon()
            assert isinstance(told(watcher), Lost)
            here.start_daemon()
            assert told(watcher) == Connected(HERE, 0)
        (living,) = [each for each in here.connections if not each.is_broken]
        assert living.registered_events == [0, 1, 18]

    def test_forgets_a_guest_that_is_no_longer_there(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition("web", channel_state="disconnected")]
        watcher = make()
        assert told(watcher) == Connected(HERE, 1)
        here.definitions = []
        here.stop_daemon()
        assert isinstance(told(watcher), Lost)
        here.start_daemon()
        news = [told(watcher) for _each in range(2)]
        assert news == [Connected(HERE, 0), Withdrawn(guest("web"), causes.WATCH_BEGAN, "stopped")]

    def test_while_guests_are_listed_is_one(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.list_error = LibvirtError(SYSTEM_ERROR, "the daemon is ending")
        watcher = make()
        assert isinstance(told(watcher), Lost)
        here.list_error = None
        assert told(watcher) == Connected(HERE, 0)

    def test_does_not_touch_other_hypervisors(
        self, hypervisors: Hypervisors, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        hypervisors.by_uri[THERE].definitions = [Definition("web")]
        watcher = make(HERE, THERE, passes_at_start=False)
        assert {told(watcher), told(watcher)} == {Connected(HERE, 0), Connected(THERE, 1)}
        here.stop_daemon()
        lost = told(watcher)
        assert isinstance(lost, Lost)
        assert lost.uri == HERE
        fire(hypervisors.by_uri[THERE], "web", UNPAUSED)
        assert stale(told(watcher)) == (guest("web", THERE), causes.RESUMED)


class TestItsCost:
    def test_memory_does_not_grow_with_the_number_of_events(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        here.definitions = [Definition(f"guest-{number}") for number in range(10)]
        watcher = make(passes_at_start=False)
        assert isinstance(told(watcher), Connected)

        def happen(times: int) -> None:
            """Nobody asks meanwhile."""
            for _time in range(times):
                for each in here.definitions:
                    fire(here, each.name, (3, 0), UNPAUSED)
                    here.fire_agent(each.name, AGENT_CONNECTED)
                    here.fire_reboot(each.name)
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

    def test_is_nothing_while_nothing_happens(self, make: MakeWatcher) -> None:
        watcher = make()
        assert isinstance(told(watcher), Connected)
        before = resource.getrusage(resource.RUSAGE_SELF)
        assert told(watcher, 0.3) is None
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert after.ru_nvcsw - before.ru_nvcsw < 20

    def test_is_given_back_when_it_is_closed(self, here: FakeHypervisor, make: MakeWatcher) -> None:
        watcher = make()
        assert isinstance(told(watcher), Connected)
        watcher.close()
        here.wait_until_all_is_given_back()
        assert watching_threads() == []

    def test_closing_it_does_not_wait_for_a_hypervisor_that_does_not_answer(
        self, here: FakeHypervisor, make: MakeWatcher
    ) -> None:
        here.open_waits_for = threading.Event()
        watcher = make()
        begun = time.monotonic()
        watcher.close()
        assert time.monotonic() - begun < 5
        here.open_waits_for.set()
        here.wait_until_all_is_given_back()


def watching_threads() -> Sequence[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("libvirt watch")]
