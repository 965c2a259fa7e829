# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Atomic replacement of a file on the controller: the new file takes its path when it is complete."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import BinaryIO, Iterator


@contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing, with the mode and owner of the file that it replaces. Links are followed.

    A device, a file with several hard links, or a file in a directory that is not writable cannot be replaced; it is
    overwritten.

    :raises OSError: it cannot be written; a file that was to be replaced is unchanged
    """
    path = os.path.realpath(path)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    new = _open_temporary(path, found)
    if new is None:
        with open(path, "wb") as file:
            yield file
        return
    try:
        with new:
            yield new
            if found is not None:
                with suppress(PermissionError):
                    os.fchown(new.fileno(), found.st_uid, found.st_gid)
                os.fchmod(new.fileno(), stat.S_IMODE(found.st_mode) & 0o777)
        os.replace(new.name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(new.name)
        raise


def _open_temporary(path: str, found: os.stat_result | None) -> BinaryIO | None:
    """Open a new file in the same directory, or return None if the existing file cannot be replaced.

    The new file has the mode by the umask; if it is to replace a file, it is private until it gets that file's mode.
    """
    if found is not None and (not stat.S_ISREG(found.st_mode) or found.st_nlink > 1):
        return None
    name = os.path.join(os.path.dirname(path), f".qga-{secrets.token_hex(8)}")
    mode = 0o666 if found is None else 0o600
    try:
        return open(name, "xb", opener=lambda name, flags: os.open(name, flags, mode))
    except PermissionError:
        if found is None:
            raise
        return None
