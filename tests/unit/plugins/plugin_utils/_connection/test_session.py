from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as agent_errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.options import Settings
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.session import NEEDED, GuestSession

from tests.fakes.agent import FakeAgent
from tests.fakes.kinds import REFUSED_WORDS
from tests.fakes.this_machine import LIMITS, Fault, ThisMachine, frozen, refused, undelivered
from tests.processes.socket_server import listen_unix
from tests.support.blocking import Blocking

Observed = list[tuple[str, float]]


def session(
    channel: Channel, place: Path, timeout: float = 5.0, patience: float = 10.0, observed: Observed | None = None
) -> GuestSession:
    seen: Observed = [] if observed is None else observed
    limits = LIMITS._replace(patience=patience)
    settings = Settings(Target("here", lambda: channel), timeout, "/bin/sh", (str(place),), False, limits)
    return GuestSession(settings, lambda name, seconds: seen.append((name, seconds)))


def answering(value: Any) -> Fault:
    return lambda _perform: Returned(value)


def fetched(here: GuestSession, path: Path) -> bytes:
    target = io.BytesIO()
    tasks.run(here.fetch(str(path), target))
    return target.getvalue()


def test_a_session_runs_commands_copies_files_and_leaves_nothing_in_the_guest(tmp_path: Path) -> None:
    machine = ThisMachine()
    here = session(machine, tmp_path)
    tasks.run(here.connect())
    assert tasks.run(here.run("cat", b"input")).output == b"input"
    assert tasks.run(here.put(io.BytesIO(b"content"), str(tmp_path / "file"))) == 7
    assert fetched(here, tmp_path / "file") == b"content"
    tasks.run(here.close())
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert machine.is_closed


def test_the_observer_gets_each_command_with_its_duration(tmp_path: Path) -> None:
    observed: Observed = []
    here = session(
        ThisMachine({("guest-ping", 0): refused("not now"), ("guest-ping", 1): undelivered}),
        tmp_path,
        observed=observed,
    )
    tasks.run(here.connect())  # a refused ping is a reply
    with pytest.raises(agent_errors.NotConnectedError):
        tasks.run(here.connect())
    ((name, seconds),) = observed
    assert name == "guest-ping"
    assert 0 <= seconds < 5.0


class TestASocketForOneClient:
    @pytest.fixture
    def here(self, tmp_path: Path) -> Iterator[GuestSession]:
        path = tmp_path / "agent.sock"
        with FakeAgent(listen_unix(path), perform=ThisMachine().reply_to):
            here = session(StreamChannel(UnixAddress(str(path))), tmp_path, timeout=1.0, patience=30.0)
            tasks.run(here.connect())
            yield here
            tasks.run(here.close())

    @pytest.mark.parametrize("what", ["run", "put", "fetch"])
    def test_is_released_and_waited_for_longer_than_an_exchange(
        self, here: GuestSession, what: str, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_bytes(b"content")
        other = Blocking(StreamChannel(UnixAddress(str(tmp_path / "agent.sock"))))
        tasks.run(here.let_go())
        other.call(Request("guest-ping"), 5.0)
        leaving = threading.Timer(1.5, other.close)
        leaving.start()
        does: dict[str, Callable[[], Any]] = {
            "run": lambda: here.run("echo out"),
            "put": lambda: here.put(io.BytesIO(b"content"), str(tmp_path / "there")),
            "fetch": lambda: here.fetch(str(tmp_path / "file"), io.BytesIO()),
        }
        tasks.run(does[what]())
        leaving.join()


class TestDisabledCommands:
    """All of them are disabled by default in RHEL."""

    @pytest.mark.parametrize(
        ("info", "named"),
        [
            (
                answering({"version": "8.2.0", "supported_commands": [{"name": n, "enabled": False} for n in NEEDED]}),
                NEEDED,
            ),
            (answering({"version": "8.2.0", "supported_commands": [{"name": n, "enabled": True} for n in NEEDED]}), ()),
            (frozen, ()),
        ],
        ids=["all", "thawed meanwhile", "unknown"],
    )
    def test_are_listed_with_a_hint(self, tmp_path: Path, info: Fault, named: tuple[str, ...]) -> None:
        machine = ThisMachine({("guest-exec", None): frozen, ("guest-info", None): info})
        with pytest.raises(agent_errors.CommandDisabledError) as caught:
            tasks.run(session(machine, tmp_path).run("echo"))
        assert f"has disabled {', '.join(named or ['guest-exec'])}, which" in caught.value.message
        for word in ("/etc/sysconfig/qemu-ga", "BLACKLIST_RPC", "FILTER_RPC_ARGS", "--allow-rpcs", "allow-rpcs"):
            assert word in caught.value.hint


@pytest.mark.parametrize(
    ("system", "message", "hinted"),
    [
        (
            answering({"id": "mswindows"}),
            "the guest runs Windows, where this connection cannot run tasks",
            ["winrm", "ssh"],
        ),
        *((answering(value), "child process", []) for value in ({"id": "debian"}, {}, None, "mswindows")),
        (refused("not here"), "child process", []),
    ],
)
def test_a_guest_without_a_shell_is_windows_only_if_its_agent_reports_that(
    tmp_path: Path, system: Fault, message: str, hinted: list[str]
) -> None:
    no_shell = refused("Failed to execute child process (No such file or directory)")
    machine = ThisMachine({("guest-exec", None): no_shell, ("guest-get-osinfo", None): system})
    with pytest.raises(agent_errors.CommandFailedError, match=message) as caught:
        tasks.run(session(machine, tmp_path).run("echo"))
    assert all(word in caught.value.hint for word in hinted)


class TestABackupThatFreezesTheGuest:
    """The freeze lasts seconds. Requests that the agent refuses meanwhile were not executed, and are repeated."""

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
    @pytest.mark.slow
    def test_fails_no_task_whenever_it_starts(self, tmp_path: Path, command: str, kind: str, words: str) -> None:
        machine = ThisMachine()
        machine.frozen_as = Refused(kind, words)
        refusals = 0

        def thaw(perform: Callable[[], Reply]) -> Reply:
            nonlocal refusals
            refusals += 1
            reply = perform()
            machine.is_frozen = refusals < 3  # the third time, it thaws before its state is asked for
            return reply

        machine.faults[(command, 0)] = lambda perform: (setattr(machine, "is_frozen", True), perform())[1]
        machine.faults.update({(command, number): thaw for number in (1, 2, 3)})
        here = session(machine, tmp_path)
        ended = tasks.run(here.run(f"echo once >>{tmp_path}/log; cat; head -c 20000 /dev/zero", b"x" * 20_000))
        assert (ended.status, len(ended.output)) == (0, 40_000)
        assert (tmp_path / "log").read_text() == "once\n"
        tasks.run(here.put(io.BytesIO(b"content"), str(tmp_path / "file")))
        assert fetched(here, tmp_path / "file") == b"content"
        tasks.run(here.close())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "log"]
        assert refusals == 3
        assert machine.let_gos >= 3

    def test_is_an_error_if_the_freeze_does_not_end(self, tmp_path: Path) -> None:
        machine = ThisMachine()
        machine.is_frozen = True
        with pytest.raises(agent_errors.FrozenError):
            tasks.run(session(machine, tmp_path, patience=0.7).run("echo"))
        assert machine.count("guest-exec") > 1
        assert machine.known_processes == 0
