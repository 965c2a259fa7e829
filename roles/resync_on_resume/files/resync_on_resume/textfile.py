# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file for whoever looks at it at any time: the node exporter, whose textfile collector reads all ``*.prom``."""

from __future__ import annotations

import contextlib
import os
import stat

_MODE = 0o644
# The owner of the directory may have made the file that is there, and this one belongs to root: it gets no setuid bit,
# is not executable, and only its owner and group may write to it.
_KEPT = 0o664


def _mode_of(path: str) -> int:
    """Return the mode of the file that is there, or the one for a new file."""
    try:
        found = os.lstat(path)
    except OSError:
        return _MODE
    return stat.S_IMODE(found.st_mode) & _KEPT if stat.S_ISREG(found.st_mode) else _MODE


def write(path: str, text: str) -> None:
    """Put it there whole, or not at all. A file that is there keeps its mode, within ``_KEPT``.

    :raises OSError: it could not be written
    """
    directory, name = os.path.split(path)
    # Beside it, to be renamed. Not a name of its own each time: it would stay for ever if this process is killed now.
    unfinished = os.path.join(directory, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)
    mode = _mode_of(path)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & _MODE | stat.S_IWUSR)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)  # whatever the umask
        os.rename(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
