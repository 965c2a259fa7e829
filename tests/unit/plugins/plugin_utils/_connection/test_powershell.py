# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said to a guest with Windows, by an agent that only writes it down: there is no such guest here."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    ExchangeTimeoutError,
    NotConnectedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import powershell
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    BecomeError,
    CommandTimeoutError,
    FileTransferError,
    OutputTooLongError,
    ResultLostError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.powershell import GuestPowerShell
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.shell import Finished
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.transfer import source_of

from tests.support.this_machine import LIMITS

BUILT = "PowerShell -NoProfile -NonInteractive -ExecutionPolicy Unrestricted -EncodedCommand RQBjAGgAbwA="
PATH = "C:\\Users\\it's\\file"


class Windows(Channel):
    """Keeps files by their path, and programs by what was asked. ``ends`` is what becomes of each of them."""

    def __init__(self, ends: Callable[[str], Any] = lambda _script: {"exitcode": 0}) -> None:
        self.files: dict[str, bytes] = {}
        self.programs: list[tuple[str, list[str], bytes]] = []
        self._ends = ends
        self._open: list[str] = []
        self._positions: dict[int, int] = {}
        self.disabled: set[str] = set()
        self.is_endless = False

    async def call(self, request: Request, timeout: float) -> Exchange:  # noqa: ARG002  # it answers at once
        return Exchange(self._reply(request.execute, request.arguments_at(0)), 0, 0)

    async def close(self) -> None:
        pass

    def scripts(self) -> list[str]:
        return [script_of(arguments) for _path, arguments, _data in self.programs]

    def _reply(self, command: str, arguments: Any) -> Reply:
        if command in self.disabled:
            return Refused("CommandNotFound", f"Command {command} has been disabled: the command is not allowed")
        if command == "guest-exec":
            data = base64.b64decode(arguments.get("input-data", ""))
            self.programs.append((arguments["path"], arguments["arg"], data))
            return Returned({"pid": len(self.programs) - 1})
        if command == "guest-exec-status":
            path, words, _data = self.programs[arguments["pid"]]
            ended = self._ends(script_of(words) if path == "powershell.exe" else "")
            return ended if isinstance(ended, Refused) else Returned({"exited": True, **ended})
        if command == "guest-file-open":
            self._open.append(arguments["path"])
            if arguments["mode"] == "wb":
                self.files[self._open[-1]] = b""
            return Returned(len(self._open) - 1)
        if command == "guest-file-write":
            data = base64.b64decode(arguments["buf-b64"])
            self.files[self._open[arguments["handle"]]] += data
            return Returned({"count": len(data), "eof": False})
        if command == "guest-file-read":
            handle, count = arguments["handle"], arguments["count"]
            begin = self._positions.get(handle, 0)
            data = b"x" * count if self.is_endless else self.files[self._open[handle]][begin : begin + count]
            self._positions[handle] = begin + len(data)
            return Returned({"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": False})
        if command == "guest-file-seek":
            handle = arguments["handle"]
            begin = len(self.files[self._open[handle]]) if arguments["whence"] == "end" else 0
            self._positions[handle] = begin + arguments["offset"]
            return Returned({"position": self._positions[handle], "eof": False})
        return Returned({})


def script_of(words: list[str]) -> str:
    return base64.b64decode(words[-1]).decode("utf-16-le") if words[-2:-1] == ["-EncodedCommand"] else ""


def shell(windows: Windows) -> GuestPowerShell:
    return GuestPowerShell(GuestAgent(windows, 5.0), LIMITS)


def text(output: str) -> dict[str, Any]:
    return {"exitcode": 0, "out-data": base64.b64encode(output.encode()).decode()}


def in_turn(answers: list[Any]) -> Callable[[str], Any]:
    """What becomes of a program at each question for it; errors are the channel's."""

    def ends(_script: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, QgaError):
            raise answer
        return answer

    return ends


