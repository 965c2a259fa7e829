# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import contextlib
import io
import os
import random
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandFailedError, ExchangeTimeoutError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts, transfer
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    CommandTimeoutError,
    FileMissingError,
    FileTransferError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.programs import Program
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.shell import GuestShell
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.transfer import fetch, put, source_of

from tests.support.acl import access_acl, set_acl, set_default_acl
from tests.support.shells import SHELLS
from tests.support.small_disk import SmallDisk, may_be_mounted
from tests.support.this_machine import ENVIRONMENT, LIMITS, Fault, ThisMachine, lost, refused, returning
from tests.support.until import until

# Around what fits into one request and one reply, and many of them.
SIZES = [0, 1, LIMITS.reply // 2, LIMITS.reply // 2 + 1, LIMITS.request // 2, LIMITS.request // 2 + 1, 100_000]
MUCH = random.Random(1).randbytes(100_000)  # it cannot be packed
PACKED = b"a line of a log\n" * 10_000
NAMES = [
    *("file", "with space", "-dash", 'it\'s "quoted" $HOME `id` \\', "\u00fcml\u00e4ut \u4f60", "two\nlines", "*"),
    # Not UTF-8: a byte by itself, Latin-1, and all that no shell may mistake for its own marks.
    *(os.fsdecode(name) for name in (b"\xff", b"caf\xe9", bytes(range(128, 256)))),
]
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
SMALL_AND_LARGE = pytest.mark.parametrize("size", [1, 100_000])


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


class Guest:
    """A directory for the guest's files; what the shell keeps is in another one."""

    def __init__(self, directory: Path, faults: Mapping[tuple[str, int | None], Fault]) -> None:
        self.files = directory / "files"
        self.files.mkdir()
        kept = directory / "kept"
        kept.mkdir()
        self.machine = ThisMachine(faults)
        self._shell = GuestShell(self.machine.agent(), "/bin/sh", (str(kept),), LIMITS)

    def limit(self, **changed: Any) -> None:
        self._shell.limits = self._shell.limits._replace(**changed)

    def run(self, command: str) -> None:
        tasks.run(self._shell.run(command))

    def put(self, data: bytes, path: Path | str) -> None:
        tasks.run(put(self._shell, source_of(io.BytesIO(data)), str(path)))

    def fetch(self, path: Path | str, target: io.BytesIO | None = None) -> bytes:
        target = io.BytesIO() if target is None else target
        tasks.run(fetch(self._shell, str(path), target))
        return target.getvalue()

    def names(self) -> list[str]:
        return sorted(path.name for path in self.files.iterdir())


Made = Callable[..., Guest]


@pytest.fixture
def guest(tmp_path: Path) -> Made:
    return lambda faults=None: Guest(tmp_path, faults or {})


class TestPutting:
    @pytest.mark.parametrize("size", SIZES)
    def test_files_of_any_size(self, guest: Made, size: int) -> None:
        here, data = guest(), os.urandom(size)
        here.put(data, here.files / "file")
        assert (here.files / "file").read_bytes() == data
        assert here.names() == ["file"]
        assert here.machine.open_files == 0

    def test_what_can_be_packed_is(self, guest: Made) -> None:
        here = guest()
        here.put(PACKED, here.files / "file")
        assert (here.files / "file").read_bytes() == PACKED
        assert here.names() == ["file"]
        assert here.machine.count("guest-file-write") == 1

    def test_without_a_program_to_unpack_nothing_is_packed(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace("command -v gzip", "command -v nonesuch"))
        here = guest()
        here.put(PACKED, here.files / "file")
        assert (here.files / "file").read_bytes() == PACKED
        assert here.machine.count("guest-file-write") > 1

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("name", NAMES)
    def test_files_of_any_name(self, guest: Made, name: str, size: int) -> None:
        here = guest()
        here.put(b"x" * size, here.files / name)
        assert here.names() == [name]

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("mask", [0o077, 0o027, 0o022, 0o002, 0])
    def test_a_new_file_has_the_mode_that_a_login_gives_whatever_the_agents_umask(
        self, guest: Made, size: int, mask: int
    ) -> None:
        here = guest()
        before = os.umask(mask)
        try:
            here.put(b"x" * size, here.files / "file")
        finally:
            os.umask(before)
        assert stat.S_IMODE((here.files / "file").stat().st_mode) == 0o644

    def test_is_private_until_it_is_done(self, guest: Made) -> None:
        here = guest()
        modes = []

        def look(perform: Callable[[], Reply]) -> Reply:
            modes.extend(stat.S_IMODE(path.stat().st_mode) for path in here.files.iterdir())
            return perform()

        here.machine.faults[("guest-file-write", None)] = look
        here.put(MUCH, here.files / "file")
        assert set(modes) == {0o700}

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_through_a_symbolic_link_leaves_the_link(self, guest: Made, size: int) -> None:
        here = guest()
        (here.files / "link").symlink_to("file")
        (here.files / "file").write_text("old")
        here.put(b"x" * size, here.files / "link")
        assert (here.files / "link").is_symlink()
        assert (here.files / "file").stat().st_size == size

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("target", ["new", "../files/new", "{}/new", "second"])
    def test_through_a_link_to_nothing_makes_what_it_leads_to(self, guest: Made, size: int, target: str) -> None:
        here = guest()
        (here.files / "link").symlink_to(target.format(here.files))
        (here.files / "second").symlink_to("new")
        here.put(b"x" * size, here.files / "link")
        assert here.names() == ["link", "new", "second"]
        assert (here.files / "link").is_symlink()
        assert (here.files / "new").stat().st_size == size

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_through_a_link_to_where_there_is_no_directory_fails(self, guest: Made, size: int) -> None:
        here = guest()
        (here.files / "link").symlink_to("none/file")
        before = sorted(os.listdir("/"))
        with pytest.raises(FileTransferError, match=r"no directory for .*link"):
            here.put(b"x" * size, here.files / "link")
        assert here.names() == ["link"]
        assert sorted(os.listdir("/")) == before

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("target", ["link", "other"])
    def test_through_links_that_lead_to_each_other_fails(self, guest: Made, size: int, target: str) -> None:
        here = guest()
        (here.files / "link").symlink_to(target)
        (here.files / "other").symlink_to("link")
        with pytest.raises(FileTransferError, match=r"link leads through too many symbolic links"):
            here.put(b"x" * size, here.files / "link")

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("make", [os.mkfifo, _make_socket])
    def test_to_what_waits_for_a_reader_fails(self, guest: Made, size: int, make: Callable[[Path], None]) -> None:
        here = guest()
        make(here.files / "file")
        with pytest.raises(FileTransferError, match="is not a regular file"):
            here.put(b"x" * size, here.files / "file")

    @needs_root
    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize(("owner", "mode"), [(NOBODY, 0o755), (0, 0o777), (0, 0o775), (0, 0o1777)])
    def test_is_not_given_away_where_others_may_exchange_it(
        self, guest: Made, size: int, owner: int, mode: int
    ) -> None:
        """The other user puts a link to a file of root's in place of whatever turns up."""
        here = guest()
        precious = here.files.parent / "precious"
        precious.write_text("precious")
        precious.chmod(0o600)
        (here.files / "file").write_text("old")
        os.chown(here.files / "file", NOBODY, NOBODY)
        (here.files / "file").chmod(0o666)
        os.chown(here.files, owner, owner)
        here.files.chmod(mode)
        exchanged: set[str] = set()

        def exchange(perform: Callable[[], Reply]) -> Reply:
            reply = perform()
            for path in [] if mode & stat.S_ISVTX else list(here.files.iterdir()):
                if path.name == "file" or path.name in exchanged:
                    continue
                exchanged.add(path.name)
                is_directory = path.is_dir()
                path.rename(here.files.parent / f"moved-{path.name}")
                if not is_directory:
                    path.symlink_to(precious)
                    continue
                # It cannot be looked into: its own name is all that there is to guess by.
                path.mkdir()
                os.chown(path, NOBODY, NOBODY)
                for name in (path.name, path.stem, f"{path.name}.z", f"{path.stem}.z"):
                    if not (path / name).is_symlink():
                        (path / name).symlink_to(precious)
            return reply

        for command in ("guest-exec-status", "guest-file-open", "guest-file-write", "guest-file-close"):
            here.machine.faults[(command, None)] = exchange
        with contextlib.suppress(FileTransferError, CommandFailedError):
            here.put(MUCH[:size], here.files / "file")
        assert precious.read_text() == "precious"
        assert (precious.stat().st_uid, stat.S_IMODE(precious.stat().st_mode)) == (0, 0o600)

    @needs_root
    @pytest.mark.parametrize("is_link", [True, False])
    def test_takes_nothing_that_another_user_has_made_beside_it(
        self, guest: Made, monkeypatch: pytest.MonkeyPatch, is_link: bool
    ) -> None:
        """In a directory like /tmp, as soon as the first of its names is to be seen there."""
        here = guest()
        here.files.chmod(0o1777)
        precious = here.files.parent / "precious"
        precious.touch()
        os.chown(precious, NOBODY, NOBODY)
        make = f'ln {"-s" if is_link else ""} {precious} "$x.z"'
        monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace("printf '", f"{make}\nprintf '", 1))
        here.put(PACKED, here.files / "file")
        assert (here.files / "file").read_bytes() == PACKED
        assert precious.read_bytes() == b""
        assert here.names() == ["file"]

    def test_to_what_is_no_file_writes_to_it(self, guest: Made) -> None:
        guest().put(b"gone", "/dev/null")
        assert not Path("/dev/null").is_file()

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_to_a_directory_fails(self, guest: Made, size: int) -> None:
        here = guest()
        with pytest.raises(FileTransferError, match="is a directory"):
            here.put(b"x" * size, here.files)

    @pytest.mark.parametrize("size", [1, 100_000])
    def test_to_where_there_is_no_directory_fails(self, guest: Made, size: int) -> None:
        here = guest()
        with pytest.raises(FileTransferError, match=r"no directory for .*none/file"):
            here.put(b"x" * size, here.files / "none" / "file")

    def test_that_is_damaged_on_the_way_leaves_the_old_file(self, guest: Made) -> None:
        here = guest()
        (here.files / "file").write_text("old")

        def damage(perform: Callable[[], Reply]) -> Reply:
            reply = perform()
            (temporary,) = here.files.glob("*/.qga-*")
            temporary.write_bytes(b"y" * len(MUCH))
            return reply

        here.machine.faults[("guest-file-close", 0)] = damage
        with pytest.raises(FileTransferError, match="its checksum in the guest is another"):
            here.put(MUCH, here.files / "file")
        assert (here.files / "file").read_text() == "old"
        assert here.names() == ["file"]

    @pytest.mark.parametrize("fault", [refused("failed to write: No space left on device"), lost])
    def test_that_fails_half_way_leaves_nothing(self, guest: Made, fault: Fault) -> None:
        here = guest({("guest-file-write", 3): fault})
        with pytest.raises((CommandFailedError, ExchangeTimeoutError)):
            here.put(MUCH, here.files / "file")
        assert here.names() == []
        assert here.machine.open_files == 0

    @pytest.mark.parametrize("command", ["guest-exec", "guest-exec-status"])
    @pytest.mark.parametrize("mode", [0o755, 0o777])
    def test_that_fails_as_it_is_begun_leaves_nothing(self, guest: Made, command: str, mode: int) -> None:
        def begun(perform: Callable[[], Reply]) -> Reply:
            with contextlib.suppress(ExchangeTimeoutError):
                lost(perform)
            until(here.machine.is_idle, "it was not begun")
            raise ExchangeTimeoutError("the agent did not answer in time")

        here = guest({(command, 0): begun})
        here.files.chmod(mode)
        with pytest.raises(ExchangeTimeoutError):
            here.put(MUCH, here.files / "file")
        assert here.names() == []


