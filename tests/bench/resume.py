"""From a guest's resumption to its right clock: by the service, by virsh fired on the same event, and by a rulebook.

All three are timed in the same way: a witness in the guest is asked without a pause from the resumption on, until its
clock has been stepped. That costs an emulated guest much of its processor, so all three are slower by it. Undisturbed,
the service says itself how long it took from libvirt's event to its step: that is what its limit is for.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import libvirt
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import events

from tests.processes.rulebook import Rulebook
from tests.support.resync_service import ServiceProcess, beside_libvirt
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.naps import Nap, save_and_restore, save_managed_and_start, suspend_and_resume
from tests.vm.witness import Exchange

# At least this long, and up to a second more by chance: virsh's error is where in a second it happens to be called. It
# is up to a second, and what virsh takes until the guest has it, and must not be taken for no step.
ASLEEP_S = 2.0
TURNS = 20
RULEBOOK_TURNS = 5
# What tells a clock that was stepped from one that was not.
STEPPED_NS = 250_000_000
# Readings so far apart in time that differ by less are of a clock that is no longer stepped.
SETTLED_MS = 0.5
SETTLING_S = 0.2
DEADLINE_S = 60.0
IDLE_S = 20.0
SNAPSHOT = "before"
RULEBOOK = "qemu.guest_agent.resync_on_resume"

_RESUMED = 4  # VIR_DOMAIN_EVENT_RESUMED
_LIFECYCLE = 0  # VIR_DOMAIN_EVENT_ID_LIFECYCLE


@dataclass(frozen=True)
class Way:
    """By the witness: milliseconds from each resumption to the step, and the residual behind it."""

    resume_to_correct_ms: tuple[float, ...]
    left_ms: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "resume_to_correct_ms": median(self.resume_to_correct_ms),
            "worst_ms": max(self.resume_to_correct_ms),
            "left_ms": median(map(abs, self.left_ms)),
            "turns": len(self.left_ms),
        }


@dataclass(frozen=True)
class Kind:
    """What happened to the guest so many times, and what the service made of it.

    ``since_event_ms`` is from libvirt's event to the step, as the service says; none, where nothing is to be corrected.
    """

    name: str
    happened: int
    lines: int
    as_wanted: int
    since_event_ms: tuple[float, ...] = ()
    worst_left_ms: float = 0.0


@dataclass(frozen=True)
class Resumes:
    """``round_trip_ms``: of guest-ping through libvirt on the same guest."""

    round_trip_ms: float
    service: Way
    virsh: Way
    rulebook: Way
    kinds: tuple[Kind, ...]
    resident_mib: float
    idle_cpu_ms: float

    @property
    def limit_ms(self) -> float:
        """What the service may take at most from the event to the corrected clock."""
        return 3 * self.round_trip_ms + 50

    def as_dict(self) -> dict[str, Any]:
        return {
            "resume_to_correct_ms": {
                "service": self.service.as_dict(),
                "virsh_domtime_now": self.virsh.as_dict(),
                "rulebook": self.rulebook.as_dict(),
            },
            "resume_limit_ms": self.limit_ms,
            "resume_kinds": {
                kind.name: {
                    "happened": kind.happened,
                    "lines": kind.lines,
                    "as_wanted": kind.as_wanted,
                    "since_event_ms": kind.since_event_ms,
                    "worst_left_ms": kind.worst_left_ms,
                }
                for kind in self.kinds
            },
            "resync_service_resident_mib": self.resident_mib,
            "resync_service_idle_cpu_ms": self.idle_cpu_ms,
            "resync_service_idle_s": IDLE_S,
        }


def bench_resumes(guest: Guest, say: Callable[[str], None]) -> Resumes:
    """On a guest with the extended agent, where nobody else corrects its clock."""
    round_trip_ms = _round_trip_ms(guest)
    with beside_libvirt([guest.uri]) as service:
        service.wait_for("resync", guest=guest.name)
        mine = _way(guest, TURNS, say, "the service")
        kinds = tuple(_kind(guest, service, *each, say) for each in _KINDS)
        resident_mib, idle_cpu_ms = service.resident_kib() / 1024, _idle_cpu_ms(service)
    guest.wait_for_agent()
    guest.witness.wait(DEADLINE_S)
    with VirshOnResume(guest):
        virsh = _way(guest, TURNS, say, "virsh domtime --now")
    with _rulebook(guest):
        rulebook = _way(guest, RULEBOOK_TURNS, say, "the rulebook")
    return Resumes(round_trip_ms, mine, virsh, rulebook, kinds, resident_mib, idle_cpu_ms)


def _round_trip_ms(guest: Guest) -> float:
    taken = []
    for _time in range(20):
        begun = time.monotonic()
        guest.ask("guest-ping")
        taken.append((time.monotonic() - begun) * 1e3)
    return median(taken)


# ------------------------------------------------------------------------------------------------- one way, many times


def _way(guest: Guest, turns: int, say: Callable[[str], None], what: str) -> Way:
    taken, left = [], []
    for _turn in range(turns):
        taken.append(_resume_to_step_ms(guest))
        # virsh's hwclock still goes on; what comes behind it is not asked meanwhile.
        guest.ask("guest-ping")
        left.append(_left_ms(guest))
    way = Way(tuple(taken), tuple(left))
    say(f"{what}, {turns} times: {way.as_dict()}")
    return way


def _resume_to_step_ms(guest: Guest) -> float:
    resumed_ns = 0
    asleep_s = ASLEEP_S + random.random()

    def nap() -> None:
        nonlocal resumed_ns
        guest.suspend()
        time.sleep(asleep_s)
        resumed_ns = time.time_ns()
        guest.resume()

    def is_stepped(before: Exchange, exchange: Exchange) -> bool:
        return _offset_ns(exchange) > _offset_ns(before) - asleep_s * 1e9 + STEPPED_NS

    exchange = guest.witness.behind(nap, is_stepped, DEADLINE_S)
    return ((exchange.sent + exchange.answered) / 2 - resumed_ns) / 1e6


def _offset_ns(exchange: Exchange) -> float:
    return (exchange.received - exchange.sent + exchange.transmitted - exchange.answered) / 2


def _left_ms(guest: Guest) -> float:
    """The residual, when it no longer changes: a first step that was coarse is followed by another."""
    deadline = time.monotonic() + DEADLINE_S
    before: float | None = None
    while True:
        assert time.monotonic() < deadline, "the guest's clock is stepped again and again"
        with contextlib.suppress(VmError):  # it was stepped while the witness was asked
            left = guest.witness.offset().offset_ns / 1e6
            if before is not None and abs(left - before) < SETTLED_MS:
                return left
            before = left
        time.sleep(SETTLING_S)


class VirshOnResume:
    """``virsh domtime --now`` on every event that says that the guest was resumed."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> VirshOnResume:
        events.start(libvirt)
        self._connection = libvirt.open(self._guest.uri)
        self._number = self._connection.domainEventRegisterAny(None, _LIFECYCLE, self._on_event, None)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.domainEventDeregisterAny(self._number)
        for each in self._running:
            each.wait()
        self._connection.close()

    def _on_event(self, _connection: Any, domain: Any, event: int, _detail: int, _opaque: object) -> None:
        if event == _RESUMED and domain.name() == self._guest.name:
            command = ["virsh", "--connect", self._guest.uri, "--quiet", "domtime", self._guest.name, "--now"]
            self._running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))


