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
    """Do something in the guest after each request of these kinds."""
    for command in commands:
        here.machine.faults[(command, None)] = lambda perform: (perform(), does())[0]


class TestPutting:
    @pytest.mark.parametrize(
        ("name", "size"), [*(("file", size) for size in SIZES), *product(NAMES, (1, 100_000))], ids=ascii
    )
    def test_and_fetching_keep_files_of_any_size_and_name(self, guest: Made, name: str, size: int) -> None:
        here, data = guest(), os.urandom(size)
        here.put(data, here.files / name)
        assert (here.files / name).read_bytes() == here.fetch(here.files / name) == data
        assert here.names() == [name]
        assert here.machine.open_files == 0

    @pytest.mark.parametrize("program", ["gzip", "nonesuch"])
    def test_compresses_files_if_the_guest_can_decompress_them(
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
    def test_through_a_link_keeps_the_link_and_writes_its_target(self, guest: Made, size: int, target: str) -> None:
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
            *((name, f"the directory of '.*{name}' does not exist") for name in ("none/file", "astray")),
            *((name, f"too many symbolic links at '.*{name}'") for name in ("loop", "one")),
        ],
    )
    def test_to_an_unusable_path_fails(self, guest: Made, size: int, name: str, message: str) -> None:
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
    def test_gives_no_file_to_a_user_who_replaces_it(self, guest: Made, size: int, owner: int, mode: int) -> None:
        """The other user replaces each new file by a link to a file of root's."""
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
                with contextlib.suppress(FileNotFoundError):  # the script was faster
                    path.rename(here.files.parent / f"moved-{path.name}")
                    if not is_directory:
                        path.symlink_to(precious)
                        continue
                    # The directory is private, so an attacker knows only its name.
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
    def test_a_file_that_another_user_planted_in_the_directory_is_not_used(
        self, guest: Made, monkeypatch: pytest.MonkeyPatch, is_link: bool
    ) -> None:
        """The directory is like /tmp, and the file is planted when the first name in it becomes visible."""
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

    def test_that_is_damaged_in_transfer_keeps_the_old_file(self, guest: Made) -> None:
        here = guest()
        (here.files / "file").write_text("old")

        def damage() -> None:
            (temporary,) = here.files.glob("*/.qga-*")
            temporary.write_bytes(b"y" * len(MUCH))

        caused_by(here, "guest-file-close", does=damage)
        with pytest.raises(errors.FileTransferError, match="checksum mismatch after copying"):
            here.put(MUCH, here.files / "file")
        assert (here.files / "file").read_text() == "old"
        assert here.names() == ["file"]

    @pytest.mark.parametrize("fault", [FULL, lost])
    def test_that_fails_during_writing_leaves_nothing(self, guest: Made, fault: Fault) -> None:
        here = guest({("guest-file-write", 3): fault})
        with pytest.raises((CommandFailedError, ExchangeTimeoutError)):
            here.put(MUCH, here.files / "file")
        assert here.names() == []
        assert here.machine.open_files == 0

    @pytest.mark.parametrize("command", ["guest-exec", "guest-exec-status"])
    @pytest.mark.parametrize("mode", [0o755, 0o777])
    def test_that_fails_at_the_start_leaves_nothing(self, guest: Made, command: str, mode: int) -> None:
        def begun(perform: Callable[[], Reply]) -> Reply:
            with contextlib.suppress(ExchangeTimeoutError):
                lost(perform)
            until(here.machine.is_idle, "it did not start")
            raise ExchangeTimeoutError("the agent did not answer in time")

        here = guest({(command, 0): begun})
        here.files.chmod(mode)
        with pytest.raises(ExchangeTimeoutError):
            here.put(MUCH, here.files / "file")
        assert here.names() == []


@pytest.mark.parametrize(
    ("reported", "is_accepted"),
    [
        *((f"{place}/.qga-$suffix\\0{place}/file\\0", True) for place in ("", "/", "/a/b\\nc")),
        *(("/etc\\0/a/file\\0", False), ("/a\\0/a/file\\0", False), ("/.qga-$suffix\\0/a/file\\0", False)),
        *(("/a/.qga-0123456789abcdef\\0/a/file\\0", False), ("/a/.qga-$suffix/..\\0/a/file\\0", False)),
        *((".qga-$suffix\\0file\\0", False), ("/.qga-$suffix\\0file\\0", False)),
        *(("/a/.qga-$suffix\\0/a/file\\0gunzip", False), ("/a/.qga-$suffix\\0/a/file", False)),
        *(("\\0\\0", False), ("", False)),
    ],
)
def test_a_file_is_written_only_to_a_directory_next_to_it(
    guest: Made, reported: str, is_accepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = guest()
    monkeypatch.setattr(scripts, "PUT", f'{scripts.source("common.sh")}printf "{reported}"')
    with pytest.raises(CommandFailedError if is_accepted else RemoteProtocolError):
        here.put(MUCH, here.files / "file")
    assert here.machine.count("guest-file-open") == is_accepted


@pytest.mark.slow
class TestTheTimeoutOfAFile:
    def test_covers_all_writes(self, guest: Made) -> None:
        little = returning(lambda value: {**value, "count": min(value["count"], 300)})
        here = guest({("guest-file-write", None): lambda perform: little(lambda: slowly(perform))})
        here.limit(exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError, match="after 1 s"):
            here.put(MUCH, here.files / "file")
        assert here.machine.count("guest-file-write") <= 1.0 / 0.05 + 1
        assert here.names() == []

    def test_is_not_restarted_to_remove_the_file(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
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
            *(
                (path, errors.FileTransferError, f"'{path}' is not a regular file")
                for path in ("/dev/zero", "/dev/null")
            ),
            *((name, errors.FileTransferError, "is not a regular file") for name in ("fifo", "socket")),
            *(("none", errors.FileMissingError, r"no file .*none"), (".", errors.FileTransferError, "is a directory")),
        ],
    )
    def test_anything_but_a_regular_file_fails(
        self, guest: Made, path: str, error: type[Exception], message: str
    ) -> None:
        here = guest()
        os.mkfifo(here.files / "fifo")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(here.files / "socket"))
        with pytest.raises(error, match=message):
            here.fetch(here.files / path)

    @pytest.mark.parametrize("change", [b"", b"y" * len(MUCH), b"x" * 100_001])
    def test_a_file_that_changes_fails(self, guest: Made, change: bytes) -> None:
        here = guest()
        path = here.files / "file"
        path.write_bytes(MUCH)
        here.machine.faults[("guest-file-open", 0)] = lambda perform: (path.write_bytes(change), perform())[1]
        with pytest.raises(errors.FileTransferError, match="changed while it was read"):
            here.fetch(path)
        assert here.machine.open_files == 0


