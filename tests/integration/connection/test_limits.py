"""The limits of commands and files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.connection.playbooks import SHORT_S, failure, run
from tests.processes import stock_agent
from tests.processes.state import is_gone
from tests.processes.stock_agent import StockAgent
from tests.support.tiers import quick
from tests.support.until import until

# An agent that finds every program of this machine but setsid: BSD and macOS have none.
WITHOUT_SETSID = """#!/bin/sh
exec unshare --mount sh -c '
  for place in /bin /usr/bin; do
    [ ! -L $place ] || continue
    mkdir -p "$0/all$place" "$0/but$place" &&
      mount --bind $place "$0/all$place" &&
      ln -sf "$0/all$place"/* "$0/but$place/" &&
      rm -f "$0/but$place/setsid" &&
      mount --bind "$0/but$place" $place || exit
  done
  exec "$@"
' {directory} {qemu_ga} "$@"
"""
UNENDING = {
    "itself": "echo $$ >{pid}; exec sleep 1000",
    "with a child": "sh -c 'echo $$ >{pid}; exec sleep 1000'; true",
    "with a child in the background": "sh -c 'echo $$ >{pid}; exec sleep 1000' & wait",
    "in a pipe": "sh -c 'echo $$ >{pid}; exec sleep 1000' | cat",
}


@pytest.mark.parametrize("command", quick(UNENDING, ["with a child"]))
def test_a_command_that_never_ends_is_ended_without_setsid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    mount = ["mount", "-t", "tmpfs", "none", str(tmp_path)]
    if subprocess.run(["unshare", "--mount", *mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    program, pid = tmp_path / "qemu-ga", tmp_path / "pid"
    program.write_text(WITHOUT_SETSID.format(directory=tmp_path, qemu_ga=stock_agent.find_qemu_ga()))
    program.chmod(0o755)
    monkeypatch.setattr(stock_agent, "find_qemu_ga", lambda: str(program))
    tasks = [
        {"name": "look", "ansible.builtin.raw": "command -v setsid", "failed_when": False},
        {"name": "sleep", "ansible.builtin.raw": UNENDING[command].format(pid=pid)},
    ]
    with StockAgent() as bsd:
        done = run(bsd.socket, tmp_path, tasks, "-e", f"ansible_qga_exec_timeout={SHORT_S}")
        assert done.result("look")["stdout"] == "", done.output
        assert f"did not end within {SHORT_S} s, and was ended [exec_timeout]" in done.result("sleep")["msg"]
        until(lambda: is_gone(int(pid.read_text())), "it runs on")


@pytest.mark.thorough
def test_a_task_that_is_given_up(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "sleep", "ansible.builtin.raw": f"echo $$ >{tmp_path}/pid; exec sleep 1000", "timeout": SHORT_S}
    assert run(agent.socket, tmp_path, [task]).status != 0
    until(lambda: is_gone(int((tmp_path / "pid").read_text())), "it runs on")


def test_a_hundred_megabytes_of_output(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "write", "ansible.builtin.raw": "head -c 100000000 /dev/zero"}
    outcome, said = failure(run(agent.socket, tmp_path, [task]))
    assert outcome == "failed"
    assert f"wrote more than {64 * 1048576} bytes" in said
    assert "fetch" in said


def test_a_file_above_the_limit_is_not_fetched(agent: StockAgent, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (1024 * 1024 + 1))
    fetch = {"src": f"{tmp_path}/file", "dest": f"{tmp_path}/back", "flat": True}
    task = {"name": "fetch", "ansible.builtin.fetch": fetch}
    outcome, said = failure(run(agent.socket, tmp_path, [task], "-e", "ansible_qga_max_fetch=1"))
    assert outcome == "failed"
    assert "has 1048577 bytes in the guest, and max_fetch allows 1048576 [file_transfer]" in said
    assert not (tmp_path / "back").exists()
