# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of the one running service: two services would step the same clock."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator, Mapping

_DIRECTORY = "/run/qga-resync-on-resume"


class AlreadyRunningError(Exception):
    """The message is one sentence with the other service's process ID."""


def default_path(environment: Mapping[str, str]) -> str:
    """Return a path in the directory that systemd created for the service (systemd.exec(5), RUNTIME_DIRECTORY)."""
    directory = environment.get("RUNTIME_DIRECTORY", "").split(":")[0] or _DIRECTORY
    return os.path.join(directory, "lock")


@contextlib.contextmanager
def hold(path: str) -> Iterator[None]:
    """Hold the lock. The kernel releases it however this process ends; the file stays.

    :raises AlreadyRunningError: another process holds it
    :raises OSError: the file cannot be created
    """
    os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise AlreadyRunningError(
                f"another resync-on-resume service is already running: process {holder} holds {path}"
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, b"%d\n" % os.getpid())
        yield
    finally:
        os.close(descriptor)