class TestACommand:
    def test_that_ansible_built_is_taken_apart(self) -> None:
        windows = Windows(lambda _script: text("done"))
        assert tasks.run(shell(windows).run(BUILT, b"manifest")) == Finished(0, b"done", b"")
        assert windows.programs == [("powershell.exe", BUILT.split()[1:], b"manifest")]

    def test_in_words_of_ones_own_is_encoded(self) -> None:
        windows = Windows()
        tasks.run(shell(windows).run("Write-Output 'it''s \u00fc'"))
        assert windows.scripts() == ["Write-Output 'it''s \u00fc'"]

    def test_with_much_input_gets_it_from_a_file_which_is_removed(self) -> None:
        windows, data = Windows(), b"x" * 50_000
        tasks.run(shell(windows).run(BUILT, data))
        path, content = windows.files.popitem()
        assert content == data
        (run, _nothing), (removal, _nothing_either) = [(words[-1], given) for _path, words, given in windows.programs]
        assert run == f"powershell.exe {BUILT.partition(' ')[2]} < {path}"
        assert removal == f"del {path}"

    def test_that_cannot_be_asked_for_a_password_is_not_begun(self) -> None:
        windows = Windows()
        with pytest.raises(BecomeError):
            tasks.run(shell(windows).run(BUILT, b"", object()))  # type: ignore[arg-type]  # it is not looked at
        assert windows.programs == []

    def test_that_wrote_too_much_is_no_success(self) -> None:
        with pytest.raises(OutputTooLongError):
            tasks.run(shell(Windows(lambda _script: {"exitcode": 0, "out-truncated": True})).run(BUILT))

    def test_that_an_exception_ended_is_no_success(self) -> None:
        with pytest.raises(ResultLostError, match="3221225477"):
            tasks.run(shell(Windows(lambda _script: {"signal": 3221225477})).run(BUILT))

    def test_that_is_forgotten_is_no_success(self) -> None:
        with pytest.raises(ResultLostError):
            tasks.run(shell(Windows(lambda _script: Refused("GenericError", "no such pid"))).run(BUILT))

    @pytest.mark.parametrize(
        "away",
        [
            Refused("CommandNotFound", "Command guest-exec-status has been disabled: the agent is in frozen state"),
            NotConnectedError("the agent is being restarted"),
            UnresponsiveError("another client has the socket"),
        ],
        ids=["frozen", "away", "taken"],
    )
    def test_is_found_again_when_the_agent_is(self, away: Refused | QgaError) -> None:
        answers = [away, {"exited": False}, away, text("done")]

        assert tasks.run(shell(Windows(in_turn(answers))).run(BUILT)) == Finished(0, b"done", b"")

    def test_is_not_found_again_in_time(self) -> None:
        def ends(_script: str) -> Any:
            raise NotConnectedError("no guest agent runs")

        here = GuestPowerShell(GuestAgent(Windows(ends), 5.0), LIMITS._replace(patience=0.3))
        with pytest.raises(NotConnectedError):
            tasks.run(here.run(BUILT))

    def test_whose_end_was_told_in_a_lost_reply_is_lost(self) -> None:
        answers = [ExchangeTimeoutError("no answer in time"), Refused("GenericError", "no such pid")]

        with pytest.raises(ResultLostError):
            tasks.run(shell(Windows(in_turn(answers))).run(BUILT))

    def test_that_never_ends_is_bounded(self) -> None:
        limits = LIMITS._replace(exec_timeout=0.05)
        here = GuestPowerShell(GuestAgent(Windows(lambda _script: {"exited": False}), 5.0), limits)
        with pytest.raises(CommandTimeoutError, match="it runs on"):
            tasks.run(here.run(BUILT))


