from __future__ import annotations

import base64
import contextlib
import io
import os
import socket
import stat
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandFailedError, ExchangeTimeoutError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import errors, scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Timings

from tests.fakes.this_machine import LIMITS, Fault, lost, refused, returning
from tests.support.guest_shell import (
    MUCH,
    NAMES,
    NOBODY,
    PACKED,
    SIZES,
    SMALL_AND_LARGE,
    FileGuest,
    Made,
    needs_root,
    slowly,
)
from tests.support.until import until

FULL = refused("failed: No space left on device")


def caused_by(here: FileGuest, *commands: str, does: Callable[[], object]) -> None:
    """Have something happen in the guest after each request of these kinds was carried out."""
    for command in commands:
        here.machine.faults[(command, None)] = lambda perform: (perform(), does())[0]


class TestPutting:
    @pytest.mark.parametrize(
        ("name", "size"), [*(("file", size) for size in SIZES), *product(NAMES, (1, 100_000))], ids=ascii
    )
    def test_files_of_any_size_and_name_and_fetching_them(self, guest: Made, name: str, size: int) -> None:
        here, data = guest(), os.urandom(size)
        here.put(data, here.files / name)
        assert (here.files / name).read_bytes() == here.fetch(here.files / name) == data
        assert here.names() == [name]
        assert here.machine.open_files == 0

    @pytest.mark.parametrize("program", ["gzip", "nonesuch"])
    def test_what_can_be_packed_is_if_it_can_be_unpacked(
        self, guest: Made, program: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace("command -v gzip", f"command -v {program}"))
        here = guest()
        here.put(PACKED, here.files / "file")
        assert (here.files / "file").read_bytes() == PACKED
        assert here.names() == ["file"]
        assert (here.machine.count("guest-file-write") == 1) == (program == "gzip")

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
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            *(("directory", "is a directory"), ("fifo", "is not a regular file"), ("socket", "is not a regular file")),
            *(("none/file", r"no directory for .*none/file"), ("astray", r"no directory for .*astray")),
            *((name, f"{name} leads through too many symbolic links") for name in ("loop", "one")),
        ],
    )
    def test_to_what_cannot_be_written_to_fails(self, guest: Made, size: int, name: str, message: str) -> None:
        here = guest()
        (here.files / "directory").mkdir()
        os.mkfifo(here.files / "fifo")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(here.files / "socket"))
        for link, target in (("astray", "none/file"), ("loop", "loop"), ("one", "other"), ("other", "one")):
            (here.files / link).symlink_to(target)
        before = here.names(), sorted(os.listdir("/"))
        with pytest.raises(errors.FileTransferError, match=message):
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
        exchanged = {"file"}

        def exchange() -> None:
            for path in [] if mode & stat.S_ISVTX else list(here.files.iterdir()):
                if path.name in exchanged:
                    continue
                exchanged.add(path.name)
                is_directory = path.is_dir()
                with contextlib.suppress(FileNotFoundError):  # the script was quicker
                    path.rename(here.files.parent / f"moved-{path.name}")
                    if not is_directory:
                        path.symlink_to(precious)
                        continue
                    # It cannot be looked into: its own name is all that there is to guess by.
                    path.mkdir()
                    os.chown(path, NOBODY, NOBODY)
                    for name in sorted({path.name, path.stem, f"{path.name}.z", f"{path.stem}.z"}):
                        (path / name).symlink_to(precious)

        commands = ("guest-exec-status", "guest-file-open", "guest-file-write", "guest-file-close")
        caused_by(here, *commands, does=exchange)
        with contextlib.suppress(errors.FileTransferError, CommandFailedError):
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

    def test_to_a_device_writes_to_it(self, guest: Made) -> None:
        guest().put(b"gone", "/dev/null")
        assert not Path("/dev/null").is_file()

    def test_that_is_damaged_on_the_way_leaves_the_old_file(self, guest: Made) -> None:
        here = guest()
        (here.files / "file").write_text("old")

        def damage() -> None:
            (temporary,) = here.files.glob("*/.qga-*")
            temporary.write_bytes(b"y" * len(MUCH))

        caused_by(here, "guest-file-close", does=damage)
        with pytest.raises(errors.FileTransferError, match="its checksum in the guest is another"):
            here.put(MUCH, here.files / "file")
        assert (here.files / "file").read_text() == "old"
        assert here.names() == ["file"]

    @pytest.mark.parametrize("fault", [FULL, lost])
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
    ("said", "is_believed"),
    [
        *((f"{place}/.qga-$beside\\0{place}/file\\0", True) for place in ("", "/", "/a/b\\nc")),
        *(("/etc\\0/a/file\\0", False), ("/a\\0/a/file\\0", False), ("/.qga-$beside\\0/a/file\\0", False)),
        *(("/a/.qga-0123456789abcdef\\0/a/file\\0", False), ("/a/.qga-$beside/..\\0/a/file\\0", False)),
        *((".qga-$beside\\0file\\0", False), ("/.qga-$beside\\0file\\0", False)),
        *(("/a/.qga-$beside\\0/a/file\\0gunzip", False), ("/a/.qga-$beside\\0/a/file", False)),
        *(("\\0\\0", False), ("", False)),
    ],
)
def test_a_file_is_written_only_to_a_directory_beside_it(
    guest: Made, said: str, is_believed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = guest()
    monkeypatch.setattr(scripts, "PUT", f'{scripts.source("common.sh")}printf "{said}"')
    with pytest.raises(CommandFailedError if is_believed else RemoteProtocolError):
        here.put(MUCH, here.files / "file")
    assert here.machine.count("guest-file-open") == is_believed


@pytest.mark.slow
class TestTheTimeForAFile:
    def test_is_for_all_that_is_written(self, guest: Made) -> None:
        little = returning(lambda value: {**value, "count": min(value["count"], 300)})
        here = guest({("guest-file-write", None): lambda perform: little(lambda: slowly(perform))})
        here.limit(exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError, match="within 1 s"):
            here.put(MUCH, here.files / "file")
        assert here.machine.count("guest-file-write") <= 1.0 / 0.05 + 1
        assert here.names() == []

    def test_is_not_begun_anew_to_take_back_what_was_put(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace("give_up)", "give_up)\nexec sleep 1000"))
        here = guest({("guest-file-write", 1): FULL}, timings=Timings(give_up=0.5))
        with pytest.raises(CommandFailedError, match="No space left"):
            here.put(MUCH, here.files / "file")


class TestFetching:
    def test_a_file_without_a_size(self, guest: Made) -> None:
        assert guest().fetch("/proc/version") == Path("/proc/version").read_bytes()

    @pytest.mark.parametrize(
        ("path", "error", "message"),
        [
            *((path, errors.FileTransferError, f"{path} is not a regular file") for path in ("/dev/zero", "/dev/null")),
            *((name, errors.FileTransferError, "is not a regular file") for name in ("fifo", "socket")),
            *(("none", errors.FileMissingError, r"no file .*none"), (".", errors.FileTransferError, "is a directory")),
        ],
    )
    def test_what_is_no_file_fails(self, guest: Made, path: str, error: type[Exception], message: str) -> None:
        here = guest()
        os.mkfifo(here.files / "fifo")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(here.files / "socket"))
        with pytest.raises(error, match=message):
            here.fetch(here.files / path)

    @pytest.mark.parametrize("change", [b"", b"y" * len(MUCH), b"x" * 100_001])
    def test_what_changes_meanwhile_fails(self, guest: Made, change: bytes) -> None:
        here = guest()
        path = here.files / "file"
        path.write_bytes(MUCH)
        here.machine.faults[("guest-file-open", 0)] = lambda perform: (path.write_bytes(change), perform())[1]
        with pytest.raises(errors.FileTransferError, match="changed while it was read"):
            here.fetch(path)
        assert here.machine.open_files == 0


