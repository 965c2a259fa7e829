from __future__ import annotations

import contextlib
import io
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandFailedError, ExchangeTimeoutError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import FileTransferError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.transfer import source_of

from tests.fakes.this_machine import Fault, lost, refused
from tests.support.guest_files import MUCH, NAMES, NOBODY, PACKED, SIZES, SMALL_AND_LARGE, Made, needs_root
from tests.support.until import until


def _make_all_kinds(files: Path) -> None:
    (files / "directory").mkdir()
    os.mkfifo(files / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(files / "socket"))
    for link, target in (("astray", "none/file"), ("loop", "loop"), ("one", "other"), ("other", "one")):
        (files / link).symlink_to(target)


NOT_WRITTEN_TO = [
    ("directory", "is a directory"),
    ("none/file", r"no directory for .*none/file"),
    ("astray", r"no directory for .*astray"),
    ("loop", "loop leads through too many symbolic links"),
    ("one", "one leads through too many symbolic links"),
    ("fifo", "is not a regular file"),
    ("socket", "is not a regular file"),
]


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

    @SMALL_AND_LARGE
    @pytest.mark.parametrize("name", NAMES)
    def test_files_of_any_name(self, guest: Made, name: str, size: int) -> None:
        here = guest()
        here.put(b"x" * size, here.files / name)
        assert here.names() == [name]

    @SMALL_AND_LARGE
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

    @SMALL_AND_LARGE
    @pytest.mark.parametrize("target", ["file", "new", "../files/new", "{}/new", "second"])
    def test_through_a_link_leaves_the_link_and_makes_what_it_leads_to(
        self, guest: Made, size: int, target: str
    ) -> None:
        here = guest()
        (here.files / "file").write_text("old")
        (here.files / "link").symlink_to(target.format(here.files))
        (here.files / "second").symlink_to("new")
        here.put(b"x" * size, here.files / "link")
        assert here.names() == ["file", "link", *["new"] * (target != "file"), "second"]
        assert (here.files / "link").is_symlink()
        assert (here.files / "link").stat().st_size == size

    @SMALL_AND_LARGE
    @pytest.mark.parametrize(("name", "message"), NOT_WRITTEN_TO)
    def test_to_what_cannot_be_written_to_fails(self, guest: Made, size: int, name: str, message: str) -> None:
        here = guest()
        _make_all_kinds(here.files)
        before = here.names(), sorted(os.listdir("/"))
        with pytest.raises(FileTransferError, match=message):
            here.put(b"x" * size, here.files / name)
        assert (here.names(), sorted(os.listdir("/"))) == before

    @needs_root
    @SMALL_AND_LARGE
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
                try:
                    path.rename(here.files.parent / f"moved-{path.name}")
                except FileNotFoundError:  # the script was quicker
                    continue
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
