from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._replaced_file import replaced

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


def write(path: Path, content: bytes = b"new") -> None:
    with replaced(str(path)) as file:
        file.write(content)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0])
def test_a_new_file_has_the_mode_that_the_umask_leaves_it(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "file") == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o755, 0o400])
def test_an_existing_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "file").chmod(mode)
    write(tmp_path / "file")
    assert mode_of(tmp_path / "file") == mode
    assert (tmp_path / "file").read_bytes() == b"new"


@needs_root
def test_an_existing_file_keeps_its_owner_and_loses_setuid(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", NOBODY, NOBODY)
    (tmp_path / "file").chmod(0o4755)
    write(tmp_path / "file")
    found = (tmp_path / "file").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY, NOBODY, 0o755)


def test_the_new_file_is_private_until_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)
    with replaced(str(tmp_path / "file")) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(there: bool, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    if there:
        (tmp_path / "directory" / "file").touch(0o640)
    (tmp_path / "link").symlink_to("directory/file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "directory" / "file").read_bytes() == b"new"


def test_hard_links_are_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old and longer")
    os.link(tmp_path / "file", tmp_path / "another")
    write(tmp_path / "file")
    assert (tmp_path / "another").read_bytes() == b"new"


@needs_root
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    write(tmp_path / "null")
    assert (tmp_path / "null").is_char_device()


def test_a_file_in_a_read_only_directory_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_arguments: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    (tmp_path / "file").write_bytes(b"old and longer")
    monkeypatch.setattr(os, "open", refuse)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    with pytest.raises(PermissionError):
        write(tmp_path / "none")


@pytest.mark.parametrize("there", [True, False])
def test_the_old_file_stays_until_the_new_one_is_complete(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(TypeError), replaced(str(tmp_path / "file")) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")] * there
