"""What a file that is put has, and what one that was there keeps; in every shell that this machine has."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import FileTransferError

from tests.fakes.this_machine import LIMITS
from tests.support.acl import access_acl, set_acl, set_default_acl
from tests.support.guest_files import MUCH, NOBODY, SMALL_AND_LARGE, Made, needs_root
from tests.support.small_disk import SmallDisk, may_be_mounted


def _try_to_read(directory: Path) -> bytes:
    """Return what another user can read of what is below the directory, whose paths the user knows."""
    paths = [path for path in directory.rglob("*") if path.is_file() and path.name != "file"]
    assert paths
    done = subprocess.run(
        ["cat", "--", *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    assert done.returncode != 0
    return done.stdout


@needs_root
@pytest.mark.slow
@SMALL_AND_LARGE
class TestADirectoryThatIsInherited:
    @pytest.mark.parametrize(
        ("owner", "mode"), [(0, 0o2755), (0, 0o2775), (0, 0o3777), (NOBODY, 0o2755), (NOBODY, 0o2700), (NOBODY, 0o755)]
    )
    def test_a_new_file_has_the_group_that_any_has_there(
        self, guest_of_any_kind: Made, size: int, owner: int, mode: int
    ) -> None:
        here = guest_of_any_kind()
        os.chown(here.files, owner, NOBODY)
        here.files.chmod(mode)
        here.put(MUCH[:size], here.files / "file")
        made = here.files / "file"
        assert made.read_bytes() == MUCH[:size]
        assert here.names() == ["file"]
        assert (made.stat().st_uid, made.stat().st_gid) == (0, NOBODY if mode & stat.S_ISGID else 0)
        assert stat.S_IMODE(made.stat().st_mode) == 0o644

    @pytest.mark.parametrize(
        ("group", "others", "users"), [(5, 5, {NOBODY: 7}), (7, 0, {}), (0, 0, {}), (0, 0, {NOBODY: 4}), (7, 7, {})]
    )
    def test_a_default_acl_counts_for_the_file_and_not_before_it_is_done(
        self, guest_of_any_kind: Made, size: int, group: int, others: int, users: Mapping[int, int]
    ) -> None:
        here = guest_of_any_kind()
        set_default_acl(here.files, group=group, others=others, users=users)
        (here.files.parent / "other").mkdir()
        set_default_acl(here.files.parent / "other", group=group, others=others, users=users)
        usual = here.files.parent / "other" / "file"
        usual.touch()
        seen = []

        def look(perform: Callable[[], Reply]) -> Reply:
            reply = perform()
            seen.append(_try_to_read(here.files))
            return reply

        for command in ("guest-file-open", "guest-file-write", "guest-file-close"):
            here.machine.faults[(command, None)] = look
        here.put(MUCH[:size], here.files / "file")
        assert set(seen) <= {b""}
        assert (size > LIMITS.request) == bool(seen)
        made = here.files / "file"
        assert made.read_bytes() == MUCH[:size]
        assert here.names() == ["file"]
        assert access_acl(made) == access_acl(usual)
        assert made.stat().st_mode == usual.stat().st_mode

    def test_that_is_not_private_is_not_used_and_not_left(
        self, guest_of_any_kind: Made, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a file system whose modes cannot be changed."""
        script = scripts.PUT.replace('enter "$g" ||', 'chmod 755 "$g"; enter "$g" ||', 1)
        monkeypatch.setattr(scripts, "PUT", script)
        here = guest_of_any_kind()
        with pytest.raises(FileTransferError, match=r"file cannot be transferred: .*qga-\w+ is not private"):
            here.put(MUCH[:size], here.files / "file")
        assert here.names() == []

    @pytest.mark.parametrize("mode", [0o2755, 0o3777])
    def test_is_a_place_for_the_connection_as_well(self, guest_of_any_kind: Made, size: int, mode: int) -> None:
        here = guest_of_any_kind()
        (here.files.parent / "kept").chmod(mode)
        name = os.fsdecode(b"caf\xe9")
        here.put(MUCH[:size], here.files / name)
        assert here.fetch(here.files / name) == MUCH[:size]


