"""Honest guests among fifteen that are slow, flooding or breaking connections: they take hardly longer than alone.

Alone, they take at most a third of a second. A run ends at its deadline here, which saves the time of the others and
gives the honest guests a few seconds, even on a busy machine.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import STATES, Query, list_guests

from tests.fakes.faults import Pause
from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.hypervisors import SimulatedHypervisor
from tests.fakes.kinds import SECOND_NS
from tests.hostile import payloads, worker
from tests.hostile.agent import Play
from tests.hostile.case import Case, Verdict
from tests.hostile.channels import several
from tests.hostile.workers import Workers
from tests.support.tiers import quick

COUNT = 15
HONEST = {
    f"web{number}": Profile(kind, -(number + 2) * SECOND_NS) for number, kind in enumerate(("extended", "stock") * 5)
}
TOLERANCE_NS = 100_000_000
# A listing has no deadline. It gives up slow guests at the time at which it gives up silent ones.
LISTING_TIMEOUT = 2.5
LONGEST_LISTING = 30.0
OPTIONS = {"timeout": 5.0, "fail_on": "none", "deadline": 4.0}
RESYNC = ("qga_update_time", {**OPTIONS, "attempts": 2, "samples": 8})
INFO = ("qga_info", {**OPTIONS, "gather_subset": ["min", "time"]})

# ------------------------------------------------------------------------------------------------------ through libvirt

Behavior = dict[str, Any]
Request = dict[str, Any]


def _from(number: int, value: Any, otherwise: Any) -> Callable[[Request], Any]:
    """Return a function for a definition: the value from that request on, counted from 1, and ``otherwise`` before."""
    asked = itertools.count(1)
    return lambda _request: value if next(asked) >= number else otherwise


def slow(seconds: float, after: int = 0) -> Behavior:
    return {"takes": _from(after + 1, seconds, 0.0)}


def now_and_then_slow(seconds: float) -> Behavior:
    """Every second answer is sent at once."""
    asked = itertools.count()
    return {"takes": lambda _request: seconds * (next(asked) % 2)}


def breaking(at: int, seconds: float = 0.0) -> Behavior:
    return {"breaks": _from(at, True, False), "takes": _from(at, seconds, 0.0)}


def breaking_once(at: int, seconds: float, then: float) -> Behavior:
    """After the break, every answer takes ``then`` seconds."""
    asked, answered = itertools.count(1), itertools.count(1)
    times = {**dict.fromkeys(range(1, at), 0.0), at: seconds}
    return {"takes": lambda _request: times.get(next(asked), then), "breaks": lambda _request: next(answered) == at}


def loud(size: int) -> Behavior:
    text = json.dumps({"return": {"received": 1, "transmitted": 2, "more": "a" * size}})
    return {"replies": {}, "agent": lambda _request: text}


# The behavior of each guest, by a description of all.
BEHAVIORS: Mapping[str, Callable[[int], Behavior]] = {
    "silent": lambda _number: {"is_silent": True},
    "slow from the first answer on": lambda _number: slow(4.0),
    "slow when they have answered once": lambda _number: slow(4.0, after=1),
    "slow when they have answered often": lambda _number: slow(4.0, after=5),
    "slow now and then": lambda _number: now_and_then_slow(4.0),
    "almost slow enough to be noticed at once": lambda _number: slow(0.9),
    "a little slow": lambda _number: slow(0.2),
    "slower and slower": lambda number: slow(0.3 * number),
    "breaking": lambda _number: breaking(at=3),
    "breaking one after the other": lambda number: breaking(at=number + 1),
    "breaking late": lambda _number: breaking(at=2, seconds=0.8),
    # All guests whose exchange was interrupted are asked again one after the other, so a turn must not take this long.
    "breaking once, and slow from then on": lambda number: (
        breaking_once(at=2, seconds=0.8, then=3.0) if number < 3 else slow(3.0, after=2)
    ),
    "loud": lambda _number: loud(60_000),
    "very loud": lambda _number: loud(3_000_000),
    "mixed": lambda number: [slow(4.0, after=number % 4), breaking(at=number), loud(60_000)][number % 3],
}
# These are waited for, because each answer arrives in time.
UNNOTICED = ("almost slow enough to be noticed at once", "a little slow")
# At each break, all interrupted guests start again.
BREAKING = tuple(name for name in BEHAVIORS if name.startswith("breaking") or name == "mixed")
SHORT = ("slow when they have answered once", "almost slow enough to be noticed at once", "breaking late", "mixed")


def entries_of(verdict: Verdict) -> dict[str, dict[str, Any]]:
    assert verdict.noise == ""
    assert verdict.result is not None
    return {entry["name"]: entry for entry in verdict.result["guests"]}


class Hypervisor(SimulatedHypervisor):
    """Honest guests among others with these behaviors. The honest ones start last, or are spread among the others."""

    def __init__(self, behaviors: Mapping[str, Behavior], are_honest_last: bool = True) -> None:
        others, honest = list(dict.fromkeys(behaviors, Profile(offset_ns=-3 * SECOND_NS)).items()), list(HONEST.items())
        mixed = [each for both in itertools.zip_longest(others, honest) for each in both if each is not None]
        super().__init__(dict([*others, *honest] if are_honest_last else mixed))
        for name, behavior in behaviors.items():
            for what, value in behavior.items():
                setattr(self.definition(name), what, value)

    def correct_all(self, **options: Any) -> dict[str, dict[str, Any]]:
        """Run the module, check the entries of the honest guests, and return all entries."""
        entries = entries_of(worker.run(Case(RESYNC[0], {**RESYNC[1], "domains": ["*"], **options})))
        for name in HONEST:
            assert entries[name]["status"] == "corrected", entries[name]
            assert abs(self.truths()[name]) < TOLERANCE_NS
            asked = self.received()[name]
            assert asked["guest-set-time"] + asked["guest-update-time"] <= 2
        return entries


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Hypervisor]]:
    made: list[Hypervisor] = []

    def hypervisor_of(behavior: str, are_honest_last: bool = True) -> Hypervisor:
        others = {f"other{number}": BEHAVIORS[behavior](number) for number in range(COUNT)}
        made.append(Hypervisor(others, are_honest_last))
        monkeypatch.setattr(connections, "import_libvirt", made[-1].modules)
        return made[-1]

    yield hypervisor_of
    for each in made:
        each.release()
        each.wait_until_all_is_released(20.0)


MakeHypervisor = Callable[..., Hypervisor]


@pytest.mark.parametrize("are_honest_last", [True, pytest.param(False, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("behavior", quick(BEHAVIORS, SHORT))
def test_honest_domains_are_corrected_within_seconds(
    make: MakeHypervisor, behavior: str, are_honest_last: bool
) -> None:
    made = make(behavior, are_honest_last)
    made.correct_all()
    # The daemon works on twenty calls at once, and must have one free for other clients.
    assert made.most_calls < 20
    assert made.most_calls_of_a_connection <= 5


@pytest.mark.parametrize("behavior", quick([name for name in BEHAVIORS if name not in BREAKING], SHORT[:1]))
def test_honest_domains_far_away_are_corrected_within_seconds(make: MakeHypervisor, behavior: str) -> None:
    """Alone, they take 0.6 s. Fifteen held-up calls leave them four of nineteen, which takes 1.5 s."""
    made = make(behavior)
    made.slow_down(HONEST, 0.05)
    made.correct_all()


@pytest.mark.parametrize("behavior", quick(BEHAVIORS, SHORT))
def test_honest_domains_return_their_facts_within_seconds(make: MakeHypervisor, behavior: str) -> None:
    make(behavior)
    entries = entries_of(worker.run(Case(INFO[0], {**INFO[1], "domains": ["*"]})))
    assert {(entries[name]["status"], *entries[name].get("errors", ())) for name in HONEST} == {("gathered",)}


@pytest.mark.parametrize("behavior", quick([name for name in BEHAVIORS if name not in UNNOTICED], SHORT[:1]))
def test_an_inventory_lists_all_honest_domains_and_gives_up_slow_ones(make: MakeHypervisor, behavior: str) -> None:
    make(behavior)
    began_at = time.monotonic()
    found = list_guests(Query(("qemu:///system",), ("*",), (), STATES, ("min", "time"), LISTING_TIMEOUT, 20))
    assert time.monotonic() - began_at < LONGEST_LISTING
    by_name = {each.name: each for each in found.guests}
    assert {(by_name[name].status, *by_name[name].facts["errors"]) for name in HONEST} == {("ok",)}


@pytest.mark.parametrize("breakers", [1, 4])
def test_a_guest_that_breaks_libvirts_connection_does_not_affect_the_others(
    breakers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"breaker{number}" for number in range(breakers)]
    hypervisor = Hypervisor({name: {} for name in names})
    hypervisor.break_at(names, "guest-get-clock")
    monkeypatch.setattr(connections, "import_libvirt", hypervisor.modules)
    entries = hypervisor.correct_all(deadline=90.0)
    assert {entries[name]["attempts"] for name in HONEST} == {1}
    assert {entries[name]["error"]["code"] for name in names} == {"hypervisor_unavailable"}


# -------------------------------------------------------------------------------------------------------- over a socket


PLAYS: Mapping[str, Play] = {
    **payloads.ENDLESS,
    **payloads.DRIPPING,
    "slowly": lambda asked: [Pause(1.0), asked.answer()],
    "a little slowly": lambda asked: [Pause(0.1), asked.answer()],
    # The honest reply with as much white space as allowed.
    "blown up": lambda asked: [asked.answer().replace(b"}\n", b" " * 60_000 + b"}\n")],
}
SHORT_PLAYS = ("endless white space", "an endless string", "the reply in drips", "a little slowly")


@pytest.mark.parametrize("concurrency", [20, 1])
@pytest.mark.parametrize("name", quick(PLAYS, SHORT_PLAYS))
def test_honest_sockets_are_corrected_within_seconds(
    tmp_path: Path, workers: Workers, name: str, concurrency: int
) -> None:
    """They should take at most a second longer than alone, which is a tenth of a second here.

    The deadline replaces that second, because fifteen floods come from this machine: one at a time, they delay the
    honest guests by 1.3 to 1.5 s on an idle machine. A flood that is not interrupted would take a whole timeout.
    """
    others = {f"{number}": PLAYS[name] for number in range(COUNT)}
    with SimulatedFleet(tmp_path, HONEST) as fleet, several(others) as sockets:
        options = {**RESYNC[1], "concurrency": concurrency, "sockets": [*sockets, *fleet.paths]}
        entries = entries_of(workers.run(Case(RESYNC[0], options)))
        assert {path: entries[path]["status"] for path in fleet.paths} == dict.fromkeys(fleet.paths, "corrected")
        assert max(map(abs, fleet.truths().values())) < TOLERANCE_NS
