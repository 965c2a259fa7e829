"""A guest's full disk: what the scripts of the connection plugin say of a command then."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts

from tests.support.guest_scripts import NEXT, TOKEN, running
from tests.support.small_disk import SmallDisk, may_be_mounted


@pytest.mark.skipif(not may_be_mounted(), reason="no disk may be mounted here")
@pytest.mark.parametrize(
    ("before", "command", "status", "words"),
    [
        ("true", "head -c 500000 /dev/zero", None, ["lost", "out", "-", "0"]),
        ("true", "head -c 500000 /dev/zero >&2", None, ["lost", "-", "err", "0"]),
        ("head -c 500000 /dev/zero >{}/full 2>/dev/null", "exit 7", "7", ["kept", "-", "-", "0"]),
    ],
    ids=["output is lost", "errors are lost", "how it ended is known"],
)
def test_a_command_on_a_full_disk(
    tmp_path: Path, before: str, command: str, status: str | None, words: list[str]
) -> None:
    known = {"d": "", "n": "1", "t": TOKEN, "drop": NEXT, "spare": "f00d", "laid": ""}
    line = scripts.line_of({**known, **running(command, limit="1000000")}, [str(tmp_path)])
    with SmallDisk(tmp_path, 64) as disk:
        shell = ["sh", "-c", f'{before.format(tmp_path)}; exec sh -c "$@"', "sh", scripts.RUN, "qga"]
        done = subprocess.run([*disk.within, *shell], input=line, capture_output=True, check=True)
    report = done.stdout.decode().splitlines()[0].split()
    assert report[:4] == ["qga-report", TOKEN, "1", "done"]
    assert report[4] == (status or report[4])
    assert report[5:-1] == words