@contextlib.contextmanager
def _rulebook(guest: Guest) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="bench-rulebook-") as directory:
        variables = {"qga_uris": [guest.uri]}
        with Rulebook(RULEBOOK, Path(directory), variables=variables) as running:
            running.wait_for("is watched")
            yield


# ------------------------------------------------------------------------------------------ every kind, again and again


def _reverted(guest: Guest) -> None:
    guest.revert(SNAPSHOT)


def _reset(guest: Guest) -> None:
    subprocess.run(["virsh", "--connect", guest.uri, "--quiet", "reset", guest.name], check=True)
    # Resets that follow each other at once are one.
    time.sleep(2.5)


@contextlib.contextmanager
def _with_snapshot(guest: Guest, service: ServiceProcess) -> Iterator[None]:
    since = service.length()
    guest.snapshot(SNAPSHOT)
    service.wait_for("resync", since=since, guest=guest.name)  # for the time that it takes, the guest is paused
    try:
        yield
    finally:
        guest.delete_snapshot(SNAPSHOT)


@contextlib.contextmanager
def _as_it_is(_guest: Guest, _service: ServiceProcess) -> Iterator[None]:
    yield


_Around = Callable[[Guest, ServiceProcess], AbstractContextManager[None]]

# What happens, around all of its times, and what the service is to make of it. The reset is last: the guest boots.
_KINDS: Sequence[tuple[str, Nap, _Around, Mapping[str, str]]] = (
    ("suspend/resume", suspend_and_resume, _as_it_is, {"cause": "resumed", "result": "corrected"}),
    ("save/restore", save_and_restore, _as_it_is, {"cause": "restored", "result": "corrected"}),
    ("managed save/start", save_managed_and_start, _as_it_is, {"cause": "restored", "result": "corrected"}),
    ("snapshot revert", _reverted, _with_snapshot, {"cause": "reverted", "result": "corrected"}),
    ("reset", _reset, _as_it_is, {"cause": "reset", "result": "not_needed"}),
)


def _kind(
    guest: Guest,
    service: ServiceProcess,
    name: str,
    happen: Nap,
    around: _Around,
    wanted: Mapping[str, str],
    say: Callable[[str], None],
) -> Kind:
    lines = []
    worst_left_ms = 0.0
    with around(guest, service):
        since = service.length()
        for turn in range(1, TURNS + 1):
            happen(guest)
            lines.append(service.wait_for("resync", turn, DEADLINE_S, since, guest=guest.name)[turn - 1])
            if lines[-1].has(result="corrected"):
                worst_left_ms = max(worst_left_ms, abs(guest.witness.offset().offset_ns) / 1e6)
        found = service.lines("resync", since, guest=guest.name)
    taken = [each for line in found if (each := line.fields.get("since_resume_ns")) is not None]
    kind = Kind(
        name,
        TURNS,
        len(found),
        sum(line.has(**wanted) for line in found),
        tuple(int(each) / 1e6 for each in taken),
        worst_left_ms,
    )
    say(f"{name}, {TURNS} times: {kind.lines} lines, {kind.as_wanted} as wanted, worst left {worst_left_ms:.3f} ms")
    return kind


def _idle_cpu_ms(service: ServiceProcess) -> float:
    before = service.cpu_seconds()
    time.sleep(IDLE_S)
    return (service.cpu_seconds() - before) * 1e3
