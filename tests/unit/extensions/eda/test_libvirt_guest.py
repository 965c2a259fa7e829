"""The event source, run as ansible-rulebook runs it: by its path, with a queue that holds one event."""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import events

from tests.fakes.domains import Definition, uuid_of
from tests.fakes.libvirt import FakeHypervisor, settle
from tests.support.collection import ROOT

SOURCE = ROOT / "extensions/eda/plugins/event_source/libvirt_guest.py"
URI, OTHER_URI = "qemu:///system", "ch:///system"
DEADLINE_S = 10.0

# virDomainEventType, and the details of RESUMED that are used here.
SUSPENDED, RESUMED = 3, 4
UNPAUSED, MIGRATED = 0, 1


@pytest.fixture(scope="module")
def source() -> Mapping[str, Any]:
    """The names of the file, after it has loaded its part of the collection."""
    names = runpy.run_path(str(SOURCE))
    names["_core"]("_watch.watcher")
    return names


@pytest.fixture
def hypervisor(source: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeHypervisor:
    """A fake libvirt-python."""
    fake = FakeHypervisor([Definition("web1"), Definition("web2")])
    monkeypatch.setattr(fake, "registerErrorHandler", lambda _handler, _context: None, raising=False)
    for name in ("libvirt", "libvirt_qemu"):
        monkeypatch.setitem(sys.modules, name, fake)
    # The source has its own copy of the collection's modules. Two copies would both run the event loop of this process.
    events.start(fake)
    monkeypatch.setattr(sys.modules[f"{source['_PACKAGE']}._hypervisor.events"], "_is_started", True)
    return fake


class Running:
    """The source as a task in an event loop, with its log."""

    def __init__(self, queue: asyncio.Queue[Any], task: asyncio.Task[None], log: pytest.LogCaptureFixture) -> None:
        self.queue = queue
        self.task = task
        self._log = log

    async def event(self) -> dict[str, Any]:
        event = await asyncio.wait_for(self.queue.get(), DEADLINE_S)
        assert set(event) == {"libvirt_guest"}
        assert json.loads(json.dumps(event)) == event
        content: dict[str, Any] = event["libvirt_guest"]
        return content

    async def until_logged(self, words: str, times: int = 1) -> None:
        async def look() -> None:
            while sum(words in record.getMessage() for record in self._log.records) < times:
                await asyncio.sleep(0.002)

        await asyncio.wait_for(look(), DEADLINE_S)


Scenario = Callable[[Running], Awaitable[None]]
Play = Callable[..., None]


@pytest.fixture
def play(source: Mapping[str, Any], hypervisor: FakeHypervisor, caplog: pytest.LogCaptureFixture) -> Play:
    """Run a scenario once all hypervisors are watched. Then cancel the source, which must release everything."""
    caplog.set_level(logging.DEBUG, "qemu.guest_agent.libvirt_guest")

    def run(scenario: Scenario, begins_with: str = "is watched", **args: Any) -> None:
        async def play_it() -> None:
            queue: asyncio.Queue[Any] = asyncio.Queue(1)
            running = Running(queue, asyncio.ensure_future(source["main"](queue, args)), caplog)
            try:
                await running.until_logged(begins_with)
                await scenario(running)
                assert not running.task.done()
            finally:
                running.task.cancel()
                # Any other exception is an error of the source.
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(running.task, DEADLINE_S)

        asyncio.run(play_it())
        hypervisor.wait_until_all_is_released()
        for thread in threading.enumerate():
            if thread.name.startswith("libvirt watch"):
                thread.join(DEADLINE_S)
                assert not thread.is_alive()

    return run


# -------------------------------------------------------------------------------------------------------------- events


def test_a_resumed_guest_is_one_event(hypervisor: FakeHypervisor, play: Play) -> None:
    name = "{{ web1 }}"  # an event's text is a template to Ansible

    async def scenario(running: Running) -> None:
        before = datetime.now(UTC)
        hypervisor.fire_lifecycle(name, RESUMED, UNPAUSED)
        event = await running.event()
        heard_at, age_ns = datetime.fromisoformat(event.pop("heard_at")), event.pop("age_ns")
        assert event == {
            "event": "clock_may_be_stale",
            "domain": r"\x7b{ web1 }}",
            "uuid": uuid_of(name),
            "uri": URI,
            "cause": "resumed",
        }
        # Computed from another clock, and truncated to microseconds.
        assert before - timedelta(milliseconds=5) <= heard_at <= datetime.now(UTC)
        assert 0 <= age_ns <= DEADLINE_S * 1e9

    play(scenario)


def test_the_event_waits_for_the_agent_until_the_patience_ends(hypervisor: FakeHypervisor, play: Play) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_agent("web1", 2)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        assert (await running.event())["age_ns"] >= 50_000_000

    play(scenario, agent_patience=0.05)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"look_at_start": None}, [("web2", URI)]),
        ({"look_at_start": True}, [("web1", URI), ("web2", URI)]),
        ({"uris": [URI, OTHER_URI]}, [("web2", OTHER_URI), ("web2", URI)]),
    ],
)
def test_guests_of_all_hypervisors_cause_events_and_running_guests_on_request(
    hypervisor: FakeHypervisor, play: Play, args: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    async def scenario(running: Running) -> None:
        await running.until_logged("is watched", times=len(args.get("uris", [URI])))
        hypervisor.fire_lifecycle("web2", RESUMED, UNPAUSED)  # both URIs lead to the same fake
        events = [await running.event() for _event in expected]
        assert sorted((event["domain"], event["uri"]) for event in events) == expected

    play(scenario, **args)


def test_excluded_causes_cause_no_event_and_no_delay(hypervisor: FakeHypervisor, play: Play) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        hypervisor.fire_lifecycle("web2", RESUMED, MIGRATED)
        assert (await running.event())["cause"] == "migrated"
        # The excluded cause does not suppress later events of the guest.
        hypervisor.fire_lifecycle("web1", SUSPENDED, 0)
        hypervisor.fire_lifecycle("web1", RESUMED, MIGRATED)
        assert (await running.event())["domain"] == "web1"

    play(scenario, causes=["migrated", "restored"])


# ----------------------------------------------------------------------------------------------------------- no events


def test_events_are_held_back_while_the_queue_is_full_and_do_not_accumulate(
    hypervisor: FakeHypervisor, play: Play
) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        hypervisor.fire_lifecycle("web2", RESUMED, UNPAUSED)
        while not running.queue.full():
            await asyncio.sleep(0.002)
        for _time in range(500):
            for name in ("web1", "web2"):
                hypervisor.fire_lifecycle(name, SUSPENDED, 0)
                hypervisor.fire_lifecycle(name, RESUMED, UNPAUSED)
        settle()
        # There are two events for each guest: the one in the queue, and one for everything that happened since.
        domains = [(await running.event())["domain"] for _event in range(4)]
        assert sorted(domains) == ["web1", "web1", "web2", "web2"]
        hypervisor.fire_lifecycle("web3", RESUMED, UNPAUSED)
        assert (await running.event())["domain"] == "web3"
        # The source is canceled while the queue is full.
        for name in ("web4", "web5"):
            hypervisor.fire_lifecycle(name, RESUMED, UNPAUSED)
        while not running.queue.full():
            await asyncio.sleep(0.002)

    play(scenario)


def test_a_lost_hypervisor_is_logged_and_watched_again(hypervisor: FakeHypervisor, play: Play) -> None:
    hypervisor.stop_daemon()

    async def scenario(running: Running) -> None:
        hypervisor.start_daemon()
        await running.until_logged("is watched, running guests: 2")
        hypervisor.stop_daemon()
        await running.until_logged(f"{URI} is not watched: ", times=2)
        hypervisor.start_daemon()
        causes = [(event["domain"], event["cause"]) for event in (await running.event(), await running.event())]
        assert causes == [("web1", "watch_resumed"), ("web2", "watch_resumed")]

    play(scenario, begins_with="is not watched")


def test_guests_that_need_no_resync_are_only_logged(hypervisor: FakeHypervisor, play: Play) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_reboot("web1")
        await running.until_logged(f"domain 'web1' at {URI} does not need a resync (reset)")
        hypervisor.fire_agent("web1", 2)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        hypervisor.fire_lifecycle("web1", SUSPENDED, 0)
        await running.until_logged(f"domain 'web1' at {URI} was paused before its resync (resumed)")
        assert running.queue.empty()

    play(scenario)


# -------------------------------------------------------------------------------------------------- invalid arguments


TEXTS, SECONDS, FLAG = "a string or a list of strings", "seconds, 0 or more", "true or false"
CAUSES = "resumed, restored, reverted, migrated, woke_up, watch_began, watch_resumed"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        *(
            (name, value, f"The argument {name} of libvirt_guest must be {expected}, not {value!r}.")
            for name, expected, values in (
                ("uris", TEXTS, ([], "", [1], [URI, ""], {"a": 1}, 1)),
                ("causes", TEXTS, ([], "", [True])),
                ("agent_patience", SECONDS, ("long", True, -1, float("inf"), float("nan"), [1])),
                ("look_at_start", FLAG, ("yes", 1)),
            )
            for value in values
        ),
        *(
            ("causes", ["resumed", cause], f"Unknown cause {cause!r} of libvirt_guest; expected one of {CAUSES}.")
            for cause in ("reset", "paused")
        ),
        (
            "uri",
            URI,
            "Unknown argument 'uri' of libvirt_guest; expected one of agent_patience, causes, look_at_start, uris.",
        ),
    ],
)
@pytest.mark.usefixtures("hypervisor")
def test_an_invalid_argument_is_an_error_in_one_sentence(
    source: Mapping[str, Any], name: str, value: object, sentence: str
) -> None:
    with pytest.raises(ValueError, match="libvirt_guest") as raised:
        asyncio.run(source["main"](asyncio.Queue(1), {name: value}))
    assert str(raised.value) == sentence


def test_a_missing_libvirt_python_is_an_error_with_the_package_to_install(
    source: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    sentence = r"libvirt-python cannot be imported by /.*: .*\. Install python3-libvirt or "
    with pytest.raises(RuntimeError, match=sentence):
        asyncio.run(source["main"](asyncio.Queue(1), {}))


# -------------------------------------------------------------------------------------------------------- documentation


def test_all_arguments_are_documented_with_their_defaults(source: Mapping[str, Any]) -> None:
    settings = source["_read"]({})
    options = yaml.safe_load(source["DOCUMENTATION"])["options"]
    documented = {name: option["default"] for name, option in options.items()}
    assert documented.keys() == settings._asdict().keys()
    assert (tuple(documented.pop("uris")), frozenset(documented.pop("causes"))) == (settings.uris, settings.causes)
    assert documented == {"agent_patience": settings.agent_patience, "look_at_start": settings.look_at_start}


def test_the_examples_are_valid(source: Mapping[str, Any]) -> None:
    for example in yaml.safe_load(source["EXAMPLES"]):
        source["_read"](example["qemu.guest_agent.libvirt_guest"] or {})
