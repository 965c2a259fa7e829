"""POSIX ACLs, without the programs for them: the kernel takes them as extended attributes.

Their form is in linux/posix_acl_xattr.h; what they mean, in acl(5).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest

ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"

_NOBODY = 0xFFFFFFFF  # of entries that name none
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20


def set_acl(path: Path, owner: int, group: int, others: int, users: Mapping[int, int], name: str = ACCESS) -> None:
    """Set who may do what, as the bits of a mode; skip the test where the file system has no ACLs."""
    mask = [(_MASK, 7, _NOBODY)] if users else []
    named = [(_USER, may, user) for user, may in sorted(users.items())]
    entries = [(_OWNER, owner, _NOBODY), *named, (_GROUP, group, _NOBODY), *mask, (_OTHERS, others, _NOBODY)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("the file system has no ACLs")
        raise


def set_default_acl(path: Path, group: int, others: int, users: Mapping[int, int]) -> None:
    """Set what a directory's new files and directories grant; the umask does not count for them."""
    set_acl(path, 7, group, others, users, DEFAULT)


def has_default_acl(path: Path) -> bool:
    return DEFAULT in os.listxattr(path)


def access_acl(path: Path) -> bytes:
    """Return what is beyond the mode; nothing, if there is nothing."""
    return os.getxattr(path, ACCESS) if ACCESS in os.listxattr(path) else b""
