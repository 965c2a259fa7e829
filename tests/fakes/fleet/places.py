"""Where a fleet's sockets lie: DIRECTORY/NAME.qga, where a name may have a directory of its own in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

SUFFIX = ".qga"
_LONGEST_PATH = 107  # bytes (sun_path in unix(7), without its final NUL)


def socket_path(directory: Path, name: str) -> Path:
    """
    :raises ValueError: no socket can lie there
    """
    parts = PurePosixPath(name).parts
    if not name or "/".join(parts) != name or name.startswith("/") or ".." in parts:
        raise ValueError(f"{name!r} is no name such as guest0001 or host01/guest0001")
    path = directory / f"{name}{SUFFIX}"
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ValueError(
            f"{path} is too long for a socket, which may have {_LONGEST_PATH} bytes: take another directory"
        )
    return path


def missing_directories(paths: Iterable[Path]) -> list[Path]:
    """What has to be made for these files to be made, parents first."""
    found: set[Path] = set()
    for parent in {path.parent for path in paths}:
        while parent not in found and not parent.exists():
            found.add(parent)
            parent = parent.parent
    return sorted(found)


def remove(paths: Iterable[Path], directories: Iterable[Path]) -> None:
    """Remove these files, and those of the directories that are empty by then."""
    for path in paths:
        path.unlink(missing_ok=True)
    for directory in sorted(directories, reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()
