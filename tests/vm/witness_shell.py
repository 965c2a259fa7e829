"""A root shell in a guest without an agent: the witness starts a script, and its output arrives on the console.

As a program (python -m tests.vm.witness_shell DIRECTORY SCRIPT), it replaces a shell of this machine. So Ansible's
local connection runs ``raw`` tasks in the guest.
"""

from __future__ import annotations

import base64
import re
import shlex
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.processes.ansible_run import ROOT, PlaybookRun, run_tasks
from tests.support.until import until
from tests.vm.console import Console
from tests.vm.domain_xml import GuestFiles
from tests.vm.witness import Witness

DEADLINE_S = 180.0


class Done(NamedTuple):
    status: int
    output: str


def run(files: GuestFiles, script: str, deadline_s: float = DEADLINE_S) -> Done:
    """Run a script and return its status and its output, including errors.

    :raises AssertionError: it has not ended in time
    """
    mark = uuid.uuid4().hex
    encoded = base64.b64encode(script.encode()).decode()
    # The output is read when the script ends, even if a process that it started still has the file open.
    wrapped = f"""
        output=/run/qga-test-{mark}
        echo {encoded} | base64 -d >$output.sh
        sh $output.sh >$output 2>&1 </dev/null
        echo "{mark} $? $(base64 -w 0 <$output) end" >/dev/ttyS0
        rm -f $output $output.sh
    """
    Witness(files.witness).start(wrapped)
    ended = re.compile(rf"{mark} (\d+) ([A-Za-z0-9+/=]*) end")
    console = Console(files.console)
    until(lambda: console.search(ended), lambda: f"this script has not ended: {script}\n{console.tail()}", deadline_s)
    found = console.search(ended)
    assert found is not None
    return Done(int(found[1]), base64.b64decode(found[2]).decode(errors="replace"))


def root(files: GuestFiles, script: str, deadline_s: float = DEADLINE_S) -> str:
    """Run a script that must succeed, and return its output."""
    done = run(files, script, deadline_s)
    assert done.status == 0, f"this script failed: {script}\n{done.output}"
    return done.output


def run_role(files: GuestFiles, role: str, directory: Path, *arguments: str, **variables: Any) -> PlaybookRun:
    """Run a role's ``raw`` tasks in the guest. The program that replaces the shell is written to ``directory``."""
    shell = directory / "witness-shell"
    words = shlex.join([sys.executable, "-m", "tests.vm.witness_shell", str(files.directory)])
    shell.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {words} "$2"\n', encoding="utf-8")
    shell.chmod(0o755)
    task: Mapping[str, Any] = {"ansible.builtin.include_role": {"name": role}, "vars": variables}
    return run_tasks([task], *arguments, environment={"ANSIBLE_EXECUTABLE": str(shell), "ANSIBLE_PIPELINING": "1"})


if __name__ == "__main__":
    finished = run(GuestFiles(Path(sys.argv[1])), sys.argv[2])
    sys.stdout.write(finished.output)
    sys.exit(finished.status)
