"""The event source, run as ansible-rulebook runs it: by its path, with a queue of one place."""

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
from tests.fakes.libvirt import AGENT_CONNECTED, FakeHypervisor, settle
from tests.support.collection import ROOT

SOURCE = ROOT / "extensions/eda/plugins/event_source/libvirt_guest.py"
URI = "qemu:///system"
DEADLINE_S = 10.0

# virDomainEventType, and the details of its own that are used here.
STARTED, SUSPENDED, RESUMED, STOPPED = 2, 3, 4, 5
UNPAUSED, STARTED_RESTORED, MIGRATED = 0, 2, 1

Main = Callable[[Any, dict[str, Any]], Awaitable[None]]


@pytest.fixture(scope="module")
def source() -> Mapping[str, Any]:
    """The file's names, and its part of the collection loaded."""
    names = runpy.run_path(str(SOURCE))
    names["_load_core"]()
    return names


@pytest.fixture(scope="module")
def main(source: Mapping[str, Any]) -> Main:
    found: Main = source["main"]
    return found


@pytest.fixture
def hypervisor(source: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> FakeHypervisor:
    """In place of libvirt-python for whatever imports it."""
    fake = FakeHypervisor([Definition("web1"), Definition("web2")])
    monkeypatch.setattr(fake, "registerErrorHandler", lambda _handler, _context: None, raising=False)
    for name in ("libvirt", "libvirt_qemu"):
        monkeypatch.setitem(sys.modules, name, fake)
    # The source has a copy of the collection's modules. Two of them would both run the one loop of this process.
    events.start(fake)
    monkeypatch.setattr(sys.modules[f"{source['_PACKAGE']}._hypervisor.events"], "_is_started", True)
    return fake


class Running:
    """The source in an event loop, as a task, with what it has logged."""

    def __init__(self, queue: asyncio.Queue[Any], task: asyncio.Task[None], log: pytest.LogCaptureFixture) -> None:
        self.queue = queue
        self.task = task
        self._log = log

    async def event(self) -> dict[str, Any]:
        event = await asyncio.wait_for(self.queue.get(), DEADLINE_S)
        assert set(event) == {"libvirt_guest"}
        assert json.loads(json.dumps(event)) == event
        told: dict[str, Any] = event["libvirt_guest"]
        return told

    @property
    def said(self) -> list[str]:
        return [record.getMessage() for record in self._log.records]

    async def until_said(self, words: str, times: int = 1) -> None:
        async def look() -> None:
            while sum(words in line for line in self.said) < times:
                await asyncio.sleep(0.002)

        await asyncio.wait_for(look(), DEADLINE_S)


Scenario = Callable[[Running], Awaitable[None]]


@pytest.fixture
def play(main: Main, caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """Run a scenario against the source, from when all hypervisors are watched; then the source is cancelled."""
    caplog.set_level(logging.DEBUG, "qemu.guest_agent.libvirt_guest")

    def run(scenario: Scenario, begins_with: str = "is watched", **args: Any) -> None:
        async def play_it() -> None:
            queue: asyncio.Queue[Any] = asyncio.Queue(1)
            running = Running(queue, asyncio.ensure_future(main(queue, args)), caplog)
            try:
                await running.until_said(begins_with)
                await scenario(running)
                assert not running.task.done()
            finally:
                running.task.cancel()
                # Whatever else it ends with is an error of it.
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(running.task, DEADLINE_S)

        asyncio.run(play_it())

    return run


# -------------------------------------------------------------------------------------------------------------- events


def test_a_resumed_guest_is_one_event(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    async def scenario(running: Running) -> None:
        before = datetime.now(UTC)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        told = await running.event()
        heard_at, age_ns = datetime.fromisoformat(told.pop("heard_at")), told.pop("age_ns")
        assert told == {
            "event": "clock_may_be_stale",
            "domain": "web1",
            "uuid": uuid_of("web1"),
            "uri": URI,
            "cause": "resumed",
        }
        # Computed by way of another clock, and cut to microseconds.
        assert before - timedelta(milliseconds=5) <= heard_at <= datetime.now(UTC)
        assert 0 <= age_ns <= DEADLINE_S * 1e9

    play(scenario)


def test_a_restore_is_one_event_when_its_agent_is_there(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_agent("web1", 2)
        hypervisor.fire_lifecycle("web1", STARTED, STARTED_RESTORED)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        hypervisor.fire_lifecycle("web2", RESUMED, UNPAUSED)
        assert (await running.event())["domain"] == "web2"
        settle()
        assert running.queue.empty()
        hypervisor.fire_agent("web1", AGENT_CONNECTED)
        told = await running.event()
        assert (told["domain"], told["cause"]) == ("web1", "restored")

    play(scenario)


def test_an_agent_that_stays_away_is_waited_for_no_longer_than_said(
    hypervisor: FakeHypervisor, play: Callable[..., None]
) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_agent("web1", 2)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        assert (await running.event())["age_ns"] >= 50_000_000

    play(scenario, agent_patience=0.05)


@pytest.mark.parametrize(("looks", "events"), [(False, ["web2"]), (True, ["web1", "web2"]), (None, ["web2"])])
def test_guests_that_ran_already_are_told_of_only_if_asked_for(
    hypervisor: FakeHypervisor, play: Callable[..., None], looks: bool | None, events: list[str]
) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_lifecycle("web2", RESUMED, UNPAUSED)
        assert [(await running.event())["domain"] for _event in events] == events

    play(scenario, look_at_start=looks)


def test_causes_that_are_not_wanted_are_left_out_and_hold_nothing_up(
    hypervisor: FakeHypervisor, play: Callable[..., None]
) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        hypervisor.fire_lifecycle("web2", RESUMED, MIGRATED)
        assert (await running.event())["cause"] == "migrated"
        # Its cause was let go, so the guest is told of when something else happens to it.
        hypervisor.fire_lifecycle("web1", SUSPENDED, 0)
        hypervisor.fire_lifecycle("web1", RESUMED, MIGRATED)
        assert (await running.event())["domain"] == "web1"

    play(scenario, causes=["migrated", "restored"])


def test_several_hypervisors_are_watched(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    async def scenario(running: Running) -> None:
        await running.until_said("is watched", times=2)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)  # this stand-in is the same at both
        assert {(await running.event())["uri"], (await running.event())["uri"]} == {"qemu:///system", "ch:///system"}

    play(scenario, uris=["qemu:///system", "ch:///system"])


def test_a_name_is_no_template(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    names = ["{{ lookup('pipe', 'id') }}", "{% set a = 1 %}", "#jinja2:trim_blocks:True", "a\x1b[2Jb"]

    async def scenario(running: Running) -> None:
        for name in names:
            hypervisor.fire_lifecycle(name, RESUMED, UNPAUSED)
            told = await running.event()
            assert told["uuid"] == uuid_of(name)
            assert not {"{{", "{%", "{#"} & {told["domain"][at : at + 2] for at in range(len(told["domain"]))}
            assert not told["domain"].startswith("#jinja2:")
            assert told["domain"].isprintable()

    play(scenario)


# ----------------------------------------------------------------------------------------------------- what is not told


def test_what_is_not_taken_is_held_back_and_does_not_pile_up(
    hypervisor: FakeHypervisor, play: Callable[..., None]
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
        # Of each guest there is what was put before, and what happened since.
        told = [(await running.event())["domain"] for _event in range(4)]
        assert sorted(told) == ["web1", "web1", "web2", "web2"]
        hypervisor.fire_lifecycle("web3", RESUMED, UNPAUSED)
        assert (await running.event())["domain"] == "web3"

    play(scenario)


def test_a_lost_hypervisor_is_said_and_watched_again(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.stop_daemon()
        await running.until_said(f"{URI} is not watched: ")
        hypervisor.start_daemon()
        await running.until_said(f"{URI} is watched", times=2)
        told = [await running.event(), await running.event()]
        assert [(each["domain"], each["cause"]) for each in told] == [
            ("web1", "watch_resumed"),
            ("web2", "watch_resumed"),
        ]

    play(scenario)


def test_a_hypervisor_that_is_not_there_at_first(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    hypervisor.stop_daemon()

    async def scenario(running: Running) -> None:
        hypervisor.start_daemon()
        await running.until_said("is watched, running guests: 2")
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        assert (await running.event())["cause"] == "resumed"

    play(scenario, begins_with="is not watched")


def test_what_needs_no_resync_is_logged_only(hypervisor: FakeHypervisor, play: Callable[..., None]) -> None:
    async def scenario(running: Running) -> None:
        hypervisor.fire_reboot("web1")
        await running.until_said(f"web1 at {URI} does not need a resync (reset)")
        hypervisor.fire_agent("web1", 2)
        hypervisor.fire_lifecycle("web1", RESUMED, UNPAUSED)
        hypervisor.fire_lifecycle("web1", SUSPENDED, 0)
        await running.until_said(f"web1 at {URI} was paused before it could be asked (resumed)")
        assert running.queue.empty()

    play(scenario)


# ----------------------------------------------------------------------------------------------------------- cancelling


def threads_of_watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("libvirt watch")]


@pytest.mark.parametrize("is_held_up", [False, True], ids=["while it waits", "while an event is not taken"])
def test_cancelled_it_gives_everything_back(
    hypervisor: FakeHypervisor, play: Callable[..., None], is_held_up: bool
) -> None:
    async def scenario(running: Running) -> None:
        if is_held_up:
            for name in ("web1", "web2"):
                hypervisor.fire_lifecycle(name, RESUMED, UNPAUSED)
            while not running.queue.full():
                await asyncio.sleep(0.002)

    play(scenario)
    for thread in threads_of_watching():
        thread.join(DEADLINE_S)
    assert threads_of_watching() == []
    hypervisor.wait_until_all_is_given_back()


# ----------------------------------------------------------------------------------------------------- bad arguments


TEXTS, SECONDS, FLAG = "a text or a list of texts", "seconds, 0 or more", "true or false"


def sentence_of(main: Main, args: dict[str, Any]) -> str:
    """What is said of arguments that cannot be meant."""
    with pytest.raises(ValueError, match="libvirt_guest") as raised:
        asyncio.run(main(asyncio.Queue(1), args))  # type: ignore[arg-type]
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *(("uris", value, TEXTS) for value in ([], "", [1], [URI, ""], {"a": 1}, 1)),
        *(("causes", value, TEXTS) for value in ([], "", [True])),
        *(("agent_patience", value, SECONDS) for value in ("long", True, -1, float("inf"), float("nan"), [1])),
        *(("look_at_start", value, FLAG) for value in ("yes", 1)),
    ],
)
@pytest.mark.usefixtures("hypervisor")
def test_a_value_that_cannot_be_used_is_said_in_a_sentence(main: Main, name: str, value: object, wanted: str) -> None:
    said = sentence_of(main, {name: value})
    assert said == f"The argument {name} of libvirt_guest has to be {wanted}, and is {value!r}."


@pytest.mark.usefixtures("hypervisor")
def test_an_argument_that_does_not_exist_is_said_with_those_that_do(main: Main) -> None:
    said = sentence_of(main, {"uri": URI})
    assert said == "libvirt_guest has no argument 'uri'; it has agent_patience, causes, look_at_start, uris."


@pytest.mark.parametrize("cause", ["reset", "paused"])
@pytest.mark.usefixtures("hypervisor")
def test_a_cause_that_is_never_told_is_said_with_those_that_are(main: Main, cause: str) -> None:
    known = "resumed, restored, reverted, migrated, woke_up, watch_began, watch_resumed"
    assert (
        sentence_of(main, {"causes": ["resumed", cause]})
        == f"libvirt_guest knows no cause {cause!r}; there are {known}."
    )


def test_without_libvirt_python_it_says_what_to_install(main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(
        RuntimeError, match=r"libvirt-python cannot be imported: .*\. Install python3-libvirt or .* for /"
    ):
        asyncio.run(main(asyncio.Queue(1), {}))  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- documentation


def test_all_arguments_are_documented_with_what_they_are_by_default(source: Mapping[str, Any]) -> None:
    settings = source["_read"]({}, source["_load_core"]())
    options = yaml.safe_load(source["DOCUMENTATION"])["options"]
    documented = {name: option["default"] for name, option in options.items()}
    assert documented.keys() == settings._asdict().keys()
    assert (tuple(documented.pop("uris")), frozenset(documented.pop("causes"))) == (settings.uris, settings.causes)
    assert documented == {"agent_patience": settings.agent_patience, "look_at_start": settings.look_at_start}


def test_the_examples_can_be_meant(source: Mapping[str, Any]) -> None:
    core = source["_load_core"]()
    examples = yaml.safe_load(source["EXAMPLES"])
    assert len(examples) == 2
    for example in examples:
        ((name, args),) = example.items()
        assert name == "qemu.guest_agent.libvirt_guest"
        source["_read"](args or {}, core)
