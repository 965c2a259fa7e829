"""A fleet on many hypervisors: resync_fleet on simulated guests, with up to twenty hosts on one machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.bench import Figures, Say
from tests.fakes.fleet import SimulatedFleet, named, profiles
from tests.support.collection import install
from tests.vm.errors import VmError

PLAYBOOK = "qemu.guest_agent.resync_fleet"
# The number of hypervisors, and of guests on all of them.
SHAPES = ((1, 500), (5, 500), (20, 500), (20, 2_000), (20, 10_000))
SEED = 20261124

_PROGRAM = Path(sys.executable).with_name("ansible-playbook")
_UNPROVEN = r"([\d,]+) clocks? (?:is|are) not proven right"


def bench_hypervisors(say: Say) -> Figures:
    return {"hypervisors": [_run(hypervisors, guests, say) for hypervisors, guests in SHAPES]}


def _run(hypervisors: int, guests: int, say: Say) -> Figures:
    """Run the playbook once.

    ``failed`` guests include ``unproven`` ones: their clocks may be right, but this machine was too busy to prove it.
    """
    with tempfile.TemporaryDirectory(prefix="qga-bench-") as name:
        directory = Path(name)
        inventory = directory / "inventory.yml"
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "qga_become": False}
        names = [f"host{number:02}" for number in range(1, hypervisors + 1)]
        hosts = {each: {"qga_sockets": [f"{directory}/{each}/*.qga"]} for each in names}
        inventory.write_text(yaml.safe_dump({"hypervisors": {"vars": here, "hosts": hosts}}), encoding="utf-8")
        with SimulatedFleet(directory, named(profiles(guests, SEED), hosts=hypervisors)) as fleet:
            before_s, begun = fleet.cpu_seconds(), time.monotonic()
            done = subprocess.run(
                [_PROGRAM, PLAYBOOK, *("-i", inventory, "-f", "20", "-e", "qga_fail_on=none")],
                cwd=directory,
                env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(install()), "ANSIBLE_LOCALHOST_WARNING": "false"},
                capture_output=True,
                text=True,
                check=False,
            )
            seconds, agents_s = time.monotonic() - begun, fleet.cpu_seconds() - before_s
            worst_ms = max(abs(offset) for offset in fleet.truths().values()) / 1e6
        failed, unproven = _number(r'"total(?: +[\d,]+){4} +([\d,]+)', done.stdout), _number(_UNPROVEN, done.stdout)
        if done.returncode:
            raise VmError(f"The playbook failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        report_mib = (directory / "resync_fleet.html").stat().st_size / 2**20
    say(
        f"{guests:,} guests on {hypervisors} hypervisors: {seconds:.1f} s, of which the agents {agents_s:.1f} s; "
        f"worst residual {worst_ms:.3f} ms, {failed:,} failed, {unproven:,} of them not proven right; "
        f"report {report_mib:.1f} MiB"
    )
    return {
        "hypervisors": hypervisors,
        "guests": guests,
        "seconds": seconds,
        "agents_s": agents_s,
        "worst_left_ms": worst_ms,
        "failed": failed,
        "unproven": unproven,
        "report_mib": report_mib,
    }


def _number(pattern: str, output: str) -> int:
    """Return the number that the pattern's group matches; 0: no match."""
    found = re.search(pattern, output)
    return int(found[1].replace(",", "")) if found else 0
