"""Attributes of files that are put, with every shell of this machine."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import FileTransferError

from tests.fakes.this_machine import LIMITS
from tests.support.acl import access_acl, set_acl, set_default_acl
from tests.support.guest_shell import MUCH, NOBODY, SMALL_AND_LARGE, FileGuest, Made, needs_root
from tests.support.small_disk import SmallDisk, may_be_mounted

pytestmark = pytest.mark.slow
AS_NOBODY: Mapping[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


def run_within(here: FileGuest, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Make the agent start its programs by that command."""
    start = here.machine._guest_exec
    monkeypatch.setattr(
        here.machine, "_guest_exec", lambda path, arg, **other: start(words[0], [*words[1:], path, *arg], **other)
    )


@contextmanager
def running(program: Path) -> Iterator[None]:
    """Make the file a running program, which not even root can write to."""
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "1000"], stdin=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


@needs_root
@SMALL_AND_LARGE
class TestAttributesOfTheDirectory:
    @pytest.mark.parametrize(
        ("owner", "mode"), [(0, 0o2755), (0, 0o2775), (0, 0o3777), (NOBODY, 0o2755), (NOBODY, 0o2700), (NOBODY, 0o755)]
    )
    def test_a_new_file_gets_the_group_of_any_new_file_there(
        self, guest_of_any_kind: Made, size: int, owner: int, mode: int
    ) -> None:
        here = guest_of_any_kind()
        os.chown(here.files, owner, NOBODY)
        here.files.chmod(mode)
        here.put(MUCH[:size], here.files / "file")
        assert here.names() == ["file"]
        assert (here.files / "file").read_bytes() == MUCH[:size]
        made = (here.files / "file").stat()
        group = NOBODY if mode & stat.S_ISGID else 0
        assert (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode)) == (0, group, 0o644)

    @pytest.mark.parametrize(
        ("group", "others", "users"), [(5, 5, {NOBODY: 7}), (7, 0, {}), (0, 0, {}), (0, 0, {NOBODY: 4}), (7, 7, {})]
    )
    def test_a_default_acl_applies_to_the_file_when_it_is_complete(
        self, guest_of_any_kind: Made, size: int, group: int, others: int, users: Mapping[int, int]
    ) -> None:
        here = guest_of_any_kind()
        usual, made = here.files.parent / "other" / "file", here.files / "file"
        usual.parent.mkdir()
        for directory in (here.files, usual.parent):
            set_default_acl(directory, group=group, others=others, users=users)
        usual.touch()
        seen = []

        def look(perform: Callable[[], Reply]) -> Reply:
            """Read files in the directory as another user who knows their paths."""
            reply = perform()
            paths = [path for path in here.files.rglob("*") if path.is_file() and path != made]
            assert paths
            done = subprocess.run(["cat", "--", *paths], capture_output=True, check=False, **AS_NOBODY)
            seen.append((done.returncode != 0, done.stdout))
            return reply

        for command in ("guest-file-open", "guest-file-write", "guest-file-close"):
            here.machine.faults[(command, None)] = look
        here.put(MUCH[:size], made)
        assert set(seen) == ({(True, b"")} if size > LIMITS.request else set())
        assert here.names() == ["file"]
        assert made.read_bytes() == MUCH[:size]
        assert (access_acl(made), made.stat().st_mode) == (access_acl(usual), usual.stat().st_mode)

    def test_a_directory_that_cannot_be_private_is_not_used_and_removed(
        self, guest_of_any_kind: Made, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a filesystem without file modes."""
        script = scripts.PUT.replace('enter "$g" ||', 'chmod 755 "$g"; enter "$g" ||', 1)
        monkeypatch.setattr(scripts, "PUT", script)
        here = guest_of_any_kind()
        with pytest.raises(FileTransferError, match=r"cannot transfer '.*file': .*qga-\w+ is not private"):
            here.put(MUCH[:size], here.files / "file")
        assert here.names() == []


@SMALL_AND_LARGE
class TestALinkThatTheKernelDoesNotFollow:
    """As with fs.protected_symlinks, regardless of this machine's setting: opening the file is refused."""

    @pytest.mark.parametrize("kind", ["link", "link to a link"])
    def test_is_not_resolved_by_the_script(self, guest_of_any_kind: Made, size: int, kind: str) -> None:
        here = guest_of_any_kind()
        here.files.chmod(0o1777)
        precious, second, link = here.files.parent / "precious", here.files.parent / "second", here.files / "link"
        second.symlink_to(precious)
        link.symlink_to(second if kind == "link to a link" else precious)
        if os.geteuid() == 0:
            os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
        with running(precious):
            before = precious.read_bytes(), precious.stat().st_ino, precious.stat().st_mtime_ns
            with pytest.raises(FileTransferError, match=r"[Tt]ext file busy"):
                here.put(MUCH[:size], link)
        assert (precious.read_bytes(), precious.stat().st_ino, precious.stat().st_mtime_ns) == before
        assert here.names() == ["link"]
        assert here.machine.count("guest-file-open") == 0

    def test_to_a_missing_file_creates_nothing(
        self, guest_of_any_kind: Made, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace('>"$p" ||', '>"$p/n" ||'))
        here = guest_of_any_kind()
        (here.files / "link").symlink_to("new")
        with pytest.raises(FileTransferError, match=r"cannot transfer '.*link': .*link/n"):
            here.put(MUCH[:size], here.files / "link")
        assert here.names() == ["link"]

    def test_that_appears_during_the_transfer_is_not_followed(self, guest_of_any_kind: Made, size: int) -> None:
        """The kernel follows the link itself when the file is written, not a path that was resolved before."""
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


KINDS: Mapping[str, Callable[[Path], object]] = {
    "as it is": lambda _path: None,
    "with another name": lambda path: os.link(path, path.parent.parent / "another name"),
    "with an ACL": lambda path: set_acl(path, owner=6, group=4, others=0, users={NOBODY: 6}),
    "with an attribute": lambda path: os.setxattr(path, "user.comment", b"kept"),
    "of another user": lambda path: os.chown(path, NOBODY, NOBODY),
    "in another user's directory": lambda path: os.chown(path.parent, NOBODY, NOBODY),
    "where all may write": lambda path: path.parent.chmod(0o1777),
}


@SMALL_AND_LARGE
class TestAnExistingFile:
    def put(self, here: FileGuest, size: int) -> None:
        """Put it, and check that it keeps its attributes."""
        path = here.files / "file"
        before = self.attributes(path)
        here.put(MUCH[:size], path)
        assert path.read_bytes() == MUCH[:size]
        assert self.attributes(path) == before
        assert here.names() == ["file"]

    @staticmethod
    def attributes(path: Path) -> tuple[Any, ...]:
        now, extended = path.stat(), {name: os.getxattr(path, name) for name in os.listxattr(path)}
        return now.st_uid, now.st_gid, now.st_mode, now.st_nlink, extended

    @pytest.mark.parametrize(
        "kind", [pytest.param(kind, marks=[needs_root] if "user" in kind else []) for kind in KINDS]
    )
    @pytest.mark.parametrize("mode", [0o600, 0o755, 0o4755])
    def test_keeps_all_attributes(self, guest_of_any_kind: Made, size: int, mode: int, kind: str) -> None:
        here = guest_of_any_kind()
        (here.files / "file").write_text("old, and longer")
        (here.files / "file").chmod(mode)
        KINDS[kind](here.files / "file")
        self.put(here, size)

    @needs_root
    @pytest.mark.skipif(not shutil.which("setpriv"), reason="there is no setpriv")
    @pytest.mark.parametrize("owner", [0, NOBODY])
    def test_keeps_its_owner_if_the_agents_user_is_not_root(
        self, guest_of_any_kind: Made, size: int, owner: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = guest_of_any_kind()
        (here.files / "file").write_text("old")
        (here.files / "file").chmod(0o666)
        os.chown(here.files / "file", owner, owner)
        os.chown(here.files, NOBODY, NOBODY)
        run_within(
            here, monkeypatch, shutil.which("setpriv") or "", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"
        )
        self.put(here, size)

    @pytest.mark.parametrize("program", ["cp", "mv", "ls"])
    def test_keeps_its_attributes_whichever_program_fails(
        self, guest_of_any_kind: Made, size: int, program: str, shim: Callable[[str, str], None]
    ) -> None:
        """A mount point cannot be replaced, and some programs lack the needed options."""
        real = shutil.which(program)
        shim(program, {"ls": f'case "$*" in *file) exit 1; esac; exec {real} "$@"'}.get(program, "exit 1"))
        here = guest_of_any_kind()
        (here.files / "file").write_text("old")
        (here.files / "file").chmod(0o640)
        inode = (here.files / "file").stat().st_ino
        self.put(here, size)
        assert (here.files / "file").stat().st_ino == inode

    @pytest.mark.parametrize("may_be_changed", [True, False])
    def test_keeps_its_label(
        self, guest: Made, size: int, may_be_changed: bool, shim: Callable[[str, str], None], tmp_path: Path
    ) -> None:
        """`ls` marks it with a dot."""
        shim("ls", f"{shutil.which('ls')} \"$@\" | sed 's/^\\(-.........\\) /\\1. /'")
        shim("chcon", f'echo "$*" >{tmp_path}/chcon' if may_be_changed else "exit 1")
        here = guest()
        path = here.files / "file"
        path.write_text("old")
        inode = path.stat().st_ino
        self.put(here, size)
        assert (path.stat().st_ino == inode) is not may_be_changed
        if may_be_changed:
            assert (tmp_path / "chcon").read_text().startswith(f"--reference={path} .qga-")

    def test_that_runs_is_replaced_if_no_other_user_can_interfere(self, guest: Made, size: int) -> None:
        here = guest()
        with running(here.files / "file"):
            self.put(here, size)


@pytest.mark.skipif(not may_be_mounted(), reason="no disk may be mounted here")
@pytest.mark.parametrize(
    ("free", "names", "written"),
    [*((free, names, "nothing") for free in (0, 1, 4) for names in (1, 2)), (5, 1, "all"), (6, 2, "a part")],
)
def test_on_a_full_disk_the_old_file_is_kept_if_possible(
    guest: Made, monkeypatch: pytest.MonkeyPatch, free: int, names: int, written: str
) -> None:
    """The new file has five pages. A file with another hard link cannot be replaced."""
    here, new = guest(), MUCH[: 5 * 4096]
    here.limit(request=65536)
    with SmallDisk(here.files, 64) as disk:
        files = disk.content
        files.chmod(0o755)
        (files / "file").write_bytes(b"old")
        for name in range(1, names):
            os.link(files / "file", files / f"name{name}")
        (files / "filler").write_bytes(b"x" * 4096 * (64 // 4 - 1 - free))
        run_within(here, monkeypatch, *disk.within)
        message = ""
        try:
            here.put(new, here.files / "file")
        except FileTransferError as error:
            message = error.message
        content = (files / "file").read_bytes()
        assert sorted(path.name for path in files.iterdir()) == ["file", "filler", *["name1"] * (names - 1)]
    assert content == {"nothing": b"old", "all": new, "a part": new[: len(content)]}[written]
    assert ("No space left on device" in message) == (written != "all")
    assert ("only a part of the new content was written to the file" in message) == (written == "a part")
