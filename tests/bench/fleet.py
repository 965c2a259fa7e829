"""What a fleet of simulated guests costs, in units of the cheapest task that there is."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.fakes.fleet import SimulatedFleet, named, profiles
from tests.processes.ansible_run import run_tasks
from tests.support.collection import ROOT
from tests.vm.errors import VmError

MODULE = "qemu.guest_agent.qga_update_time"
# How many guests, and how often.
SIZES = {100: 3, 1_000: 9, 10_000: 3}
COMPARED = 200
DEAD_SHARE = 0.1
TIMEOUT_S = 5.0
SEED = 20261124
SECOND_NS = 1_000_000_000

# Runs the module in a process of its own and tells its peak of resident memory in KiB.
_PEAK = """
import contextlib, io, json, resource, sys
from tests.support.collection import make_importable
make_importable()
from tests.support.module_args import module_args
from ansible_collections.qemu.guest_agent.plugins.modules import qga_update_time
with module_args(json.loads(sys.argv[1])), contextlib.redirect_stdout(io.StringIO()) as output:
    try:
        qga_update_time.main()
    except SystemExit:
        pass
assert json.loads(output.getvalue())["summary"]["failed"] == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@dataclass(frozen=True)
class Round:
    """One task over all guests of a fleet, all of them wrong, and a ping task beside it; in seconds.

    ``agents_s`` is the processor time that the agents took.
    """

    task_s: float
    agents_s: float
    ping_s: float

    @property
    def over_ping(self) -> float:
        """What the task costs without the agents' share, in ping tasks."""
        return (self.task_s - self.agents_s) / self.ping_s


@dataclass(frozen=True)
class Sized:
    """The rounds with so many guests. ``worst_left_ms`` is by the simulation's own account."""

    guests: int
    rounds: tuple[Round, ...]
    corrected: int
    worst_left_ms: float
    peak_mib: float

    @property
    def task_s(self) -> float:
        return median(each.task_s for each in self.rounds)

    @property
    def over_ping(self) -> float:
        return median(each.over_ping for each in self.rounds)

    def as_dict(self) -> dict[str, Any]:
        return {**vars(self), "rounds": [vars(each) for each in self.rounds], "over_ping": self.over_ping}


@dataclass(frozen=True)
class FleetCost:
    """``per_guest_s``: one task for each of ``COMPARED`` guests; ``together_s``: one task for all of them.

    ``dead_s`` and ``alive_s`` are the same task on 1,000 guests with and without dead ones among them.
    """

    sized: tuple[Sized, ...]
    per_guest_s: float
    together_s: float
    alive_s: float
    dead_s: float

    def of(self, guests: int) -> Sized:
        (found,) = (each for each in self.sized if each.guests == guests)
        return found

    @property
    def growth(self) -> float:
        """What a guest more costs between 1,000 and 10,000, over what it costs between 100 and 1,000; 1 is linear."""
        small, middle, large = self.sized
        return ((large.task_s - middle.task_s) / (large.guests - middle.guests)) / (
            (middle.task_s - small.task_s) / (middle.guests - small.guests)
        )

    @property
    def fleet_over_per_guest(self) -> float:
        return self.per_guest_s / self.together_s

    @property
    def dead_costs_timeouts(self) -> float:
        """How many time limits dead guests add to the run."""
        return (self.dead_s - self.alive_s) / TIMEOUT_S

    def as_dict(self) -> dict[str, Any]:
        return {
            "fleet": {str(each.guests): each.as_dict() for each in self.sized},
            "fleet_over_ping": self.of(1_000).over_ping,
            "fleet_growth": self.growth,
            "fleet_over_per_guest": self.fleet_over_per_guest,
            "fleet_per_guest_s": self.per_guest_s,
            "fleet_together_s": self.together_s,
            "fleet_dead_costs_timeouts": self.dead_costs_timeouts,
            "fleet_alive_s": self.alive_s,
            "fleet_dead_s": self.dead_s,
        }


