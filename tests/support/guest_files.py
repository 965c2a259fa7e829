"""A guest whose files are below a temporary directory of this machine, for what is put there and fetched."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import USUAL, Timings
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.transfer import fetch, put, source_of

from tests.fakes.this_machine import LIMITS, Fault
from tests.support import guest_shell

# Around what fits into one request and one reply, and many of them.
SIZES = [0, 1, LIMITS.reply // 2, LIMITS.reply // 2 + 1, LIMITS.request // 2, LIMITS.request // 2 + 1, 100_000]
MUCH = random.Random(1).randbytes(100_000)  # it cannot be packed
PACKED = b"a line of a log\n" * 10_000
NAMES = [
    *("file", "with space", "-dash", 'it\'s "quoted" $HOME `id` \\', "\u00fcml\u00e4ut \u4f60", "two\nlines", "*"),
    # Not UTF-8: a byte by itself, Latin-1, and all that no shell may mistake for its own marks.
    *(os.fsdecode(name) for name in (b"\xff", b"caf\xe9", bytes(range(128, 256)))),
]
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
SMALL_AND_LARGE = pytest.mark.parametrize("size", [1, 100_000])


class FileGuest(guest_shell.Place):
    """A directory for the guest's files; what the shell keeps is in another one."""

    def __init__(
        self, directory: Path, faults: Mapping[tuple[str, int | None], Fault], timings: Timings = USUAL
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


Made = Callable[..., FileGuest]
slowly = guest_shell.slowly
