from __future__ import annotations

import base64
import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandFailedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import errors
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.files import (
    FileTooLongError,
    GuestFile,
    read_file,
    read_whole,
)

from tests.fakes.this_machine import Fault, ThisMachine, lost, refused, returning

DATA = bytes(range(256)) * 5
PIECE = 100
LARGE = 64 * 1024  # a piece so large that the guest could return more than it does
FULL = refused("failed: No space left on device")


async def write_file(agent: GuestAgent, path: str, data: bytes, piece: int, deadline: Deadline = tasks.NEVER) -> None:
    async with GuestFile(agent, path, "wb", piece, deadline) as file:
        await file.write(data)


def write(machine: ThisMachine, path: Path, data: bytes = DATA) -> None:
    tasks.run(write_file(machine.agent(), str(path), data, PIECE))


def read_all(machine: ThisMachine, path: Path, limit: int = 1 << 20) -> bytes:
    return tasks.run(read_whole(machine.agent(), str(path), limit, PIECE))


def read_some(machine: ThisMachine, path: Path, most: int = 1 << 20) -> bytes:
    return tasks.run(read_file(machine.agent(), str(path), most, PIECE))


def reporting(**changed: Any) -> Fault:
    return returning(lambda value: {**value, **changed})


def endless(size: int) -> Fault:
    data = base64.b64encode(b"x" * size).decode()
    return returning(lambda _value: {"count": size, "buf-b64": data, "eof": False})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize(
    ("command", "fault", "action", "message"),
    [
        ("guest-file-write", reporting(count=0), write, "wrote only a part of"),
        ("guest-file-write", reporting(count=1), write, "only a few bytes at a time"),
        ("guest-file-seek", reporting(position=1 << 40), read_all, f"has {1 << 40} bytes"),
        ("guest-file-seek", reporting(position=9999), read_all, "became shorter"),
        ("guest-file-seek", reporting(position=101), read_all, "became longer"),
    ],
)
@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "a\nfatal: [db1]: all is well", "\u202egnp", "\x9b2J", "{{ 1 }}"])
def test_a_path_from_a_guest_is_escaped_in_errors(
    command: str, fault: Fault, action: Callable[[ThisMachine, Path], object], message: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(DATA)
    with pytest.raises(errors.FileTransferError, match=message) as caught:
        action(ThisMachine({(command, None): fault}), path)
    assert visible(str(path)) in caught.value.message
    assert caught.value.message.isprintable()
    assert "{{" not in caught.value.message


NONSENSE: list[tuple[Callable[[ThisMachine, Path], object], str, int, Fault]] = [
    *((write, "guest-file-write", 0, reporting(count=count)) for count in (-1, PIECE + 1, True, "100", None, 1.5)),
    *((read_all, "guest-file-seek", 0, reporting(position=position)) for position in (-1, None, "7", True, 2**64)),
    *(
        (read_some, "guest-file-read", 1, reporting(count=count))
        for count in (-1, PIECE + 1, PIECE - 1, 0, False, None)
    ),
    *((read_all, "guest-file-read", 0, reporting(eof=eof)) for eof in (0, 1, "false", [], {})),
    *(
        (read_some, "guest-file-read", 0, returning(lambda _value, value=value: value))
        for value in (None, [], "data", {"count": 4}, {"count": 4, "buf-b64": "?"})
    ),
    *(
        (read_some, "guest-file-open", 0, returning(lambda _value, handle=handle: handle))
        for handle in (None, "1000", True, 1.5)
    ),
]


@pytest.mark.parametrize(("action", "command", "number", "fault"), NONSENSE)
def test_invalid_replies_are_rejected(
    path: Path, action: Callable[[ThisMachine, Path], object], command: str, number: int, fault: Fault
) -> None:
    machine = ThisMachine({(command, number): fault})
    with pytest.raises(RemoteProtocolError):
        action(machine, path)
    assert machine.open_files == (command == "guest-file-open")  # a file without a handle cannot be closed


class TestWriting:
    @pytest.mark.parametrize(("data", "pieces"), [(b"", 0), (DATA[:PIECE], 1), (DATA, 13)])
    def test_is_done_in_pieces(self, tmp_path: Path, data: bytes, pieces: int) -> None:
        machine = ThisMachine()
        write(machine, tmp_path / "new", data)
        assert (tmp_path / "new").read_bytes() == data
        assert (machine.count("guest-file-write"), machine.open_files) == (pieces, 0)

    def test_continues_after_a_partial_write(self, path: Path) -> None:
        machine = ThisMachine({("guest-file-write", 1): reporting(count=PIECE // 2)})
        write(machine, path)
        # The fake had written all of it, so the second half is in the file twice.
        assert path.read_bytes() == DATA[:200] + DATA[150:]

    @pytest.mark.parametrize(
        ("faults", "error", "message"),
        [
            ({("guest-file-open", 0): FULL}, CommandFailedError, "No space left"),
            ({("guest-file-write", 1): reporting(count=0)}, errors.FileTransferError, "only a part"),
            ({("guest-file-write", 2): FULL}, CommandFailedError, "No space left"),
            ({("guest-file-close", 0): FULL}, CommandFailedError, "No space left"),
            (
                {("guest-file-write", 0): FULL, ("guest-file-close", 0): refused("second")},
                CommandFailedError,
                "No space",
            ),
        ],
        ids=["open", "nothing written", "second write", "close", "two errors"],
    )
    def test_fails_with_the_first_error(
        self, path: Path, faults: dict[tuple[str, int | None], Fault], error: type[QgaError], message: str
    ) -> None:
        machine = ThisMachine(faults)
        with pytest.raises(error, match=message):
            write(machine, path)
        assert machine.count("guest-file-close") == (("guest-file-open", 0) not in faults)


class TestReading:
    def test_stops_at_once_if_the_file_is_too_long(self, path: Path) -> None:
        machine = ThisMachine()
        with pytest.raises(FileTooLongError):
            read_all(machine, path, len(DATA) - 1)
        assert machine.count("guest-file-read") == 1
        assert read_all(machine, path, len(DATA)) == DATA

    @pytest.mark.parametrize("most", [1, PIECE, PIECE + 1, len(DATA)])
    def test_stops_at_the_requested_size(self, path: Path, most: int) -> None:
        machine = ThisMachine()
        assert read_some(machine, path, most) == DATA[:most]
        assert machine.count("guest-file-read") == -(-most // PIECE)


# How agents report the end of a file, as changes of the stock agent's reply.
ENDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "like fread": lambda value: value,
    "by an empty piece": lambda value: {**value, "eof": False},
    "by an empty piece, without eof": lambda value: {name: value[name] for name in ("count", "buf-b64")},
    "by an empty piece, with a null": lambda value: {**value, "eof": None},
    "with an empty piece only": lambda value: {**value, "eof": value["count"] == 0},
}


@pytest.mark.parametrize("most", [1, 7, PIECE // 2, PIECE - 1, PIECE])
@pytest.mark.parametrize("size", [0, 1, PIECE, 3 * PIECE, 3 * PIECE + 7])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_an_agent_may_return_less_than_requested(
    path: Path, most: int, size: int, end: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    data = DATA[: min(size, 200 * most)]
    path.write_bytes(data)
    machine = ThisMachine({("guest-file-read", None): returning(end)})
    machine.most_read = most
    assert read_all(machine, path) == data
    assert read_some(machine, path, 2 * PIECE + 3) == data[: 2 * PIECE + 3]


class TestAnEndlessGuest:
    def machine(self, piece: int, size: int = 10_000_000) -> ThisMachine:
        return ThisMachine(
            {("guest-file-read", None): endless(piece), ("guest-file-seek", None): reporting(position=size)}
        )

    @pytest.mark.parametrize("piece", [1, 2, 100, 255])
    @pytest.mark.parametrize("read", [read_whole, read_file])
    def test_fails_if_it_returns_a_few_bytes_at_a_time(self, path: Path, read: Any, piece: int) -> None:
        machine = self.machine(piece)
        with pytest.raises(errors.FileTransferError, match="a few bytes at a time"):
            tasks.run(read(machine.agent(), str(path), 10_000_000, LARGE))
        assert machine.count("guest-file-read") < 300
        assert machine.open_files == 0

    @pytest.mark.parametrize("taken", [1, 2, 255])
    def test_an_agent_that_writes_a_few_bytes_at_a_time_is_an_error(self, path: Path, taken: int) -> None:
        machine = ThisMachine({("guest-file-write", None): reporting(count=taken)})
        with pytest.raises(errors.FileTransferError, match="a few bytes at a time"):
            tasks.run(write_file(machine.agent(), str(path), b"x" * 200_000, LARGE))
        assert machine.count("guest-file-write") < 300
        assert machine.open_files == 0

    @pytest.mark.parametrize(("piece", "small", "size"), [(256, 0, 256_000), (4096, 0, 409_600), (300, 200, 90_100)])
    def test_may_return_small_pieces_and_sometimes_a_few_bytes(
        self, path: Path, piece: int, small: int, size: int
    ) -> None:
        machine = self.machine(piece)
        machine.faults.update({("guest-file-read", 4 * number): endless(1) for number in range(small)})
        assert tasks.run(read_file(machine.agent(), str(path), size, LARGE)) == b"x" * size

    @pytest.mark.parametrize("size", [0, 100, 5000])
    def test_is_not_read_beyond_its_reported_size(self, path: Path, size: int) -> None:
        machine = self.machine(1000, size)
        with pytest.raises((errors.FileTransferError, RemoteProtocolError)):
            tasks.run(read_whole(machine.agent(), str(path), 1 << 20, LARGE))
        assert machine.count("guest-file-read") <= 1 + size / 1000 + 1


def test_reading_uses_memory_for_the_file_and_not_for_its_pieces(path: Path) -> None:
    path.write_bytes(b"x" * 50_000)
    machine = ThisMachine()
    machine.requests = deque(maxlen=0)  # type: ignore[assignment]  # the fake must not keep requests
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        assert len(tasks.run(read_whole(machine.agent(), str(path), 1 << 20, 2))) == 50_000
        assert tracemalloc.get_traced_memory()[1] - before < 5 * 50_000 + 100_000
    finally:
        tracemalloc.stop()


class TestTheDeadlineOfAFile:
    def test_that_has_passed_sends_no_request(self, tmp_path: Path) -> None:
        machine, path = ThisMachine(), f"{tmp_path}/\x1b[2J"
        with pytest.raises(errors.TransferTimeoutError) as caught:
            tasks.run(read_file(machine.agent(), path, 1, PIECE, Deadline(0.0)))
        assert visible(path) in caught.value.message
        assert machine.requests == []

    def test_limits_each_exchange(self, path: Path) -> None:
        machine = ThisMachine()
        tasks.run(read_whole(machine.agent(), str(path), 1 << 20, PIECE, Deadline(2.0)))
        assert max(machine.timeouts) <= 2.0

    def test_during_an_exchange_is_reported_as_a_timeout(self, path: Path) -> None:
        late: Fault = lambda perform: (time.sleep(0.2), lost(perform))[1]  # noqa: E731
        machine = ThisMachine({("guest-file-read", 2): late})
        with pytest.raises(errors.TransferTimeoutError):
            tasks.run(read_file(machine.agent(), str(path), 1 << 20, PIECE, Deadline(0.1)))
        assert machine.open_files == 0
