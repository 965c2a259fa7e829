# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures from a real guest: python -m tests.bench prints a table and writes build/bench.json."""

from __future__ import annotations

import json
import sys
import time
from statistics import median

from tests.bench.correction import bench_corrections
from tests.bench.info import bench_info
from tests.support.collection import BUILD
from tests.support.table import format_table
from tests.vm.errors import VmError
from tests.vm.session import booted_guest, libvirt_session

GUEST = "qga-bench"
RESULT = BUILD / "bench.json"


def main() -> int:
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - begun:6.1f} s] {text}", flush=True)

    try:
        with libvirt_session(say) as connection, booted_guest(connection, GUEST, say=say) as guest:
            corrections = bench_corrections(guest, say)
            info = bench_info(guest, say)
    except VmError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    figures = {**corrections.as_dict(), **info.as_dict()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    ours, theirs = corrections.ours, corrections.theirs
    rows = [
        ["residual, median (ms)", f"{ours.median_ms:.3f}", f"{theirs.median_ms:.3f}"],
        ["residual, worst (ms)", f"{ours.worst_ms:.3f}", f"{theirs.worst_ms:.3f}"],
        ["one correction, median (s)", f"{median(ours.seconds):.3f}", f"{median(theirs.seconds):.3f}"],
        ["corrections", str(len(ours.seconds)), str(len(theirs.seconds))],
    ]
    print()
    print(format_table(["", "qga_update_time", "virsh domtime --now"], rows))
    print()
    print(f"residual_ratio   {corrections.residual_ratio:.0f}   (virsh's median over ours)")
    print(f"info_over_ping   {info.ratio:.2f}   (a qga_info task, subset min, over an ansible.builtin.ping task)")
    print(f"honest           {corrections.honest} of {len(ours.seconds)}   (the witness lay within what was claimed)")
    print(f"\nwritten to {RESULT.relative_to(BUILD.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
