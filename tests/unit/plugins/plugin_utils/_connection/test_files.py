from __future__ import annotations

import base64
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandFailedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    FileTransferError,
    TransferTimeoutError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.files import (
    FileTooLongError,
    GuestFile,
    read_file,
    read_whole,
)

from tests.fakes.this_machine import Fault, ThisMachine, lost, refused, returning

DATA = bytes(range(256)) * 5
PIECE = 100


async def write_file(agent: GuestAgent, path: str, data: bytes, piece: int, deadline: Deadline = tasks.NEVER) -> None:
    async with GuestFile(agent, path, "wb", piece, deadline) as file:
        await file.write(data)


def writing(machine: ThisMachine, path: Path, data: bytes = DATA) -> None:
    tasks.run(write_file(machine.agent(), str(path), data, PIECE))


def whole(machine: ThisMachine, path: Path, limit: int = 1 << 20) -> bytes:
    return tasks.run(read_whole(machine.agent(), str(path), limit, PIECE))


def reading(machine: ThisMachine, path: Path, most: int = 1 << 20) -> bytes:
    return tasks.run(read_file(machine.agent(), str(path), most, PIECE))


def short(perform: Callable[[], Reply]) -> Reply:
    """The agent says that it wrote less than it was given."""
    return returning(lambda value: {**value, "count": value["count"] // 2})(perform)


def counting(count: Any) -> Fault:
    return returning(lambda value: {**value, "count": count})


class TestAPathThatAGuestHasChosen:
    """Its sentences are for a terminal."""

    @pytest.mark.parametrize(
        "name", ["\x1b]0;owned\x07", "a\nfatal: [db1]: all is well", "\u202egnp", "\x9b2J", "{{ 1 }}"]
    )
    @pytest.mark.parametrize(
        ("fault", "action"),
        [
            (("guest-file-write", counting(0)), writing),
            (("guest-file-write", returning(lambda value: {**value, "count": 1})), writing),
            (("guest-file-seek", returning(lambda value: {**value, "position": 1 << 40})), whole),
            (("guest-file-seek", returning(lambda value: {**value, "position": 9999})), whole),
            (("guest-file-seek", returning(lambda value: {**value, "position": 101})), whole),
        ],
        ids=["takes nothing", "takes a byte", "too long", "shorter", "longer"],
    )
    def test_is_shown_as_text(
        self, fault: tuple[str, Fault], action: Callable[[ThisMachine, Path], object], name: str, tmp_path: Path
    ) -> None:
        path = tmp_path / name
        path.write_bytes(DATA)
        with pytest.raises(FileTransferError) as caught:
            action(ThisMachine({(fault[0], None): fault[1]}), path)
        assert visible(str(path)) in caught.value.message
        assert caught.value.message.isprintable()
        assert "{{" not in caught.value.message

    def test_is_shown_as_text_where_it_came_too_late(self, tmp_path: Path) -> None:
        path = f"{tmp_path}/\x1b[2J"
        with pytest.raises(TransferTimeoutError) as caught:
            tasks.run(read_file(ThisMachine().agent(), path, 1, PIECE, Deadline(0.0)))
        assert visible(path) in caught.value.message


class TestWriting:
    def test_is_done_in_pieces(self, tmp_path: Path) -> None:
        machine = ThisMachine()
        writing(machine, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == DATA
        assert machine.count("guest-file-write") == len(DATA) / PIECE + 0.2
        assert machine.open_files == 0

    def test_nothing_makes_an_empty_file(self, tmp_path: Path) -> None:
        machine = ThisMachine()
        writing(machine, tmp_path / "file", b"")
        assert (tmp_path / "file").read_bytes() == b""
        assert machine.count("guest-file-write") == 0

    def test_goes_on_behind_what_was_taken(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-file-write", 1): short})
        writing(machine, tmp_path / "file")
        sent = [arguments["buf-b64"] for name, arguments in machine.requests if name == "guest-file-write"]
        # The fake had taken all of it, so the second half is there twice.
        assert (tmp_path / "file").read_bytes() == DATA[:200] + DATA[150:]
        assert len(sent) == 14

    def test_fails_when_nothing_is_taken(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-file-write", 1): counting(0)})
        with pytest.raises(FileTransferError):
            writing(machine, tmp_path / "file")
        assert machine.open_files == 0

    @pytest.mark.parametrize("count", [-1, PIECE + 1, True, "100", None, 1.5])
    def test_believes_no_nonsense(self, tmp_path: Path, count: Any) -> None:
        machine = ThisMachine({("guest-file-write", 0): counting(count)})
        with pytest.raises(RemoteProtocolError):
            writing(machine, tmp_path / "file")
        assert machine.open_files == 0

    def test_on_a_full_disk_fails_with_the_agents_reason(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-file-write", 2): refused("failed to write: No space left on device")})
        with pytest.raises(CommandFailedError, match="No space left"):
            writing(machine, tmp_path / "file")
        assert machine.open_files == 0

    def test_is_not_done_before_the_file_is_closed(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-file-close", 0): refused("failed to close handle: No space left on device")})
        with pytest.raises(CommandFailedError, match="No space left"):
            writing(machine, tmp_path / "file")

    def test_tells_of_the_first_error(self, tmp_path: Path) -> None:
        faults = {("guest-file-write", 0): refused("the first"), ("guest-file-close", 0): refused("the second")}
        with pytest.raises(CommandFailedError, match="the first"):
            writing(ThisMachine(faults), tmp_path / "file")

    def test_where_nothing_may_be_made_fails(self, tmp_path: Path) -> None:
        with pytest.raises(CommandFailedError, match="No such file"):
            writing(ThisMachine(), tmp_path / "none" / "file")


class TestReadingAllOfIt:
    @pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE])
    def test_takes_what_there_is(self, tmp_path: Path, size: int) -> None:
        (tmp_path / "file").write_bytes(DATA[:size])
        machine = ThisMachine()
        assert whole(machine, tmp_path / "file") == DATA[:size]
        assert machine.open_files == 0

    def test_takes_one_question_for_a_short_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"short")
        machine = ThisMachine()
        whole(machine, tmp_path / "file")
        assert [name for name, _arguments in machine.requests] == [
            "guest-file-open",
            "guest-file-read",
            "guest-file-close",
        ]

    def test_does_not_read_what_is_too_long(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(DATA)
        machine = ThisMachine()
        with pytest.raises(FileTooLongError):
            whole(machine, tmp_path / "file", len(DATA) - 1)
        assert machine.count("guest-file-read") == 1
        assert whole(machine, tmp_path / "file", len(DATA)) == DATA

    def test_of_a_file_that_becomes_shorter_fails(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(DATA)

        def cut(perform: Callable[[], Reply]) -> Reply:
            reply = perform()
            path.write_bytes(b"")
            return reply

        with pytest.raises(FileTransferError, match="became shorter"):
            whole(ThisMachine({("guest-file-seek", 1): cut}), path)

    @pytest.mark.parametrize("position", [-1, None, "7", True, 2**64])
    def test_believes_no_nonsense(self, tmp_path: Path, position: Any) -> None:
        (tmp_path / "file").write_bytes(DATA)
        fault = returning(lambda value: {**value, "position": position})
        with pytest.raises(RemoteProtocolError):
            whole(ThisMachine({("guest-file-seek", 0): fault}), tmp_path / "file")


class TestReading:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "file"
        path.write_bytes(DATA)
        return path

    def test_is_done_in_pieces(self, path: Path) -> None:
        machine = ThisMachine()
        assert reading(machine, path) == DATA
        assert machine.open_files == 0

    @pytest.mark.parametrize("most", [1, PIECE, PIECE + 1, len(DATA)])
    def test_ends_at_the_limit(self, path: Path, most: int) -> None:
        machine = ThisMachine()
        assert reading(machine, path, most) == DATA[:most]
        assert machine.count("guest-file-read") == -(-most // PIECE)

    def test_an_empty_file_gives_nothing(self, path: Path) -> None:
        path.write_bytes(b"")
        assert reading(ThisMachine(), path) == b""

    @pytest.mark.parametrize("count", [-1, PIECE + 1, PIECE - 1, 0, False, None])
    def test_believes_no_count_that_is_not_the_datas(self, path: Path, count: Any) -> None:
        machine = ThisMachine({("guest-file-read", 1): counting(count)})
        with pytest.raises(RemoteProtocolError):
            reading(machine, path)
        assert machine.open_files == 0

    @pytest.mark.parametrize("value", [None, [], "data", {"count": 4}, {"count": 4, "buf-b64": "?"}])
    def test_believes_no_other_shape(self, path: Path, value: Any) -> None:
        with pytest.raises(RemoteProtocolError):
            reading(ThisMachine({("guest-file-read", 0): returning(lambda _value: value)}), path)

    def test_closes_what_it_opened_when_a_reply_is_lost(self, path: Path) -> None:
        machine = ThisMachine({("guest-file-read", 0): lost})
        with pytest.raises(QgaError):
            reading(machine, path)
        assert machine.open_files == 0

    @pytest.mark.parametrize("handle", [None, "1000", True, 1.5])
    def test_believes_no_handle_that_is_no_number(self, path: Path, handle: Any) -> None:
        machine = ThisMachine({("guest-file-open", 0): returning(lambda _value: handle)})

        async def open_it() -> None:
            async with GuestFile(machine.agent(), str(path), "rb", PIECE):
                pass

        with pytest.raises(RemoteProtocolError):
            tasks.run(open_it())


# How agents say that a file has come to its end, by what the stock one would say.
ENDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "as fread does": lambda value: value,
    "by an empty piece": lambda value: {**value, "eof": False},
    "by an empty piece, without eof": lambda value: {name: value[name] for name in ("count", "buf-b64")},
    "by an empty piece, with a null": lambda value: {**value, "eof": None},
    "with an empty piece only": lambda value: {**value, "eof": value["count"] == 0},
}


@pytest.mark.parametrize("most", [1, 7, PIECE // 2, PIECE - 1, PIECE])
@pytest.mark.parametrize("size", [0, 1, PIECE, 3 * PIECE, 3 * PIECE + 7])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
class TestAnAgentThatReturnsLessThanItIsAskedFor:
    @pytest.fixture
    def machine(self, most: int, end: Callable[[dict[str, Any]], dict[str, Any]]) -> ThisMachine:
        machine = ThisMachine({("guest-file-read", None): returning(end)})
        machine.most_read = most
        return machine

    def test_returns_all_of_a_file(self, tmp_path: Path, machine: ThisMachine, size: int) -> None:
        data = DATA[: min(size, 200 * machine.most_read)]
        (tmp_path / "file").write_bytes(data)
        assert whole(machine, tmp_path / "file") == data

    def test_returns_as_much_as_is_wanted(self, tmp_path: Path, machine: ThisMachine, size: int) -> None:
        data = DATA[: min(size, 200 * machine.most_read)]
        (tmp_path / "file").write_bytes(data)
        assert reading(machine, tmp_path / "file", 2 * PIECE + 3) == data[: 2 * PIECE + 3]


def test_the_end_may_be_told_with_the_last_bytes_of_a_full_piece(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(DATA[: 2 * PIECE])
    at_once = returning(lambda value: {**value, "eof": True})
    machine = ThisMachine({("guest-file-read", 1): at_once})
    assert whole(machine, tmp_path / "file") == DATA[: 2 * PIECE]
    assert machine.count("guest-file-read") == 2


@pytest.mark.parametrize("eof", [0, 1, "false", [], {}])
def test_an_end_that_is_no_boolean_is_not_believed(tmp_path: Path, eof: Any) -> None:
    (tmp_path / "file").write_bytes(DATA)
    with pytest.raises(RemoteProtocolError):
        whole(ThisMachine({("guest-file-read", 0): returning(lambda value: {**value, "eof": eof})}), tmp_path / "file")


def endless(size: int) -> Fault:
    data = base64.b64encode(b"x" * size).decode()
    return returning(lambda _value: {"count": size, "buf-b64": data, "eof": False})


class TestAGuestThatComesToNoEnd:
    """What it is asked for is large, so that it could return more."""

    LARGE = 64 * 1024

    def machine(self, directory: Path, piece: int, said: int = 10_000_000) -> ThisMachine:
        (directory / "file").write_bytes(DATA)
        size = returning(lambda value: {**value, "position": said})
        return ThisMachine({("guest-file-read", None): endless(piece), ("guest-file-seek", None): size})

    @pytest.mark.parametrize("piece", [1, 2, 100, 255])
    def test_is_given_up_if_it_returns_a_few_bytes_at_a_time(self, tmp_path: Path, piece: int) -> None:
        machine = self.machine(tmp_path, piece)
        for read in (read_whole, read_file):
            machine.requests.clear()
            with pytest.raises(FileTransferError, match="a few bytes at a time"):
                tasks.run(read(machine.agent(), str(tmp_path / "file"), 10_000_000, self.LARGE))
            assert machine.count("guest-file-read") < 300
            assert machine.open_files == 0

    @pytest.mark.parametrize("piece", [256, 1000, 4096])
    def test_may_return_little(self, tmp_path: Path, piece: int) -> None:
        machine = self.machine(tmp_path, piece)
        data = tasks.run(read_file(machine.agent(), str(tmp_path / "file"), 1_000 * piece, self.LARGE))
        assert data == b"x" * (1_000 * piece)

    def test_may_return_a_few_bytes_now_and_then(self, tmp_path: Path) -> None:
        machine = self.machine(tmp_path, 300)
        machine.faults.update({("guest-file-read", 4 * number): endless(1) for number in range(200)})
        data = tasks.run(read_file(machine.agent(), str(tmp_path / "file"), 100 * 901, self.LARGE))
        assert data == b"x" * (100 * 901)

    @pytest.mark.parametrize("said", [0, 100, 5000])
    def test_gets_no_further_than_the_size_that_it_said(self, tmp_path: Path, said: int) -> None:
        machine = self.machine(tmp_path, 1000, said)
        with pytest.raises((FileTransferError, RemoteProtocolError)):
            tasks.run(read_whole(machine.agent(), str(tmp_path / "file"), 1 << 20, self.LARGE))
        assert machine.count("guest-file-read") <= 1 + said / 1000 + 1

    @pytest.mark.parametrize("taken", [1, 2, 255])
    def test_is_given_up_if_it_takes_a_few_bytes_at_a_time(self, tmp_path: Path, taken: int) -> None:
        machine = ThisMachine({("guest-file-write", None): counting(taken)})
        with pytest.raises(FileTransferError, match="a few bytes at a time"):
            tasks.run(write_file(machine.agent(), str(tmp_path / "file"), b"x" * 200_000, self.LARGE))
        assert machine.count("guest-file-write") < 300
        assert machine.open_files == 0


class TestTheDeadlineOfAFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        (tmp_path / "file").write_bytes(DATA)
        return tmp_path / "file"

    @pytest.mark.parametrize("command", ["guest-file-read", "guest-file-seek"])
    def test_is_for_all_of_it(self, path: Path, command: str) -> None:
        deadline = Deadline(0.1)

        def slowly(perform: Callable[[], Reply]) -> Reply:
            time.sleep(0.03)
            return perform()

        machine = ThisMachine({("guest-file-read", None): slowly, (command, None): slowly})
        with pytest.raises(TransferTimeoutError, match=r"within 0\.1 s"):
            tasks.run(read_whole(machine.agent(), str(path), 1 << 20, 1, deadline))
        assert machine.count("guest-file-read") <= 4
        assert machine.open_files == 0

    def test_is_for_writing_as_well(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-file-write", None): lambda perform: (time.sleep(0.03), perform())[1]})
        with pytest.raises(TransferTimeoutError):
            tasks.run(write_file(machine.agent(), str(tmp_path / "file"), DATA, 1, Deadline(0.1)))
        assert machine.count("guest-file-write") <= 4
        assert machine.open_files == 0

    def test_before_the_first_exchange_asks_for_nothing(self, path: Path) -> None:
        machine = ThisMachine()
        with pytest.raises(TransferTimeoutError):
            tasks.run(read_file(machine.agent(), str(path), 1, PIECE, Deadline(0.0)))
        assert machine.requests == []

    def test_is_each_exchanges_too(self, path: Path) -> None:
        machine = ThisMachine()
        tasks.run(read_whole(machine.agent(), str(path), 1 << 20, PIECE, Deadline(2.0)))
        assert max(machine.timeouts) <= 2.0

    def test_in_the_middle_of_an_exchange_is_told_as_that(self, path: Path) -> None:
        deadline = Deadline(0.1)

        def late(perform: Callable[[], Reply]) -> Reply:
            time.sleep(0.2)
            return lost(perform)

        machine = ThisMachine({("guest-file-read", 2): late})
        with pytest.raises(TransferTimeoutError):
            tasks.run(read_file(machine.agent(), str(path), 1 << 20, PIECE, deadline))
        assert machine.open_files == 0


def test_what_is_read_costs_its_size_and_not_that_of_its_pieces(tmp_path: Path) -> None:
    size = 50_000
    (tmp_path / "file").write_bytes(b"x" * size)
    machine = ThisMachine()
    machine.requests = _Forgetful()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        data = tasks.run(read_whole(machine.agent(), str(tmp_path / "file"), 1 << 20, 2))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert len(data) == size
    assert peak < 5 * size + 100_000


class _Forgetful(list):  # type: ignore[type-arg]
    """Requests that the fake does not keep."""

    def append(self, _item: Any) -> None:
        pass
