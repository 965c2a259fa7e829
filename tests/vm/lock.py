"""A lock between processes."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file; wait for it without a timeout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays: removing it would let a third process lock a new file of the same name.
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
