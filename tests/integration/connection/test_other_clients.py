"""Other clients that need the same agent while a task runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Pieces, Sent
from tests.fakes.kinds import FROZEN, STOCK
from tests.fakes.this_machine import ThisMachine
from tests.integration.connection.playbooks import PATIENCE_S, run
from tests.processes.guest_channel import GuestChannel
from tests.processes.socket_server import listen_unix
from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.until import meanwhile, until


@pytest.mark.parametrize("kind", ["raw", "become", "async"])
def test_another_client_can_use_the_agent_while_a_command_runs(
    agent: StockAgent, tmp_path: Path, become: dict[str, Any], kind: str
) -> None:
    path, begun, go = (tmp_path / name for name in ("104.qga", "begun", "go"))  # the first is QEMU's socket
    command = f": >{begun}; until [ -e {go} ]; do sleep 0.05; done; echo done"
    task = {
        "raw": {"ansible.builtin.raw": command},
        "become": {"ansible.builtin.raw": command, "vars": become},
        "async": {"ansible.builtin.shell": command, "async": 300, "poll": 3},
    }[kind]
    with (
        GuestChannel(path, agent.socket),
        meanwhile(lambda: run(str(path), tmp_path, [{"name": "wait", **task}])) as done,
    ):
        try:
            until(begun.exists, "the command did not start", PATIENCE_S)
            for _time in range(1 if kind == "async" else 3):
                # Like any other client: connect, send a request, disconnect.
                with Client(str(path), PATIENCE_S) as client:
                    client.sync(1)
                    assert client.execute("guest-ping") == {"return": {}}
        finally:
            go.touch()
    assert done[0].status == 0, done[0].output
    assert "done" in done[0].result("wait")["stdout"]


@pytest.mark.parametrize("command", ["guest-exec", "guest-exec-status", "guest-file-open", "guest-file-write"])
def test_a_client_that_freezes_the_guest_can_thaw_it_and_the_task_waits(command: str, tmp_path: Path) -> None:
    """The freeze begins just before that agent command."""
    path, source, there = (tmp_path / name for name in ("104.qga", "source", "there"))
    source.write_bytes(os.urandom(100_000))

    def freeze(sent: Sent, pieces: Pieces) -> Pieces:
        if (sent.command, sent.nth) == (command, 0):
            agent.kind = FROZEN
        return pieces

    tasks = [{"name": "put", "ansible.builtin.copy": {"src": str(source), "dest": str(there)}}]
    patience = json.dumps({"ansible_qga_timeout": 1, "ansible_qga_reconnect_timeout": PATIENCE_S})
    with (
        FakeAgent(listen_unix(path), STOCK, faults=(freeze,), perform=ThisMachine().reply_to) as agent,
        meanwhile(lambda: run(str(path), tmp_path, tasks, "-e", patience)) as done,
    ):
        until(lambda: agent.asked("guest-fsfreeze-status"), "the connection did not notice the freeze")
        with Client(str(path), PATIENCE_S / 2) as other:
            other.sync(1)
            assert other.execute("guest-fsfreeze-status") == {"return": "frozen"}
            time.sleep(3.0)  # longer than the timeout of an exchange
            agent.kind = STOCK
    assert done[0].status == 0, done[0].output
    assert there.read_bytes() == source.read_bytes()
