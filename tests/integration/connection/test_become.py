"""Tasks as another user."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.integration.connection.playbooks import (
    BECOME_SHIM,
    GUEST,
    PASSWORD,
    SHORT_S,
    run,
)
from tests.processes.ansible_run import CONNECTION, every_core
from tests.processes.state import is_gone
from tests.processes.stock_agent import StockAgent
from tests.support.until import until


@every_core
def test_becoming_another_user_with_a_password(
    agent: StockAgent, tmp_path: Path, become: dict[str, Any], core: str
) -> None:
    tasks = [
        {"name": "ping", "ansible.builtin.ping": {}, "vars": become},
        {"name": "raw", "ansible.builtin.raw": "echo out; echo err >&2", "vars": become},
        {
            "name": "by a file",
            "ansible.builtin.command": "echo done",
            "vars": {**become, "ansible_pipelining": False},
        },
    ]
    done = run(agent.socket, tmp_path, tasks, "-vvvvv", core=core)
    assert done.status == 0, done.output
    assert "out" in done.result("raw")["stdout"]
    assert done.result("raw")["stderr"] == "a lecture\nerr\n"
    assert done.result("by a file")["stdout"] == "done"
    assert PASSWORD not in done.output


def test_a_password_that_is_not_asked_for_is_not_given(
    agent: StockAgent, tmp_path: Path, become: dict[str, Any]
) -> None:
    free = tmp_path / "free"
    free.write_text(BECOME_SHIM.replace('if [ "$prompt" ]', "if false"))
    free.chmod(0o755)
    tasks = [{"name": "ping", "ansible.builtin.ping": {}, "vars": {**become, "ansible_become_exe": str(free)}}]
    done = run(agent.socket, tmp_path, tasks)
    assert done.status == 0, done.output


def test_a_wrong_password_is_told_as_that(agent: StockAgent, tmp_path: Path, become: dict[str, Any]) -> None:
    tasks = [{"name": "ping", "ansible.builtin.ping": {}, "vars": {**become, "ansible_become_password": "no"}}]
    done = run(agent.socket, tmp_path, tasks)
    assert "password was not accepted" in done.result("ping")["msg"]
    assert done.tasks[0].outcome == "failed"


def test_a_controller_that_is_killed_leaves_nothing_that_waits_for_it(
    own_agent: StockAgent, tmp_path: Path, become: dict[str, Any]
) -> None:
    """It is killed between the question and the answer, with all that it has begun itself.

    The stock agent may end with it: it does where a client goes that has not read its reply.
    """
    from tests.support.collection import install

    shim = Path(become["ansible_become_exe"])
    shim.write_text(shim.read_text().replace("IFS= read", f"echo $$ >{tmp_path}/asked; exec sleep 1000; IFS= read"))
    playbook = tmp_path / "play.yml"
    task = {"name": "ping", "ansible.builtin.ping": {}, "vars": become}
    playbook.write_text(yaml.safe_dump([{"hosts": GUEST, "gather_facts": False, "tasks": [task]}]))
    kept = tmp_path / "kept"
    kept.mkdir()
    variables = {
        "ansible_connection": CONNECTION,
        "ansible_qga_socket": own_agent.socket,
        "ansible_qga_guest_directories": [str(kept)],
        "ansible_qga_become_success_timeout": SHORT_S,
    }
    with subprocess.Popen(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("-i", f"{GUEST},", "-e", json.dumps(variables), str(playbook)),
        ],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(install()), "QGA_TEST": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ):
        until((tmp_path / "asked").exists, "nothing was asked", 60.0)
        # Ansible's workers have sessions of their own.
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"QGA_TEST={tmp_path}\0".encode() in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
    (runner,) = kept.glob("*/1.runner.*")
    until(lambda: is_gone(int(runner.suffix[1:])), "it runs on")
    until(lambda: is_gone(int((tmp_path / "asked").read_text())), "it runs on")
    assert list(kept.glob("*/1.done.*"))
