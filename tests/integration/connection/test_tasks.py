"""What must work, over a real stock agent."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.connection.playbooks import run
from tests.processes.ansible_run import CONNECTION, every_core
from tests.processes.core_targets import run_connection_target
from tests.processes.stock_agent import StockAgent

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
