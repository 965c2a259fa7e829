"""A cache of directories that are slow to make. Each entry is complete or absent."""

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

# An entry that has not been used for this long belongs to old sources.
UNUSED_S = 30 * 24 * 3600


def entry(name: str, make: Callable[[Path], None]) -> Path:
    """Return the directory of that name in the cache. If it is missing, ``make`` fills an empty one.

    A second process that needs the same entry waits until it is made.
    """
    directory = cache_dir() / name
    with locked(directory.with_name(f"{name}.lock")):
        if not directory.is_dir():
            part = directory.with_name(f"{name}.part")
            # Left over from a process that was killed.
            remove(part)
            part.mkdir()
            try:
                make(part)
            except BaseException:
                # On a full disk, this frees the space.
                with suppress(OSError, VmError):
                    remove(part)
                raise
            part.rename(directory)
        # remove_unused reads this time.
        os.utime(directory)
    return directory


def remove_unused(pattern: str) -> None:
    """Remove the entries that have not been used for a month."""
    for directory in cache_dir().glob(pattern):
        if directory.is_dir() and time.time() - directory.stat().st_mtime > UNUSED_S:
            remove(directory)


def remove(directory: Path) -> None:
    """Remove a directory and its contents."""
    # A killed mmdebstrap may leave /dev mounted in its root: removing that would delete the machine's own devices.
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in mounts:
        if mount.startswith(f"{directory}/"):
            raise VmError(f"{mount} is still mounted from an interrupted build: unmount it with umount and try again.")
    if directory.exists():
        shutil.rmtree(directory)
