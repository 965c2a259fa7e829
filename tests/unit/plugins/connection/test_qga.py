"""The plugin with a fake session: its calls, and its handling of errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible_collections.qemu.guest_agent.plugins.connection import qga
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as agent_errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import errors
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Finished

from tests.support.until import until

SECRET = "hunter2"  # noqa: S105  # not a real one
OPTIONS: dict[str, Any] = {
    name: option.get("default") for name, option in yaml.safe_load(qga.DOCUMENTATION)["options"].items()
}


class Session:
    """A fake session that records calls; with ``error``, each call raises it."""

    def __init__(self, error: QgaError | None = None) -> None:
        self.error = error
        self.asked: list[tuple[Any, ...]] = []
        self.is_closed = False

    async def connect(self) -> None:
        self._do("connect")

    async def run(self, command: str, data: bytes, dialog: object) -> Finished:
        self._do("run", command, data, dialog)
        return Finished(137, b"out", b"err")

    async def put(self, file: BinaryIO, path: str) -> int:
        self._do("put", file.read(), path)
        return 7

    async def fetch(self, path: str, target: BinaryIO) -> None:
        target.write(b"half of it")
        self._do("fetch", path)

    async def let_go(self) -> None:
        self._do("let go")

    async def close(self) -> None:
        self.is_closed = True

    def count(self, what: str) -> int:
        return sum(asked[0] == what for asked in self.asked)

    def _do(self, *what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


Made = Callable[..., qga.Connection]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(qga.display, "verbose", lambda text, host, caplevel: lines.append(f"{caplevel} {host} {text}"))
    return lines


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> Made:  # noqa: ARG001  # keeps it from printing
    monkeypatch.setattr(
        qga.Connection, "get_option", lambda _self, name, **_others: {**OPTIONS, "uri": "test:///x"}[name]
    )

    def make(session: Session, kind: type[qga.Connection] = qga.Connection) -> qga.Connection:
        monkeypatch.setattr(qga, "GuestSession", lambda _settings, _observe: session)
        return kind(PlayContext(), "/dev/null")

    return make


class TestACommand:
    def test_is_passed_to_the_session_and_not_logged(self, plugin: Made, logged: list[str]) -> None:
        session = Session()
        connection = plugin(session)
        for _time in range(2):
            status, output, errors = connection.exec_command(f"echo {SECRET}", SECRET.encode())
            assert (status, output) == (137, b"out")
            assert errors == b"err\nthe exit status 137 means that signal 9 (SIGKILL) killed the command\n"
        run = ("run", f"echo {SECRET}", SECRET.encode(), None)
        assert session.asked == [("connect",), run, run]
        assert logged
        assert not any(SECRET in line or "'out'" in line for line in logged)


class Sudo:
    prompt = "[sudo] password:"

    def __init__(self, password: str | None) -> None:
        self._password = password

    def expect_prompt(self) -> bool:
        return self._password is not None

    def get_option(self, name: str, playcontext: object) -> str | None:  # noqa: ARG002  # Ansible's
        assert name == "become_pass"
        return self._password


@pytest.mark.parametrize(
    ("password", "sudoable", "timeout"), [(SECRET, True, 10), (None, True, None), (SECRET, False, None)]
)
def test_there_is_a_dialog_only_with_a_password(
    plugin: Made, password: str | None, sudoable: bool, timeout: int | None
) -> None:
    session = Session()
    connection = plugin(session)
    connection.set_become_plugin(Sudo(password))
    connection.exec_command("sudo echo", sudoable=sudoable)
    assert getattr(session.asked[-1][-1], "timeout", None) == timeout


class TestFiles:
    def test_are_put(self, plugin: Made, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"content")
        session = Session()
        connection = plugin(session)
        connection.put_file(str(tmp_path / "file"), "/there")
        assert session.asked[-1] == ("put", b"content", "/there")
        with pytest.raises(AnsibleFileNotFound):
            connection.put_file(str(tmp_path / "none"), "/there")

    def test_are_fetched_completely_or_not_at_all(self, plugin: Made, tmp_path: Path) -> None:
        session = Session()
        connection = plugin(session)
        connection.fetch_file("/there", str(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == b"half of it"
        (tmp_path / "file").write_text("old")
        session.error = errors.FileTransferError("broken")
        with pytest.raises(AnsibleError):
            connection.fetch_file("/there", str(tmp_path / "file"))
        assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]

    @pytest.mark.parametrize("path", ["", "none/file"])
    def test_that_cannot_be_written_here_fail_the_task(self, plugin: Made, tmp_path: Path, path: str) -> None:
        path = str(tmp_path / path)
        with pytest.raises(AnsibleError, match=f"^cannot write '{path}' on the controller: ") as caught:
            plugin(Session()).fetch_file("/there", path)
        assert not isinstance(caught.value, AnsibleConnectionFailure)


UNREACHABLE = [
    *(agent_errors.CommandDisabledError, agent_errors.ExchangeTimeoutError, agent_errors.FrozenError),
    *(agent_errors.HypervisorUnavailableError, agent_errors.NotConnectedError, agent_errors.NotFoundError),
    *(agent_errors.NotRunningError, errors.ResultLostError),
]
FAILED = [
    *(errors.BecomeError, errors.CommandTimeoutError, errors.FileMissingError, errors.FileTransferError),
    *(errors.NoPlaceError, errors.OutputLostError, errors.OutputTooLongError),
    *(agent_errors.CommandFailedError, agent_errors.InvalidOptionError),
]


@pytest.mark.parametrize("kind", [*UNREACHABLE, *FAILED])
def test_errors_of_commands_fail_the_task_and_others_make_the_host_unreachable(
    plugin: Made, kind: type[QgaError]
) -> None:
    session = Session(kind("x"))
    connection = plugin(session)
    with pytest.raises(AnsibleError) as caught:
        connection.exec_command("echo")
    assert isinstance(caught.value, AnsibleConnectionFailure) == (kind in UNREACHABLE)
    assert str(caught.value).startswith(f"X [{kind.code}].")
    # The error came from connecting.
    assert session.is_closed
    assert not connection.connected


class TestAConnection:
    @pytest.mark.parametrize("end", ["close", "reset"])
    def test_can_be_closed_and_opened_again(self, plugin: Made, end: str) -> None:
        session = Session()
        connection = plugin(session)
        connection.exec_command("echo")
        getattr(connection, end)()
        assert session.is_closed
        connection.exec_command("echo")
        assert session.count("connect") == 2

    def test_can_be_closed_before_it_was_opened(self, plugin: Made) -> None:
        plugin(Session()).close()
        plugin(Session()).reset()


class TestTheOptions:
    def test_are_read_and_documented_with_all_ways_to_set_them(self) -> None:
        options = yaml.safe_load(qga.DOCUMENTATION)["options"]
        assert [name for name, option in options.items() if not option["vars"]] == []
        assert [name for name, option in options.items() if not {"env", "ini"} <= option.keys()] == ["remote_addr"]
        assert {*qga._OPTIONS, "pipelining"} == set(OPTIONS)


class SoonIdle(qga.Connection):
    idle_seconds = 0.01


class LateIdle(qga.Connection):
    idle_seconds = 3600.0


class TestAnIdleConnection:
    """For agents that serve one client at a time."""

    @pytest.fixture
    def over_a_socket(self, plugin: Made, monkeypatch: pytest.MonkeyPatch) -> Made:
        monkeypatch.setitem(OPTIONS, "socket", "/run/104.qga")
        return partial(plugin, kind=SoonIdle)

    def test_over_a_socket_is_released_and_used_again(self, over_a_socket: Made) -> None:
        session = Session()
        connection = over_a_socket(session)
        for number in range(1, 4):
            connection.exec_command("echo")
            until(lambda number=number: session.count("let go") == number, "it was not released")
        assert session.count("connect") == 1

    def test_over_libvirt_has_no_timer(self, plugin: Made) -> None:
        connection = plugin(Session())
        connection.exec_command("echo")
        assert connection._idle._timer is None

    def test_has_no_timer_after_it_is_closed(self, over_a_socket: Made) -> None:
        connection = over_a_socket(Session(), kind=LateIdle)
        connection.exec_command("echo")
        timer = connection._idle._timer
        assert timer is not None
        connection.close()
        timer.join()
        assert connection._idle._timer is None

    def test_that_cannot_be_released_is_not_an_error(self, over_a_socket: Made) -> None:
        session = Session()
        connection = over_a_socket(session)
        connection.exec_command("echo")
        session.error = agent_errors.NotConnectedError("it has gone")
        connection._let_go()
        connection.close()
        connection._let_go()


def test_the_idle_timer_does_nothing_during_other_work() -> None:
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
    # It also restarts after a failure.
    with pytest.raises(KeyError), timer.busy(restarts=True):
        raise KeyError
    until(lambda: acted == ["acted"], "the action did not run")
