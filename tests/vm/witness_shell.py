"""Root's shell in a guest without any agent: the witness starts a script, and its output comes on the console.

As a program (python -m tests.vm.witness_shell DIRECTORY SCRIPT), it stands in for a shell of this machine. So Ansible's
connection to this machine reaches a guest, for everything that is done by ``raw``.
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
    """Run a script and return what it has printed, errors included.

    :raises AssertionError: it has not ended in time
    """
    mark = uuid.uuid4().hex
    encoded = base64.b64encode(script.encode()).decode()
    # What is taken as its output ends with the script, even if something that it has started holds the output open.
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
    until(lambda: console.search(ended), lambda: f"this has not ended: {script}\n{console.tail()}", deadline_s)
    found = console.search(ended)
    assert found is not None
    return Done(int(found[1]), base64.b64decode(found[2]).decode(errors="replace"))


def root(files: GuestFiles, script: str, deadline_s: float = DEADLINE_S) -> str:
    """Run a script that is to succeed and return its output."""
    done = run(files, script, deadline_s)
    assert done.status == 0, f"this failed: {script}\n{done.output}"
    return done.output


def run_role(files: GuestFiles, role: str, directory: Path, *arguments: str, **variables: Any) -> PlaybookRun:
    """Run those parts of a role that use ``raw`` in the guest. ``directory`` is for the stand-in for a shell."""
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
