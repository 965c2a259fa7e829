# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file of the controller that takes the place of the one at its path when it is whole."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import BinaryIO, Iterator


@contextmanager
def replaced(path: str) -> Iterator[BinaryIO]:
    """Open a file for writing, with the mode and owner of the one that it replaces. Links are followed.

    What cannot be replaced is written to: a device, a file with several names, or one in a directory that takes no new
    file.

    :raises OSError: it cannot be written; what was there before is left as it was, if it was to be replaced
    """
    path = os.path.realpath(path)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    new = _new_beside(path, found)
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


def _new_beside(path: str, found: os.stat_result | None) -> BinaryIO | None:
    """Open a new file in the same directory, with the mode that the umask leaves it, or private until it is alike.

    None: the one that was found is not to be replaced.
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