def bench_fleet(say: Callable[[str], None]) -> FleetCost:
    sized = tuple(_sized(guests, rounds, say) for guests, rounds in SIZES.items())
    with _Fleet(COMPARED) as (directory, fleet):
        one_by_one = {MODULE: {"socket": "{{ item }}"}, "loop": fleet.paths, "loop_control": {"label": ""}}
        per_guest_s = _timed(one_by_one)
        fleet.shift(-3 * SECOND_NS)
        together_s = _timed(_task(directory))
    say(f"{COMPARED} guests: one task for each {per_guest_s:.1f} s, one for all {together_s:.2f} s")
    with _Fleet(1_000) as (directory, _fleet):
        alive_s = _timed(_task(directory, timeout=TIMEOUT_S))
    with _Fleet(1_000, dead=DEAD_SHARE) as (directory, _fleet):
        dead_s = _timed(_task(directory, timeout=TIMEOUT_S, fail_on="none"))
    say(f"1,000 guests: all alive {alive_s:.2f} s, {DEAD_SHARE:.0%} dead {dead_s:.2f} s (timeout {TIMEOUT_S:g} s)")
    return FleetCost(sized, per_guest_s, together_s, alive_s, dead_s)


class _Fleet:
    """A simulated fleet of so many guests in a directory of its own."""

    def __init__(self, count: int, dead: float = 0.0) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="qga-bench-")
        self._path = Path(self._directory.name)
        self._fleet = SimulatedFleet(self._path, named(profiles(count, SEED, dead=dead)))

    def __enter__(self) -> tuple[Path, SimulatedFleet]:
        return self._path, self._fleet.__enter__()

    def __exit__(self, *what: Any) -> None:
        self._fleet.__exit__(*what)
        self._directory.cleanup()


def _task(directory: Path, **options: Any) -> dict[str, Any]:
    return {MODULE: {"sockets": [f"{directory}/*.qga"], **options}}


# The first task of a module in a playbook builds its archive, which the others reuse.
_PING = {"name": "ping", "ansible.builtin.ping": {}}
_WARM_UP = {"name": "warm up", MODULE: {"sockets": [], "allow_empty": True}}


def _timed(task: Mapping[str, Any]) -> float:
    return float(_run([_WARM_UP, {"name": "timed", **task}])[-1].seconds)


def _run(tasks: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    run = run_tasks(tasks)
    if run.status != 0:
        raise VmError(f"The playbook failed:\n{run.output[-3000:]}")
    return run.tasks


def _sized(guests: int, count: int, say: Callable[[str], None]) -> Sized:
    with _Fleet(guests) as (directory, fleet):
        rounds = []
        for _round in range(count):
            fleet.shift(-3 * SECOND_NS)
            before_s = fleet.cpu_seconds()
            records = _run([_PING, _PING, _WARM_UP, {"name": "all", **_task(directory)}])
            agents_s = fleet.cpu_seconds() - before_s
            rounds.append(Round(records[-1].seconds, agents_s, records[1].seconds))
        summary = records[-1].result["summary"]
        worst_ms = max(abs(offset) for offset in fleet.truths().values()) / 1e6
        fleet.shift(-3 * SECOND_NS)
        peak_mib = _peak_kib(directory) / 1024
    sized = Sized(guests, tuple(rounds), summary["corrected"], worst_ms, peak_mib)
    say(
        f"{guests:,} guests in one task: {sized.task_s:.2f} s, {sized.over_ping:.1f} pings without the agents' share; "
        f"{sized.corrected:,} corrected, at worst {sized.worst_left_ms:.3f} ms left; peak {sized.peak_mib:.0f} MiB"
    )
    return sized


def _peak_kib(directory: Path) -> int:
    arguments = json.dumps({"sockets": [f"{directory}/*.qga"]})
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise VmError(f"The module failed:\n{done.stderr}")
    return int(done.stdout)
