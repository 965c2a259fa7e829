# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connection plugin in playbooks, over a real stock agent of this machine: its guest is this machine.

All that tasks do stays below a temporary directory.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.playbook.play_context import PlayContext
from ansible_collections.qemu.guest_agent.plugins.connection import qga
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.session import NEEDED

from tests.support import stock_agent
from tests.support.acl import access_acl, set_acl
from tests.support.agent_client import Client
from tests.support.ansible_run import CONNECTION, PlaybookRun, run_playbook
from tests.support.core_targets import run_connection_target
from tests.support.cores import every_core
from tests.support.fake_agent import (
    BEFORE_1_2,
    BEFORE_4_2,
    FROZEN,
    RHEL_BLOCKED,
    STOCK,
    FakeAgent,
    Kind,
    Late,
    On,
    Pieces,
    Sent,
    SocketServer,
    listen_unix,
)
from tests.support.fake_agent import Fault as WireFault
from tests.support.forwarder import forward_to
from tests.support.guest_channel import GuestChannel
from tests.support.processes import is_gone
from tests.support.stock_agent import StockAgent
from tests.support.terminal import commands_in
from tests.support.this_machine import Fault, ThisMachine, returning
from tests.support.tiers import quick
from tests.support.until import until

GUEST = "guest1"
MEGABYTES = 5
# It is in what a task is given and in what it writes, and must not be in any log.
SECRET = "hunter2-never-in-a-log"  # noqa: S105  # nobody's
SHORT_S = 2
PATIENCE_S = 60.0
# Where compiled code is kept, and what has Python write it even if whoever runs the tests has it write none.
CODE = f"qga-code-{os.geteuid()}"
WRITES = {"PYTHONDONTWRITEBYTECODE": ""}


@pytest.fixture(scope="module")
def agent() -> Iterator[StockAgent]:
    with StockAgent() as running:
        yield running


@pytest.fixture
def own_agent() -> Iterator[StockAgent]:
    with StockAgent() as running:
        yield running


def run(
    socket_path: str, directory: Path, tasks: Sequence[Mapping[str, Any]], *arguments: str, core: str | None = None
) -> PlaybookRun:
    play = {"hosts": GUEST, "gather_facts": False, "tasks": list(tasks)}
    playbook = directory / "play.yml"
    playbook.write_text(yaml.safe_dump([play], allow_unicode=True))
    kept = directory / "kept"
    kept.mkdir(exist_ok=True)
    variables = {
        "ansible_connection": CONNECTION,
        "ansible_qga_socket": socket_path,
        "ansible_qga_guest_directories": ["/nonexistent", str(kept)],
        "ansible_python_interpreter": sys.executable,
        "ansible_remote_tmp": str(directory / "remote"),
        "ansible_async_dir": str(directory / "async"),
    }
    return run_playbook(playbook, "-i", f"{GUEST},", "-e", json.dumps(variables), *arguments, core=core)


# ------------------------------------------------------------------------------------------------------ what must work


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


# ------------------------------------------------------------------------------------------------------- another user

# Asks as sudo does, at its own pace; a wrong password is asked for again.
SHIM = """#!/bin/sh
prompt=
while [ $# -gt 0 ]; do
  case $1 in
    -p) prompt=$2; shift 2 ;;
    -u) shift 2 ;;
    -*) shift ;;
    *) break ;;
  esac
done
if [ "$prompt" ]; then
  echo "a lecture" >&2
  for attempt in 1 2 3; do
    printf '%s' "$prompt" >&2
    IFS= read -r answer || exit 1
    [ "$answer" = "it's \\\\ s\u00fc\\$t" ] && exec "$@"
    printf '\\nSorry, try again.\\n' >&2
  done
  exit 1
fi
exec "$@"
"""
PASSWORD = "it's \\ s\u00fc$t"  # noqa: S105  # nobody's


@pytest.fixture
def become(tmp_path: Path) -> dict[str, Any]:
    shim = tmp_path / "shim"
    shim.write_text(SHIM)
    shim.chmod(0o755)
    return {"ansible_become": True, "ansible_become_exe": str(shim), "ansible_become_password": PASSWORD}


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
    free.write_text(SHIM.replace('if [ "$prompt" ]', "if false"))
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


