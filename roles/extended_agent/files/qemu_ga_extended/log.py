# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The log: one line per event, in the stock agent's format. It never contains data from a request or a reply."""

from __future__ import annotations

import os
import sys
import time
from typing import TextIO

from .trust import following


class Log:
    """Writes to a file, or to standard error without one. ``is_silent`` while file systems are frozen.

    Callers check ``is_verbose`` so as not to format a line that is not written.
    """

    def __init__(self, path: str = "", verbose: bool = False) -> None:
        self.is_silent = False
        self._path = path
        self.is_verbose = verbose
        self._file: TextIO | None = None
        self.reopen()

    def reopen(self) -> None:
        """Open the file again, after it was rotated.

        :raises OSError: it cannot be written
        """
        if not self._path or self.is_silent:
            return
        # It shows which commands were requested and when, so only its owner may read it.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | following(self._path)
        descriptor = os.open(self._path, flags, 0o600)
        if self._file is not None:
            self._file.close()
        self._file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115

    def error(self, text: str) -> None:
        self._write("error", text)

    def info(self, text: str) -> None:
        if self.is_verbose:
            self._write("info", text)

    def _write(self, level: str, text: str) -> None:
        if self.is_silent:
            return
        now_ns = time.time_ns()
        target = sys.stderr if self._file is None else self._file
        try:
            target.write(f"{now_ns // 10**9}.{now_ns % 10**9 // 1000:06}: {level}: {text}\n")
            target.flush()
        except (OSError, ValueError):
            pass  # a full disk must not end the agent
