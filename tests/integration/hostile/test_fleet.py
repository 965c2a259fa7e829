"""Hostile guests among honest ones: what the honest ones get is right, precise and in time, whatever the others do."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections

from tests.fakes.domains import Definition, Domain
from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.libvirt import FakeHypervisor
from tests.fakes.libvirt_replies import LibvirtError
from tests.hostile import payloads
from tests.hostile import worker as in_process
from tests.hostile.agent import Action, Asked, HostileAgent, Pause, Play, Send
from tests.hostile.case import Case, Verdict
from tests.hostile.channels import serving
from tests.hostile.checks import Records, codes_of
from tests.hostile.guest import EXTENDED, SECOND_NS, Guest
from tests.hostile.workers import Worker, Workers
from tests.processes.socket_server import listen_unix

MILLISECOND_NS = 1_000_000
# So far a flood may blow up what an honest guest's clock is known to; alone it is some 20 us.
MOST_UNSURE_NS = 100 * MILLISECOND_NS
TOLERANCE_NS = 100 * MILLISECOND_NS
HONEST = 24
# The hostile ones take their time side by side, and nobody else's.
LONGEST_SECONDS = 90.0

# Seconds that an honest guest certainly needs less of, on a busy machine too.
TIMEOUT = 3.0
RESYNC = {"timeout": TIMEOUT, "attempts": 2, "samples": 8, "fail_on": "none", "concurrency": 20}
INFO = {"timeout": TIMEOUT, "gather_subset": ["min", "time"], "fail_on": "none", "concurrency": 20}

# One hostile guest each.
PLAYS: Mapping[str, Play] = {
    name: play
    for plays in (payloads.ENDLESS, payloads.DRIPPING, payloads.SILENT, payloads.HUGE)
    for name, play in list(plays.items())[::3]
}


def _behind_sync(hostile: Play) -> Play:
    """It gets to be asked for something."""

    def play(asked: Asked) -> Any:
        return [Send(asked.answer())] if asked.command.startswith("guest-sync") else hostile(asked)

    return play


@contextmanager
def _hostile(plays: Mapping[str, Play]) -> Iterator[dict[str, str]]:
    """Sockets of hostile guests by what they play."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        paths = {}
        for number, (name, play) in enumerate(plays.items()):
            path = directory / f"{number:03}.sock"
            stack.enter_context(serving(listen_unix(path), HostileAgent(Guest(EXTENDED), play)))
            paths[str(path)] = name
        yield paths


@pytest.fixture(name="fleet")
def _fleet(tmp_path: Path) -> Iterator[SimulatedFleet]:
    kinds = ("extended", "extended", "stock")
    guests = {
        f"guest{number:02}": Profile(kind=kinds[number % 3], offset_ns=-(number + 2) * SECOND_NS)
        for number in range(HONEST)
    }
    with SimulatedFleet(tmp_path, guests) as running:
        yield running


def _entries(verdict: Verdict) -> dict[str, dict[str, Any]]:
    assert verdict.noise == ""
    assert verdict.threads_left == verdict.descriptors_left == []
    assert verdict.result is not None
    assert verdict.seconds < LONGEST_SECONDS
    return {entry["name"]: entry for entry in verdict.result["guests"]}


