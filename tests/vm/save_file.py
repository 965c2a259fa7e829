"""The file that ``virsh save`` writes: the domain's XML, then QEMU's state.

libvirt restores a file only under the name and UUID in its XML, and rejects another XML (``virsh restore --xml``) that
differs in either. So a second guest from the same file needs a copy with a different XML in its header.

The format is that of libvirt's src/qemu/qemu_saveimage.h, version 2, in the machine's byte order::

    magic          16 bytes  "LibvirtQemudSave"
    version        uint32    2
    data_len       uint32    bytes between the end of this header and QEMU's state
    was_running    uint32
    compressed     uint32
    cookie_offset  uint32    offset of the cookie, from the end of this header; 0: there is none
    unused         14 * uint32
    the XML, ending in NUL; the cookie, another XML, ending in NUL; NULs up to data_len
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from tests.vm.errors import VmError

MAGIC = b"LibvirtQemudSave"
VERSION = 2
_HEADER = struct.Struct("=16s5I56x")


def read_xml(path: Path) -> str:
    """Return the XML of the domain that was saved."""
    with path.open("rb") as file:
        return _read_head(file)[0]


def copy_with_xml(source: Path, target: Path, edit: Callable[[str], str]) -> None:
    """Copy a file with its XML edited by ``edit``."""
    with source.open("rb") as old, target.open("wb", buffering=0) as new:
        text, cookie, was_running, compressed = _read_head(old)
        xml = edit(text).encode() + b"\0"
        cookie_offset = len(xml) if cookie else 0
        length = len(xml) + len(cookie)
        new.write(_HEADER.pack(MAGIC, VERSION, length, was_running, compressed, cookie_offset) + xml + cookie)
        offset, end = old.tell(), os.fstat(old.fileno()).st_size
        while offset < end:
            # sendfile(2) returns 0 only at the end of the file.
            offset += os.sendfile(new.fileno(), old.fileno(), offset, end - offset)


def _read_head(file: BinaryIO) -> tuple[str, bytes, int, int]:
    """Return the XML, the cookie, ``was_running`` and ``compressed``.

    :raises VmError: the file does not have this format
    """
    magic, version, length, was_running, compressed, cookie_offset = _HEADER.unpack(file.read(_HEADER.size))
    if (magic, version) != (MAGIC, VERSION):
        raise VmError(f"not a saved state of version {VERSION}: it begins with {magic!r}, version {version}")
    data = file.read(length)
    xml = data.partition(b"\0")[0].decode()
    return xml, data[cookie_offset:] if cookie_offset else b"", was_running, compressed
