"""A guest shell on this machine that uses only the test's directory, for commands and file copies."""

from __future__ import annotations

import io
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import BecomeError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.options import Settings
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import (
    DEFAULT_TIMINGS,
    Finished,
    SessionLimits,
    Timings,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.shell import GuestShell
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.transfer import fetch, put, source_of

from tests.fakes.this_machine import LIMITS, Fault, ThisMachine

Faults = Mapping[Any, Fault]
FOR_EVER = 100_000.0  # s
BRIEF = 0.3  # s; a timeout that expires in a test
STARTED = 3.0  # s; such a timeout, before which the command has started even on a busy machine


def settings_for(*places: object, executable: str = "/bin/sh", module_cache: bool = False) -> Settings:
    target = Target("here", lambda: pytest.fail("the shell has its agent already"))
    return Settings(target, 5.0, executable, tuple(map(str, places)), module_cache, LIMITS)


class Place:
    """A shell that uses only the test's directory, and has already made its own directory in it if ``is_made``."""

    def __init__(
        self,
        directory: Path,
        faults: Faults,
        limits: SessionLimits,
        is_made: bool = True,
        timings: Timings = DEFAULT_TIMINGS,
    ) -> None:
        self.directory = directory
        self.machine = ThisMachine()
        self.shell = GuestShell(self.machine.agent(), settings_for("/nonesuch", directory), timings)
        if is_made:
            tasks.run(self.shell._prepare(tasks.NEVER))
        self.shell.limits = limits
        self.machine.requests.clear()
        self.machine.faults.update(faults)

    def run(self, command: str, data: bytes = b"", dialog: Any = None) -> Finished:
        return tasks.run(self.shell.run(command, data, dialog))

    def clean(self) -> None:
        tasks.run(self.shell.clean())

    def kept(self) -> list[Path]:
        return list(self.directory.iterdir())


Made = Callable[..., Any]
SLOW = 0.05  # s


def slowly(perform: Callable[[], Reply]) -> Reply:
    time.sleep(SLOW)
    return perform()


class Password:
    """A dialog that sends the password once after a prompt, and ends with the success marker."""

    def __init__(self, timeout: float = 30.0) -> None:
        self.timeout = timeout
        self.asked = 0

    def is_over(self, output: bytes) -> bool:
        return b"become" in output

    def answer(self, output: bytes, errors: bytes) -> bytes | None:
        if (output + errors).count(b"Password:") == self.asked:
            return None
        self.asked += 1
        if self.asked > 1:
            raise BecomeError("asked twice")
        return b"it's \\ s\xc3\xbc$t"


ASK = 'printf Password: >&2; IFS= read -r p; [ "$p" = "it\'s \\\\ s\u00fc\\$t" ]'


# ----------------------------------------------------------------------------------------- files put there and fetched

# Sizes around the capacity of one request and one reply, and one that needs many of them.
SIZES = [0, 1, LIMITS.reply // 2, LIMITS.reply // 2 + 1, LIMITS.request // 2, LIMITS.request // 2 + 1, 100_000]
MUCH = random.Random(1).randbytes(100_000)  # not compressible
PACKED = b"a line of a log\n" * 10_000
NAMES = [
    *("file", "with space", "-dash", 'it\'s "quoted" $HOME `id` \\', "\u00fcml\u00e4ut \u4f60", "two\nlines", "*"),
    # Not UTF-8: a single byte, Latin-1, and all bytes that a shell could use internally.
    *(os.fsdecode(name) for name in (b"\xff", b"caf\xe9", bytes(range(128, 256)))),
]
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
SMALL_AND_LARGE = pytest.mark.parametrize("size", [1, 100_000])


class FileGuest(Place):
    """A guest with a directory for its files, separate from the shell's directory."""

    def __init__(
        self, directory: Path, faults: Mapping[tuple[str, int | None], Fault], timings: Timings = DEFAULT_TIMINGS
    ) -> None:
        self.files = directory / "files"
        self.files.mkdir()
        (directory / "kept").mkdir()
        super().__init__(directory / "kept", faults, LIMITS, is_made=False, timings=timings)

    def limit(self, **changed: Any) -> None:
        self.shell.limits = self.shell.limits._replace(**changed)

    def put(self, data: bytes, path: Path | str) -> None:
        tasks.run(put(self.shell, source_of(io.BytesIO(data)), str(path)))

    def fetch(self, path: Path | str, target: io.BytesIO | None = None) -> bytes:
        target = io.BytesIO() if target is None else target
        tasks.run(fetch(self.shell, str(path), target))
        return target.getvalue()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.files.iterdir())
