from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _agent as agent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandFailedError,
    FrozenError,
    NotConnectedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.options import Settings
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import Limits
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.session import NEEDED, GuestSession

from tests.fakes.agent import FakeAgent
from tests.fakes.kinds import REFUSED_WORDS
from tests.fakes.this_machine import LIMITS, Fault, ThisMachine, frozen, refused, undelivered
from tests.processes.socket_server import listen_unix
from tests.support.blocking import Blocking


def session(machine: ThisMachine, place: Path, limits: Limits = LIMITS) -> GuestSession:
    target = Target("here", lambda: machine)
    settings = Settings(target, 5.0, 10.0, "/bin/sh", (str(place),), False, limits)
    return GuestSession(settings, lambda _name, _seconds: None)


def info(enabled: bool) -> Any:
    commands = [{"name": name, "enabled": enabled, "success-response": True} for name in NEEDED]
    return lambda _perform: Returned({"version": "8.2.0", "supported_commands": commands})


def test_commands_and_files(tmp_path: Path) -> None:
    machine = ThisMachine()
    here = session(machine, tmp_path)
    tasks.run(here.connect())
    assert tasks.run(here.run("cat", b"input")).output == b"input"
    assert tasks.run(here.put(io.BytesIO(b"content"), str(tmp_path / "file"))) == 7
    target = io.BytesIO()
    tasks.run(here.fetch(str(tmp_path / "file"), target))
    assert target.getvalue() == b"content"
    tasks.run(here.close())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert machine.is_closed


def test_an_agent_that_refuses_to_be_pinged_is_there(tmp_path: Path) -> None:
    tasks.run(session(ThisMachine({("guest-ping", 0): refused("not now")}), tmp_path).connect())


def test_an_agent_that_is_away_is_not(tmp_path: Path) -> None:
    with pytest.raises(NotConnectedError):
        tasks.run(session(ThisMachine({("guest-ping", 0): undelivered}), tmp_path).connect())


def test_the_observer_gets_what_was_answered_and_how_long_it_took(tmp_path: Path) -> None:
    observed: list[tuple[str, float]] = []
    target = Target("here", lambda: ThisMachine({("guest-ping", 1): undelivered}))
    settings = Settings(target, 5.0, 10.0, "/bin/sh", (str(tmp_path),), False, LIMITS)
    here = GuestSession(settings, lambda name, seconds: observed.append((name, seconds)))
    tasks.run(here.connect())
    with pytest.raises(NotConnectedError):
        tasks.run(here.connect())
    ((name, seconds),) = observed
    assert name == "guest-ping"
    assert 0 <= seconds < 5.0


class TestASocketForOneClient:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Iterator[tuple[FakeAgent, GuestSession]]:
        path = tmp_path / "agent.sock"
        target = Target("here", lambda: StreamChannel(UnixAddress(str(path))))
        limits = LIMITS._replace(patience=30.0)
        settings = Settings(target, 1.0, 10.0, "/bin/sh", (str(tmp_path),), False, limits)
        with FakeAgent(listen_unix(path), perform=ThisMachine().reply_to) as agent:
            session = GuestSession(settings, lambda _name, _seconds: None)
            tasks.run(session.connect())
            yield agent, session
            tasks.run(session.close())

    @pytest.fixture
    def other(self, tmp_path: Path) -> Blocking:
        return Blocking(StreamChannel(UnixAddress(str(tmp_path / "agent.sock"))))

    def test_is_lent_and_had_back(self, here: tuple[FakeAgent, GuestSession], other: Blocking) -> None:
        agent, session = here
        tasks.run(session.let_go())
        other.call(Request("guest-ping"), 5.0)
        other.close()
        assert tasks.run(session.run("echo out")).output == b"out\n"
        assert agent.connections == 3

    @pytest.mark.parametrize("what", ["run", "put", "fetch"])
    def test_is_waited_for_longer_than_for_an_exchange(
        self, here: tuple[FakeAgent, GuestSession], other: Blocking, what: str, tmp_path: Path
    ) -> None:
        _agent, session = here
        (tmp_path / "file").write_bytes(b"content")
        tasks.run(session.let_go())
        other.call(Request("guest-ping"), 5.0)
        leaving = threading.Timer(1.5, other.close)
        leaving.start()
        does: dict[str, Callable[[], Any]] = {
            "run": lambda: session.run("echo out"),
            "put": lambda: session.put(io.BytesIO(b"content"), str(tmp_path / "there")),
            "fetch": lambda: session.fetch(str(tmp_path / "file"), io.BytesIO()),
        }
        tasks.run(does[what]())
        leaving.join()


