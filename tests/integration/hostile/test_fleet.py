"""Hostile guests among honest ones: the results of the honest ones are correct, precise and in time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.faults import Pause, Piece
from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.hostile import payloads
from tests.hostile.agent import Asked, Play
from tests.hostile.case import Case, Verdict
from tests.hostile.channels import several
from tests.hostile.checks import codes_of
from tests.hostile.workers import Worker, Workers

MILLISECOND_NS = 1_000_000
# The largest uncertainty of an honest guest's clock during floods; without them, it is about 20 us.
MOST_UNSURE_NS = 100 * MILLISECOND_NS
TOLERANCE_NS = 100 * MILLISECOND_NS
# Hostile guests use up their timeouts concurrently, without delaying the others.
LONGEST_SECONDS = 90.0

# Seconds; an honest guest never takes as long, even on a busy machine.
TIMEOUT = 3.0
RESYNC = {"timeout": TIMEOUT, "attempts": 2, "samples": 8, "fail_on": "none", "concurrency": 20}
INFO = {"timeout": TIMEOUT, "gather_subset": ["min", "time"], "fail_on": "none", "concurrency": 20}

# One hostile guest each.
PLAYS: Mapping[str, Play] = {
    name: play
    for plays in (payloads.ENDLESS, payloads.DRIPPING, payloads.SILENT, payloads.HUGE)
    for name, play in list(plays.items())[::3]
}


@pytest.fixture(name="fleet")
def _fleet(tmp_path: Path) -> Iterator[SimulatedFleet]:
    guests = {
        f"guest{number:02}": Profile(kind, offset_ns=-(number + 2) * SECOND_NS)
        for number, kind in enumerate(("extended", "extended", "stock") * 8)
    }
    with SimulatedFleet(tmp_path, guests) as running:
        yield running


def _entries(verdict: Verdict) -> dict[str, dict[str, Any]]:
    assert verdict.noise == ""
    assert verdict.threads_left == verdict.descriptors_left == []
    assert verdict.result is not None
    assert verdict.seconds < LONGEST_SECONDS
    return {entry["name"]: entry for entry in verdict.result["guests"]}


def _mixed(honest: list[str], hostile: Mapping[str, str]) -> list[str]:
    """Return the sockets of both in alternation, with a hostile one at each end."""
    first, *others, last = hostile
    mixed = (each for both in itertools.zip_longest(honest, others) for each in both if each is not None)
    return [first, *mixed, last]


@pytest.mark.parametrize(("module", "options"), [("qga_update_time", RESYNC), ("qga_info", INFO)])
def test_honest_guests_are_corrected_and_return_facts_whatever_others_send(
    module: str, options: Mapping[str, Any], fleet: SimulatedFleet, workers: Workers
) -> None:
    with several(PLAYS) as hostile:
        verdict = workers.run(Case(module, {**options, "sockets": _mixed(fleet.paths, hostile)}))
    entries = _entries(verdict)
    known = {"protocol_error", "timeout", "unresponsive", "command_failed"}
    for path, name in hostile.items():
        assert codes_of({"guest": entries[path]}) <= known, (name, entries[path])
        assert not entries[path].keys() & {"os", "hostname", "timezone", "time"}, (name, entries[path])
        assert module == "qga_info" or entries[path]["status"] == "failed", (name, entries[path])
    truths = fleet.truths()
    for path in fleet.paths:
        entry, true_ns = entries[path], truths[Path(path).stem]
        if module == "qga_info":
            assert entry["status"] == "gathered", entry
            assert entry["errors"] == {}, entry
            assert entry["time"]["uncertainty_ns"] < MOST_UNSURE_NS, entry
        else:
            assert entry["status"] == "corrected", entry
            assert entry["uncertainty_after_ns"] < MOST_UNSURE_NS, entry
            assert abs(true_ns) < TOLERANCE_NS, (path, true_ns)
            assert abs(entry["offset_after_ns"] - true_ns) < entry["uncertainty_after_ns"] + MILLISECOND_NS


# ---------------------------------------------------------------------------------------------------------- the memory


def _hoarding(size: int) -> Play:
    """Send as much of a message as is accepted, and then drips, so that the host keeps it until its timeout."""

    def play(_asked: Asked) -> Iterator[Piece]:
        yield b'{"return": "' + b"a" * size
        while True:
            yield Pause(payloads.DRIP_SECONDS)
            yield b"a"

    return play


@pytest.mark.parametrize(
    ("module", "options", "count", "size", "most_mib"),
    [
        ("qga_update_time", {**RESYNC, "concurrency": 200}, 200, 60_000, 40),
        ("qga_info", {**INFO, "concurrency": 20}, 20, 2_000_000, 64),
    ],
)
def test_the_memory_that_each_hostile_guest_can_occupy_is_limited(
    module: str,
    options: dict[str, Any],
    count: int,
    size: int,
    most_mib: int,
    workers: Workers,
) -> None:
    with several({f"hoarder {number}": _hoarding(size) for number in range(count)}) as hostile:
        verdict = workers.run(Case(module, {**options, "sockets": list(hostile)}))
    entries = _entries(verdict)
    assert len(entries) == count
    assert all(codes_of({"guest": entry}) <= {"timeout", "unresponsive"} for entry in entries.values())
    assert verdict.peak_kib < most_mib * 1024


LONG_WINDED = 50
MOST_OF_A_FLEET_KIB = 64 * 1024
MOST_KEPT_KIB = 32 * 1024  # one reply that the C library keeps


@pytest.mark.parametrize(
    ("module", "what", "is_late"),
    [
        ("qga_update_time", "a reply", False),
        ("qga_update_time", "not JSON", False),
        ("qga_info", "a reply", True),
        *(
            pytest.param(*each, marks=pytest.mark.thorough)
            for each in (
                ("qga_update_time", "a reply that is not UTF-8", False),
                ("qga_update_time", "a refusal", False),
                ("qga_update_time", "a reply", True),
                ("qga_update_time", "not JSON", True),
                ("qga_info", "not JSON", False),
                ("qga_info", "a refusal", True),
                ("qga_info", "a reply that is not UTF-8", True),
            )
        ),
    ],
)
def test_long_answers_of_fifty_guests_through_libvirt_are_neither_kept_nor_held_at_once(
    module: str, what: str, is_late: bool
) -> None:
    arguments = {"timeout": 60.0, "fail_on": "none", "domains": ["*"]}
    subset = {"gather_subset": ["hostname", "os"]} if module == "qga_info" else {}
    case = Case(module, {**arguments, **subset}, hypervisors=("long_winded", LONG_WINDED, what, is_late))
    with Worker(is_usual=True) as worker:
        verdict = worker.run(case)
    assert verdict.noise == ""
    assert verdict.result is not None
    assert len(verdict.result["guests"]) == LONG_WINDED
    for entry in verdict.result["guests"]:
        assert codes_of({"guest": entry}) <= {"protocol_error", "command_failed"}, entry
    assert verdict.peak_kib < MOST_OF_A_FLEET_KIB
    assert verdict.kept_kib < MOST_KEPT_KIB
