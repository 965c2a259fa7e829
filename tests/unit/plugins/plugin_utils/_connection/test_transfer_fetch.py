from __future__ import annotations

import base64
import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    CommandTimeoutError,
    FileMissingError,
    FileTransferError,
)

from tests.fakes.this_machine import LIMITS, returning
from tests.support.guest_files import MUCH, NAMES, SIZES, SMALL_AND_LARGE, Made, slowly
from tests.support.until import until


class TestFetching:
    @pytest.mark.parametrize("size", SIZES)
    def test_files_of_any_size(self, guest: Made, size: int) -> None:
        here, data = guest(), os.urandom(size)
        (here.files / "file").write_bytes(data)
        assert here.fetch(here.files / "file") == data
        assert here.machine.open_files == 0

    @SMALL_AND_LARGE
    @pytest.mark.parametrize("name", NAMES)
    def test_files_of_any_name(self, guest: Made, name: str, size: int) -> None:
        here = guest()
        (here.files / name).write_bytes(b"x" * size)
        assert here.fetch(here.files / name) == b"x" * size

    def test_a_file_without_a_size(self, guest: Made) -> None:
        assert guest().fetch("/proc/version") == Path("/proc/version").read_bytes()

    @pytest.mark.parametrize(
        ("path", "error", "message"),
        [
            ("/dev/zero", FileTransferError, "/dev/zero is not a regular file"),
            ("/dev/null", FileTransferError, "/dev/null is not a regular file"),
            ("fifo", FileTransferError, "is not a regular file"),
            ("socket", FileTransferError, "is not a regular file"),
            ("none", FileMissingError, r"no file .*none"),
            (".", FileTransferError, "is a directory"),
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
        with pytest.raises(FileTransferError, match="changed while it was read"):
            here.fetch(path)
        assert here.machine.open_files == 0


class TestAFetchThatTakesTooLong:
    def test_is_ended_with_all_that_the_script_began(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        # As a file on a server that does not answer.
        monkeypatch.setattr(scripts, "FETCH", "sleep 1000 | sh -c 'sleep 1000; true'; true")
        here = guest()
        here.limit(exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError, match="was ended"):
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
        with pytest.raises(CommandTimeoutError, match="within 1 s"):
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
        with pytest.raises(FileTransferError, match=f"{size + 1} bytes came of {size}"):
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
        with pytest.raises(FileTransferError, match=f"{sent} bytes came of {size}"):
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
        with pytest.raises(FileTransferError, match="max_fetch allows") as caught:
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
        with pytest.raises(FileTransferError, match=f"{3 * LIMITS.reply} bytes came of {len(MUCH)}"):
            here.fetch(here.files / "file")


@pytest.mark.parametrize("head", ["", "7", "-1 %s /x", "7 abc /x", "7 %s x", "x %s /x", "9" * 40 + " %s /x"])
def test_what_a_guest_says_of_a_file_is_not_just_believed(
    guest: Made, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = head.replace("%s", "0" * 64)
    monkeypatch.setattr(scripts, "FETCH", f"printf '%s\\0' '{said}'")
    with pytest.raises(RemoteProtocolError):
        guest().fetch("/x")
