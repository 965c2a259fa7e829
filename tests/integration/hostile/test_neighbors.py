"""Honest guests beside fifteen that are slow, loud or breaking: they are done as soon as if they were alone, or nearly.

Alone they take a third of a second at most, and beside the others hardly longer. A run ends at its deadline here, which
spares us the others' own time and leaves the honest guests some seconds, on a busy machine too.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import STATES, Query, list_guests

from tests.fakes.domains import Definition
from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.libvirt import FakeHypervisor
from tests.hostile import payloads, worker
from tests.hostile.agent import Action, Asked, HostileAgent, Pause, Play, Send
from tests.hostile.case import Case, Verdict
from tests.hostile.channels import serving
from tests.hostile.guest import EXTENDED, SECOND_NS, STOCK, Guest
from tests.hostile.workers import Workers
from tests.processes.socket_server import listen_unix
from tests.support.tiers import quick

COUNT = 15
HONEST = 10
TOLERANCE_NS = 100_000_000
DEADLINE_SECONDS = 4.0
TIMEOUT = 5.0
# A listing has no deadline: it gives up those that are too slow, when silent ones would have been given up as well.
LISTING_TIMEOUT = 2.5
LONGEST_LISTING = 30.0
OPTIONS = {"timeout": TIMEOUT, "fail_on": "none", "deadline": DEADLINE_SECONDS}
MODULES: Mapping[str, Mapping[str, Any]] = {
    "qga_update_time": {**OPTIONS, "attempts": 2, "samples": 8},
    "qga_info": {**OPTIONS, "gather_subset": ["min", "time"]},
}

# ------------------------------------------------------------------------------------------------------ through libvirt

Behavior = dict[str, Any]
Request = dict[str, Any]


def _from(number: int, value: Any, otherwise: Any) -> Callable[[Request], Any]:
    """For a definition: that value from the request of that number on, counted from 1."""
    asked = itertools.count(1)
    return lambda _request: value if next(asked) >= number else otherwise


def slow(seconds: float, after: int = 0) -> Behavior:
    return {"takes": _from(after + 1, seconds, 0.0)}


def now_and_then_slow(seconds: float) -> Behavior:
    """Every other answer comes at once."""
    asked = itertools.count()
    return {"takes": lambda _request: seconds * (next(asked) % 2)}


def breaking(at: int, seconds: float = 0.0) -> Behavior:
    return {"breaks": _from(at, True, False), "takes": _from(at, seconds, 0.0)}


def breaking_once(at: int, seconds: float, then: float) -> Behavior:
    """Every answer after that one takes the time ``then``."""
    asked, answered = itertools.count(1), itertools.count(1)
    times = {**dict.fromkeys(range(1, at), 0.0), at: seconds}
    return {"takes": lambda _request: times.get(next(asked), then), "breaks": lambda _request: next(answered) == at}


def loud(size: int) -> Behavior:
    text = json.dumps({"return": {"received": 1, "transmitted": 2, "more": "a" * size}})
    return {"replies": {}, "agent": lambda _request: text}


# By what they do, the behavior of each of them.
BEHAVIORS: Mapping[str, Callable[[int], Behavior]] = {
    "silent": lambda _number: {"is_silent": True},
    "slow from the first answer on": lambda _number: slow(4.0),
    "slow when they have answered once": lambda _number: slow(4.0, after=1),
    "slow when they have answered often": lambda _number: slow(4.0, after=5),
    "slow now and then": lambda _number: now_and_then_slow(4.0),
    "just not as slow as is noticed at once": lambda _number: slow(0.9),
    "a little slow": lambda _number: slow(0.2),
    "slower and slower": lambda number: slow(0.3 * number),
    "breaking": lambda _number: breaking(at=3),
    "breaking one after the other": lambda number: breaking(at=number + 1),
    "breaking late": lambda _number: breaking(at=2, seconds=0.8),
    # All that were asked when the connection broke are asked again, one after the other: a turn must not last as long.
    "breaking once, and slow from then on": lambda number: (
        breaking_once(at=2, seconds=0.8, then=3.0) if number < 3 else slow(3.0, after=2)
    ),
    "loud": lambda _number: loud(60_000),
    "very loud": lambda _number: loud(3_000_000),
    "mixed": lambda number: [slow(4.0, after=number % 4), breaking(at=number), loud(60_000)][number % 3],
}
# They are waited for: each of their answers is in time.
UNNOTICED = ("just not as slow as is noticed at once", "a little slow")
# At each break, all that were being asked are begun anew.
BREAKING = tuple(name for name in BEHAVIORS if name.startswith("breaking") or name == "mixed")
SHORT = ("slow when they have answered once", "just not as slow as is noticed at once", "breaking late", "mixed")


def _definition(name: str, guest: Guest, behavior: Behavior) -> Definition:
    def reply(command: str) -> Callable[[Request], str]:
        return lambda request: json.dumps({"return": guest.returned(command, request.get("arguments", {}))})

    replies = {command: reply(command) for command in guest.commands}
    return Definition(name, **{"replies": replies, **behavior})


class Hypervisor:
    """Ten honest guests among those."""

    def __init__(self, behavior: Callable[[int], Behavior], are_honest_last: bool, takes: float = 0.0) -> None:
        """The honest ones are begun last, or spread among the others. ``takes`` is in seconds, for each answer."""
        kinds = (EXTENDED, STOCK)
        self.honest = {f"web{number}": Guest(kinds[number % 2], -(number + 2) * SECOND_NS) for number in range(HONEST)}
        honest = [_definition(name, guest, {"takes": lambda _request: takes}) for name, guest in self.honest.items()]
        others = [_definition(f"other{number}", Guest(EXTENDED), behavior(number)) for number in range(COUNT)]
        mixed = [each for both in itertools.zip_longest(others, honest) for each in both if each is not None]
        self.fake = FakeHypervisor([*others, *honest] if are_honest_last else mixed)


MakeHypervisor = Callable[..., Hypervisor]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeHypervisor]:
    made: list[Hypervisor] = []

    def hypervisor_of(behavior: str, are_honest_last: bool, takes: float = 0.0) -> Hypervisor:
        made.append(Hypervisor(BEHAVIORS[behavior], are_honest_last, takes))
        monkeypatch.setattr(connections, "import_libvirt", made[-1].fake.modules)
        return made[-1]

    yield hypervisor_of
    for each in made:
        each.fake.release()
        each.fake.wait_until_all_is_given_back(20.0)


def entries_of(verdict: Verdict) -> dict[str, dict[str, Any]]:
    assert verdict.noise == ""
    assert verdict.result is not None
    return {entry["name"]: entry for entry in verdict.result["guests"]}


def assert_corrected(hypervisor: Hypervisor, entries: Mapping[str, Mapping[str, Any]]) -> None:
    for name, guest in hypervisor.honest.items():
        assert entries[name]["status"] == "corrected", entries[name]
        assert abs(guest.offset_ns) < TOLERANCE_NS
        assert guest.steps <= 2


@pytest.mark.parametrize("are_honest_last", [True, pytest.param(False, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("behavior", quick(BEHAVIORS, SHORT))
def test_honest_domains_are_corrected_within_seconds(
    make: MakeHypervisor, behavior: str, are_honest_last: bool
) -> None:
    made = make(behavior, are_honest_last)
    verdict = worker.run(Case("qga_update_time", {**MODULES["qga_update_time"], "domains": ["*"]}))
    assert_corrected(made, entries_of(verdict))
    # The daemon works on twenty calls, and has to have one left for others.
    assert made.fake.most_calls < 20
    assert made.fake.most_calls_of_a_connection <= 5


@pytest.mark.parametrize("behavior", quick([name for name in BEHAVIORS if name not in BREAKING], SHORT[:1]))
def test_honest_domains_far_away_are_corrected_within_seconds(make: MakeHypervisor, behavior: str) -> None:
    """Alone they take 0.6 s. Fifteen calls that are held up leave four of nineteen to them: a second and a half."""
    made = make(behavior, True, takes=0.05)
    assert_corrected(
        made, entries_of(worker.run(Case("qga_update_time", {**MODULES["qga_update_time"], "domains": ["*"]})))
    )


@pytest.mark.parametrize("behavior", quick(BEHAVIORS, SHORT))
def test_honest_domains_tell_their_facts_within_seconds(make: MakeHypervisor, behavior: str) -> None:
    made = make(behavior, True)
    entries = entries_of(worker.run(Case("qga_info", {**MODULES["qga_info"], "domains": ["*"]})))
    assert {name: entries[name]["status"] for name in made.honest} == dict.fromkeys(made.honest, "gathered")
    assert {name: entries[name]["errors"] for name in made.honest} == {name: {} for name in made.honest}


@pytest.mark.parametrize("behavior", quick([name for name in BEHAVIORS if name not in UNNOTICED], SHORT[:1]))
def test_an_inventory_has_all_honest_domains_and_gives_up_slow_ones(make: MakeHypervisor, behavior: str) -> None:
    made = make(behavior, True)
    began_at = time.monotonic()
    found = list_guests(Query(("qemu:///system",), ("*",), (), STATES, ("min", "time"), LISTING_TIMEOUT, 20))
    assert time.monotonic() - began_at < LONGEST_LISTING
    by_name = {each.name: each for each in found.guests}
    assert {name: by_name[name].status for name in made.honest} == dict.fromkeys(made.honest, "ok")
    assert {name: by_name[name].facts["errors"] for name in made.honest} == {name: {} for name in made.honest}


# -------------------------------------------------------------------------------------------------------- over a socket


def _slowly(seconds: float) -> Play:
    def play(asked: Asked) -> Iterator[Action]:
        yield Pause(seconds)
        yield Send(asked.answer())

    return play


def _blown_up(asked: Asked) -> Iterator[Action]:
    """The honest reply, in as much space as it may take."""
    yield Send(asked.answer().replace(b"}\n", b" " * 60_000 + b"}\n"))


PLAYS: Mapping[str, Play] = {
    **payloads.ENDLESS,
    **payloads.DRIPPING,
    "slowly": _slowly(1.0),
    "a little slowly": _slowly(0.1),
    "blown up": _blown_up,
}
SHORT_PLAYS = ("endless white space", "an endless string", "the reply in drips", "a little slowly")


def _behind_sync(hostile: Play) -> Play:
    """It gets to be asked for something."""

    def play(asked: Asked) -> Any:
        return [Send(asked.answer())] if asked.command.startswith("guest-sync") else hostile(asked)

    return play


@contextmanager
def _others(play: Play) -> Iterator[list[str]]:
    """Their sockets."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="neighbors-")))
        paths = [directory / f"{number:02}.sock" for number in range(COUNT)]
        for path in paths:
            stack.enter_context(serving(listen_unix(path), HostileAgent(Guest(EXTENDED), play)))
        yield list(map(str, paths))


@pytest.mark.parametrize("concurrency", [20, 1])
@pytest.mark.parametrize("name", quick(PLAYS, SHORT_PLAYS))
def test_honest_sockets_are_corrected_within_seconds(
    tmp_path: Path, workers: Workers, name: str, concurrency: int
) -> None:
    """They are meant to be done within a second of when they would be alone, which is a tenth of a second here.

    The deadline stands in for that second: fifteen floods come from this very machine, and one at a time they cost the
    honest guests 1.3 to 1.5 s of its time if it does nothing else. A flood that keeps its place costs a timeout.
    """
    profiles = {f"guest{number:02}": Profile(offset_ns=-(number + 2) * SECOND_NS) for number in range(HONEST)}
    with SimulatedFleet(tmp_path, profiles) as fleet, _others(_behind_sync(PLAYS[name])) as others:
        options = {**MODULES["qga_update_time"], "concurrency": concurrency, "sockets": [*others, *fleet.paths]}
        entries = entries_of(workers.run(Case("qga_update_time", options)))
        assert {path: entries[path]["status"] for path in fleet.paths} == dict.fromkeys(fleet.paths, "corrected")
        assert max(map(abs, fleet.truths().values())) < TOLERANCE_NS
