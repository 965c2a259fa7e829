"""Directories that are slow to make, kept for the next run: each is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.vm.errors import VmError
from tests.vm.lock import locked
from tests.vm.paths import cache_dir

# An entry that has not been used for so long belongs to sources of the past.
UNUSED_S = 30 * 24 * 3600


def entry(name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory of that name in the cache. If it is missing, ``make`` fills an empty one.

    A second process that wants the same entry waits, and finds it made.
    """
    directory = cache_dir() / name
    with locked(directory.with_name(f"{name}.lock")):
        if not directory.is_dir():
            part = directory.with_name(f"{name}.part")
            # Left by a process that was killed.
            remove(part)
            part.mkdir()
            try:
                make(part)
            except BaseException:
                # On a full disk, this gives the space back.
                with suppress(OSError, VmError):
                    remove(part)
                raise
            part.rename(directory)
        # How long it has been unused is known by this.
        os.utime(directory)
    return directory


def remove_unused(pattern: str) -> None:
    """Remove the entries that have not been used for a month."""
    for directory in cache_dir().glob(pattern):
        if directory.is_dir() and time.time() - directory.stat().st_mtime > UNUSED_S:
            remove(directory)


def remove(directory: Path) -> None:
    """Remove a directory with all that is in it."""
    # A killed mmdebstrap may leave /dev mounted below its root: removing that would empty the machine's own.
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in mounts:
        if mount.startswith(f"{directory}/"):
            raise VmError(f"{mount} is still mounted from a build that was cut short: umount it and try again.")
    if directory.exists():
        shutil.rmtree(directory)