@pytest.mark.slow
@SMALL_AND_LARGE
class TestALinkThatTheKernelDoesNotFollow:
    """As with fs.protected_symlinks, whatever it is on this machine: who opens the file is refused."""

    @pytest.mark.parametrize("kind", ["link", "link to a link"])
    def test_is_not_followed_past_it(self, guest_of_any_kind: Made, size: int, kind: str) -> None:
        here = guest_of_any_kind()
        here.files.chmod(0o1777)
        precious = here.files.parent / "precious"
        shutil.copy(shutil.which("sleep") or "", precious)
        before = precious.read_bytes(), precious.stat()
        target = precious
        if kind == "link to a link":
            target = here.files.parent / "second"
            target.symlink_to(precious)
        (here.files / "link").symlink_to(target)
        if os.geteuid() == 0:
            os.chown(here.files / "link", NOBODY, NOBODY, follow_symlinks=False)
        # Not even root can write to a program that runs.
        with subprocess.Popen([precious, "1000"], stdin=subprocess.DEVNULL) as running:
            try:
                with pytest.raises(FileTransferError, match=r"[Tt]ext file busy"):
                    here.put(MUCH[:size], here.files / "link")
            finally:
                running.kill()
        after = precious.read_bytes(), precious.stat()
        assert after[0] == before[0]
        assert (after[1].st_ino, after[1].st_mtime_ns) == (before[1].st_ino, before[1].st_mtime_ns)
        assert here.names() == ["link"]
        assert here.machine.count("guest-file-open") == 0

    def test_to_nothing_makes_nothing(
        self, guest_of_any_kind: Made, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace('>"$p" ||', '>"$p/n" ||'))
        here = guest_of_any_kind()
        (here.files / "link").symlink_to("new")
        with pytest.raises(FileTransferError, match=r"link cannot be transferred: .*link/n"):
            here.put(MUCH[:size], here.files / "link")
        assert here.names() == ["link"]

    def test_is_not_followed_where_it_came_meanwhile(self, guest_of_any_kind: Made, size: int) -> None:
        """The kernel follows it where the file is written to, not a path that was looked up before."""
        here = guest_of_any_kind()
        (here.files / "file").write_text("old")
        os.link(here.files / "file", here.files / "other")
        (here.files / "target").write_text("target")

        def exchange(perform: Callable[[], Reply]) -> Reply:
            if not (here.files / "file").is_symlink():
                (here.files / "file").unlink()
                (here.files / "file").symlink_to("target")
            return perform()

        here.machine.faults[("guest-file-close", None)] = exchange
        here.put(MUCH[:size], here.files / "file")
        assert (here.files / "file").is_symlink() == (size > LIMITS.request)
        written = "target" if size > LIMITS.request else "other"
        assert (here.files / written).read_bytes() == MUCH[:size]


def _as_it_is(_path: Path) -> None:
    pass


def _with_another_name(path: Path) -> None:
    os.link(path, path.parent.parent / "another name")


def _with_an_acl(path: Path) -> None:
    set_acl(path, owner=6, group=4, others=0, users={NOBODY: 6})


def _with_an_attribute(path: Path) -> None:
    os.setxattr(path, "user.comment", b"kept")


def _of_another_user(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY)


def _in_another_users_directory(path: Path) -> None:
    os.chown(path.parent, NOBODY, NOBODY)


def _where_all_may_write(path: Path) -> None:
    path.parent.chmod(0o1777)


KINDS = [
    _as_it_is,
    _with_another_name,
    _with_an_acl,
    _with_an_attribute,
    pytest.param(_of_another_user, marks=needs_root),
    pytest.param(_in_another_users_directory, marks=needs_root),
    _where_all_may_write,
]


def _what_it_has(path: Path) -> dict[str, Any]:
    now = path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return {"owner": (now.st_uid, now.st_gid), "mode": now.st_mode, "names": now.st_nlink, "attributes": attributes}


