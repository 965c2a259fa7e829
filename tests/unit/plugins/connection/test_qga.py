"""The plugin, with the session behind it taken away: what it hands on, and what it makes of errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible_collections.qemu.guest_agent.plugins.connection import qga
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    ExchangeTimeoutError,
    FrozenError,
    HypervisorUnavailableError,
    InvalidOptionError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import (
    BecomeError,
    CommandTimeoutError,
    FileMissingError,
    FileTransferError,
    NoPlaceError,
    OutputLostError,
    OutputTooLongError,
    ResultLostError,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished, Limits

from tests.support.until import until

SECRET = "hunter2"  # noqa: S105  # nobody's
OPTIONS: dict[str, Any] = {
    name: option.get("default") for name, option in yaml.safe_load(qga.DOCUMENTATION)["options"].items()
}


class Session:
    """What the plugin is given; ``error`` is what comes of all that it asks."""

    def __init__(self, error: QgaError | None = None) -> None:
        self.error = error
        self.asked: list[tuple[Any, ...]] = []
        self.is_closed = False
        self.lent = 0

    async def connect(self) -> None:
        self._do("connect")

    async def run(self, command: str, data: bytes, dialogue: object) -> Finished:
        self._do("run", command, data, dialogue)
        return Finished(137, b"out", b"err")

    async def put(self, file: BinaryIO, path: str) -> int:
        self._do("put", file.read(), path)
        return 7

    async def fetch(self, path: str, target: BinaryIO) -> None:
        target.write(b"half of it")
        self._do("fetch", path)

    async def let_go(self) -> None:
        self.lent += 1
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.is_closed = True

    def _do(self, *what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


Made = Callable[[Session], qga.Connection]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(qga.display, "verbose", lambda text, host, caplevel: lines.append(f"{caplevel} {host} {text}"))
    return lines


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Made:  # noqa: ARG001  # nothing is to be printed
    monkeypatch.setattr(
        qga.Connection, "get_option", lambda _self, name, **_others: {**OPTIONS, "uri": "test:///x"}[name]
    )

    def make(session: Session) -> qga.Connection:
        monkeypatch.setattr(qga, "GuestSession", lambda _settings, _observe: session)
        return qga.Connection(PlayContext(), "/dev/null")

    return make


class TestACommand:
    def test_is_handed_on_and_what_came_of_it_back(self, plugin: Made) -> None:
        session = Session()
        status, output, errors = plugin(session).exec_command("echo", b"input")
        assert (status, output) == (137, b"out")
        assert errors == b"err\nsignal 9 (SIGKILL) ended the command, by its exit status 137\n"
        assert session.asked == [("connect",), ("run", "echo", b"input", None)]

    def test_uses_one_connection_for_all(self, plugin: Made) -> None:
        session = Session()
        connection = plugin(session)
        connection.exec_command("echo")
        connection.exec_command("echo")
        assert session.asked.count(("connect",)) == 1

    def test_is_not_logged_nor_its_input_or_output(self, plugin: Made, said: list[str]) -> None:
        plugin(Session()).exec_command(f"echo {SECRET}", SECRET.encode())
        assert said
        assert SECRET not in "".join(said)
        assert "'out'" not in "".join(said)


class Sudo:
    prompt = "[sudo] password:"

    def __init__(self, password: str | None) -> None:
        self._password = password

    def expect_prompt(self) -> bool:
        return self._password is not None

    def get_option(self, name: str, playcontext: object) -> str | None:  # noqa: ARG002  # Ansible's
        assert name == "become_pass"
        return self._password


class TestBecoming:
    def test_with_a_password_is_a_dialogue(self, plugin: Made) -> None:
        session = Session()
        connection = plugin(session)
        connection.set_become_plugin(Sudo(SECRET))
        connection.exec_command("sudo echo")
        assert session.asked[-1][-1].timeout == 10

    @pytest.mark.parametrize(("password", "sudoable"), [(None, True), (SECRET, False)])
    def test_without_one_or_without_need_is_none(self, plugin: Made, password: str | None, sudoable: bool) -> None:
        session = Session()
        connection = plugin(session)
        connection.set_become_plugin(Sudo(password))
        connection.exec_command("sudo echo", sudoable=sudoable)
        assert session.asked[-1][-1] is None


class TestFiles:
    def test_are_put(self, plugin: Made, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        session = Session()
        plugin(session).put_file(str(tmp_path / "file"), "/there")
        assert session.asked[-1] == ("put", b"content", "/there")

    def test_that_are_not_here_are_not_put(self, plugin: Made, tmp_path: Path) -> None:
        with pytest.raises(AnsibleFileNotFound):
            plugin(Session()).put_file(str(tmp_path / "none"), "/there")

    def test_are_fetched(self, plugin: Made, tmp_path: Path) -> None:
        plugin(Session()).fetch_file("/there", str(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == b"half of it"
        assert len(list(tmp_path.iterdir())) == 1

    def test_that_come_half_are_not_fetched(self, plugin: Made, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("old")
        session = Session()
        connection = plugin(session)
        connection._connect()
        session.error = FileTransferError("broken")
        with pytest.raises(AnsibleError):
            connection.fetch_file("/there", str(tmp_path / "file"))
        assert (tmp_path / "file").read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_that_cannot_be_written_here_fail_the_task(self, plugin: Made, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "none" / "file"):
            with pytest.raises(AnsibleError, match=f"^{path} cannot be written on the controller: ") as caught:
                plugin(Session()).fetch_file("/there", str(path))
            assert not isinstance(caught.value, AnsibleConnectionFailure)


UNREACHABLE = [
    CommandDisabledError("x"),
    ExchangeTimeoutError("x"),
    FrozenError("x"),
    HypervisorUnavailableError("x"),
    NotConnectedError("x"),
    NotFoundError("x"),
    NotRunningError("x"),
    ResultLostError("x"),
]
FAILED = [
    BecomeError("x"),
    CommandFailedError("x"),
    CommandTimeoutError("x"),
    FileMissingError("x"),
    FileTransferError("x"),
    InvalidOptionError("x"),
    NoPlaceError("x"),
    OutputLostError("x"),
    OutputTooLongError("x"),
]


class TestAnError:
    @pytest.mark.parametrize("error", UNREACHABLE, ids=lambda error: error.code)
    def test_of_the_way_there_makes_the_guest_unreachable(self, plugin: Made, error: QgaError) -> None:
        with pytest.raises(AnsibleConnectionFailure) as caught:
            plugin(Session(error)).exec_command("echo")
        assert str(caught.value).startswith(f"X [{error.code}]. ")

    @pytest.mark.parametrize("error", FAILED, ids=lambda error: error.code)
    def test_of_the_command_fails_the_task(self, plugin: Made, error: QgaError) -> None:
        with pytest.raises(AnsibleError) as caught:
            plugin(Session(error)).exec_command("echo")
        assert not isinstance(caught.value, AnsibleConnectionFailure)
        assert f"[{error.code}]" in str(caught.value)

    def test_while_connecting_leaves_nothing_open(self, plugin: Made) -> None:
        session = Session(NotConnectedError("x"))
        connection = plugin(session)
        with pytest.raises(AnsibleConnectionFailure):
            connection.exec_command("echo")
        assert session.is_closed
        assert not connection.connected


class TestAConnection:
    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_ends_and_can_be_made_again(self, plugin: Made, end: str) -> None:
        session = Session()
        connection = plugin(session)
        connection.exec_command("echo")
        getattr(connection, end)()
        assert session.is_closed
        connection.exec_command("echo")
        assert session.asked.count(("connect",)) == 2

    def test_that_was_never_made_can_be_ended(self, plugin: Made) -> None:
        plugin(Session()).close()
        plugin(Session()).reset()


class TestTheOptions:
    def test_are_documented_with_all_ways_to_set_them(self) -> None:
        for name, option in yaml.safe_load(qga.DOCUMENTATION)["options"].items():
            assert option["vars"], name
            if name != "remote_addr":
                assert option["env"], name
                assert option["ini"], name

    def test_that_are_read_are_those(self) -> None:
        assert {*qga._OPTIONS, "pipelining"} == set(OPTIONS)


def test_the_largest_fetch_is_the_documented_one_if_nobody_says() -> None:
    assert Limits(1, 1, 1, 1.0, 1.0).fetch == OPTIONS["max_fetch"] * 1024 * 1024


class TestAnIdleConnection:
    """Where the agent serves one client at a time."""

    @pytest.fixture
    def over_a_socket(self, plugin: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
        monkeypatch.setitem(OPTIONS, "socket", "/run/104.qga")
        monkeypatch.setattr(qga, "_IDLE", 0.01)
        return plugin

    def test_over_a_socket_is_lent_and_used_again(self, over_a_socket: Made) -> None:
        session = Session()
        connection = over_a_socket(session)
        for number in range(1, 4):
            connection.exec_command("echo")
            until(lambda number=number: session.lent == number, "it was not lent")
        assert session.asked.count(("connect",)) == 1

    def test_over_libvirt_has_no_timer(self, plugin: Made) -> None:
        connection = plugin(Session())
        connection.exec_command("echo")
        assert connection._idle._timer is None

    def test_that_is_closed_has_no_timer_any_more(self, over_a_socket: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(qga, "_IDLE", 3600.0)
        connection = over_a_socket(Session())
        connection.exec_command("echo")
        timer = connection._idle._timer
        assert timer is not None
        connection.close()
        timer.join()
        assert connection._idle._timer is None

    def test_that_cannot_be_lent_is_no_error(self, over_a_socket: Made) -> None:
        session = Session()
        connection = over_a_socket(session)
        connection.exec_command("echo")
        session.error = NotConnectedError("it has gone")
        connection._let_go()
        connection.close()
        connection._let_go()


class TestATimerOfIdleness:
    def test_does_nothing_behind_the_begin_of_something_else(self) -> None:
        acted: list[str] = []
        timer = qga.IdleTimer(0.0, lambda: acted.append("acted"))
        with timer.busy(restarts=True):
            pass
        first = timer._timer
        with timer.busy():
            acted.clear()
        assert first is not None
        first.join()
        assert acted == []

    def test_counts_anew_behind_what_fails_as_well(self) -> None:
        acted: list[str] = []
        timer = qga.IdleTimer(0.0, lambda: acted.append("acted"))
        with pytest.raises(KeyError), timer.busy(restarts=True):
            raise KeyError
        until(lambda: acted == ["acted"], "nothing was done when it was idle")
