"""The time from a guest's resume to a correct clock: by the service, by virsh on the same event, and by a rulebook.

All three are timed in the same way: from the resume on, a witness in the guest is asked continuously until the clock
has been stepped. This uses much of an emulated guest's processor, so it slows down all three. Without the witness, the
service logs how long it took from libvirt's event to its step; its limit applies to that.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import Any

import libvirt
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import events

from tests.bench import Figures, Say
from tests.fakes.fleet import named, profiles
from tests.processes.rulebook import Rulebook
from tests.support.resync_service import ServiceProcess, beside_libvirt
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.naps import Nap, save_and_restore, save_managed_and_start, suspend_and_resume
from tests.vm.witness import Exchange

# Plus up to a random second: virsh truncates to seconds, so its error depends on where in a second it is called. The
# error is up to a second plus virsh's own latency, and must not look like a missing step.
ASLEEP_S = 2.0
TURNS = 20
RULEBOOK_TURNS = 5
# A larger change of the offset is a step.
STEPPED_NS = 250_000_000
# If readings SETTLING_S apart differ by less than SETTLED_MS, the clock is no longer being stepped.
SETTLED_MS = 0.5
SETTLING_S = 0.2
DEADLINE_S = 60.0
IDLE_S = 20.0
# Simulated guests restored in the same second, how often, and the required accuracy.
TOGETHER = 200
BURSTS = 3
TOLERANCE_NS = 100_000_000
SNAPSHOT = "before"
RULEBOOK = "qemu.guest_agent.resync_on_resume"

_RESUMED = 4  # VIR_DOMAIN_EVENT_RESUMED
_LIFECYCLE = 0  # VIR_DOMAIN_EVENT_ID_LIFECYCLE


def bench_resumes(guest: Guest, say: Say) -> Figures:
    """Measure on a guest with the extended agent, whose clock no other program corrects."""
    round_trip_ms = _round_trip_ms(guest)
    ways = {}
    with beside_libvirt([guest.uri]) as service:
        service.wait_for("resync", guest=guest.name)
        ways["service"] = _way(guest, TURNS, say)
        kinds = {name: _kind(guest, service, *each) for name, each in _KINDS.items()}
        for name, kind in kinds.items():
            lines, wanted, left_ms = kind["lines"], kind["as_wanted"], kind["worst_left_ms"]
            say(f"{name}, {TURNS} times: {lines} lines, {wanted} as expected, worst residual {left_ms:.3f} ms")
        before_s = service.cpu_seconds()
        time.sleep(IDLE_S)
        idle_cpu_ms, resident_mib = (service.cpu_seconds() - before_s) * 1e3, service.resident_kib() / 1024
    guest.wait_for_agent()
    guest.witness.wait(DEADLINE_S)
    with VirshOnResume(guest):
        ways["virsh_domtime_now"] = _way(guest, TURNS, say)
    with (
        tempfile.TemporaryDirectory(prefix="bench-rulebook-") as directory,
        Rulebook(RULEBOOK, Path(directory), variables={"qga_uris": [guest.uri]}) as running,
    ):
        running.wait_for("is watched")
        ways["rulebook"] = _way(guest, RULEBOOK_TURNS, say)
    return {
        "resume_to_correct_ms": ways,
        # The most that the service may take from the event to the corrected clock.
        "resume_limit_ms": 3 * round_trip_ms + 50,
        "resume_kinds": kinds,
        "resync_service_resident_mib": resident_mib,
        "resync_service_idle_cpu_ms": idle_cpu_ms,
        "resync_service_idle_s": IDLE_S,
    }


def _round_trip_ms(guest: Guest) -> float:
    taken = []
    for _time in range(20):
        begun = time.monotonic()
        guest.ask("guest-ping")
        taken.append((time.monotonic() - begun) * 1e3)
    return median(taken)


# ------------------------------------------------------------------------------------------------- one way, many times


def _way(guest: Guest, turns: int, say: Say) -> Figures:
    """Measure with the witness: the time from each resume to the step, and the residual."""
    taken, left = [], []
    for _turn in range(turns):
        taken.append(_resume_to_step_ms(guest))
        # After virsh's step, hwclock still runs; wait for it, so that it does not disturb the witness.
        guest.ask("guest-ping")
        left.append(abs(_left_ms(guest)))
    way = {
        "resume_to_correct_ms": median(taken),
        "worst_ms": max(taken),
        "left_ms": median(left),
        "left_worst_ms": max(left),
        "turns": turns,
    }
    say(
        f"from resume to correct clock, {turns} times: {way['resume_to_correct_ms']:.1f} ms, worst "
        f"{way['worst_ms']:.1f}; residual {way['left_ms']:.3f} ms, worst {way['left_worst_ms']:.3f}"
    )
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

    exchange = guest.witness.first_after(nap, is_stepped, DEADLINE_S)
    return ((exchange.sent + exchange.answered) / 2 - resumed_ns) / 1e6


def _offset_ns(exchange: Exchange) -> float:
    return (exchange.received - exchange.sent + exchange.transmitted - exchange.answered) / 2


def _left_ms(guest: Guest) -> float:
    """Return the residual once it no longer changes: a coarse first step is followed by another."""
    deadline = time.monotonic() + DEADLINE_S
    before: float | None = None
    while True:
        assert time.monotonic() < deadline, "the guest's clock is stepped repeatedly"
        with contextlib.suppress(VmError):  # the clock was stepped during the reading
            left = guest.witness.offset().offset_ns / 1e6
            if before is not None and abs(left - before) < SETTLED_MS:
                return left
            before = left
        time.sleep(SETTLING_S)


class VirshOnResume:
    """Runs ``virsh domtime --now`` on every resume event of the guest."""

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


# ------------------------------------------------------------------------------------------ every kind, many times


def _revert(guest: Guest) -> None:
    guest.revert(SNAPSHOT)


def _reset(guest: Guest) -> None:
    subprocess.run(["virsh", "--connect", guest.uri, "--quiet", "reset", guest.name], check=True)
    # Resets in quick succession count as one.
    time.sleep(2.5)


_Around = Callable[[Guest, ServiceProcess], AbstractContextManager[None]]


def _nothing(_guest: Guest, _service: ServiceProcess) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def _with_snapshot(guest: Guest, service: ServiceProcess) -> Iterator[None]:
    since = service.length()
    guest.snapshot(SNAPSHOT)
    service.wait_for("resync", since=since, guest=guest.name)  # the guest is paused for the snapshot
    try:
        yield
    finally:
        guest.delete_snapshot(SNAPSHOT)


# An event, the log line that the service must write, and a context for all repetitions. The last event boots the guest.
_KINDS: Mapping[str, tuple[Nap, Mapping[str, str], _Around]] = {
    "suspend/resume": (suspend_and_resume, {"cause": "resumed", "result": "corrected"}, _nothing),
    "save/restore": (save_and_restore, {"cause": "restored", "result": "corrected"}, _nothing),
    "managed save/start": (save_managed_and_start, {"cause": "restored", "result": "corrected"}, _nothing),
    "snapshot revert": (_revert, {"cause": "reverted", "result": "corrected"}, _with_snapshot),
    "reset": (_reset, {"cause": "reset", "result": "not_needed"}, _nothing),
}


def _kind(guest: Guest, service: ServiceProcess, happen: Nap, wanted: Mapping[str, str], around: _Around) -> Figures:
    """Trigger the event many times, and evaluate the service's log.

    ``since_event_ms`` is the time from libvirt's event to the step, as logged by the service; empty without a step.
    """
    worst_left_ms = 0.0
    with around(guest, service):
        since = service.length()
        for turn in range(1, TURNS + 1):
            happen(guest)
            line = service.wait_for("resync", turn, DEADLINE_S, since, guest=guest.name)[turn - 1]
            if line.has(result="corrected"):
                worst_left_ms = max(worst_left_ms, abs(guest.witness.offset().offset_ns) / 1e6)
        found = service.lines("resync", since, guest=guest.name)
    taken = [each for line in found if (each := line.fields.get("since_resume_ns")) is not None]
    return {
        "happened": TURNS,
        "lines": len(found),
        "as_wanted": sum(line.has(**wanted) for line in found),
        "since_event_ms": [int(each) / 1e6 for each in taken],
        "worst_left_ms": worst_left_ms,
    }


# --------------------------------------------------------------------------- a host that restarts with all its guests


def bench_resume_burst(say: Say) -> Figures:
    """Measure the time from the first event to the last log line, and how many guests are right then."""
    fleet = named(profiles(TOGETHER, 1))
    seconds, corrected, worst = [], [], []
    for _turn in range(BURSTS):
        with (
            tempfile.TemporaryDirectory(prefix="bench-burst-") as directory,
            ServiceProcess(Path(directory), "[watch]\nlook_at_start = no\n", fleet) as service,
        ):
            service.wait_for("watching")
            begun = time.monotonic()
            service.ask("restore", list(fleet))
            lines = service.wait_for("resync", TOGETHER, 2 * DEADLINE_S)
            seconds.append(time.monotonic() - begun)
            corrected.append(sum(abs(offset) <= TOLERANCE_NS for offset in service.ask("truths").values()))
            worst.append(max(int(line.fields["since_resume_ns"]) for line in lines) / 1e6)
        say(f"{TOGETHER} simulated guests at once: {corrected[-1]} right after {seconds[-1]:.2f} s")
    return {
        "resume_burst_guests": TOGETHER,
        "resume_burst_s": seconds,
        "resume_burst_corrected": corrected,
        "resume_burst_worst_since_event_ms": worst,
    }