@pytest.fixture(params=[*SHELLS, ["busybox", "sh", "with its own programs"]], ids=" ".join)
def guest_of_any_kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Made]:
    """A guest whose shell is one of those that this machine has, in a directory that others can reach."""
    words = [shutil.which(request.param[0]), *request.param[1:2]]
    if words[0] is None:
        pytest.skip("there is no busybox")
    if request.param[2:]:
        programs = tmp_path_factory.mktemp("busybox")
        subprocess.run([words[0], "--install", "-s", str(programs)], check=True)
        monkeypatch.setitem(ENVIRONMENT, "PATH", f"{programs}:{ENVIRONMENT['PATH']}")
    made = scripts.script

    def by_that_shell(*arguments: Any, **others: Any) -> Program:
        program = made(*arguments, **others)
        return program._replace(path=words[0], arguments=(*words[1:], *program.arguments))

    monkeypatch.setattr(scripts, "script", by_that_shell)
    with tempfile.TemporaryDirectory(prefix="qga-files-", dir="/var/tmp") as name:
        os.chmod(name, 0o755)  # noqa: S103  # others have to reach what is in it
        yield lambda faults=None: Guest(Path(name), faults or {})


@pytest.fixture
def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script in place of a program of the guest's."""

    def put_in_place(name: str, script: str) -> None:
        programs = tmp_path / "shims"
        programs.mkdir(exist_ok=True)
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
        if str(programs) not in ENVIRONMENT["PATH"]:
            monkeypatch.setitem(ENVIRONMENT, "PATH", f"{programs}:{ENVIRONMENT['PATH']}")

    return put_in_place


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


