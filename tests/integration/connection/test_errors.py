"""What goes wrong, and what is in the log."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.fakes.kinds import RHEL_BLOCKED
from tests.integration.connection.playbooks import PING, failure, run
from tests.processes.ansible_run import every_core
from tests.processes.stock_agent import StockAgent

# It is in what a task is given and in what it writes, and must not be in any log.
SECRET = "hunter2-never-in-a-log"  # noqa: S105  # nobody's


def test_rhels_list_of_disabled_commands(tmp_path: Path) -> None:
    with StockAgent(block_rpcs=RHEL_BLOCKED - {"guest-file-seek", "guest-file-flush"}) as agent:
        outcome, said = failure(run(agent.socket, tmp_path, PING))
    assert outcome == "unreachable"
    assert "has disabled guest-exec, guest-exec-status, guest-file-open" in said
    assert "/etc/sysconfig/qemu-ga" in said


def test_an_agent_that_keeps_silent(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(8)
        outcome, said = failure(run(str(path), tmp_path, PING, "-e", "ansible_qga_timeout=0.5"))
    assert outcome == "unreachable"
    assert "[unresponsive]" in said


@every_core
def test_nothing_secret_is_in_the_log_at_any_verbosity(agent: StockAgent, tmp_path: Path, core: str) -> None:
    (tmp_path / "file").write_text(SECRET)
    secret = f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/file') }}}}"  # Ansible shows a task as it is written
    there = str(tmp_path / "there")
    tasks = [
        {"name": "raw", "ansible.builtin.raw": f"echo {secret}; echo {secret} >&2", "no_log": True},
        {"name": "stdin", "ansible.builtin.command": {"cmd": "cat", "stdin": secret}, "no_log": True},
        {"name": "copy", "ansible.builtin.copy": {"src": str(tmp_path / "file"), "dest": there}, "no_log": True},
        {"name": "fetch", "ansible.builtin.fetch": {"src": there, "dest": str(tmp_path / "back")}, "no_log": True},
        {"name": "fail", "ansible.builtin.raw": f"echo {secret}; exit 1", "no_log": True, "ignore_errors": True},
    ]
    done = run(agent.socket, tmp_path, tasks, "-vvvvvv", core=core)
    assert done.status == 0, done.output
    assert "guest-exec was answered after" in done.output
    assert SECRET not in done.output
