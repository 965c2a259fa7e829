"""Directories that are slow to make, kept for the next run: each is there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.vm.errors import VmError
from tests.vm.lock import held_by_another, locked
from tests.vm.paths import cache_dir

# An entry that nobody has used for so long belongs to sources that nobody has any more.
UNUSED_S = 30 * 24 * 3600
# A disk with less left is full: what failed there failed for want of space.
FULL_MIB = 16
ANOTHER_PLACE = "set QGA_VM_CACHE to a directory of your own on a disk with 4 GiB free"


def entry(name: str, make: Callable[[Path], None], needs_mib: int) -> Path:
    """Return the directory of that name in the cache. If it is missing, ``make`` fills an empty one, which takes up to
    ``needs_mib`` of the disk meanwhile.

    A second process that wants the same entry waits, and finds it made.

    :raises VmError: it cannot be made, or the cache is not ours
    """
    directory = cache_dir() / name
    with _explained(directory):
        _require_ours(cache_dir())
        if not directory.is_dir():
            with locked(lock_of(directory)):
                if not directory.is_dir():
                    _make(directory, make, needs_mib)
        # How long it has been unused is known by this.
        os.utime(directory)
    return directory


def discard(directory: Path, inode: int) -> None:
    """Remove an unusable entry, unless another process has replaced it meanwhile: then ``inode`` is not its own."""
    with locked(lock_of(directory)):
        if directory.is_dir() and directory.stat().st_ino == inode:
            remove(directory)


def remove_unused(pattern: str) -> None:
    """Remove the entries that nobody has used for a month and nobody is using now."""
    for directory in cache_dir().glob(pattern):
        unused = directory.is_dir() and time.time() - directory.stat().st_mtime > UNUSED_S
        if unused and not held_by_another(lock_of(directory)):
            remove(directory)


def lock_of(directory: Path) -> Path:
    """Return the file to lock: shared to use the entry, exclusively to replace it."""
    return directory.with_name(f"{directory.name}.lock")


def remove(directory: Path) -> None:
    """Remove a directory with all that is in it."""
    # A killed mmdebstrap may leave /dev mounted below its root: removing that would empty the machine's own.
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in mounts:
        if mount.startswith(f"{directory}/"):
            raise VmError(f"{mount} is still mounted from a build that was cut short: umount it and try again.")
    if directory.exists():
        shutil.rmtree(directory)


def _make(directory: Path, make: Callable[[Path], None], needs_mib: int) -> None:
    part = directory.with_name(f"{directory.name}.part")
    # Left by a process that was killed.
    remove(part)
    part.mkdir()
    try:
        if _free_mib(part) < needs_mib:
            raise OSError(errno.ENOSPC, f"it needs {needs_mib} MiB, and the disk has {_free_mib(part)} MiB left")
        make(part)
    except BaseException as error:
        # Something else may have filled the disk meanwhile, and not every tool says so.
        full = isinstance(error, Exception) and _free_mib(part) < FULL_MIB
        # The next run makes it anew. On a full disk, this is also what gives the space back.
        with contextlib.suppress(OSError, VmError):
            remove(part)
        if full:
            raise OSError(errno.ENOSPC, "the disk is full") from error
        raise
    part.rename(directory)


def _free_mib(path: Path) -> int:
    return shutil.disk_usage(path).free >> 20


def _require_ours(cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    owner = cache.stat().st_uid
    if owner != os.geteuid():
        raise VmError(f"The cache {cache} belongs to {_name(owner)}, not to {_name(os.geteuid())}: {ANOTHER_PLACE}.")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise VmError(f"{directory} could not be made ({error.strerror}): {ANOTHER_PLACE}.") from None