class TestFetching:
    @pytest.mark.parametrize("size", SIZES)
    def test_files_of_any_size(self, guest: Made, size: int) -> None:
        here, data = guest(), os.urandom(size)
        (here.files / "file").write_bytes(data)
        assert here.fetch(here.files / "file") == data
        assert here.machine.open_files == 0

    @pytest.mark.parametrize("size", [1, 100_000])
    @pytest.mark.parametrize("name", NAMES)
    def test_files_of_any_name(self, guest: Made, name: str, size: int) -> None:
        here = guest()
        (here.files / name).write_bytes(b"x" * size)
        assert here.fetch(here.files / name) == b"x" * size

    def test_a_file_without_a_size(self, guest: Made) -> None:
        assert guest().fetch("/proc/version") == Path("/proc/version").read_bytes()

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
    def test_a_device_fails(self, guest: Made, path: str) -> None:
        with pytest.raises(FileTransferError, match=f"{path} is not a regular file"):
            guest().fetch(path)

    @pytest.mark.parametrize("make", [os.mkfifo, _make_socket])
    def test_what_waits_for_a_writer_fails(self, guest: Made, make: Callable[[Path], None]) -> None:
        here = guest()
        make(here.files / "file")
        with pytest.raises(FileTransferError, match="is not a regular file"):
            here.fetch(here.files / "file")

    def test_what_takes_too_long_is_ended_with_all_that_it_began(
        self, guest: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As a file on a server that does not answer.
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000 | sh -c 'sleep 1000; true'; true")
        here = guest()
        here.limit(exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError, match="was ended"):
            here.fetch("/x")
        assert here.machine.known_processes == 0
        until(lambda: not here.machine.groups(), "what the script began lives on")

    def test_that_is_given_up_ends_what_was_begun(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000; true")

        def give_up(_perform: Callable[[], Reply]) -> Reply:
            raise KeyboardInterrupt

        here = guest({("guest-exec-status", 0): give_up})
        with pytest.raises(KeyboardInterrupt):
            here.fetch("/x")
        until(lambda: not here.machine.groups(), "what the script began lives on")

    def test_what_is_not_there_fails(self, guest: Made) -> None:
        here = guest()
        with pytest.raises(FileMissingError, match=r"no file .*none"):
            here.fetch(here.files / "none")

    def test_a_directory_fails(self, guest: Made) -> None:
        here = guest()
        with pytest.raises(FileTransferError, match="is a directory"):
            here.fetch(here.files)

    @pytest.mark.parametrize("change", [b"", b"y" * len(MUCH), b"x" * 100_001])
    def test_what_changes_meanwhile_fails(self, guest: Made, change: bytes) -> None:
        here = guest()
        path = here.files / "file"
        path.write_bytes(MUCH)
        here.machine.faults[("guest-file-open", 0)] = lambda perform: (path.write_bytes(change), perform())[1]
        with pytest.raises(FileTransferError, match="changed while it was read"):
            here.fetch(path)
        assert here.machine.open_files == 0

    def test_what_never_ends_ends_at_its_size(self, guest: Made) -> None:
        here = guest()
        path = here.files / "file"
        path.write_bytes(MUCH)

        def grow(perform: Callable[[], Reply]) -> Reply:
            with path.open("ab") as file:
                file.write(b"y" * LIMITS.reply)
            return perform()

        here.machine.faults[("guest-file-read", None)] = grow
        with pytest.raises(FileTransferError):
            here.fetch(path)
        assert here.machine.count("guest-file-read") <= 100_000 // LIMITS.reply + 2


def as_asked(machine: ThisMachine) -> Fault:
    """A file that has as much as is asked for, always."""

    def fault(_perform: Callable[[], Reply]) -> Reply:
        count = machine.requests[-1][1]["count"]
        return Returned({"count": count, "buf-b64": base64.b64encode(b"x" * count).decode(), "eof": False})

    return fault


def slowly(perform: Callable[[], Reply]) -> Reply:
    time.sleep(0.05)
    return perform()


class TestAGuestThatComesToNoEnd:
    @pytest.mark.parametrize("size", [LIMITS.reply, 100_000])
    def test_has_no_more_fetched_than_it_said(self, guest: Made, size: int) -> None:
        here, target = guest(), io.BytesIO()
        (here.files / "file").write_bytes(b"x" * size)
        here.machine.faults[("guest-file-read", None)] = as_asked(here.machine)
        with pytest.raises(FileTransferError, match=f"{size + 1} bytes came of {size}"):
            here.fetch(here.files / "file", target)
        assert len(target.getvalue()) == size + 1

    @pytest.mark.parametrize("size", [0, 1, 1000])
    def test_has_nothing_written_that_was_not_said(
        self, guest: Made, size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = guest()
        for hash_, content in (("0" * 64, size + 1), ("", LIMITS.reply + 1)):
            script = f"printf '%s %s %s\\0' {size} '{hash_}' /x; head -c {content} /dev/zero"
            monkeypatch.setattr(scripts, "FETCH", script)
            target = io.BytesIO()
            with pytest.raises(FileTransferError, match=f"{content} bytes came of {size}"):
                here.fetch("/x", target)
            assert target.getvalue() == b""

    @pytest.mark.parametrize("size", [LIMITS.fetch + 1, 10**17])
    def test_is_not_begun_with_above_the_limit(self, guest: Made, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "FETCH", f"printf '%s %s %s\\0' {size} '' /x")
        here = guest()
        with pytest.raises(FileTransferError, match="max_fetch allows") as caught:
            here.fetch("/x")
        assert "Raise max_fetch" in caught.value.hint
        assert here.machine.count("guest-file-open") == 0

    def test_may_have_what_the_limit_allows(self, guest: Made) -> None:
        here = guest()
        (here.files / "file").write_bytes(MUCH)
        here.limit(fetch=len(MUCH))
        assert here.fetch(here.files / "file") == MUCH
        here.limit(fetch=len(MUCH) - 1)
        with pytest.raises(FileTransferError, match="max_fetch"):
            here.fetch(here.files / "file")

    def test_ends_without_a_byte_and_without_a_sum_is_not_whole(
        self, guest: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = guest()
        (here.files / "file").write_bytes(MUCH)
        monkeypatch.setattr(scripts, "FETCH", f"printf '%s %s %s\\0' {len(MUCH)} '' {here.files}/file")
        nothing = returning(lambda _value: {"count": 0, "buf-b64": "", "eof": False})
        here.machine.faults[("guest-file-read", 3)] = nothing
        with pytest.raises(FileTransferError, match=f"{3 * LIMITS.reply} bytes came of {len(MUCH)}"):
            here.fetch(here.files / "file")


@pytest.mark.slow
class TestTheTimeForAFile:
    def test_is_for_all_that_is_written(self, guest: Made) -> None:
        here = guest({("guest-file-write", None): lambda perform: returning(little)(lambda: slowly(perform))})
        here.limit(exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError, match="within 1 s"):
            here.put(MUCH, here.files / "file")
        assert here.machine.count("guest-file-write") <= 1.0 / 0.05 + 1
        assert here.names() == []

    def test_is_for_all_that_is_read(self, guest: Made) -> None:
        here = guest({("guest-file-read", None): slowly})
        (here.files / "file").write_bytes(MUCH)
        here.machine.most_read = 300
        here.limit(exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError, match="within 1 s"):
            here.fetch(here.files / "file")
        assert here.machine.count("guest-file-read") <= 1.0 / 0.05 + 1
        assert here.machine.open_files == 0

    def test_is_not_that_of_a_command_before(self, guest: Made) -> None:
        here = guest({("guest-exec", 0): refused("no memory")})
        here.limit(exec_timeout=0.2)
        with pytest.raises(CommandFailedError):
            here.run("true")
        here.limit(exec_timeout=30.0)
        time.sleep(0.3)
        name = os.fsdecode(b"caf\xe9")
        here.put(MUCH, here.files / name)
        assert here.fetch(here.files / name) == MUCH

    def test_is_for_what_a_script_does_in_the_guest(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "FETCH", "exec sleep 1000")
        here = guest()
        here.limit(exec_timeout=0.5)
        with pytest.raises(CommandTimeoutError):
            here.fetch("/x")

    def test_is_not_begun_anew_to_take_back_what_was_put(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        script = scripts.PUT.replace("give_up)", "give_up)\nexec sleep 1000")
        monkeypatch.setattr(scripts, "PUT", script)
        monkeypatch.setattr(transfer, "_GIVE_UP_PATIENCE", 0.5)
        here = guest({("guest-file-write", 1): refused("failed to write: No space left on device")})
        with pytest.raises(CommandFailedError, match="No space left"):
            here.put(MUCH, here.files / "file")


def little(value: Any) -> Any:
    return {**value, "count": min(value["count"], 300)}


@pytest.mark.parametrize("head", ["", "7", "-1 %s /x", "7 abc /x", "7 %s x", "x %s /x", "9" * 40 + " %s /x"])
def test_what_a_guest_says_of_a_file_is_not_just_believed(
    guest: Made, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = head.replace("%s", "0" * 64)
    monkeypatch.setattr(scripts, "FETCH", f"printf '%s\\0' '{said}'")
    with pytest.raises(RemoteProtocolError):
        guest().fetch("/x")


@pytest.mark.parametrize(
    "said",
    [
        "/etc\\0{files}/file\\0",
        "{files}\\0{files}/file\\0",
        "{files}/.qga-0123456789abcdef\\0{files}/file\\0",
        "{files}/.qga-$beside/..\\0{files}/file\\0",
        "/.qga-$beside\\0{files}/file\\0",
        ".qga-$beside\\0file\\0",
        "/.qga-$beside\\0file\\0",
        "{files}/.qga-$beside\\0{files}/file\\0gunzip",
        "{files}/.qga-$beside\\0{files}/file",
        "\\0\\0",
        "",
    ],
)
def test_where_a_guest_has_a_file_written_is_not_just_believed(
    guest: Made, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = guest()
    script = f'printf "{said}"'.replace("{files}", str(here.files))
    monkeypatch.setattr(scripts, "PUT", scripts.source("common.sh") + script)
    with pytest.raises(RemoteProtocolError, match="the guest's shell did not"):
        here.put(MUCH, here.files / "file")
    assert here.machine.count("guest-file-open") == 0


@pytest.mark.parametrize("target", ["/file", "//file", "/a/b\\nc/file"])
def test_a_directory_beside_a_file_is_one_at_any_path(
    guest: Made, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = guest()
    directory = target.rpartition("/")[0]
    script = f'printf "{directory}/.qga-$beside\\0{target}\\0"'
    monkeypatch.setattr(scripts, "PUT", scripts.source("common.sh") + script)
    with pytest.raises(CommandFailedError):
        here.put(MUCH, here.files / "file")
    assert here.machine.count("guest-file-open") == 1


def test_a_source_can_be_read_again() -> None:
    source = source_of(io.BytesIO(b"abc"))
    assert (source.size, source.sha256[:8]) == (3, "ba7816bf")
    for _time in range(2):
        assert list(source.pieces(2)) == [b"ab", b"c"]
