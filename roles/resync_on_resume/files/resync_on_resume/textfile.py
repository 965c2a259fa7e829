# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file for whoever looks at it at any time: the node exporter, whose textfile collector reads all ``*.prom``."""

from __future__ import annotations

import contextlib
import os

_MODE = 0o644


def write(path: str, text: str) -> None:
    """Put it there whole, or not at all.

    :raises OSError: it could not be written
    """
    directory, name = os.path.split(path)
    # Beside it, to be renamed. Not a name of its own each time: it would stay for ever if this process is killed now.
    unfinished = os.path.join(directory, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    try:
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            os.fchmod(file.fileno(), _MODE)  # whatever the umask
        os.rename(unfinished, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
