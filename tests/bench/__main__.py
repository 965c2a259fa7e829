"""Figures from a real guest: python -m tests.bench prints tables and writes build/bench.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

import libvirt

from tests.bench.connection import Connections, bench_connections
from tests.bench.connection import report as report_connections
from tests.bench.correction import Corrections, ExtendedCorrections, bench_corrections, bench_extended_corrections
from tests.bench.fleet import TIMEOUT_S, FleetCost, bench_fleet
from tests.bench.hypervisors import Hypervisors, bench_hypervisors
from tests.bench.info import InfoCost, bench_info
from tests.bench.inventory import InventoryCost, bench_inventory
from tests.bench.real_fleet import RealFleet, bench_real_fleet
from tests.bench.resources import IDLE_S, Resources, bench_resources
from tests.bench.resume import IDLE_S as SERVICE_IDLE_S
from tests.bench.resume import Resumes, bench_resumes
from tests.bench.resume_burst import ResumeBurst, bench_resume_burst
from tests.bench.round_trips import (
    GuestRoundTrips,
    NativeRoundTrips,
    bench_guest_round_trips,
    bench_native_round_trips,
)
from tests.bench.soak import Soak, SoakError, soak
from tests.bench.steps import Steps, bench_steps
from tests.support.collection import BUILD
from tests.support.table import format_table
from tests.vm.deployment import deploy
from tests.vm.errors import VmError
from tests.vm.session import libvirt_session, restored_guest

GUEST = "qga-bench"
RESULT = BUILD / "bench.json"
SOAK_REQUESTS = 100_000


@dataclass(frozen=True)
class Figures:
    """All that one run measured."""

    stock: Corrections
    info: InfoCost
    connections: Connections
    extended: ExtendedCorrections
    steps: Steps
    round_trips: GuestRoundTrips
    resources: Resources
    resumes: Resumes
    native: NativeRoundTrips
    soak: Soak
    fleet: FleetCost
    inventory: InventoryCost
    burst: ResumeBurst
    hypervisors: Hypervisors
    real_fleet: RealFleet
    load_before: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for part in (getattr(self, field.name) for field in fields(self) if field.name != "load_before"):
            merged.update(part.as_dict())
        return {**merged, "load_before": self.load_before, "load_after": os.getloadavg()}


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__).parse_args()
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)

    load = os.getloadavg()
    # What the agent refuses is told by the exception; libvirt would print it as well.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        with libvirt_session(say) as connection:
            with restored_guest(connection, GUEST, say=say) as guest:
                stock, info = bench_corrections(guest, say), bench_info(guest, say)
                connections = bench_connections(guest, say)
                say("deploying the extended agent")
                deploy(guest)
                extended, steps = bench_extended_corrections(guest, say), bench_steps(guest, say)
                round_trips, resources = bench_guest_round_trips(guest, say), bench_resources(guest, say)
                resumes = bench_resumes(guest, say)
            real_fleet = bench_real_fleet(connection, say)
        # Without a guest beside them.
        native, soaked = bench_native_round_trips(say), soak(SOAK_REQUESTS, say)
        fleet, hypervisors, inventory = bench_fleet(say), bench_hypervisors(say), bench_inventory(say)
        burst = bench_resume_burst(say)
        figures = Figures(
            stock,
            info,
            connections,
            extended,
            steps,
            round_trips,
            resources,
            resumes,
            native,
            soaked,
            fleet,
            inventory,
            burst,
            hypervisors,
            real_fleet,
            load,
        )
    except (VmError, SoakError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures.as_dict(), indent=2) + "\n", encoding="utf-8")
    report(figures)
    print(f"\nwritten to {RESULT.relative_to(BUILD.parent)}")
    return 0


def report(figures: Figures) -> None:
    ways = (figures.extended.left, figures.stock.ours, figures.stock.theirs)
    honest = figures.extended.honest, figures.stock.honest
    rows = [
        ["residual, median (ms)", *(f"{way.median_ms:.3f}" for way in ways)],
        ["residual, worst (ms)", *(f"{way.worst_ms:.3f}" for way in ways)],
        ["one correction, median (s)", *(f"{median(way.seconds):.3f}" for way in ways)],
        ["corrections", *(str(len(way.seconds)) for way in ways)],
        ["witness within what was claimed", *map(str, honest), "-"],
    ]
    print()
    print(format_table(["", "qga_update_time, extended", "stock", "virsh domtime --now"], rows))
    print()
    print(f"residual_ratio   {figures.stock.residual_ratio:.0f}   (virsh's median over the stock agent's)")
    print(
        f"info_over_ping   {figures.info.ratio:.2f}   (a qga_info task, subset min, over an ansible.builtin.ping task)"
    )
    print()
    print(format_table(["one correction, median (ms)", "extended", "stock", "ratio"], _correction_rows(figures.steps)))
    print()
    print(format_table(["round trip in the guest, median (ms)", "extended", "stock", "ratio"], _trip_rows(figures)))
    print()
    print(format_table(["the extended agent", "seen", "wanted"], _agent_rows(figures)))
    print()
    print(format_table(["simulated guests in one task", "100", "1,000", "10,000"], _size_rows(figures.fleet)))
    print()
    print(format_table(["the fleet", "seen", "wanted"], _fleet_rows(figures)))
    print()
    print(format_table(["guests", "hypervisors", "seconds", "agents (s)", "report (MiB)"], _shape_rows(figures)))
    print()
    print(report_connections(figures.connections))
    print()
    print(format_table(["the inventory", "seen", "wanted"], figures.inventory.rows()))
    print()
    print(format_table(["from resume to right clock", *RESUME_WAYS], _resume_rows(figures.resumes)))
    print()
    print(format_table(["what happened", "times", "lines", "as wanted", "ms since the event"], _kind_rows(figures)))
    print()
    print(format_table(["simulated guests resumed at once", "seen", "wanted"], figures.burst.rows()))
    print()
    print(format_table(["four restored guests at once", "one task", "virsh domtime --now"], _real_rows(figures)))


def _correction_rows(steps: Steps) -> list[list[str]]:
    ours, theirs = steps.extended, steps.set_time
    timed = [
        ("the command through libvirt", ours.command_ms, theirs.command_ms, steps.command_ratio),
        ("a resync's step", ours.step_ms, theirs.step_ms, steps.step_ratio),
        (
            f"a whole resync, {ours.exchanges} and {theirs.exchanges} exchanges",
            ours.resync_ms,
            theirs.resync_ms,
            steps.resync_ratio,
        ),
    ]
    return [[what, f"{mine:.1f}", f"{other:.1f}", f"{ratio:.1f}"] for what, mine, other, ratio in timed]


def _trip_rows(figures: Figures) -> list[list[str]]:
    trips = figures.round_trips
    rows = []
    for command in trips.commands:
        extended, stock = trips.medians_ms(command)
        compared = ["-", "-"] if stock is None else [f"{stock:.2f}", f"{trips.ratio(command):.2f}"]
        rows.append([command, f"{extended:.2f}", *compared])
    return rows


def _size_rows(fleet: FleetCost) -> list[list[str]]:
    return [
        ["one task, median (s)", *(f"{each.task_s:.2f}" for each in fleet.sized)],
        ["in ping tasks, without the agents' share", *(f"{each.over_ping:.1f}" for each in fleet.sized)],
        ["worst residual (ms)", *(f"{each.worst_left_ms:.3f}" for each in fleet.sized)],
        ["peak memory (MiB)", *(f"{each.peak_mib:.0f}" for each in fleet.sized)],
    ]


def _fleet_rows(figures: Figures) -> list[list[str]]:
    fleet = figures.fleet
    thousand = fleet.of(1_000)
    return [
        ["1,000 guests over a ping task, without the agents' share", f"{thousand.over_ping:.1f}", "at most 3"],
        ["peak memory with 1,000 guests (MiB)", f"{thousand.peak_mib:.0f}", "at most 150"],
        ["growth from 1,000 to 10,000 over that from 100 to 1,000", f"{fleet.growth:.2f}", "1"],
        ["fleet_over_per_guest (200 guests, a task for each)", f"{fleet.fleet_over_per_guest:.0f}", "at least 50"],
        [f"a tenth dead, in time limits of {TIMEOUT_S:g} s", f"{fleet.dead_costs_timeouts:.2f}", "at most 1"],
    ]


def _shape_rows(figures: Figures) -> list[list[str]]:
    return [
        [
            f"{shape.guests:,}",
            str(shape.hypervisors),
            f"{shape.seconds:.1f}",
            f"{shape.agents_s:.1f}",
            f"{shape.report_mib:.1f}",
        ]
        for shape in figures.hypervisors.shapes
    ]


def _real_rows(figures: Figures) -> list[list[str]]:
    real = figures.real_fleet
    return [
        ["residual, median (ms)", f"{median(real.ours_ms):.3f}", f"{median(real.theirs_ms):.3f}"],
        ["residual, worst (ms)", f"{max(real.ours_ms):.3f}", f"{max(real.theirs_ms):.3f}"],
        ["all of them, median (s)", f"{median(real.ours_s):.2f}", f"{median(real.theirs_s):.2f}"],
        ["witness within what was claimed", f"{real.honest} of {len(real.ours_ms)}", "-"],
    ]


RESUME_WAYS = ("the service", "the rulebook", "virsh domtime --now")


def _resume_rows(resumes: Resumes) -> list[list[str]]:
    ways = (resumes.service, resumes.rulebook, resumes.virsh)
    return [
        ["median (ms)", *(f"{median(way.resume_to_correct_ms):.1f}" for way in ways)],
        ["worst (ms)", *(f"{max(way.resume_to_correct_ms):.1f}" for way in ways)],
        ["left, median (ms)", *(f"{median(map(abs, way.left_ms)):.3f}" for way in ways)],
        ["left, worst (ms)", *(f"{max(map(abs, way.left_ms)):.3f}" for way in ways)],
        ["from the event, undisturbed: at most (ms)", f"{resumes.limit_ms:.1f}", "-", "-"],
        ["resident memory (MiB), at most 40", f"{resumes.resident_mib:.1f}", "-", "-"],
        [f"processor in {SERVICE_IDLE_S:g} s of idleness (ms)", f"{resumes.idle_cpu_ms:.1f}", "-", "-"],
    ]


def _kind_rows(figures: Figures) -> list[list[str]]:
    rows = []
    for kind in figures.resumes.kinds:
        taken = sorted(kind.since_event_ms)
        spread = f"{median(taken):.1f}, worst {taken[-1]:.1f}" if taken else "-"
        rows.append([kind.name, str(kind.happened), str(kind.lines), str(kind.as_wanted), spread])
    return rows


def _agent_rows(figures: Figures) -> list[list[str]]:
    resources, left = figures.resources, figures.soak
    return [
        ["residual, median (ms)", f"{figures.extended.left.median_ms:.3f}", "at most 0.3"],
        [
            "correction_ratio (guest-set-time over guest-update-time)",
            f"{figures.steps.command_ratio:.0f}",
            "at least 20",
        ],
        [
            "delegated_ratio (the worst of the delegated commands)",
            f"{figures.round_trips.delegated_ratio:.2f}",
            "at most 2",
        ],
        ["  on a socket of this machine, one processor", f"{figures.native.one_processor.ratio:.2f}", "at most 2.5"],
        ["  on a socket of this machine, all processors", f"{figures.native.all_processors.ratio:.2f}", "-"],
        ["resident memory (MiB)", f"{resources.resident_mib:.1f}", "at most 20"],
        [f"wake-ups in {IDLE_S} s of idleness", str(resources.wake_ups), "0"],
        ["  with systemd's watchdog", str(resources.wake_ups_with_watchdog), "-"],
        # Otherwise it would have raised an error.
        [f"replies to {left.requests:,} mixed requests, in order", f"{left.requests:,}", "one each"],
        ["resident after them, on this machine (MiB)", f"{left.resident_kib / 1024:.1f}", "at most 20"],
        ["grown by them (KiB)", str(left.grown_kib), "flat"],
        ["descriptors leaked by them", str(left.leaked_descriptors), "0"],
    ]


if __name__ == "__main__":
    sys.exit(main())