@pytest.mark.slow
@SMALL_AND_LARGE
class TestAFileThatIsThere:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("mode", [0o600, 0o755, 0o4755])
    def test_keeps_all_that_it_has(
        self, guest_of_any_kind: Made, size: int, mode: int, kind: Callable[[Path], None]
    ) -> None:
        here = guest_of_any_kind()
        path = here.files / "file"
        path.write_text("old, and longer")
        path.chmod(mode)
        kind(path)
        before = _what_it_has(path)
        here.put(MUCH[:size], path)
        assert path.read_bytes() == MUCH[:size]
        assert _what_it_has(path) == before
        assert here.names() == ["file"]

    @needs_root
    @pytest.mark.skipif(not shutil.which("setpriv"), reason="there is no setpriv")
    @pytest.mark.parametrize("owner", [0, NOBODY])
    def test_keeps_its_owner_where_the_agents_user_is_not_root(
        self, guest_of_any_kind: Made, size: int, owner: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = guest_of_any_kind()
        path = here.files / "file"
        path.write_text("old")
        os.chown(path, owner, owner)
        path.chmod(0o666)
        os.chown(here.files, NOBODY, NOBODY)
        before = _what_it_has(path)
        start = here.machine._guest_exec

        def as_nobody(path: str, arg: list[str], **other: Any) -> dict[str, Any]:
            words = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", path]
            return start(shutil.which("setpriv") or "", [*words, *arg], **other)

        monkeypatch.setattr(here.machine, "_guest_exec", as_nobody)
        here.put(MUCH[:size], path)
        assert path.read_bytes() == MUCH[:size]
        assert _what_it_has(path) == before
        assert here.names() == ["file"]

    @pytest.mark.parametrize("program", ["cp", "mv", "ls"])
    def test_keeps_it_whatever_program_fails(
        self, guest_of_any_kind: Made, size: int, program: str, shim: Callable[[str, str], None]
    ) -> None:
        """A place to which something was mounted cannot be moved to; and some programs do not have what is needed."""
        real = shutil.which(program)
        shim(program, {"ls": f'case "$*" in *file) exit 1; esac; exec {real} "$@"'}.get(program, "exit 1"))
        here = guest_of_any_kind()
        path = here.files / "file"
        path.write_text("old")
        path.chmod(0o640)
        inode = path.stat().st_ino
        here.put(MUCH[:size], path)
        assert path.read_bytes() == MUCH[:size]
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert path.stat().st_ino == inode
        assert here.names() == ["file"]

    @pytest.mark.parametrize("may_be_changed", [True, False])
    def test_keeps_its_label(
        self, guest: Made, size: int, may_be_changed: bool, shim: Callable[[str, str], None], tmp_path: Path
    ) -> None:
        """`ls` marks it by a full stop."""
        shim("ls", f"{shutil.which('ls')} \"$@\" | sed 's/^\\(-.........\\) /\\1. /'")
        shim("chcon", f'echo "$*" >{tmp_path}/chcon' if may_be_changed else "exit 1")
        here = guest()
        path = here.files / "file"
        path.write_text("old")
        inode = path.stat().st_ino
        here.put(MUCH[:size], path)
        assert path.read_bytes() == MUCH[:size]
        assert (path.stat().st_ino == inode) is not may_be_changed
        if may_be_changed:
            assert (tmp_path / "chcon").read_text().startswith(f"--reference={path} .qga-")
        assert here.names() == ["file"]

    def test_is_replaced_where_it_runs_and_nobody_else_can_exchange_it(self, guest: Made, size: int) -> None:
        here = guest()
        path = here.files / "file"
        shutil.copy(shutil.which("sleep") or "", path)
        with subprocess.Popen([path, "1000"], stdin=subprocess.DEVNULL) as running:
            try:
                here.put(MUCH[:size], path)
            finally:
                running.kill()
        assert path.read_bytes() == MUCH[:size]
        assert here.names() == ["file"]


@pytest.mark.slow
@pytest.mark.skipif(not may_be_mounted(), reason="no disk may be mounted here")
class TestAFullDisk:
    """A file that is put has five pages, and the disk has so many and a few more."""

    @staticmethod
    def put(guest: Made, monkeypatch: pytest.MonkeyPatch, free: int, names: int) -> tuple[str, bytes, list[str]]:
        """Return what was said, what the file has then, and what is in its directory."""
        here = guest()
        here.limit(request=65536)
        with SmallDisk(here.files, 64) as disk:
            files = disk.content
            files.chmod(0o755)
            (files / "file").write_bytes(b"old")
            for name in range(1, names):
                os.link(files / "file", files / f"name{name}")
            (files / "filler").write_bytes(b"x" * 4096 * (64 // 4 - 1 - free))
            start = here.machine._guest_exec

            def within(path: str, arg: list[str], **other: Any) -> dict[str, Any]:
                return start(disk.within[0], [*disk.within[1:], path, *arg], **other)

            monkeypatch.setattr(here.machine, "_guest_exec", within)
            said = ""
            try:
                here.put(MUCH[: 5 * 4096], here.files / "file")
            except FileTransferError as error:
                said = error.message
            return said, (files / "file").read_bytes(), sorted(path.name for path in files.iterdir())

    @pytest.mark.parametrize("names", [1, 2])
    @pytest.mark.parametrize("free", [0, 1, 4])
    def test_leaves_the_old_file(self, guest: Made, monkeypatch: pytest.MonkeyPatch, free: int, names: int) -> None:
        said, content, left = self.put(guest, monkeypatch, free, names)
        assert "No space left on device" in said
        assert content == b"old"
        assert left == ["file", "filler", *["name1"] * (names - 1)]

    def test_needs_no_more_room_to_replace_it(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.put(guest, monkeypatch, 5, 1) == ("", MUCH[: 5 * 4096], ["file", "filler"])

    def test_is_reported_where_it_is_written_to(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        said, content, left = self.put(guest, monkeypatch, 6, 2)
        assert "No space left on device" in said
        assert "only a part of the new content was written to the file" in said
        assert content == MUCH[: len(content)]
        assert left == ["file", "filler", "name1"]