class TestAFetchThatTimesOut:
    def test_kills_all_processes_that_the_script_started(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        # Like a file on a server that does not respond.
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000 | sh -c 'sleep 1000; true'; true")
        here = guest()
        here.limit(exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError, match="was killed"):
            here.fetch("/x")
        assert here.machine.known_processes == 0
        until(lambda: not here.machine.groups(), "what the script began lives on")

    def test_kills_the_script_when_it_is_interrupted(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000; true")

        def give_up(_perform: Callable[[], Reply]) -> Reply:
            raise KeyboardInterrupt

        here = guest({("guest-exec-status", 0): give_up})
        with pytest.raises(KeyboardInterrupt):
            here.fetch("/x")
        until(lambda: not here.machine.groups(), "what the script began lives on")

    @pytest.mark.slow
    def test_stops_reading(self, guest: Made) -> None:
        here = guest({("guest-file-read", None): slowly})
        (here.files / "file").write_bytes(MUCH)
        here.machine.most_read = 300
        here.limit(exec_timeout=1.0)
        with pytest.raises(errors.CommandTimeoutError, match="after 1 s"):
            here.fetch(here.files / "file")
        assert here.machine.count("guest-file-read") <= 1.0 / 0.05 + 1
        assert here.machine.open_files == 0


class TestAnEndlessGuest:
    @pytest.mark.parametrize("size", [LIMITS.reply, 100_000])
    def test_is_not_read_beyond_its_reported_size(self, guest: Made, size: int) -> None:
        here, target = guest(), io.BytesIO()
        (here.files / "file").write_bytes(b"x" * size)

        def as_asked(_perform: Callable[[], Reply]) -> Reply:
            count = here.machine.requests[-1][1]["count"]
            return Returned({"count": count, "buf-b64": base64.b64encode(b"x" * count).decode(), "eof": False})

        here.machine.faults[("guest-file-read", None)] = as_asked
        with pytest.raises(errors.FileTransferError, match=f"{size + 1} of {size} bytes"):
            here.fetch(here.files / "file", target)
        assert len(target.getvalue()) == size + 1

    @pytest.mark.parametrize("size", [0, 1, 1000])
    @pytest.mark.parametrize("is_hashed", [True, False])
    def test_causes_no_writes_beyond_the_reported_size(
        self, guest: Made, size: int, is_hashed: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sha256, sent = ("0" * 64, size + 1) if is_hashed else ("", LIMITS.reply + 1)
        monkeypatch.setattr(scripts, "FETCH", f"printf '{size} {sha256} /x\\0'; head -c {sent} /dev/zero")
        target = io.BytesIO()
        with pytest.raises(errors.FileTransferError, match=f"{sent} of {size} bytes"):
            guest().fetch("/x", target)
        assert target.getvalue() == b""

    @pytest.mark.parametrize("more", [0, 1, 10**17])
    def test_is_not_read_above_the_limit(self, guest: Made, more: int, monkeypatch: pytest.MonkeyPatch) -> None:
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

    def test_that_ends_early_without_a_checksum_is_an_error(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        here = guest()
        (here.files / "file").write_bytes(MUCH)
        monkeypatch.setattr(scripts, "FETCH", f"printf '%s %s %s\\0' {len(MUCH)} '' {here.files}/file")
        nothing = returning(lambda _value: {"count": 0, "buf-b64": "", "eof": False})
        here.machine.faults[("guest-file-read", 3)] = nothing
        with pytest.raises(errors.FileTransferError, match=f"{3 * LIMITS.reply} of {len(MUCH)} bytes"):
            here.fetch(here.files / "file")


@pytest.mark.parametrize("head", ["", "7", "-1 %s /x", "7 abc /x", "7 %s x", "x %s /x", "9" * 40 + " %s /x"])
def test_invalid_reports_on_a_file_are_rejected(guest: Made, head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = head.replace("%s", "0" * 64)
    monkeypatch.setattr(scripts, "FETCH", f"printf '%s\\0' '{reported}'")
    with pytest.raises(RemoteProtocolError):
        guest().fetch("/x")