def _mixed(honest: list[str], hostile: list[str]) -> list[str]:
    """The hostile ones spread among the honest ones, and one at either end."""
    step = max(1, len(honest) // len(hostile))
    mixed = [hostile[0]]
    for number, path in enumerate(honest):
        mixed.append(path)
        if number % step == 0 and number // step + 1 < len(hostile):
            mixed.append(hostile[number // step + 1])
    return mixed + [path for path in hostile if path not in mixed]


def test_honest_guests_get_their_time_whatever_others_send(
    fleet: SimulatedFleet, workers: Workers, records: Records
) -> None:
    with _hostile({name: _behind_sync(play) for name, play in PLAYS.items()}) as hostile:
        sockets = _mixed(fleet.paths, list(hostile))
        verdict = workers.run(Case("qga_update_time", {**RESYNC, "sockets": sockets}))
    records.add("unix", "fleets", "qga_update_time", verdict)
    entries = _entries(verdict)
    truths = fleet.truths()
    for path in fleet.paths:
        entry = entries[path]
        assert entry["status"] == "corrected", entry
        assert entry["uncertainty_after_ns"] < MOST_UNSURE_NS, entry
        true_ns = truths[Path(path).stem]
        assert abs(true_ns) < TOLERANCE_NS, (path, true_ns)
        assert abs(entry["offset_after_ns"] - true_ns) < entry["uncertainty_after_ns"] + MILLISECOND_NS
    for path, name in hostile.items():
        assert entries[path]["status"] == "failed", (name, entries[path])
        assert entries[path]["error"]["code"] in ("protocol_error", "timeout", "unresponsive", "command_failed"), name


def test_honest_guests_tell_their_facts_whatever_others_send(
    fleet: SimulatedFleet, workers: Workers, records: Records
) -> None:
    with _hostile({name: _behind_sync(play) for name, play in PLAYS.items()}) as hostile:
        sockets = _mixed(fleet.paths, list(hostile))
        verdict = workers.run(Case("qga_info", {**INFO, "sockets": sockets}))
    records.add("unix", "fleets", "qga_info", verdict)
    entries = _entries(verdict)
    for path in fleet.paths:
        entry = entries[path]
        assert entry["status"] == "gathered", entry
        assert not entry["errors"].keys() - {"os", "timezone"}, entry  # the simulated agents do not know all
        assert entry["time"]["uncertainty_ns"] < MOST_UNSURE_NS, entry
    known = {"protocol_error", "timeout", "unresponsive", "command_failed"}
    for path, name in hostile.items():
        assert codes_of({"guest": entries[path]}) <= known, (name, entries[path])
        assert not entries[path].keys() & {"os", "hostname", "timezone", "time"}, (name, entries[path])


# ---------------------------------------------------------------------------------------------------------- the memory


def _hoarding(size: int) -> Play:
    """As much of a message as is taken, and then a byte now and then: it is kept for as long as the guest likes."""

    def play(asked: Asked) -> Iterator[Action]:
        if asked.command.startswith("guest-sync"):
            yield Send(asked.answer())
            return
        yield Send(b'{"return": "' + b"a" * size)
        while True:
            yield Pause(payloads.DRIP_SECONDS)
            yield Send(b"a")

    return play


@pytest.mark.parametrize(
    ("module", "options", "count", "size", "most_mib"),
    [
        ("qga_update_time", {**RESYNC, "concurrency": 200}, 200, 60_000, 40),
        ("qga_info", {**INFO, "concurrency": 20}, 20, 2_000_000, 64),
    ],
)
def test_what_hostile_guests_make_the_host_keep_is_bounded_for_each(
    module: str,
    options: dict[str, Any],
    count: int,
    size: int,
    most_mib: int,
    workers: Workers,
    records: Records,
) -> None:
    with _hostile({f"hoarder {number}": _hoarding(size) for number in range(count)}) as hostile:
        verdict = workers.run(Case(module, {**options, "sockets": list(hostile)}))
    records.add("unix", f"hoarding fleets, {module}", f"{count} guests", verdict)
    entries = _entries(verdict)
    assert len(entries) == count
    assert all(codes_of({"guest": entry}) <= {"timeout", "unresponsive"} for entry in entries.values())
    assert verdict.peak_kib < most_mib * 1024


LONG_WINDED = 50
MOST_OF_A_FLEET_KIB = 64 * 1024
MOST_KEPT_KIB = 32 * 1024  # room for a reply that the C library keeps


@pytest.mark.parametrize(
    ("module", "what", "is_late"),
    [
        ("qga_update_time", "a reply", False),
        ("qga_update_time", "no JSON", False),
        ("qga_info", "a reply", True),
        *(
            pytest.param(*each, marks=pytest.mark.thorough)
            for each in (
                ("qga_update_time", "a reply that is not UTF-8", False),
                ("qga_update_time", "a refusal", False),
                ("qga_update_time", "a reply", True),
                ("qga_update_time", "no JSON", True),
                ("qga_info", "no JSON", False),
                ("qga_info", "a refusal", True),
                ("qga_info", "a reply that is not UTF-8", True),
            )
        ),
    ],
)
def test_what_fifty_guests_answer_at_length_through_libvirt_is_neither_kept_nor_held_all_at_once(
    module: str, what: str, is_late: bool, records: Records
) -> None:
    arguments = {"timeout": 60.0, "fail_on": "none", "domains": ["*"]}
    subset = {"gather_subset": ["hostname", "os"]} if module == "qga_info" else {}
    case = Case(module, {**arguments, **subset}, hypervisors=("long_winded", LONG_WINDED, what, is_late))
    with Worker(is_usual=True) as worker:
        verdict = worker.run(case)
    records.add("libvirt", f"long-winded fleets, {module}", f"{what}, {'late' if is_late else 'at once'}", verdict)
    assert verdict.noise == ""
    assert verdict.result is not None
    assert len(verdict.result["guests"]) == LONG_WINDED
    for entry in verdict.result["guests"]:
        assert codes_of({"guest": entry}) <= {"protocol_error", "command_failed"}, entry
    assert verdict.peak_kib < MOST_OF_A_FLEET_KIB
    assert verdict.kept_kib < MOST_KEPT_KIB


# ----------------------------------------------------------------------------------------------------------- libvirt's


class Breakable(FakeHypervisor):
    """libvirtd hangs up on a client at whose call a ``breaker`` answers; others of its domains have calls on it too."""

    def qemuAgentCommand(self, domain: Domain, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        if domain.definition.name.startswith("breaker") and "guest-get-" in text:
            domain.connection.is_broken = True
            domain.connection.interrupted.set()
            raise LibvirtError(38, "End of file while reading data: Input/output error")
        return super().qemuAgentCommand(domain, text, timeout, flags)


def _definition(name: str, guest: Guest) -> Definition:
    def reply(command: str) -> Callable[[dict[str, Any]], str]:
        return lambda request: json.dumps({"return": guest.returned(command, request.get("arguments", {}))})

    return Definition(name, replies={command: reply(command) for command in guest.commands})


@pytest.mark.parametrize("breakers", [1, 4])
def test_a_guest_that_breaks_libvirts_connection_costs_the_others_nothing(
    breakers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guests = {f"web{number}": Guest(EXTENDED, -(number + 2) * SECOND_NS) for number in range(HONEST)}
    hostile = {f"breaker{number}": Guest(EXTENDED) for number in range(breakers)}
    fake = Breakable(_definition(name, guest) for name, guest in {**hostile, **guests}.items())
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    verdict = in_process.run(Case("qga_update_time", {**RESYNC, "timeout": 5.0, "domains": ["*"]}))
    entries = _entries(verdict)
    for name, guest in guests.items():
        assert entries[name]["status"] == "corrected", entries[name]
        assert entries[name]["within_tolerance"]
        assert abs(guest.offset_ns) < TOLERANCE_NS
        assert guest.steps == 1
    assert {entries[name]["error"]["code"] for name in hostile} == {"hypervisor_unavailable"}
