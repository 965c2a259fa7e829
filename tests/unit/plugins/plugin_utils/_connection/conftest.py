from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.programs import Program
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Timings

from tests.fakes.this_machine import ENVIRONMENT, LIMITS
from tests.support.guest_scripts import SHELLS
from tests.support.guest_shell import Faults, FileGuest, Made, Place

QUICK = Timings(begin=1.0)


@pytest.fixture
def guest(tmp_path: Path) -> Made:
    return lambda faults=None, **others: FileGuest(tmp_path, faults or {}, **others)


@pytest.fixture(params=[*SHELLS, ["busybox", "sh", "with its own programs"]], ids=" ".join)
def guest_of_any_kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Made]:
    """A guest with one of this machine's shells, in a directory that other users can enter."""
    words = [shutil.which(request.param[0]), *request.param[1:2]]
    if words[0] is None:
        pytest.skip("there is no busybox")
    if request.param[2:]:
        programs = tmp_path_factory.mktemp("busybox")
        subprocess.run([words[0], "--install", "-s", str(programs)], check=True)
        monkeypatch.setitem(ENVIRONMENT, "PATH", f"{programs}:{ENVIRONMENT['PATH']}")
    made = scripts.script

    def by_that_shell(*arguments: Any, **others: Any) -> Program:
        program = made(*arguments, **others)
        return program._replace(path=words[0], arguments=(*words[1:], *program.arguments))

    monkeypatch.setattr(scripts, "script", by_that_shell)
    with tempfile.TemporaryDirectory(prefix="qga-files-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)  # noqa: S103  # others have to reach what is in it
        yield lambda faults=None: FileGuest(Path(name), faults or {})


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Replace a program of the guest by a shell script."""

    def put_in_place(name: str, script: str) -> None:
        programs = tmp_path / "shims"
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
        if str(programs) not in ENVIRONMENT["PATH"]:
            monkeypatch.setitem(ENVIRONMENT, "PATH", f"{programs}:{ENVIRONMENT['PATH']}")

    return put_in_place


@pytest.fixture(params=[False, True], ids=["at once", "prepared"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Made:
    """A shell with or without a directory."""

    def make(faults: Faults | None = None, timings: Timings = QUICK, **limits: Any) -> Place:
        return Place(tmp_path, faults or {}, LIMITS._replace(**limits), request.param, timings)

    return make
