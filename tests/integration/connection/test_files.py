"""Files, their modes and their names."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.playbook.play_context import PlayContext
from ansible_collections.qemu.guest_agent.plugins.connection import qga

from tests.fakes.agent import FakeAgent
from tests.fakes.kinds import STOCK
from tests.fakes.this_machine import ThisMachine, returning
from tests.integration.connection.playbooks import (
    failure,
    run,
)
from tests.processes.ansible_run import CONNECTION
from tests.processes.socket_server import listen_unix
from tests.processes.stock_agent import StockAgent
from tests.support.terminal import commands_in
from tests.support.tiers import quick

# Where compiled code is kept, and what has Python write it even if whoever runs the tests has it write none.
CODE = f"qga-code-{os.geteuid()}"
WRITES = {"PYTHONDONTWRITEBYTECODE": ""}


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
