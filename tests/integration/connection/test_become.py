"""Tasks as another user."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.connection.playbooks import BECOME_SHIM, PASSWORD, PATIENCE_S, PING, SHORT_S, failure, run
from tests.processes.ansible_run import every_core
from tests.processes.state import is_gone
from tests.processes.stock_agent import StockAgent
from tests.support.until import meanwhile, until


@every_core
def test_becoming_another_user_with_a_password(
    agent: StockAgent, tmp_path: Path, become: dict[str, Any], core: str
) -> None:
    free = tmp_path / "free"
    free.write_text(BECOME_SHIM.replace('if [ "$prompt" ]', "if false"))
    free.chmod(0o755)
    tasks = [
        {**PING[0], "vars": become},
        {"name": "raw", "ansible.builtin.raw": "echo out; echo err >&2", "vars": become},
        {"name": "file", "ansible.builtin.command": "echo done", "vars": {**become, "ansible_pipelining": False}},
        {**PING[0], "name": "not asked", "vars": {**become, "ansible_become_exe": str(free)}},
    ]
    done = run(agent.socket, tmp_path, tasks, "-vvvvv", core=core)
    assert done.status == 0, done.output
    assert "out" in done.result("raw")["stdout"]
    assert done.result("raw")["stderr"] == "a lecture\nerr\n"
    assert done.result("file")["stdout"] == "done"
    assert PASSWORD not in done.output


def test_a_wrong_password_fails_the_task(agent: StockAgent, tmp_path: Path, become: dict[str, Any]) -> None:
    task = {**PING[0], "vars": {**become, "ansible_become_password": "no"}}
    outcome, said = failure(run(agent.socket, tmp_path, [task]))
    assert outcome == "failed"
    assert "password was not accepted" in said


def test_a_controller_that_is_killed_leaves_nothing_that_waits_for_it(
    tmp_path: Path, become: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed between the question and the answer, with all that it has begun itself.

    The stock agent may end with it: it does where a client goes that has not read its reply.
    """
    shim, asked = Path(become["ansible_become_exe"]), tmp_path / "asked"
    shim.write_text(shim.read_text().replace("IFS= read", f"echo $$ >{asked}; exec sleep 1000; IFS= read"))
    task = {**PING[0], "vars": become}
    timeout = ("-e", f"ansible_qga_become_success_timeout={SHORT_S}")
    with StockAgent() as agent:
        # Ansible's workers have sessions of their own.
        monkeypatch.setenv("QGA_TEST", str(tmp_path))
        with meanwhile(lambda: run(agent.socket, tmp_path, [task], *timeout)):
            until(asked.exists, "nothing was asked", PATIENCE_S)
            for path in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    if f"QGA_TEST={tmp_path}\0".encode() in path.read_bytes():
                        os.kill(int(path.parent.name), signal.SIGKILL)
        (runner,) = (tmp_path / "kept").glob("*/1.runner.*")
        until(lambda: is_gone(int(runner.suffix[1:])), "it runs on")
        until(lambda: is_gone(int(asked.read_text())), "it runs on")
        assert list((tmp_path / "kept").glob("*/1.done.*"))
