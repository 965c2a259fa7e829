"""Tasks over a real stock agent: what must work, what goes wrong, and what is in the log."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kinds import RHEL_BLOCKED
from tests.integration.connection.playbooks import BECOME_SHIM, PASSWORD, PATIENCE_S, PING, SHORT_S, failure, run
from tests.processes import stock_agent
from tests.processes.ansible_run import CONNECTION, every_core
from tests.processes.core_targets import run_connection_target
from tests.processes.state import is_gone
from tests.processes.stock_agent import StockAgent
from tests.support.tiers import quick
from tests.support.until import meanwhile, until

MEGABYTES = 5
# Where compiled code is kept, and what has Python write it even if whoever runs the tests has it write none.
CODE = f"qga-code-{os.geteuid()}"
WRITES = {"PYTHONDONTWRITEBYTECODE": ""}


def tasks_of_all_kinds(directory: Path) -> list[dict[str, Any]]:
    there, (big, back, none) = (
        f"{directory}/with space \u4f60",
        [f"{directory}/{name}" for name in ("big", "back", "none")],
    )
    copy = {"ansible.builtin.copy": {"src": big, "dest": f"{there}/big", "mode": "0640"}}
    greeting = {"environment": {"GREETING": "it's \u00fc"}}
    return [
        {"name": "ping", "ansible.builtin.ping": {}},
        {"name": "ping by a file", "ansible.builtin.ping": {}, "vars": {"ansible_pipelining": False}},
        {"name": "setup", "ansible.builtin.setup": {"gather_subset": ["!all", "min", "env"]}},
        {"name": "raw", "ansible.builtin.raw": "echo \u6c49\u8bed; echo oops >&2; exit 3", "failed_when": False},
        {"name": "signal", "ansible.builtin.raw": "kill -9 $$", "failed_when": False},
        {"name": "script", "ansible.builtin.script": f"{directory}/script 'an argument'"},
        {"name": "environment", "ansible.builtin.command": "printenv GREETING", **greeting},
        {"name": "stdin", "ansible.builtin.command": {"cmd": "sha256sum", "stdin": "x" * 300_000}},
        {"name": "make a directory", "ansible.builtin.file": {"path": there, "state": "directory"}},
        {"name": "copy nothing", "ansible.builtin.copy": {"src": f"{directory}/empty", "dest": f"{there}/empty"}},
        {"name": "copy much", **copy},
        {"name": "copy again", **copy},
        {"name": "fetch much", "ansible.builtin.fetch": {"src": f"{there}/big", "dest": back, "flat": True}},
        {"name": "fetch much by a module", "ansible.builtin.slurp": {"src": f"{there}/big"}, "no_log": True},
        {"name": "fetch nothing", "ansible.builtin.fetch": {"src": f"{there}/empty", "dest": none, "flat": True}},
        {"name": "async", "ansible.builtin.command": "sh -c 'sleep 1; echo done'", "async": 60, "poll": 1},
        {"name": "reset", "ansible.builtin.meta": "reset_connection"},
        {"name": "wait", "ansible.builtin.wait_for_connection": {"timeout": 60}},
    ]


@pytest.mark.thorough
@every_core
def test_tasks_of_all_kinds(agent: StockAgent, tmp_path: Path, core: str) -> None:
    (tmp_path / "script").write_text('#!/bin/sh\necho "script: $1"\n')
    (tmp_path / "empty").touch()
    content = bytes(range(256)) * (MEGABYTES * 4096)
    (tmp_path / "big").write_bytes(content)

    done = run(agent.socket, tmp_path, tasks_of_all_kinds(tmp_path), core=core)

    assert done.status == 0, done.output
    assert "ansible_env" in done.result("setup")["ansible_facts"]
    raw = done.result("raw")
    assert (raw["stdout"], raw["stderr"], raw["rc"]) == ("\u6c49\u8bed\n", "oops\n", 3)
    assert done.result("signal")["rc"] == 128 + 9
    assert "signal 9 (SIGKILL)" in done.result("signal")["stderr"]
    assert done.result("script")["stdout"] == "script: an argument\n"
    assert done.result("environment")["stdout"] == "it's \u00fc"
    assert done.result("async")["stdout"] == "done"
    assert [done.result(name)["changed"] for name in ("copy much", "copy again")] == [True, False]
    assert (tmp_path / "back").read_bytes() == content
    assert (tmp_path / "none").read_bytes() == b""
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {CODE}


@every_core
def test_compiled_code_of_modules_is_kept_and_taken(agent: StockAgent, tmp_path: Path, core: str) -> None:
    tasks = [{"name": name, "ansible.builtin.ping": {}, "environment": WRITES} for name in ("first", "second")]
    done = run(agent.socket, tmp_path, tasks, core=core)
    assert done.status == 0, done.output
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept" / CODE).iterdir()}
    assert len(kept) > 20
    more = run(agent.socket, tmp_path, [{**tasks[0], "name": "third"}], core=core)
    assert more.status == 0, more.output
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept" / CODE).iterdir()} == kept


@pytest.mark.thorough
def test_ansibles_own_test_of_connection_plugins(agent: StockAgent, tmp_path: Path) -> None:
    variables = {
        "ansible_connection": CONNECTION,
        "ansible_qga_socket": agent.socket,
        "ansible_qga_guest_directories": str(tmp_path),
        "ansible_python_interpreter": sys.executable,
    }
    hosts = {f"guest-{value}": {**variables, "ansible_pipelining": value} for value in ("true", "false")}
    output = run_connection_target(hosts, tmp_path / "local", str(tmp_path / "remote"))
    assert output.count("wait_for_connection") >= 1


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
