"""Runs the connection's scripts in a shell of this machine, as an agent would start them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts

TOKEN = "0123456789abcdef"  # noqa: S105  # not a real secret
NEXT = "fedcba9876543210"
NOBODY = 65534
COMMON = scripts.source("common.sh")
PATIENCE_S = 60.0
# Guests have one or another.
SHELLS = [
    shell
    for shell in (["dash"], ["bash", "--posix"], ["bash"], ["busybox", "sh"], ["ksh"], ["zsh", "--emulate", "sh"])
    if shutil.which(shell[0])
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


class Shell:
    """A shell that runs the scripts as an agent does, in ``directory``, or in one that they make in ``places``."""

    def __init__(self, words: list[str], place: Path) -> None:
        # The full path, because the environment has no PATH.
        self.words = [shutil.which(words[0]) or words[0], *words[1:]]
        self.places = [str(place)]
        self.directory: Path | None = place / "qga-mine"
        self.directory.mkdir(0o700)

    def line(self, **values: str) -> bytes:
        known = {"d": str(self.directory or ""), "n": "1", "t": TOKEN, "drop": NEXT, "spare": "f00d", "stored": ""}
        return scripts.line_of({**known, **values}, self.places)

    def started(self, script: str, **values: str) -> subprocess.Popen[bytes]:
        """Start a script in the background. Its input has only the line with its variables."""
        process = subprocess.Popen(
            [*self.words, "-c", script, "qga"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={}
        )
        assert process.stdin is not None
        process.stdin.write(self.line(**values))
        process.stdin.close()
        return process

    def __call__(self, script: str, data: bytes = b"", **values: str) -> tuple[int, bytes]:
        done = subprocess.run(
            [*self.words, "-c", script, "qga"],
            input=self.line(**values) + data,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S,
            # No HOME and no PATH, as in a daemon without them.
            env={},
        )
        return done.returncode, done.stdout

    def run(self, command: str, data: bytes = b"", before: str = "") -> bytes:
        status, output = self(scripts.RUN, data, **running(command, before=before))
        assert status == 0
        return output

    def written(self, name: str) -> bytes:
        assert self.directory is not None
        return (self.directory / name).read_bytes()


def running(command: str, **values: str) -> dict[str, str]:
    usual = {"limit": "2000", "stdin": "", "rounds": "", "before": "", "lead": scripts.LEAD, "sh": "/bin/sh"}
    return {**usual, "cmd": command, **values}


def made(shell: Shell) -> Path:
    (directory,) = Path(shell.places[1]).glob("qga-*")
    return directory


@contextlib.contextmanager
def bystander(leads: bool) -> Iterator[subprocess.Popen[bytes]]:
    """An unrelated process, which may have its own session."""
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL, start_new_session=leads) as process:
        try:
            yield process
        finally:
            process.kill()


def processes_with(mark: str) -> list[int]:
    """Return the processes with the mark in their environment. A process that has ended has no environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"QGA_TEST={mark}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def report(words: str, number: str = "") -> bytes:
    return f"qga-report {TOKEN} {number or 1} {words}\n".encode()
