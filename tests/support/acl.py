"""POSIX ACLs without getfacl and setfacl: the kernel accepts them as extended attributes.

linux/posix_acl_xattr.h defines their format, and acl(5) their meaning.
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

_NOBODY = 0xFFFFFFFF  # in entries without an ID
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x10, 0x20


def set_acl(path: Path, owner: int, group: int, others: int, users: Mapping[int, int], name: str = ACCESS) -> None:
    """Set permissions as the bits of a mode; skip the test if the file system has no ACLs."""
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
    """Set the permissions of a directory's new files and directories, to which the umask does not apply."""
    set_acl(path, 7, group, others, users, DEFAULT)


def has_default_acl(path: Path) -> bool:
    return DEFAULT in os.listxattr(path)


def access_acl(path: Path) -> bytes:
    """Return the ACL beyond the mode, or empty bytes if there is none."""
    return os.getxattr(path, ACCESS) if ACCESS in os.listxattr(path) else b""