class TestAFile:
    @pytest.mark.parametrize("data", [b"", b"little", b"x" * 50_000])
    def test_is_put_under_another_name_and_moved_once_it_is_the_same(self, data: bytes) -> None:
        windows = Windows(
            lambda script: text(hashlib.sha256(data).hexdigest().upper() if "Get-FileHash" in script else "")
        )
        tasks.run(shell(windows).put(source_of(io.BytesIO(data)), PATH))
        temporary, content = windows.files.popitem()
        assert content == data
        assert temporary.startswith(PATH)
        assert temporary != PATH
        assert windows.scripts()[-1].endswith("-Destination 'C:\\Users\\it''s\\file'")

    def test_that_is_another_there_is_removed_and_no_success(self) -> None:
        windows = Windows(lambda _script: text("0" * 64))
        with pytest.raises(FileTransferError, match="checksum"):
            tasks.run(shell(windows).put(source_of(io.BytesIO(b"data")), PATH))
        assert windows.scripts()[-1].startswith("Remove-Item")

    def test_is_fetched_whole(self) -> None:
        data = b"x" * 50_000
        windows = Windows(lambda _script: text(hashlib.sha256(data).hexdigest()))
        windows.files[PATH] = data
        target = io.BytesIO()
        tasks.run(shell(windows).fetch(PATH, target))
        assert target.getvalue() == data

    def test_is_fetched_from_an_agent_that_does_not_say_its_size(self) -> None:
        data = b"x" * 50_000
        windows = Windows(lambda _script: text(hashlib.sha256(data).hexdigest()))
        windows.files[PATH] = data
        windows.disabled = {"guest-file-seek"}
        target = io.BytesIO()
        tasks.run(shell(windows).fetch(PATH, target))
        assert target.getvalue() == data

    def test_that_never_ends_ends_at_its_size(self) -> None:
        windows = Windows()
        windows.files[PATH], windows.is_endless = b"x" * 50_000, True
        target = io.BytesIO()
        with pytest.raises(FileTransferError, match="changed"):
            tasks.run(shell(windows).fetch(PATH, target))
        assert len(target.getvalue()) == 50_001

    def test_that_never_ends_and_has_no_size_ends_at_the_limit(self) -> None:
        windows = Windows()
        windows.files[PATH], windows.is_endless = b"", True
        windows.disabled = {"guest-file-seek"}
        here = GuestPowerShell(GuestAgent(windows, 5.0), LIMITS._replace(fetch=10_000))
        target = io.BytesIO()
        with pytest.raises(FileTransferError, match="max_fetch allows 10000"):
            tasks.run(here.fetch(PATH, target))
        assert len(target.getvalue()) == 10_001

    def test_above_the_limit_is_not_fetched(self) -> None:
        windows = Windows()
        windows.files[PATH] = b"x" * 50_000
        here, target = GuestPowerShell(GuestAgent(windows, 5.0), LIMITS._replace(fetch=49_999)), io.BytesIO()
        with pytest.raises(FileTransferError, match="50000 bytes in the guest, and max_fetch allows 49999"):
            tasks.run(here.fetch(PATH, target))
        assert target.getvalue() == b""

    @pytest.mark.parametrize("what", ["put", "fetch", "run"])
    def test_has_its_time_for_all_of_it(self, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(powershell, "_REMOVAL_PATIENCE", 0.05)
        windows = Windows(lambda _script: {"exited": False})
        windows.files[PATH] = b"x" * 50_000
        here = GuestPowerShell(GuestAgent(windows, 5.0), LIMITS._replace(exec_timeout=0.05))
        does: dict[str, Callable[[], Any]] = {
            "put": lambda: here.put(source_of(io.BytesIO(b"data")), PATH),
            "fetch": lambda: here.fetch(PATH, io.BytesIO()),
            "run": lambda: here.run(BUILT, b"x" * 50_000),
        }
        with pytest.raises(CommandTimeoutError):
            tasks.run(does[what]())

    def test_that_changed_meanwhile_is_no_success(self) -> None:
        windows = Windows(lambda _script: text("0" * 64))
        windows.files[PATH] = b"data"
        with pytest.raises(FileTransferError, match="changed"):
            tasks.run(shell(windows).fetch(PATH, io.BytesIO()))

    def test_that_cannot_be_hashed_tells_why(self) -> None:
        errors = base64.b64encode(b"Access is denied").decode()
        windows = Windows(lambda _script: {"exitcode": 1, "err-data": errors})
        windows.files[PATH] = b"data"
        with pytest.raises(FileTransferError, match="Access is denied"):
            tasks.run(shell(windows).fetch(PATH, io.BytesIO()))


def test_nothing_is_to_be_cleaned() -> None:
    windows = Windows()
    tasks.run(shell(windows).clean())
    assert windows.programs == []
