"""Others that need the same agent meanwhile."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.session import NEEDED

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Pieces, Sent
from tests.fakes.kinds import BEFORE_1_2, BEFORE_4_2, FROZEN, STOCK, Kind
from tests.fakes.this_machine import ThisMachine
from tests.integration.connection.playbooks import (
    PATIENCE_S,
    run,
)
from tests.processes.ansible_run import PlaybookRun
from tests.processes.guest_channel import GuestChannel
from tests.processes.socket_server import listen_unix
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.until import until


class Task(threading.Thread):
    """A playbook that runs while the test does other things."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self._arguments = arguments
        self.done: PlaybookRun | None = None

    def run(self) -> None:
        self.done = run(*self._arguments)

    def result(self) -> PlaybookRun:
        self.join()
        assert self.done is not None
        return self.done


def waits_for(go: Path) -> str:
    """A command that has begun when there is a file beside ``go``, and ends when there is that one."""
    return f"echo >{go}.begun; until [ -e {go} ]; do sleep 0.05; done; echo done"


@pytest.fixture
def channel(agent: StockAgent, tmp_path: Path) -> Iterator[str]:
    """A socket as QEMU has it, with the stock agent behind it."""
    path = tmp_path / "104.qga"
    with GuestChannel(path, agent.socket):
        yield str(path)


def ask(path: str) -> None:
    """As any other client does: it connects, asks and goes."""
    with Client(path, PATIENCE_S) as client:
        client.sync(1)
        assert client.execute("guest-ping") == {"return": {}}


@pytest.mark.parametrize("kind", ["raw", "become"])
def test_another_client_gets_in_while_a_command_runs(
    channel: str, tmp_path: Path, become: dict[str, Any], kind: str
) -> None:
    go = tmp_path / "go"
    task = {"name": "wait", "ansible.builtin.raw": waits_for(go), "vars": become if kind == "become" else {}}
    playbook = Task(channel, tmp_path, [task])
    playbook.start()
    until(Path(f"{go}.begun").exists, "the command was not begun")
    for _time in range(3):
        ask(channel)
    go.touch()
    done = playbook.result()
    assert done.status == 0, done.output
    assert "done" in done.result("wait")["stdout"]


def test_another_client_gets_in_between_two_polls_of_an_async_task(channel: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task = {"name": "wait", "ansible.builtin.shell": waits_for(go), "async": 300, "poll": 3}
    playbook = Task(channel, tmp_path, [task])
    playbook.start()
    until(Path(f"{go}.begun").exists, "the command was not begun")
    ask(channel)
    go.touch()
    done = playbook.result()
    assert done.status == 0, done.output
    assert done.result("wait")["stdout"] == "done"


def test_a_client_that_freezes_the_guest_can_thaw_it(tmp_path: Path) -> None:
    go, path = tmp_path / "go", tmp_path / "104.qga"
    task = {"name": "wait", "ansible.builtin.raw": waits_for(go)}
    with FakeAgent(listen_unix(path), perform=ThisMachine().reply_to) as agent:
        playbook = Task(str(path), tmp_path, [task], "-e", f"ansible_qga_reconnect_timeout={PATIENCE_S:.0f}")
        playbook.start()
        until(Path(f"{go}.begun").exists, "the command was not begun")
        agent.kind = FROZEN
        asked = len(agent.requests)
        until(lambda: ("guest-fsfreeze-status", {}) in agent.requests[asked:], "the connection did not notice it")
        with Client(str(path), PATIENCE_S / 2) as other:
            other.sync(1)
            assert other.execute("guest-fsfreeze-status") == {"return": "frozen"}
            agent.kind = STOCK
        go.touch()
        done = playbook.result()
    assert done.status == 0, done.output
    assert done.result("wait")["stdout"] == "done\n"


@pytest.mark.parametrize("command", ["guest-exec", "guest-file-open", "guest-file-write"])
def test_a_client_that_keeps_the_socket_of_a_frozen_guest_is_waited_for(command: str, tmp_path: Path) -> None:
    """The guest is frozen from just before that command on."""
    path, source, there = (tmp_path / name for name in ("104.qga", "source", "there"))
    source.write_bytes(os.urandom(100_000))

    def freeze(sent: Sent, pieces: Pieces) -> Pieces:
        if (sent.command, sent.nth) == (command, 0):
            agent.kind = FROZEN
        return pieces

    tasks = [{"name": "put", "ansible.builtin.copy": {"src": str(source), "dest": str(there)}}]
    patience = {"ansible_qga_timeout": 1, "ansible_qga_reconnect_timeout": PATIENCE_S}
    with FakeAgent(listen_unix(path), STOCK, faults=(freeze,), perform=ThisMachine().reply_to) as agent:
        playbook = Task(str(path), tmp_path, tasks, "-e", json.dumps(patience))
        playbook.start()
        until(lambda: agent.asked("guest-fsfreeze-status"), "the connection did not notice it")
        with Client(str(path), PATIENCE_S / 2) as other:
            other.sync(1)
            time.sleep(3.0)
            agent.kind = STOCK
        done = playbook.result()
    assert done.status == 0, done.output
    assert there.read_bytes() == source.read_bytes()


def test_a_client_that_keeps_the_socket_for_a_while_is_waited_for(channel: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    playbook = Task(
        channel, tmp_path, [{"name": "wait", "ansible.builtin.raw": waits_for(go)}], "-e", "ansible_qga_timeout=1"
    )
    playbook.start()
    until(Path(f"{go}.begun").exists, "the command was not begun")
    with Client(channel, PATIENCE_S) as other:
        other.sync(1)
        go.touch()
        time.sleep(3.0)  # longer than an exchange may take, and shorter than reconnect_timeout
    done = playbook.result()
    assert done.status == 0, done.output
    assert done.result("wait")["stdout"] == "done\n"


FREEZING = (
    ("guest-ping", 0),  # before the first command
    ("guest-exec", 0),  # while it runs
    ("guest-exec-status", 1),
    ("guest-file-open", 1),
    ("guest-file-write", 0),
    ("guest-file-read", 1),
)


@pytest.mark.parametrize("kind", [BEFORE_4_2, BEFORE_1_2, STOCK], ids=["before 4.2", "before 1.2", "stock"])
def test_a_backup_that_freezes_the_guest_fails_no_task(kind: Kind, tmp_path: Path) -> None:
    """It does so again and again, for a second, wherever a task is just then."""
    machine = ThisMachine()

    def freeze(sent: Sent, pieces: Pieces) -> Pieces:
        if (sent.command, sent.nth) in FREEZING:
            agent.freeze(1.0)
        return pieces

    path, source, there, back = (tmp_path / name for name in ("agent.sock", "source", "there", "back"))
    source.write_bytes(os.urandom(3_000_000))
    tasks = [
        {"name": "run", "ansible.builtin.raw": f"echo once >>{tmp_path}/log; sleep 0.5; echo done"},
        {"name": "put", "ansible.builtin.copy": {"src": str(source), "dest": str(there)}},
        {"name": "fetch", "ansible.builtin.fetch": {"src": str(there), "dest": str(back), "flat": True}},
    ]
    kind = replace(kind, commands=kind.commands | set(NEEDED))
    with FakeAgent(listen_unix(path), kind, faults=(freeze,), perform=machine.reply_to) as agent:
        done = run(str(path), tmp_path, tasks)
    assert done.status == 0, done.output
    assert done.result("run")["stdout"] == "done\n"
    assert (tmp_path / "log").read_text() == "once\n"
    assert back.read_bytes() == source.read_bytes()
    assert len(agent.asked("guest-fsfreeze-status")) >= len(FREEZING)
