"""Figures from a real guest: python -m tests.bench prints tables and writes build/bench.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import libvirt

from tests.bench import Figures, Say
from tests.bench.connection import bench_connections
from tests.bench.correction import bench_corrections, bench_extended_corrections, bench_real_fleet
from tests.bench.fleet import bench_fleet, bench_info
from tests.bench.hypervisors import bench_hypervisors
from tests.bench.inventory import bench_inventory
from tests.bench.report import report
from tests.bench.resources import bench_resources
from tests.bench.resume import bench_resume_burst, bench_resumes
from tests.bench.round_trips import bench_guest_round_trips, bench_native_round_trips
from tests.bench.soak import SoakError, bench_soak
from tests.bench.steps import bench_steps
from tests.support.collection import BUILD
from tests.vm.deployment import deploy
from tests.vm.errors import VmError
from tests.vm.session import libvirt_session, restored_guest

GUEST = "qga-bench"
RESULT = BUILD / "bench.json"

WITH_THE_STOCK_AGENT = (bench_corrections, bench_info, bench_connections)
WITH_THE_EXTENDED_AGENT = (
    bench_extended_corrections,
    bench_steps,
    bench_guest_round_trips,
    bench_resources,
    bench_resumes,
)
WITHOUT_A_GUEST = (
    bench_native_round_trips,
    bench_soak,
    bench_fleet,
    bench_hypervisors,
    bench_inventory,
    bench_resume_burst,
)


def measure(say: Say) -> Figures:
    figures: Figures = {"load_before": os.getloadavg()}
    with libvirt_session(say) as connection:
        with restored_guest(connection, GUEST, say=say) as guest:
            for bench in WITH_THE_STOCK_AGENT:
                figures |= bench(guest, say)
            say("deploying the extended agent")
            deploy(guest)
            for bench in WITH_THE_EXTENDED_AGENT:
                figures |= bench(guest, say)
        figures |= bench_real_fleet(connection, say)
    for bench_here in WITHOUT_A_GUEST:
        figures |= bench_here(say)
    return {**figures, "load_after": os.getloadavg()}


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__).parse_args()
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)

    # libvirt would also print each error that it raises.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        figures = measure(say)
    except (VmError, SoakError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\n{report(figures)}\n\nwritten to {RESULT.relative_to(BUILD.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