class TestDisabledCommands:
    """RHEL's agent comes with all of them disabled."""

    def test_are_all_named_with_what_to_do(self, tmp_path: Path) -> None:
        machine = ThisMachine({("guest-exec", None): frozen, ("guest-info", None): info(False)})
        with pytest.raises(CommandDisabledError) as caught:
            tasks.run(session(machine, tmp_path).run("echo"))
        assert all(name in caught.value.message for name in NEEDED)
        for word in ("/etc/sysconfig/qemu-ga", "BLACKLIST_RPC", "FILTER_RPC_ARGS", "--allow-rpcs", "allow-rpcs"):
            assert word in caught.value.hint

    def test_are_named_as_far_as_they_are_known(self, tmp_path: Path) -> None:
        for answer in (info(True), frozen):
            machine = ThisMachine({("guest-exec", None): frozen, ("guest-info", None): answer})
            with pytest.raises(CommandDisabledError, match="has disabled guest-exec, which"):
                tasks.run(session(machine, tmp_path).run("echo"))


NO_SHELL = refused("Failed to execute child process (No such file or directory)")


class TestAGuestWithoutOurShell:
    def failure(self, place: Path, system: Fault) -> CommandFailedError:
        machine = ThisMachine({("guest-exec", None): NO_SHELL, ("guest-get-osinfo", None): system})
        with pytest.raises(CommandFailedError) as caught:
            tasks.run(session(machine, place).run("echo"))
        return caught.value

    def test_is_told_to_be_windows_by_its_agent_with_the_ways_to_reach_it(self, tmp_path: Path) -> None:
        error = self.failure(tmp_path, lambda _perform: Returned({"id": "mswindows", "name": "Microsoft Windows"}))
        assert error.message == "the guest runs Windows, where this connection cannot run tasks"
        assert "winrm" in error.hint
        assert "ssh" in error.hint

    @pytest.mark.parametrize("system", [{"id": "debian"}, {}, None, "mswindows"])
    def test_that_is_not_windows_has_its_own_error(self, tmp_path: Path, system: Any) -> None:
        assert "child process" in self.failure(tmp_path, lambda _perform: Returned(system)).message

    def test_of_an_unknown_system_has_its_own_error(self, tmp_path: Path) -> None:
        assert "child process" in self.failure(tmp_path, refused("not here")).message


class TestABackupThatFreezesTheGuest:
    """It is over within seconds; what the agent refuses meanwhile was not carried out, and is asked again."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agent, "_FROZEN_SECONDS", 0.01)

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("GenericError", REFUSED_WORDS["disabled since 0.15"]),
            ("CommandDisabled", REFUSED_WORDS["disabled since 0.15"]),
            ("CommandNotFound", REFUSED_WORDS["disabled since 6.1"]),
            ("CommandNotFound", REFUSED_WORDS["frozen since 6.1"]),
        ],
    )
    @pytest.mark.parametrize("command", NEEDED)
    def test_fails_no_task_wherever_it_begins(self, tmp_path: Path, command: str, kind: str, words: str) -> None:
        machine = ThisMachine()
        machine.frozen_as = Refused(kind, words)
        refusals = 0

        def freeze(perform: Callable[[], Reply]) -> Reply:
            machine.is_frozen = True
            return perform()

        def thaw(perform: Callable[[], Reply]) -> Reply:
            nonlocal refusals
            refusals += 1
            reply = perform()
            machine.is_frozen = refusals < 3  # thawed at last before anybody can ask whether it is frozen
            return reply

        machine.faults[(command, 0)] = freeze
        for number in (1, 2, 3):
            machine.faults[(command, number)] = thaw
        here = session(machine, tmp_path)
        ended = tasks.run(here.run(f"echo once >>{tmp_path}/log; cat; head -c 20000 /dev/zero", b"x" * 20_000))
        assert (ended.status, len(ended.output)) == (0, 40_000)
        assert (tmp_path / "log").read_text() == "once\n"
        tasks.run(here.put(io.BytesIO(b"content"), str(tmp_path / "file")))
        target = io.BytesIO()
        tasks.run(here.fetch(str(tmp_path / "file"), target))
        assert target.getvalue() == b"content"
        tasks.run(here.close())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "log"]
        assert refusals == 3
        assert machine.let_gos >= 3

    def test_is_told_if_it_does_not_end(self, tmp_path: Path) -> None:
        machine = ThisMachine()
        machine.is_frozen = True
        here = session(machine, tmp_path, LIMITS._replace(patience=0.1))
        with pytest.raises(FrozenError):
            tasks.run(here.run("echo"))
        assert machine.count("guest-exec") > 1
        assert machine.known_processes == 0
