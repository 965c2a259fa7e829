# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring files to a state, all at once: one by one, as tasks, it would take minutes through a guest agent.

Usage: lay_out.py [--dry-run]. Standard input is a JSON object with any of these members:

- ``files``: paths and their content; missing directories are made. A file that exists keeps its owner and mode
- ``whole``: directories that hold nothing but these files, and what Python has compiled of them
- ``absent``: paths of files and directories to remove

Each path that differs is printed, on a line of its own. If the directory of one of them cannot be written, that is
the error, with ``--dry-run`` as well, and nothing is changed.
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

# Of "/usr/lib/NAME": an empty or a short path would have the system removed.
_FEWEST_PARTS = 4


def main(files: Mapping[str, str], whole: Sequence[str], absent: Sequence[str], is_dry_run: bool) -> None:
    for name in whole:
        if not name.startswith("/") or len(Path(name).parts) < _FEWEST_PARTS:
            sys.exit(f"{name or 'an empty path'} is not a directory that is cleaned up here.")
    candidates = [Path(name) for name in absent] + [path for name in whole for path in strangers(Path(name), files)]
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
    """Raise OSError unless what is, or would be, the path's directory can be written."""
    directory = next(parent for parent in path.parents if parent.exists())
    if not os.access(directory, os.W_OK | os.X_OK):
        is_read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
        raise OSError(errno.EROFS if is_read_only else errno.EACCES, "", str(directory))


def strangers(directory: Path, files: Mapping[str, str]) -> Iterator[Path]:
    """Yield the paths below a directory that do not belong there, each without what is below it."""
    sources = {Path(name) for name in files}
    on_the_way = {parent for source in sources for parent in source.parents}
    for path in directory.iterdir() if directory.is_dir() else ():
        is_directory = path.is_dir() and not path.is_symlink()
        if is_directory and path in on_the_way:
            yield from strangers(path, files)
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
    # Whole or not at all: the agent may start at any moment.
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
        sys.exit(f"{error.filename or 'a file'} cannot be written: {os.strerror(error.errno or errno.EIO)}.")