# ----------------------------------------------------------------------------------------------------------- the modes


@pytest.mark.parametrize("umask", quick([0o077, 0, 0o027], [0o077]))
def test_files_have_the_modes_that_a_login_gives_them(tmp_path: Path, umask: int) -> None:
    (tmp_path / "small").write_text("small")
    (tmp_path / "big").write_bytes(os.urandom(300_000))
    there = tmp_path / "there"
    become = {"become": True, "become_method": "ansible.builtin.su", "become_user": "root"}
    made = "umask; : >{0}; mkdir {0}.d"
    tasks = [
        {"name": "directory", "ansible.builtin.file": {"path": str(there), "state": "directory"}},
        {"name": "small", "ansible.builtin.copy": {"src": f"{tmp_path}/small", "dest": f"{there}/small"}},
        {"name": "big", "ansible.builtin.copy": {"src": f"{tmp_path}/big", "dest": f"{there}/big"}},
        {"name": "raw", "ansible.builtin.raw": made.format(there / "raw")},
        {"name": "module", "ansible.builtin.shell": made.format(there / "module")},
        {"name": "file", "ansible.builtin.shell": made.format(there / "file"), "vars": {"ansible_pipelining": False}},
        {"name": "become", "ansible.builtin.shell": made.format(there / "become"), **become},
    ]
    with StockAgent(umask=umask) as agent:
        done = run(agent.socket, tmp_path, tasks)
    assert done.status == 0, done.output
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there, *there.iterdir())}
    assert len(modes) == 11
    assert modes == {name: 0o755 if name == "there" or name.endswith(".d") else 0o644 for name in modes}


def test_fetched_files_have_the_modes_that_a_local_connection_gives_them(agent: StockAgent, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(300_000))
    modes = {}
    for connection in (CONNECTION, "local"):
        here = tmp_path / connection
        here.mkdir()
        (here / "old").touch()
        (here / "old").chmod(0o664)
        (here / "link").symlink_to("old")
        fetch = [
            {"ansible.builtin.fetch": {"src": f"{tmp_path}/source", "dest": f"{here}/{name}", "flat": True}}
            for name in ("new", "old", "link")
        ]
        done = run(agent.socket, tmp_path, fetch, "-e", f"ansible_connection={connection}")
        assert done.status == 0, done.output
        modes[connection] = {path.name: path.lstat().st_mode for path in here.iterdir()}
    assert len(modes["local"]) == 3
    assert modes[CONNECTION] == modes["local"]


def test_a_path_that_a_guest_has_chosen_is_shown_as_text(tmp_path: Path) -> None:
    """It says that the file is there, and gives a byte of it at a time."""
    asked, named = tmp_path / "file", tmp_path / "\x1b]0;owned\x07\x1b[2J\nfatal: [db1]: all is well"
    for path in (asked, named):
        path.write_bytes(os.urandom(300_000))

    def lie(value: dict[str, Any]) -> dict[str, Any]:
        said = base64.b64decode(value.get("out-data", ""))
        if bytes(asked) in said:
            machine.most_read = 1
        return {**value, "out-data": base64.b64encode(said.replace(bytes(asked), bytes(named))).decode()}

    machine = ThisMachine({("guest-exec-status", None): returning(lie)})
    fetch = {"src": str(asked), "dest": f"{tmp_path}/back", "flat": True}
    with FakeAgent(listen_unix(tmp_path / "agent.sock"), STOCK, perform=machine.reply_to):
        done = run(str(tmp_path / "agent.sock"), tmp_path, [{"ansible.builtin.fetch": fetch}])
    outcome, said = failure(done)
    assert outcome == "failed"
    assert "only a few bytes at a time" in said
    assert commands_in(done.output) == []
    assert "\nfatal: [db1]" not in done.output


# ----------------------------------------------------------------------------------------------------------- the bytes

NOT_UTF_8 = os.fsdecode(b"caf\xe9")


