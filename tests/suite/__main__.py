# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make every target of every lane: python -m tests.suite LANE [LANE]..., a lane being "TARGET TARGET ..."

A lane's targets are made one after the other, the lanes beside each other. A target that fails stops nothing: what else
fails has to be known as well. Whatever ends a log last is what is read first, so the failures come after everything.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.suite.failures import failures
from tests.support.collection import BUILD, ROOT
from tests.support.table import format_table

LOGS = BUILD / "suite"


@dataclass(frozen=True)
class Made:
    """A target that has been made, or could not be: what it wrote is in ``log``."""

    target: str
    status: int
    seconds: float
    log: Path

    @property
    def row(self) -> tuple[str, str, str]:
        return self.target, "passed" if self.status == 0 else "FAILED", f"{self.seconds:.0f} s"


class Suite:
    """Makes targets, and shows what each wrote in one piece."""

    def __init__(self, logs: Path, make: Sequence[str] = ("make", "--no-print-directory")) -> None:
        self._logs, self._make = logs, make
        self._terminal = threading.Lock()
        self._interrupted = threading.Event()

    def run(self, lanes: Sequence[Sequence[str]]) -> list[Made]:
        self._logs.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(len(lanes)) as workers:
            done = [workers.submit(self._lane, lane) for lane in lanes]
            try:
                return [made for lane in done for made in lane.result()]
            except KeyboardInterrupt:
                self._interrupted.set()
                raise

    def _lane(self, targets: Sequence[str]) -> list[Made]:
        return [self._made(target) for target in targets if not self._interrupted.is_set()]

    def _made(self, target: str) -> Made:
        log, begun = self._logs / f"{target}.log", time.monotonic()
        with log.open("wb") as output:
            status = subprocess.run(
                [*self._make, target],
                cwd=ROOT,
                env=_without_make(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        made = Made(target, status, time.monotonic() - begun, log)
        with self._terminal:
            sys.stdout.write(_text(log))
            print("  ".join(made.row), end="\n\n", flush=True)
        return made


def report(results: Sequence[Made]) -> str:
    """What became of each target, and below that what every failed one says of its failure."""
    parts = [format_table(["target", "", "took"], [made.row for made in results])]
    for made in results:
        if made.status != 0:
            parts.append("\n".join([f"{made.target} failed; all of it is in {made.log}:", *failures(_text(made.log))]))
    return "\n\n".join(parts)


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _without_make() -> dict[str, str]:
    """Each target is made as by hand: the make above this one may speak of a job server that it lends to makes only.

    The variables that it was given are in the environment as well.
    """
    return {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suite")
    parser.add_argument("lane", nargs="+", type=str.split, metavar="LANE", help="targets of the Makefile, in one word")
    try:
        results = Suite(LOGS).run(parser.parse_args().lane)
    except KeyboardInterrupt:
        return 130
    print(report(results))
    return 1 if any(made.status != 0 for made in results) else 0


if __name__ == "__main__":
    sys.exit(main())
