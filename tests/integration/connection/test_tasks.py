"""What must work, over a real stock agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.connection.playbooks import (
    run,
    wrap_agent,
)
from tests.processes.ansible_run import CONNECTION, every_core
from tests.processes.core_targets import run_connection_target
from tests.processes.stock_agent import StockAgent

MEGABYTES = 5
# Where compiled code is kept, and what has Python write it even if whoever runs the tests has it write none.
CODE = f"qga-code-{os.geteuid()}"
WRITES = {"PYTHONDONTWRITEBYTECODE": ""}


def tasks_of_all_kinds(directory: Path) -> list[dict[str, Any]]:
    there = directory / "with space \u4f60"
    big = directory / "big"
    return [
        {"name": "ping", "ansible.builtin.ping": {}},
        {"name": "ping by a file", "ansible.builtin.ping": {}, "vars": {"ansible_pipelining": False}},
        {"name": "setup", "ansible.builtin.setup": {"gather_subset": ["!all", "min", "env"]}},
        {"name": "raw", "ansible.builtin.raw": "echo \u6c49\u8bed; echo oops >&2; exit 3", "failed_when": False},
        {"name": "signal", "ansible.builtin.raw": "kill -9 $$", "failed_when": False},
        {"name": "script", "ansible.builtin.script": f"{directory}/script 'an argument'"},
        {
            "name": "environment",
            "ansible.builtin.command": "printenv GREETING",
            "environment": {"GREETING": "it's \u00fc"},
        },
        {"name": "stdin", "ansible.builtin.command": {"cmd": "sha256sum", "stdin": "x" * 300_000}},
        {"name": "make a directory", "ansible.builtin.file": {"path": str(there), "state": "directory"}},
        {
            "name": "copy nothing",
            "ansible.builtin.copy": {"src": str(directory / "empty"), "dest": str(there / "empty")},
        },
        {"name": "copy much", "ansible.builtin.copy": {"src": str(big), "dest": str(there / "big"), "mode": "0640"}},
        {"name": "copy again", "ansible.builtin.copy": {"src": str(big), "dest": str(there / "big"), "mode": "0640"}},
        {
            "name": "fetch much",
            "ansible.builtin.fetch": {"src": str(there / "big"), "dest": f"{directory}/back", "flat": True},
        },
        {
            "name": "fetch much by a module",
            "ansible.builtin.slurp": {"src": str(there / "big")},
            "no_log": True,
        },
        {
            "name": "fetch nothing",
            "ansible.builtin.fetch": {"src": f"{there}/empty", "dest": f"{directory}/none", "flat": True},
        },
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


def test_nothing_is_left_if_no_code_is_to_be_kept(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "ping", "ansible.builtin.ping": {}, "environment": WRITES}
    done = run(agent.socket, tmp_path, [task], "-e", json.dumps({"ansible_qga_module_cache": False}))
    assert done.status == 0, done.output
    assert list((tmp_path / "kept").iterdir()) == []


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


# An agent that has a /run of its own, as NixOS and Guix have one: programs with setuid bits are in one directory, and
# those of the system, without them, in another.
OWN_RUN = """#!/bin/sh
exec unshare --mount sh -c '
  mount -t tmpfs none /run || exit
  for place in PRIVILEGED SYSTEM; do
    mkdir -p $place
    printf "#!/bin/sh\\necho $place\\n" >$place/sudo-or-su
    chmod 755 $place/sudo-or-su
  done
  cp SYSTEM/sudo-or-su SYSTEM/only-there
  exec "$0" "$@"
' {qemu_ga} "$@"
"""
PLACES = {
    "NixOS": ("/run/wrappers/bin", "/run/current-system/sw/bin"),
    "Guix": ("/run/privileged/bin", "/run/current-system/profile/bin"),
    "Guix, setuid programs only": ("/run/setuid-programs", "/run/current-system/profile/sbin"),
}


@pytest.mark.parametrize("system", PLACES)
def test_programs_are_found_where_some_systems_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    privileged, others = PLACES[system]
    wrap_agent(OWN_RUN.replace("PRIVILEGED", privileged).replace("SYSTEM", others), tmp_path, monkeypatch)
    with StockAgent() as elsewhere:
        tasks = [{"name": name, "ansible.builtin.raw": name} for name in ("only-there", "sudo-or-su")]
        done = run(elsewhere.socket, tmp_path, tasks)
    assert done.result("only-there")["stdout_lines"] == [others], done.output
    assert done.result("sudo-or-su")["stdout_lines"] == [privileged]


def test_the_documentation_can_be_shown(tmp_path: Path) -> None:
    from tests.support.collection import install

    program = Path(sys.executable).parent / "ansible-doc"
    shown = subprocess.run(
        [str(program), "-t", "connection", CONNECTION],
        capture_output=True,
        text=True,
        check=False,
        env={"ANSIBLE_COLLECTIONS_PATH": str(install()), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    assert shown.returncode == 0, shown.stderr
    assert "ansible_qga_domain" in shown.stdout
