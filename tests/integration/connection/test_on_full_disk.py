"""A guest's full disk: what the scripts of the connection plugin say of a command then."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts

from tests.support.small_disk import SmallDisk, may_be_mounted

pytestmark = pytest.mark.skipif(not may_be_mounted(), reason="no disk may be mounted here")

TOKEN = "0123abcd"  # noqa: S105  # it keeps nobody out
KIB = 64


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path, KIB) as mounted:
        yield mounted


def run(disk: SmallDisk, place: Path, command: str, before: str = "true") -> list[str]:
    """Return the words of the report, without the name of the directory that was made."""
    values = {"limit": "1000000", "stdin": "", "before": "", "lead": scripts.LEAD, "rounds": ""}
    values.update(sh="/bin/sh", cmd=command)
    known = {"d": "", "n": "1", "t": TOKEN, "drop": "next", "spare": "f00d", "laid": ""}
    done = subprocess.run(
        [*disk.within, "sh", "-c", f'{before}; exec sh -c "$@"', "sh", scripts.RUN, "qga"],
        input=scripts.line_of({**known, **values}, [str(place)]),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().splitlines()[0].split()[:-1]


def test_output_that_does_not_fit_is_told_to_be_lost(disk: SmallDisk, tmp_path: Path) -> None:
    report = run(disk, tmp_path, "head -c 500000 /dev/zero")
    assert report[:4] == ["qga-report", TOKEN, "1", "done"]
    assert report[5:] == ["lost", "out", "-", "0"]


def test_errors_that_do_not_fit_are_told_to_be_lost(disk: SmallDisk, tmp_path: Path) -> None:
    assert run(disk, tmp_path, "head -c 500000 /dev/zero >&2")[-4:] == ["lost", "-", "err", "0"]


def test_how_a_command_ended_is_known_on_a_full_disk(disk: SmallDisk, tmp_path: Path) -> None:
    full = f"head -c 500000 /dev/zero >{tmp_path}/full 2>/dev/null"
    assert run(disk, tmp_path, "exit 7", full) == ["qga-report", TOKEN, "1", "done", "7", "kept", "-", "-", "0"]
