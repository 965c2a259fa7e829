# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics file. The node exporter's textfile collector reads all ``*.prom`` files of a directory at any time."""

from __future__ import annotations

import contextlib
import os
import stat

from guest_agent._event_loop.tasks import LONG_SECONDS, Deadline, pause, received
from guest_agent._event_loop.threads import Bell

from .log import Log
from .metrics import Metrics

# The file is written at most once in this time.
_PERIOD_SECONDS = 1.0

_MODE = 0o644
# The mode bits of an existing file that are kept. The directory's owner may have created that file, and the new one
# belongs to root: no setuid bit, no execute permission, no write permission for others.
_KEPT = 0o664


def _mode_of(path: str) -> int:
    """Return the mode of the existing file, or that of a new one."""
    try:
        found = os.lstat(path)
    except OSError:
        return _MODE
    return stat.S_IMODE(found.st_mode) & _KEPT if stat.S_ISREG(found.st_mode) else _MODE


def replace(path: str, text: str) -> None:
    """Replace the file atomically. An existing file keeps its mode, within ``_KEPT``.

    :raises OSError: the file cannot be written
    """
    directory, name = os.path.split(path)
    # A fixed name: a unique one would stay forever if this process is killed before the rename.
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


class MetricsFile:
    """Writes nothing if ``path`` is empty. A failure is logged once, and the next change tries again."""

    def __init__(self, path: str, metrics: Metrics, log: Log) -> None:
        self._path = path
        self._metrics = metrics
        self._log = log
        self._bell = Bell()
        self._is_due = False
        self._problem: str | None = None

    def changed(self) -> None:
        if self._path and not self._is_due:
            self._is_due = True
            self._bell.ring()

    async def run(self) -> None:
        """Write the file after each change, forever."""
        while True:
            if await received(self._bell.descriptor, Deadline(LONG_SECONDS)) is not None:
                await pause(_PERIOD_SECONDS)
                self.write()

    def write(self) -> None:
        self._is_due = False
        if not self._path:
            return
        problem: str | None = None
        try:
            replace(self._path, self._metrics.text())
        except OSError as error:
            problem = error.strerror or str(error)
        if problem is not None and problem != self._problem:
            self._log.warning("metrics", [("file", self._path), ("message", f"cannot write the file: {problem}")])
        elif problem is None and self._problem is not None:
            self._log.info("metrics", [("file", self._path), ("message", "the file is written again")])
        self._problem = problem
