"""The cost of a qga_info task and of a fleet of simulated guests, relative to the cheapest task, a ping."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import Figures, Say
from tests.fakes.fleet import SimulatedFleet, named, profiles
from tests.processes.ansible_run import run_tasks
from tests.support.collection import ROOT
from tests.vm.errors import VmError
from tests.vm.guest import Guest

MODULE = "qemu.guest_agent.qga_update_time"
# The number of guests, and of rounds.
SIZES = {100: 3, 1_000: 9, 10_000: 3}
COMPARED = 200
INFO_ROUNDS = 20
DEAD_SHARE = 0.1
TIMEOUT_S = 5.0
SEED = 20261124
SECOND_NS = 1_000_000_000

# Runs the module in a process of its own, and prints its peak resident memory in KiB. A forked child's ru_maxrss would
# start at its parent's.
_PEAK = """
import contextlib, io, json, os, sys
from tests.support.collection import make_importable
make_importable()
from tests.support.ansible_core import module_args
from tests.support.process_figures import ProcessFigures
from ansible_collections.qemu.guest_agent.plugins.modules import qga_update_time
with module_args(json.loads(sys.argv[1])), contextlib.redirect_stdout(io.StringIO()) as output:
    try:
        qga_update_time.main()
    except SystemExit:
        pass
assert json.loads(output.getvalue())["summary"]["failed"] == 0
figures = ProcessFigures()
figures.pid = os.getpid()
print(figures.peak_kib())
"""


def bench_fleet(say: Say) -> Figures:
    sized = {guests: _sized(guests, rounds, say) for guests, rounds in SIZES.items()}
    with _fleet(COMPARED) as (directory, fleet):
        per_guest_s = _timed({MODULE: {"socket": "{{ item }}"}, "loop": fleet.paths, "loop_control": {"label": ""}})
        fleet.shift(-3 * SECOND_NS)
        together_s = _timed(_task(directory))
    say(f"{COMPARED} guests: one task per guest {per_guest_s:.1f} s, one for all {together_s:.2f} s")
    with _fleet(1_000) as (directory, _alive):
        alive_s = _timed(_task(directory, timeout=TIMEOUT_S))
    with _fleet(1_000, dead=DEAD_SHARE) as (directory, _dead):
        dead_s = _timed(_task(directory, timeout=TIMEOUT_S, fail_on="none"))
    (few, few_s), (more, more_s), (many, many_s) = (
        (guests, median(each["task_s"] for each in size["rounds"])) for guests, size in sized.items()
    )
    say(f"1,000 guests: all alive {alive_s:.2f} s, {DEAD_SHARE:.0%} dead {dead_s:.2f} s (timeout {TIMEOUT_S:g} s)")
    return {
        "fleet": {str(guests): each for guests, each in sized.items()},
        "fleet_over_ping": sized[1_000]["over_ping"],
        # The cost of one more guest in the largest fleets relative to the smallest; 1 is linear.
        "fleet_growth": ((many_s - more_s) / (many - more)) / ((more_s - few_s) / (more - few)),
        "fleet_over_per_guest": per_guest_s / together_s,
        "fleet_per_guest_s": per_guest_s,
        "fleet_together_s": together_s,
        # How many timeouts dead guests add to the run.
        "fleet_dead_costs_timeouts": (dead_s - alive_s) / TIMEOUT_S,
        "fleet_alive_s": alive_s,
        "fleet_dead_s": dead_s,
    }


@contextmanager
def _fleet(count: int, dead: float = 0.0) -> Iterator[tuple[Path, SimulatedFleet]]:
    with (
        tempfile.TemporaryDirectory(prefix="qga-bench-") as name,
        SimulatedFleet(Path(name), named(profiles(count, SEED, dead=dead))) as fleet,
    ):
        yield Path(name), fleet


def _task(directory: Path, **options: Any) -> dict[str, Any]:
    return {MODULE: {"sockets": [f"{directory}/*.qga"], **options}}


# The first task of a module in a playbook builds its archive, which later tasks reuse.
_PING = {"name": "ping", "ansible.builtin.ping": {}}
_WARM_UP = {"name": "warm up", MODULE: {"sockets": [], "allow_empty": True}}


def _timed(task: Mapping[str, Any]) -> float:
    return float(_run([_WARM_UP, {"name": "timed", **task}])[-1].seconds)


def _run(tasks: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    run = run_tasks(tasks)
    if run.status != 0:
        raise VmError(f"The playbook failed:\n{run.output[-3000:]}")
    return run.tasks


def _sized(guests: int, count: int, say: Say) -> Figures:
    """Run a ping task and one task over all guests of a fleet, whose clocks are all wrong, ``count`` times.

    ``agents_s`` is the processor time of the agents. ``worst_left_ms`` comes from the simulation itself.
    """
    with _fleet(guests) as (directory, fleet):
        rounds = []
        for _round in range(count):
            fleet.shift(-3 * SECOND_NS)
            before_s = fleet.cpu_seconds()
            records = _run([_PING, _PING, _WARM_UP, {"name": "all", **_task(directory)}])
            agents_s = fleet.cpu_seconds() - before_s
            rounds.append({"task_s": records[-1].seconds, "agents_s": agents_s, "ping_s": records[1].seconds})
        corrected = records[-1].result["summary"]["corrected"]
        worst_ms = max(abs(offset) for offset in fleet.truths().values()) / 1e6
        fleet.shift(-3 * SECOND_NS)
        peak_mib = _peak_kib(directory) / 1024
    task_s = median(each["task_s"] for each in rounds)
    over_ping = median((each["task_s"] - each["agents_s"]) / each["ping_s"] for each in rounds)
    say(
        f"{guests:,} guests in one task: {task_s:.2f} s, {over_ping:.1f} pings without the agents' share; "
        f"{corrected:,} corrected, worst residual {worst_ms:.3f} ms; peak {peak_mib:.0f} MiB"
    )
    return {
        "guests": guests,
        "rounds": rounds,
        "corrected": corrected,
        "worst_left_ms": worst_ms,
        "peak_mib": peak_mib,
        "over_ping": over_ping,
    }


def _peak_kib(directory: Path) -> int:
    arguments = json.dumps({"sockets": [f"{directory}/*.qga"]})
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise VmError(f"The module failed:\n{done.stderr}")
    return int(done.stdout)


def bench_info(guest: Guest, say: Say) -> Figures:
    info = {"domain": guest.name, "uri": guest.uri, "gather_subset": ["min"]}
    # The first task of each module builds its archive, which later tasks of a playbook reuse.
    records = _run([_PING, {"name": "info", "qemu.guest_agent.qga_info": info}] * (1 + INFO_ROUNDS))
    ping_s, info_s = (
        median([record.seconds for record in records if record.task == name][1:]) for name in ("ping", "info")
    )
    say(f"{INFO_ROUNDS} tasks of each: ping {ping_s:.3f} s, qga_info {info_s:.3f} s")
    return {"info_over_ping": info_s / ping_s, "ping_task_s": ping_s, "info_task_s": info_s}
