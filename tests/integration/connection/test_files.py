"""Files, their modes and their names."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from ansible.errors import AnsibleError

from tests.integration.connection.playbooks import connected, run
from tests.processes.ansible_run import CONNECTION
from tests.processes.stock_agent import StockAgent
from tests.support.tiers import quick


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


@pytest.mark.parametrize("size", [10, 800_000])
def test_what_is_not_utf_8_is_run_put_and_fetched(
    agent: StockAgent, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, here, back = (tmp_path / name for name in ("kept", "here", "back"))
    kept.mkdir()
    content = os.urandom(size)
    here.write_bytes(content)
    name = os.fsdecode(b"caf\xe9")
    path = tmp_path / name / name
    path.parent.mkdir()
    connection = connected(monkeypatch, socket=agent.socket, guest_directories=[str(kept)], exec_timeout=20)
    command = f"printf %s '{name}'\n# {'x' * (size // 10)}"
    assert connection.exec_command(command, sudoable=False) == (0, os.fsencode(name), b"")
    connection.put_file(str(here), str(path))
    assert list(path.parent.iterdir()) == [path]
    connection.fetch_file(str(path), str(back))
    assert back.read_bytes() == content
    path.unlink()
    with pytest.raises(AnsibleError, match=r"no file .*/caf\\udce9 in the guest \[file_missing\]"):
        connection.fetch_file(str(path), str(back))
    connection.close()
    assert list(kept.iterdir()) == []
