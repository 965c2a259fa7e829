"""A lock between processes."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on a file, waiting for it as long as necessary. Any number of processes can share one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays: removing it would let a third process lock a new file of the same name.
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def held_by_another(path: Path) -> bool:
    """Return whether a process holds the lock right now."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
