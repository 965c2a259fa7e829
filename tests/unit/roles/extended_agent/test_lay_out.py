# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.collection import ROOT

SCRIPT = (ROOT / "roles/extended_agent/files/lay_out.py").read_text()
WANTED = {"same.py": "1\n", "other.py": "new\n", "added.py": "# \u00e4\n"}
TOLD = ["removed stale.py", "created added.py", "changed other.py"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, content in {"same.py": "1\n", "other.py": "old\n", "stale.py": ""}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "__pycache__").mkdir()
    return tmp_path


def lay_out(package: Path, *options: str) -> list[str]:
    """As the role runs it."""
    command = [sys.executable, "-c", SCRIPT, str(package), *options]
    done = subprocess.run(command, input=json.dumps(WANTED), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def contents(package: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in package.iterdir() if path.is_file()}


def test_the_directory_holds_what_is_wanted_and_nothing_else(package: Path) -> None:
    assert lay_out(package) == TOLD
    assert contents(package) == WANTED
    assert (package / "__pycache__").is_dir()
    assert {path.stat().st_mode & 0o777 for path in package.glob("[ao]*.py")} == {0o644}


def test_a_second_run_does_nothing(package: Path) -> None:
    lay_out(package)
    before = {path: path.stat().st_mtime_ns for path in package.iterdir()}
    assert lay_out(package) == []
    assert {path: path.stat().st_mtime_ns for path in package.iterdir()} == before


def test_a_dry_run_tells_the_same_and_does_nothing(package: Path) -> None:
    before = contents(package)
    assert lay_out(package, "--dry-run") == TOLD
    assert contents(package) == before


def test_a_dry_run_needs_no_directory(tmp_path: Path) -> None:
    assert lay_out(tmp_path / "none", "--dry-run") == [f"created {name}" for name in sorted(WANTED)]
