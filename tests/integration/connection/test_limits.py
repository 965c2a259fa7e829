"""The limits of commands and files, and guests that take or give without an end."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Fault as WireFault
from tests.fakes.faults import Late, On
from tests.fakes.this_machine import Fault, ThisMachine, returning
from tests.integration.connection.playbooks import (
    SHORT_S,
    failure,
    run,
    wrap_agent,
)
from tests.processes.socket_server import SocketServer, forward_to, listen_unix
from tests.processes.state import is_gone
from tests.processes.stock_agent import StockAgent
from tests.support.tiers import quick
from tests.support.until import until


def test_a_command_that_never_ends(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "sleep", "ansible.builtin.raw": f"echo $$ >{tmp_path}/pid; exec sleep 1000"}
    outcome, said = failure(run(agent.socket, tmp_path, [task], "-e", f"ansible_qga_exec_timeout={SHORT_S}"))
    assert outcome == "failed"
    assert f"did not end within {SHORT_S} s, and was ended [exec_timeout]" in said
    until(lambda: is_gone(int((tmp_path / "pid").read_text())), "it runs on")


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


def test_output_byte_by_byte_is_given_up(tmp_path: Path) -> None:
    with hostile(tmp_path / "a.sock") as machine:
        machine.faults = {("guest-file-read", None): endless(1), ("guest-file-seek", None): LARGE}
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


@pytest.mark.parametrize(("command", "begin"), [("guest-file-read", "file"), ("guest-file-write", "remote")])
def test_a_file_has_its_time_for_all_of_it(tmp_path: Path, command: str, begin: str) -> None:
    (tmp_path / "file").write_bytes(os.urandom(MUCH))
    put = {"name": "copy", "ansible.builtin.copy": {"src": f"{tmp_path}/file", "dest": f"{tmp_path}/there"}}
    task = put if begin == "remote" else fetching(tmp_path, MUCH)
    fault = returning(lambda value: {**value, "count": 300}) if begin == "remote" else endless(300)
    with hostile(tmp_path / "a.sock", On(command, Late(0.1))) as machine:
        machine.faults = {(command, None): of_file(machine, tmp_path / begin, fault)}
        limit = ("-e", "ansible_qga_exec_timeout=5")
        outcome, said = failure(run(str(tmp_path / "a.sock"), tmp_path, [task], *limit))
    assert outcome == "failed"
    assert f"{tmp_path}/{begin}" in said
    assert "was not transferred within 5 s [exec_timeout]" in said
    assert machine.count(command) < 100