@pytest.fixture
def connection(agent: StockAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[qga.Connection]:
    """The connection plugin by itself: a playbook is UTF-8, but what an action finds in a guest may be anything."""
    kept = tmp_path / "kept"
    kept.mkdir()
    defaults = {name: option.get("default") for name, option in yaml.safe_load(qga.DOCUMENTATION)["options"].items()}
    given = {"socket": agent.socket, "guest_directories": [str(kept)], "exec_timeout": 20}
    monkeypatch.setattr(qga.Connection, "get_option", lambda _self, name, **_others: {**defaults, **given}[name])
    connected = qga.Connection(PlayContext(), "/dev/null")
    yield connected
    connected.close()
    assert {path.name for path in kept.iterdir()} <= {CODE}


@pytest.mark.parametrize("length", [0, 80_000])
def test_a_command_that_is_not_utf_8_is_run(connection: qga.Connection, length: int) -> None:
    command = f"printf %s '{NOT_UTF_8}'" + f"\n# {'x' * length}" * bool(length)
    assert connection.exec_command(command, sudoable=False) == (0, os.fsencode(NOT_UTF_8), b"")


@pytest.mark.parametrize("size", [10, 800_000])
def test_a_file_whose_name_is_not_utf_8_is_put_and_fetched(
    connection: qga.Connection, tmp_path: Path, size: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "here").write_bytes(content)
    (tmp_path / NOT_UTF_8).mkdir()
    path = str(tmp_path / NOT_UTF_8 / NOT_UTF_8)
    connection.put_file(str(tmp_path / "here"), path)
    assert os.listdir(tmp_path / NOT_UTF_8) == [NOT_UTF_8]
    connection.fetch_file(path, str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content


def test_a_file_that_is_not_there_is_named_whatever_its_bytes(connection: qga.Connection, tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match=r"no file .*/caf\\udce9 in the guest \[file_missing\]"):
        connection.fetch_file(str(tmp_path / NOT_UTF_8), str(tmp_path / "back"))


def test_what_no_program_can_be_given_fails_the_task(connection: qga.Connection) -> None:
    with pytest.raises(AnsibleError, match="NUL") as caught:
        connection.exec_command("echo a\0b", sudoable=False)
    assert not isinstance(caught.value, AnsibleConnectionFailure)


@pytest.mark.parametrize("size", [10, 800_000])
@pytest.mark.parametrize("mode", [0o755, 0o2755, 0o2775, 0o3777])
def test_a_file_is_put_into_a_directory_of_any_mode(
    connection: qga.Connection, tmp_path: Path, size: int, mode: int
) -> None:
    """A new one, and in place of one that has another name and an ACL."""
    content = os.urandom(size)
    (tmp_path / "here").write_bytes(content)
    there = tmp_path / "there"
    there.mkdir()
    there.chmod(mode)
    (there / "old").write_text("old")
    os.link(there / "old", tmp_path / "another name")
    set_acl(there / "old", owner=6, group=4, others=0, users={65534: 6})
    before = access_acl(there / "old")
    for name in ("new", "old"):
        connection.put_file(str(tmp_path / "here"), str(there / name))
        assert (there / name).read_bytes() == content
    assert sorted(os.listdir(there)) == ["new", "old"]
    assert (tmp_path / "another name").read_bytes() == content
    assert access_acl(there / "old") == before


@pytest.mark.parametrize("name", ["fifo", "/dev/zero", "socket"])
def test_what_is_no_file_is_not_fetched(connection: qga.Connection, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "socket"))
    with pytest.raises(AnsibleError, match="is not a regular file") as caught:
        connection.fetch_file(str(tmp_path / name), str(tmp_path / "back"))
    assert not isinstance(caught.value, AnsibleConnectionFailure)
    assert not (tmp_path / "back").exists()


def test_a_file_without_a_size_is_fetched(connection: qga.Connection, tmp_path: Path) -> None:
    connection.fetch_file("/proc/version", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == Path("/proc/version").read_bytes()


# ---------------------------------------------------------------------------------------------------------- the limits


def failure(done: PlaybookRun) -> tuple[str, str]:
    """How the only task failed, and what was said."""
    (record,) = done.tasks
    return record.outcome, re.sub(r"\s+", " ", record.result["msg"])


def test_a_command_that_never_ends(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "sleep", "ansible.builtin.raw": f"echo $$ >{tmp_path}/pid; exec sleep 1000"}
    outcome, said = failure(run(agent.socket, tmp_path, [task], "-e", f"ansible_qga_exec_timeout={SHORT_S}"))
    assert outcome == "failed"
    assert f"did not end within {SHORT_S} s, and was ended [exec_timeout]" in said
    until(lambda: is_gone(int((tmp_path / "pid").read_text())), "it runs on")


def wrap_agent(wrapper: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have stock agents started by this script, which mounts what they are to see."""
    mount = ["mount", "-t", "tmpfs", "none", str(directory)]
    if subprocess.run(["unshare", "--mount", *mount], capture_output=True, check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    program = directory / "qemu-ga"
    program.write_text(wrapper.format(directory=directory, qemu_ga=stock_agent.find_qemu_ga()))
    program.chmod(0o755)
    monkeypatch.setattr(stock_agent, "find_qemu_ga", lambda: str(program))


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
    wrap_agent(WITHOUT_SETSID, tmp_path, monkeypatch)
    pid = tmp_path / "pid"
    tasks = [
        {"name": "look", "ansible.builtin.raw": "command -v setsid", "failed_when": False},
        {"name": "sleep", "ansible.builtin.raw": UNENDING[command].format(pid=pid)},
    ]
    with StockAgent() as bsd:
        done = run(bsd.socket, tmp_path, tasks, "-e", f"ansible_qga_exec_timeout={SHORT_S}")
        assert done.result("look")["stdout"] == "", done.output
        assert "[exec_timeout]" in done.result("sleep")["msg"]
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


# ------------------------------------------------------------------- an agent that returns less than it was asked for

MUCH = 300_000


@contextmanager
def at_most(agent: StockAgent, path: Path, count: int) -> Iterator[None]:
    """A socket behind which the stock agent reads no more of a file at a time, whatever it is asked for."""

    def change(sent: bytes) -> bytes:
        return re.sub(
            rb'"guest-file-read".*?"count": ?[0-9]+',
            lambda found: re.sub(rb"[0-9]+\Z", lambda asked: str(min(int(asked[0]), count)).encode(), found[0]),
            sent,
        )

    with SocketServer(listen_unix(path), forward_to(agent.socket, change)):
        yield


@pytest.mark.parametrize("count", [49152, 4096])
def test_output_and_files_are_whole_however_little_comes_at_a_time(
    agent: StockAgent, tmp_path: Path, count: int
) -> None:
    content = os.urandom(MUCH)
    (tmp_path / "file").write_bytes(content)
    tasks = [
        {
            "name": "write",
            "ansible.builtin.raw": f"yes '' | head -c {MUCH}; yes | head -c {MUCH} >&2",
        },
        {
            "name": "fetch",
            "ansible.builtin.fetch": {"src": f"{tmp_path}/file", "dest": f"{tmp_path}/back", "flat": True},
        },
    ]
    with at_most(agent, tmp_path / "a.sock", count):
        done = run(str(tmp_path / "a.sock"), tmp_path, tasks)
    assert done.status == 0, done.output
    assert done.result("write")["stdout"] == "\n" * MUCH
    assert done.result("write")["stderr"] == "y\n" * (MUCH // 2)
    assert (tmp_path / "back").read_bytes() == content


def test_a_password_prompt_is_seen_however_little_comes_at_a_time(
    agent: StockAgent, tmp_path: Path, become: dict[str, Any]
) -> None:
    task = {"name": "raw", "ansible.builtin.raw": "echo out", "vars": become}
    with at_most(agent, tmp_path / "a.sock", 5):
        done = run(str(tmp_path / "a.sock"), tmp_path, [task])
    assert done.status == 0, done.output
    assert "out" in done.result("raw")["stdout"]


# -------------------------------------------------------------------------------- a guest that takes without an end


@contextmanager
def hostile(path: Path, *on_the_wire: WireFault) -> Iterator[ThisMachine]:
    """This machine behind an agent that lies as its ``faults`` say."""
    machine = ThisMachine()
    with FakeAgent(listen_unix(path), faults=on_the_wire, perform=machine.reply_to):
        yield machine


def endless(size: int) -> Fault:
    """There is always so much more of a file."""
    data = base64.b64encode(b"x" * size).decode()
    return returning(lambda _value: {"count": size, "buf-b64": data, "eof": False})


def of_file(machine: ThisMachine, begin: Path, fault: Fault) -> Fault:
    """Only for what is done to a file whose path begins so."""

    def only(perform: Callable[[], Reply]) -> Reply:
        opened = [arguments["path"] for command, arguments in machine.requests if command == "guest-file-open"][-1]
        return (fault if opened.startswith(str(begin)) else lambda perform: perform())(perform)

    return only


OUTPUT = {"name": "write", "ansible.builtin.raw": "head -c 100000 /dev/zero"}
LARGE = returning(lambda value: {**value, "position": 10_000_000})


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_output_in_pieces_of_a_few_bytes_is_given_up(tmp_path: Path, piece: int) -> None:
    with hostile(tmp_path / "a.sock") as machine:
        machine.faults = {("guest-file-read", None): endless(piece), ("guest-file-seek", None): LARGE}
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [OUTPUT]))
    assert outcome == "failed"
    assert "a few bytes at a time" in said
    assert machine.count("guest-file-read") < 300


def test_output_that_does_not_come_in_time_is_given_up(tmp_path: Path) -> None:
    # Each piece is as large as an honest agent's may be, and each exchange soon done.
    with hostile(tmp_path / "a.sock", On("guest-file-read", Late(0.1))) as machine:
        machine.faults = {("guest-file-read", None): endless(512), ("guest-file-seek", None): LARGE}
        limit = ("-e", f"ansible_qga_exec_timeout={SHORT_S}")
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [OUTPUT], *limit))
    assert outcome == "failed"
    assert f"its output was not read within {SHORT_S} s [exec_timeout]" in said
    assert machine.count("guest-file-read") < (SHORT_S + 6) / 0.1


@pytest.mark.parametrize("piece", [1, 300])
def test_becoming_another_user_has_its_time_whatever_the_guest_sends(
    tmp_path: Path, become: dict[str, Any], piece: int
) -> None:
    task = {"name": "ping", "ansible.builtin.raw": "echo", "vars": become}
    with hostile(tmp_path / "a.sock", On("guest-file-read", Late(0.2))) as machine:
        machine.faults = {("guest-file-read", None): endless(piece)}
        limit = ("-e", f"ansible_qga_become_success_timeout={SHORT_S}")
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [task], *limit))
    assert outcome == "failed"
    assert f"within {SHORT_S} s [become_failed]" in said
    assert machine.count("guest-file-read") < (SHORT_S + 2) / 0.2


def fetching(directory: Path, size: int) -> dict[str, Any]:
    (directory / "file").write_bytes(b"x" * size)
    return {
        "name": "fetch",
        "ansible.builtin.fetch": {"src": f"{directory}/file", "dest": f"{directory}/back", "flat": True},
    }


@pytest.mark.parametrize("size", [300_000, 700_000])
def test_no_more_of_a_file_is_fetched_than_it_is_said_to_have(tmp_path: Path, size: int) -> None:
    with hostile(tmp_path / "a.sock") as machine:

        def as_asked(_perform: Callable[[], Reply]) -> Reply:
            count = machine.requests[-1][1]["count"]
            return endless(count)(lambda: Returned({}))

        machine.faults = {("guest-file-read", None): of_file(machine, tmp_path / "file", as_asked)}
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [fetching(tmp_path, size)]))
    assert outcome == "failed"
    assert f"was changed while it was read, or is damaged: {size + 1} bytes came of {size}" in said
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("size", [0, 100])
def test_no_more_of_a_small_file_is_fetched_than_it_is_said_to_have(tmp_path: Path, size: int) -> None:
    def lengthen(value: dict[str, Any]) -> dict[str, Any]:
        head = base64.b64decode(value.get("out-data", "")).partition(b"\0")[0]
        longer = base64.b64encode(head + b"\0" + b"x" * 1_000_000).decode()
        return {**value, "out-data": longer} if head.endswith(b"/file") else value

    with hostile(tmp_path / "a.sock") as machine:
        machine.faults = {("guest-exec-status", None): returning(lengthen)}
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [fetching(tmp_path, size)]))
    assert outcome == "failed"
    assert f"1000000 bytes came of {size}" in said
    assert not (tmp_path / "back").exists()


def test_a_file_above_the_limit_is_not_fetched(agent: StockAgent, tmp_path: Path) -> None:
    task = fetching(tmp_path, 1024 * 1024 + 1)
    outcome, said = failure(run(agent.socket, tmp_path, [task], "-e", "ansible_qga_max_fetch=1"))
    assert outcome == "failed"
    assert "has 1048577 bytes in the guest, and max_fetch allows 1048576 [file_transfer]" in said
    assert not (tmp_path / "back").exists()
    done = run(agent.socket, tmp_path, [task], "-e", "ansible_qga_max_fetch=2")
    assert done.status == 0, done.output


def test_a_guest_that_takes_a_file_byte_by_byte_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(MUCH))
    task = {"name": "copy", "ansible.builtin.copy": {"src": f"{tmp_path}/file", "dest": f"{tmp_path}/there"}}
    with hostile(tmp_path / "a.sock") as machine:
        little = returning(lambda value: {**value, "count": 1})
        machine.faults = {("guest-file-write", None): of_file(machine, tmp_path / "remote", little)}
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [task]))
    assert outcome == "failed"
    assert "a few bytes at a time" in said
    assert machine.count("guest-file-write") < 300


def test_fetching_a_file_has_its_time_for_all_of_it(tmp_path: Path) -> None:
    with hostile(tmp_path / "a.sock", On("guest-file-read", Late(0.1))) as machine:
        machine.faults = {("guest-file-read", None): of_file(machine, tmp_path / "file", endless(300))}
        limit = ("-e", "ansible_qga_exec_timeout=5")
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [fetching(tmp_path, MUCH)], *limit))
    assert outcome == "failed"
    assert f"{tmp_path}/file was not transferred within 5 s [exec_timeout]" in said
    assert machine.count("guest-file-read") < 100


def test_putting_a_file_has_its_time_for_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(MUCH))
    task = {"name": "copy", "ansible.builtin.copy": {"src": f"{tmp_path}/file", "dest": f"{tmp_path}/there"}}
    with hostile(tmp_path / "a.sock", On("guest-file-write", Late(0.1))) as machine:
        little = returning(lambda value: {**value, "count": 300})
        machine.faults = {("guest-file-write", None): of_file(machine, tmp_path / "remote", little)}
        limit = ("-e", "ansible_qga_exec_timeout=5")
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [task], *limit))
    assert outcome == "failed"
    assert "was not transferred within 5 s [exec_timeout]" in said
    assert machine.count("guest-file-write") < 100


# --------------------------------------------------------------------- others that need the same agent meanwhile


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
        until(lambda: agent.received("guest-fsfreeze-status"), "the connection did not notice it")
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


# ------------------------------------------------------------------------------------------------------ what goes wrong

PING = [{"name": "ping", "ansible.builtin.ping": {}}]


def test_rhels_list_of_disabled_commands(tmp_path: Path) -> None:
    with StockAgent(block_rpcs=RHEL_BLOCKED - {"guest-file-seek", "guest-file-flush"}) as agent:
        outcome, said = failure(run(agent.socket, tmp_path, PING))
    assert outcome == "unreachable"
    assert "has disabled guest-exec, guest-exec-status, guest-file-open" in said
    assert "/etc/sysconfig/qemu-ga" in said


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
    assert len(agent.received("guest-fsfreeze-status")) >= len(FREEZING)


def test_an_agent_that_is_absent(tmp_path: Path) -> None:
    outcome, said = failure(run(str(tmp_path / "none.sock"), tmp_path, PING))
    assert outcome == "unreachable"
    assert "none.sock" in said
    assert "[not_found]" in said


def test_an_agent_that_keeps_silent(tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(8)
        outcome, said = failure(run(str(path), tmp_path, PING, "-e", "ansible_qga_timeout=0.5"))
    assert outcome == "unreachable"
    assert "[unresponsive]" in said


def test_two_ways_to_a_guest(agent: StockAgent, tmp_path: Path) -> None:
    outcome, said = failure(run(agent.socket, tmp_path, PING, "-e", "ansible_qga_domain=web1"))
    assert outcome == "failed"
    assert "everal options name the guest: domain, socket" in said


def test_a_file_that_is_not_there(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "fetch", "ansible.builtin.fetch": {"src": str(tmp_path / "none"), "dest": str(tmp_path / "back")}}
    outcome, said = failure(run(agent.socket, tmp_path, [task], "-e", "ansible_become=false"))
    assert outcome == "failed"
    assert "does not exist" in said


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
