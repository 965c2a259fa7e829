from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.vm.errors import VmError
from tests.vm.save_file import copy_with_xml, read_xml

XML = "<domain><name>qga-old</name></domain>"
QEMU = bytes(range(256)) * 5000


def save_file(
    xml: bytes = XML.encode() + b"\0", cookie: bytes = b"<cookie/>\0", padding: int = 40, version: int = 2
) -> bytes:
    """A file as libvirt writes it: the padding is so that ``virsh save-image-edit`` finds room."""
    data = xml + cookie + b"\0" * padding
    numbers = (version, len(data), 1, 0, len(xml) if cookie else 0)
    return b"LibvirtQemudSave" + struct.pack("=5I", *numbers) + b"\0" * 56 + data + QEMU


def parts(path: Path) -> tuple[str, bytes, bytes]:
    """The XML, the cookie, and what QEMU reads."""
    content = path.read_bytes()
    _version, length, was_running, _compressed, cookie_offset = struct.unpack("=5I", content[16:36])
    assert was_running == 1
    data, qemu = content[92 : 92 + length], content[92 + length :]
    cookie = data[cookie_offset:].partition(b"\0")[0] if cookie_offset else b""
    return data.partition(b"\0")[0].decode(), cookie, qemu


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "memory"
    path.write_bytes(save_file())
    return path


def test_the_xml_is_read(source: Path) -> None:
    assert read_xml(source) == XML


@pytest.mark.parametrize("name", ["qga-old", "qga-a-much-longer-name-" * 50, "q"])
def test_a_copy_with_any_other_xml_has_the_same_cookie_and_state(source: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "copy"
    copy_with_xml(source, target, lambda xml: xml.replace("qga-old", name))
    assert parts(target) == (XML.replace("qga-old", name), b"<cookie/>", QEMU)
    assert read_xml(target) == XML.replace("qga-old", name)


def test_a_file_without_a_cookie_has_none_in_its_copy(source: Path, tmp_path: Path) -> None:
    source.write_bytes(save_file(cookie=b""))
    copy_with_xml(source, tmp_path / "copy", str.upper)
    assert parts(tmp_path / "copy") == (XML.upper(), b"", QEMU)


def test_the_original_stays_as_it_is(source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    copy_with_xml(source, tmp_path / "copy", str.upper)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "only 0 bytes"),
        (save_file()[:91], "only 91 bytes"),
        (b"\x7fELF" + save_file()[4:], "not a saved state of version 2"),
        (save_file(version=3), "not a saved state of version 2"),
        # libvirt writes this magic until the file is whole.
        (save_file().replace(b"LibvirtQemudSave", b"LibvirtQemudPart"), "not a saved state of version 2"),
        (save_file()[:120], "is damaged"),
        (save_file(xml=b"<domain/>", cookie=b"", padding=0), "is damaged"),
        (save_file()[:20] + b"\xff\xff\xff\xff" + save_file()[24:], "is damaged"),
    ],
)
def test_what_is_not_such_a_file_is_refused_in_one_sentence(source: Path, content: bytes, words: str) -> None:
    source.write_bytes(content)
    with pytest.raises(VmError, match=words) as refused:
        read_xml(source)
    assert "\n" not in str(refused.value)
