# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the stock agent said last of its commands, in a file: it outlives this agent.

The time commands work while the stock agent hangs. What its administrator has disabled is disabled all the same, also
in an agent that has been started since.
"""

from __future__ import annotations

import contextlib
import os

from . import trust
from .log import Log


class Memory:
    """One line of bytes. Without a path, nothing is remembered."""

    def __init__(self, path: str, log: Log) -> None:
        self._path = path
        self._log = log
        self._line = self._read() if path else b""

    @property
    def line(self) -> bytes:
        """The line that was kept last; empty if there is none that could be trusted."""
        return self._line

    def keep(self, line: bytes) -> None:
        """Remember a line. It is written only if it is another, and never while file systems are frozen: the caller
        sees to that.
        """
        if not self._path or line == self._line:
            return
        self._line = line
        try:
            self._write(line)
        except OSError as error:
            self._log.error(f"the stock agent's commands cannot be kept in {self._path}: {error.strerror or error}")

    def _read(self) -> bytes:
        try:
            return trust.read(self._path).encode()
        except FileNotFoundError:
            return b""
        except (OSError, UnicodeDecodeError, trust.DistrustError) as error:
            reason = getattr(error, "strerror", None) or error
            self._log.error(f"what is known of the stock agent's commands is not used: {reason}")
            return b""

    def _write(self, line: bytes) -> None:
        unfinished = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(line)
            file.flush()
            os.fsync(descriptor)  # a guest may lose its power at any time
        os.rename(unfinished, self._path)
