# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Try every combination, and end with a table: python -m tests.matrix [--check CHECK]... [COMBINATION...]"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tests.matrix.combinations import COMBINATIONS, Combination
from tests.matrix.root import MatrixError, Root
from tests.support.collection import BUILD, ROOT
from tests.support.table import format_table
from tests.vm.lock import locked

LOGS = BUILD / "matrix"
PASSED, FAILED, NOT_TRIED = "passed", "FAILED", "-"
# Of what one combination is tried with, in this order.
CHECKS = ("compile", "unit", "sanity")
# Older releases have none of the version that unit.txt asks for, and theirs has to do.
_FROM_DEBIAN = "libvirt-python"


class Place(Protocol):
    """Where the commands of a combination are run. ``kept`` is a directory there that the next run finds again."""

    @property
    def kept(self) -> Path:
        """Of this machine or in the root."""

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
        """The command's exit status; what it writes goes to the end of the log."""


class Here:
    """This machine, in the clone."""

    kept = BUILD

    def run(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> int:
        with log.open("ab") as output:
            return subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix")
    names = [combination.name for combination in COMBINATIONS]
    parser.add_argument("combination", nargs="*", metavar="COMBINATION", help=f"any of {', '.join(names)}; else all")
    parser.add_argument("--check", action="append", choices=CHECKS, help="only this; may be given several times")
    given = parser.parse_args()
    wanted, checks = given.combination or names, given.check or CHECKS
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        parser.error(f"there is no combination {', '.join(unknown)}; there are {', '.join(names)}")
    LOGS.mkdir(parents=True, exist_ok=True)
    rows = []
    for combination in COMBINATIONS:
        if combination.name in wanted:
            begun = time.monotonic()
            python, verdicts = _try(combination, checks)
            said = ", ".join(f"{check} {verdict}" for check, verdict in zip(CHECKS, verdicts, strict=True))
            print(f"{combination.name}: {said} ({time.monotonic() - begun:.0f} s)", flush=True)
            rows.append([combination.core or "none", combination.release or "here", python, *verdicts])
    print()
    print(format_table(["ansible-core", "Debian", "Python", *CHECKS], rows))
    return 1 if any(FAILED in row for row in rows) else 0


def _try(combination: Combination, checks: Sequence[str]) -> tuple[str, list[str]]:
    """The version of Python, and a verdict for each check, whether it is one of ``checks`` or not."""
    log = LOGS / f"{combination.name}.log"
    log.unlink(missing_ok=True)
    try:
        if combination.release is None:
            return _checked(combination, checks, Here(), ROOT / combination.venv, log)
        root = Root(combination.release)
        with locked(root.lock):
            root.prepare(log, lambda text: print(f"{combination.name}: {text}", flush=True))
            venv = root.virtual_environment(combination.name, _requirements(combination), log)
            return _checked(combination, checks, root, venv, log)
    except MatrixError as error:
        print(f"{combination.name}: {error}", file=sys.stderr)
        return "?", [FAILED] * len(CHECKS)


def _requirements(combination: Combination) -> list[str]:
    lines = (ROOT / "tests/setup/unit.txt").read_text(encoding="utf-8").splitlines()
    common = [line for line in lines if line and not line.startswith(("#", _FROM_DEBIAN))]
    return common if combination.core is None else [*common, f"ansible-core~={combination.core}.0"]


def _checked(
    combination: Combination, checks: Sequence[str], place: Place, venv: Path, log: Path
) -> tuple[str, list[str]]:
    python = str(venv / "bin/python")
    commands = {
        "compile": [python, "-m", "compileall", "-q", "-f", *combination.compiled],
        "unit": [python, "-m", "pytest", "-q", "--timeout", "120", *combination.tests],
        "sanity": ["tests/setup/sanity"],
    }
    environments = {
        "compile": {"PYTHONPYCACHEPREFIX": "build/pycache"},
        "sanity": {"VENV": str(venv), "WORK": str(place.kept / "sanity")},
    }
    verdicts = []
    for check in CHECKS:
        if check not in checks or (check == "sanity" and combination.core is None):
            verdicts.append(NOT_TRIED)
            continue
        log_of_check = log.with_name(f"{combination.name}-{check}.log")
        log_of_check.unlink(missing_ok=True)
        status = place.run(commands[check], log_of_check, environments.get(check))
        verdicts.append(PASSED if status == 0 else FAILED)
        if status != 0:
            print(f"{combination.name}: {check} failed; see {log_of_check.relative_to(ROOT)}", file=sys.stderr)
    return _version(place, python, log), verdicts


def _version(place: Place, python: str, log: Path) -> str:
    place.run([python, "-c", "import platform; print(platform.python_version())"], log)
    return log.read_text(encoding="utf-8").split()[-1]


if __name__ == "__main__":
    sys.exit(main())