class TestAFetchThatTakesTooLong:
    def test_is_ended_with_all_that_the_script_began(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        # As a file on a server that does not answer.
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000 | sh -c 'sleep 1000; true'; true")
        here = guest()
        here.limit(exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError, match="was ended"):
            here.fetch("/x")
        assert here.machine.known_processes == 0
        until(lambda: not here.machine.groups(), "what the script began lives on")

    def test_is_ended_where_it_is_given_up(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000; true")

        def give_up(_perform: Callable[[], Reply]) -> Reply:
            raise KeyboardInterrupt

        here = guest({("guest-exec-status", 0): give_up})
        with pytest.raises(KeyboardInterrupt):
            here.fetch("/x")
        until(lambda: not here.machine.groups(), "what the script began lives on")

    @pytest.mark.slow
    def test_is_ended_while_it_is_read(self, guest: Made) -> None:
        here = guest({("guest-file-read", None): slowly})
        (here.files / "file").write_bytes(MUCH)
        here.machine.most_read = 300
        here.limit(exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError, match="within 1 s"):
            here.fetch(here.files / "file")
        assert here.machine.count("guest-file-read") <= 1.0 / 0.05 + 1
        assert here.machine.open_files == 0


class TestAGuestThatComesToNoEnd:
    @pytest.mark.parametrize("size", [LIMITS.reply, 100_000])
    def test_has_no_more_fetched_than_it_said(self, guest: Made, size: int) -> None:
        here, target = guest(), io.BytesIO()
        (here.files / "file").write_bytes(b"x" * size)

        def as_asked(_perform: Callable[[], Reply]) -> Reply:
            count = here.machine.requests[-1][1]["count"]
            return Returned({"count": count, "buf-b64": base64.b64encode(b"x" * count).decode(), "eof": False})

        here.machine.faults[("guest-file-read", None)] = as_asked
        with pytest.raises(errors.FileTransferError, match=f"{size + 1} bytes came of {size}"):
            here.fetch(here.files / "file", target)
        assert len(target.getvalue()) == size + 1

    @pytest.mark.parametrize("size", [0, 1, 1000])
    @pytest.mark.parametrize("is_hashed", [True, False])
    def test_has_nothing_written_that_was_not_said(
        self, guest: Made, size: int, is_hashed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sha256, sent = ("0" * 64, size + 1) if is_hashed else ("", LIMITS.reply + 1)
        monkeypatch.setattr(scripts, "FETCH", f"printf '{size} {sha256} /x\\0'; head -c {sent} /dev/zero")
        target = io.BytesIO()
        with pytest.raises(errors.FileTransferError, match=f"{sent} bytes came of {size}"):
            guest().fetch("/x", target)
        assert target.getvalue() == b""

    @pytest.mark.parametrize("more", [0, 1, 10**17])
    def test_has_nothing_fetched_above_the_limit(self, guest: Made, more: int, monkeypatch: pytest.MonkeyPatch) -> None:
        here = guest()
        (here.files / "file").write_bytes(MUCH)
        here.limit(fetch=len(MUCH))
        if not more:
            assert here.fetch(here.files / "file") == MUCH
            return
        monkeypatch.setattr(scripts, "FETCH", f"printf '{len(MUCH) + more}  /x\\0'")
        with pytest.raises(errors.FileTransferError, match="max_fetch allows") as caught:
            here.fetch("/x")
        assert "Raise max_fetch" in caught.value.hint
        assert here.machine.count("guest-file-open") == 0

    def test_ends_without_a_byte_and_without_a_sum_is_not_whole(
        self, guest: Made, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = guest()
        (here.files / "file").write_bytes(MUCH)
        monkeypatch.setattr(scripts, "FETCH", f"printf '%s %s %s\\0' {len(MUCH)} '' {here.files}/file")
        nothing = returning(lambda _value: {"count": 0, "buf-b64": "", "eof": False})
        here.machine.faults[("guest-file-read", 3)] = nothing
        with pytest.raises(errors.FileTransferError, match=f"{3 * LIMITS.reply} bytes came of {len(MUCH)}"):
            here.fetch(here.files / "file")


@pytest.mark.parametrize("head", ["", "7", "-1 %s /x", "7 abc /x", "7 %s x", "x %s /x", "9" * 40 + " %s /x"])
def test_what_a_guest_says_of_a_file_is_not_just_believed(
    guest: Made, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = head.replace("%s", "0" * 64)
    monkeypatch.setattr(scripts, "FETCH", f"printf '%s\\0' '{said}'")
    with pytest.raises(RemoteProtocolError):
        guest().fetch("/x")
