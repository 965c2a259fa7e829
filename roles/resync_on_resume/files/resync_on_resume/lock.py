# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only one service at a time: two would step the same clock."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator, Mapping

_DIRECTORY = "/run/qga-resync-on-resume"


class AlreadyRunningError(Exception):
    """Another one runs. One sentence, with its process id."""


def usual_path(environment: Mapping[str, str]) -> str:
    """In the directory that systemd made for the service, if it did (systemd.exec(5), RUNTIME_DIRECTORY)."""
    directory = environment.get("RUNTIME_DIRECTORY", "").split(":")[0] or _DIRECTORY
    return os.path.join(directory, "lock")


@contextlib.contextmanager
def only_one(path: str) -> Iterator[None]:
    """Hold the lock. The kernel gives it back, whatever ends this process; the file stays.

    :raises AlreadyRunningError: another one holds it
    :raises OSError: the file cannot be made
    """
    os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"another resync-on-resume service runs already, process {holder}: it holds {path}"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(descriptor)
