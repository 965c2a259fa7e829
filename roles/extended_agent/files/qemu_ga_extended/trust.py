# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trust in a path: that only root or this agent's own user can have put there what is there.

A user who can write the configuration decides what the host may do; one who can replace the stock agent's socket gets
what the host sends: passwords, keys, the contents of files.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
# What a configuration may have at most; more is none.
_LARGEST_FILE = 1024 * 1024
_NULL_DEVICE = os.makedev(1, 3)  # /dev/null, by which people say "no configuration" (Linux' admin-guide/devices.txt)
_UCRED = struct.Struct("iII")  # pid, uid, gid (unix(7))


class DistrustError(Exception):
    """One sentence on what is wrong with the file, and how to fix it."""


def _is_ours(owner: int) -> bool:
    return owner in (_ROOT, os.geteuid())


def _require_ours(found: os.stat_result, what: str) -> None:
    if not _is_ours(found.st_uid):
        raise DistrustError(f"{what} belongs to user {found.st_uid}: chown it to root")
    # In a sticky directory, only its owner may rename or remove what is ours.
    is_sticky_directory = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & _OTHERS_MAY_WRITE and not is_sticky_directory:
        raise DistrustError(f"{what} may be written by others (mode {stat.S_IMODE(found.st_mode):04o}): chmod go-w it")


def _require_closed_directories(path: str) -> None:
    """All the way up, from where the path is and from where it leads: a user who may rename a directory can put
    another one in its place.
    """
    for start in (os.path.abspath(path), os.path.realpath(path)):
        for directory in Path(start).parents:
            _require_ours(os.stat(directory), f"the directory {directory}")


def read(path: str) -> str:
    """Return the text of a file that no other user can write.

    :raises DistrustError: another user can, or it cannot be read as a whole
    :raises OSError: it cannot be read
    :raises UnicodeDecodeError: it is no UTF-8
    """
    # A FIFO would keep the start waiting for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, encoding="utf-8") as file:
        found = os.fstat(descriptor)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == _NULL_DEVICE:
            return ""
        if not stat.S_ISREG(found.st_mode):
            raise DistrustError(f"{path} is no regular file")
        _require_ours(found, path)
        _require_closed_directories(path)
        text = file.read(_LARGEST_FILE + 1)
        if len(text) > _LARGEST_FILE:
            raise DistrustError(f"{path} is longer than {_LARGEST_FILE} characters, so it is no configuration")
        return text


def require_private_socket(path: str) -> None:
    """Make sure that a socket's path can only lead to a socket that root or we have made.

    :raises DistrustError: it may lead to another one, or others may connect to it
    :raises OSError: it cannot be looked at; it may be missing
    """
    found = os.stat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise DistrustError(f"{path} is no socket: remove it")
    _require_ours(found, path)
    _require_closed_directories(path)


def require_trusted_peer(connection: socket.socket, path: str) -> None:
    """Make sure that root or we have begun to listen there, whatever was put at the path since it was looked at.

    :raises DistrustError: another user has
    """
    _pid, uid, _gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if not _is_ours(uid):
        raise DistrustError(f"user {uid} listens on {path}: end that program")


def following(path: str) -> int:
    """The flag for opening a file to write: a symbolic link is followed only where no other user can have put it."""
    try:
        _require_closed_directories(path)
        is_sticky = os.stat(os.path.dirname(path) or ".").st_mode & stat.S_ISVTX
    except (DistrustError, OSError):
        return os.O_NOFOLLOW
    return os.O_NOFOLLOW if is_sticky else 0
