# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Create, update and remove files in one call. A task for each file would take minutes through a guest agent.

Usage: lay_out.py [--dry-run]. Standard input is a JSON object with any of these members:

- ``files``: paths and their contents. Missing directories are created. An existing file keeps its owner and mode
- ``whole``: directories in which only these files, and what Python has compiled from them, are kept
- ``absent``: paths of files and directories to remove

Each change is printed on a line. If the directory of any changed path is not writable, that is an error, even with
``--dry-run``, and nothing is changed.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Iterator, Mapping, Sequence

# Where Python puts compiled files, as SOURCE.VERSION.pyc.
CACHE = "__pycache__"

# As in "/usr/lib/NAME". Cleaning up an empty or short path would remove the system.
_FEWEST_PARTS = 4


def main(files: Mapping[str, str], whole: Sequence[str], absent: Sequence[str], is_dry_run: bool) -> None:
    for name in whole:
        if not name.startswith("/") or len(Path(name).parts) < _FEWEST_PARTS:
            sys.exit(f"'{name}' is not a directory that may be cleaned up.")
    candidates = [Path(name) for name in absent] + [path for name in whole for path in obsolete(Path(name), files)]
    removed = [path for path in sorted(candidates) if os.path.lexists(path)]
    written = [
        Path(name)
        for name, content in sorted(files.items())
        if not (Path(name).is_file() and Path(name).read_bytes() == content.encode())
    ]
    for path in (*removed, *written):
        require_writable(path)
    for path in removed:
        print(f"removed {path}")
        if not is_dry_run:
            remove(path)
    for path in written:
        print(f"{'changed' if path.is_file() else 'created'} {path}")
        if not is_dry_run:
            write(path, files[str(path)])


def require_writable(path: Path) -> None:
    """Raise OSError unless the path's directory, or the closest existing one above it, is writable."""
    directory = next(parent for parent in path.parents if parent.exists())
    if not os.access(directory, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if is_read_only else errno.EACCES, "", str(directory))


def obsolete(directory: Path, files: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths below a directory that do not belong there. If a directory is yielded, nothing below it is."""
    sources = {Path(name) for name in files}
    directories = {parent for source in sources for parent in source.parents}
    for path in directory.iterdir() if directory.is_dir() else ():
        is_directory = path.is_dir() and not path.is_symlink()
        if is_directory and path in directories:
            yield from obsolete(path, files)
        elif is_directory and path.name == CACHE and any(source.parent == directory for source in sources):
            yield from (each for each in path.iterdir() if directory / f"{each.name.split('.')[0]}.py" not in sources)
        elif path not in sources:
            yield path


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def write(path: Path, content: str) -> None:
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir()
        parent.chmod(0o755)
    # Atomically: the agent may start at any time.
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(0o600)
    part.write_text(content, encoding="utf-8")
    if path.is_file():
        before = path.stat()
        os.chown(part, before.st_uid, before.st_gid)
        part.chmod(stat.S_IMODE(before.st_mode))
    else:
        part.chmod(0o644)
    os.replace(part, path)


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    try:
        main(wanted.get("files", {}), wanted.get("whole", ()), wanted.get("absent", ()), "--dry-run" in sys.argv[1:])
    except OSError as error:
        what = f"'{error.filename}'" if error.filename else "a file"
        sys.exit(f"{what} cannot be written: {os.strerror(error.errno or errno.EIO)}.")
