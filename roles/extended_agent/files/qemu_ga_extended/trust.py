# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks that only root or this agent's own user can have created the file or socket at a path.

A user who can write the configuration decides what the host may do. A user who can replace the stock agent's socket
receives what the host sends: passwords, keys, the contents of files.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
# In characters. A longer file is not a configuration.
_LARGEST_FILE = 1024 * 1024
_NULL_DEVICE = os.makedev(1, 3)  # /dev/null, which means "no configuration" (Linux, admin-guide/devices.txt)
_UCRED = struct.Struct("iII")  # pid, uid, gid (unix(7))


class DistrustError(Exception):
    """The file cannot be trusted; the text is one sentence, and says how to fix it."""


def _is_ours(owner: int) -> bool:
    return owner in (_ROOT, os.geteuid())


def _require_ours(found: os.stat_result, what: str) -> None:
    if not _is_ours(found.st_uid):
        raise DistrustError(f"{what} belongs to user {found.st_uid}: run chown root on it")
    # In a sticky directory, only the directory's owner could also rename or remove our files.
    is_sticky_directory = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & _OTHERS_MAY_WRITE and not is_sticky_directory:
        raise DistrustError(
            f"{what} is writable by other users (mode {stat.S_IMODE(found.st_mode):04o}): run chmod go-w on it"
        )


def _require_closed_directories(path: str) -> None:
    """Check all directories above the path, and above the target of its links: a user who may rename a directory can
    replace it.
    """
    for start in (os.path.abspath(path), os.path.realpath(path)):
        for directory in Path(start).parents:
            _require_ours(os.stat(directory), f"the directory '{directory}'")


def read(path: str) -> str:
    """Return the text of a file that no other user can write.

    :raises DistrustError: another user can write it, or it is not a regular file of a permitted size
    :raises OSError: it cannot be read
    :raises UnicodeDecodeError: it is not UTF-8
    """
    # Opening a FIFO would otherwise wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8") as file:
        found = os.fstat(descriptor)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL_DEVICE:
            return ""
        if not stat.S_ISREG(found.st_mode):
            raise DistrustError(f"'{path}' is not a regular file")
        _require_ours(found, f"'{path}'")
        _require_closed_directories(path)
        text = file.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise DistrustError(f"'{path}' has more than {_LARGEST_FILE} characters")
        return text


def require_private_socket(path: str) -> None:
    """Make sure that a path can only lead to a socket that root or this agent's user has created.

    :raises DistrustError: it may lead to another socket, or other users may connect to it
    :raises OSError: it cannot be examined; it may be missing
    """
    found = os.stat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise DistrustError(f"'{path}' is not a socket: remove it")
    _require_ours(found, f"'{path}'")
    _require_closed_directories(path)


def require_trusted_peer(connection: socket.socket, path: str) -> None:
    """Make sure that root or this agent's user listens there, even if the path was replaced after it was checked.

    :raises DistrustError: another user listens there
    """
    _pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if not _is_ours(uid):
        raise DistrustError(f"a process of user {uid} listens on '{path}': stop that process")


def following(path: str) -> int:
    """Return the flag for opening a file to write: follow a symbolic link only if no other user can have made it."""
    try:
        _require_closed_directories(path)
        is_sticky = os.stat(os.path.dirname(path) or ".").st_mode & stat.S_ISVTX
    except (DistrustError, OSError):
        return os.O_NOFOLLOW
    return os.O_NOFOLLOW if is_sticky else 0
