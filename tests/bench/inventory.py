"""The duration of an inventory of simulated guests, some of them dead, compared with asking them one by one."""

from __future__ import annotations

import functools
import tempfile
import time
from pathlib import Path
from statistics import median

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import gathering
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import RunOptions, with_agent
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.bench import Figures, Say
from tests.fakes.hypervisors import HERE, lay_out, many
from tests.processes.inventory_run import configured, run_inventory
from tests.vm.errors import VmError

GUESTS = 200
DEAD = 20
TIMEOUT_S = 5.0
# The latency of a reply; a real agent's through libvirt is about the same.
LATENCY_S = 0.0015
ROUNDS = 3


def bench_inventory(say: Say) -> Figures:
    """Measure the duration of ansible-inventory with dead guests, without dead guests, and without guests."""
    with tempfile.TemporaryDirectory(prefix="qga-bench-") as name:
        directory = Path(name)
        source = configured(directory, timeout=TIMEOUT_S)
        dead, alive, empty = (
            lay_out(directory / what, many, count, silent, LATENCY_S)
            for what, count, silent in (("dead", GUESTS, DEAD), ("alive", GUESTS, 0), ("empty", 0, 0))
        )
        # The first run builds and installs the collection.
        _timed(source, empty, {})
        rounds = [
            (
                _timed(source, dead, {"ok": GUESTS - DEAD, "failed": DEAD}),
                _timed(source, alive, {"ok": GUESTS}),
                _timed(source, empty, {}),
            )
            for _round in range(ROUNDS)
        ]
    dead_s, alive_s, empty_s = zip(*rounds, strict=True)
    say(f"an inventory of {GUESTS} guests, {DEAD} of them dead: {median(dead_s):.2f} s; now one by one")
    one_by_one_s = _one_by_one()
    return {
        "inventory_s": median(dead_s),
        # One timeout, and a second for each 100 guests.
        "inventory_wanted_s": TIMEOUT_S + GUESTS / 100,
        "inventory_alive_s": median(alive_s),
        "inventory_empty_s": median(empty_s),
        "inventory_one_by_one_s": one_by_one_s,
        "inventory_over_one_by_one": one_by_one_s / median(dead_s),
    }


def _timed(source: Path, stand_in: Path, expected: dict[str, int]) -> float:
    begun = time.monotonic()
    run = run_inventory(source, stand_in)
    seconds = time.monotonic() - begun
    seen = {status: len(hosts) for status in ("ok", "failed") if (hosts := run.group(f"qga_status_{status}"))}
    if run.status != 0 or seen != expected:
        raise VmError(f"The inventory has {seen}, not {expected}: {run.said[-2000:]}")
    return seconds


def _one_by_one() -> float:
    """Ask all guests over one connection, in a loop over the domains."""
    fake = many(GUESTS, DEAD, LATENCY_S)
    work = gathering(["min", "network"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "import_libvirt", fake.modules)
        line = connections.Line(HERE)
        begun = time.monotonic()
        answered = 0
        for each in fake.by_uri[HERE].definitions:
            try:
                opener = functools.partial(LibvirtChannel, each.name, HERE, line)
                tasks.run(with_agent(opener, work, RunOptions(TIMEOUT_S)))
                answered += 1
            except QgaError:
                pass
        seconds = time.monotonic() - begun
        line.close()
    if answered != GUESTS - DEAD:
        raise VmError(f"One by one, {answered} guests returned facts, not {GUESTS - DEAD}.")
    return seconds
