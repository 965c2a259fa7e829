# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures from a real guest: python -m tests.bench prints tables and writes build/bench.json."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import libvirt

from tests.bench.correction import Corrections, ExtendedCorrections, bench_corrections, bench_extended_corrections
from tests.bench.info import InfoCost, bench_info
from tests.bench.resources import IDLE_S, Resources, bench_resources
from tests.bench.round_trips import (
    GuestRoundTrips,
    NativeRoundTrips,
    bench_guest_round_trips,
    bench_native_round_trips,
)
from tests.bench.soak import Soak, soak
from tests.bench.steps import Steps, bench_steps
from tests.support.collection import BUILD
from tests.support.table import format_table
from tests.vm.deployment import deploy
from tests.vm.errors import VmError
from tests.vm.session import booted_guest, libvirt_session

GUEST = "qga-bench"
RESULT = BUILD / "bench.json"
SOAK_REQUESTS = 100_000


@dataclass(frozen=True)
class Figures:
    """All that one run measured."""

    stock: Corrections
    info: InfoCost
    extended: ExtendedCorrections
    steps: Steps
    round_trips: GuestRoundTrips
    resources: Resources
    native: NativeRoundTrips
    soak: Soak
    load_before: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        parts = (self.stock, self.info, self.extended, self.steps, self.round_trips, self.resources, self.native)
        merged: dict[str, Any] = {}
        for part in (*parts, self.soak):
            merged.update(part.as_dict())
        return {**merged, "load_before": self.load_before, "load_after": os.getloadavg()}


def main() -> int:
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)

    load = os.getloadavg()
    # What the agent refuses is told by the exception; libvirt would print it as well.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        with libvirt_session(say) as connection, booted_guest(connection, GUEST, say=say) as guest:
            stock, info = bench_corrections(guest, say), bench_info(guest, say)
            say("deploying the extended agent")
            deploy(guest)
            extended, steps = bench_extended_corrections(guest, say), bench_steps(guest, say)
            round_trips, resources = bench_guest_round_trips(guest, say), bench_resources(guest, say)
        # Without a guest beside them.
        native = bench_native_round_trips(say)
        figures = Figures(stock, info, extended, steps, round_trips, resources, native, soak(SOAK_REQUESTS, say), load)
    except VmError as error:
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
        ["added to a delegated command on this machine (µs)", f"{figures.native.added_us:.0f}", "at most 200"],
        ["resident memory (MiB)", f"{resources.resident_mib:.1f}", "at most 20"],
        [f"wake-ups in {IDLE_S} s of idleness", str(resources.wake_ups), "0"],
        ["  with systemd's watchdog", str(resources.wake_ups_with_watchdog), "-"],
        [f"grown after {left.requests:,} requests (KiB)", str(left.grown_kib), "flat"],
        ["descriptors leaked by them", str(left.leaked_descriptors), "0"],
    ]


if __name__ == "__main__":
    sys.exit(main())
