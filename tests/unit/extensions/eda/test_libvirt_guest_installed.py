"""Where the event source finds its collection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.collection import ROOT

SOURCE = ROOT / "extensions/eda/plugins/event_source/libvirt_guest.py"
# What is found there would be loaded for good, so each of these is a process of its own.
FINDER = ROOT / "tests/support/event_source_finder.py"


def found_by(source: Path, **environment: str) -> tuple[str, list[str] | None]:
    done = subprocess.run(
        [sys.executable, str(FINDER), str(source)],
        env={"HOME": "/nonexistent", **environment},
        cwd=source.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    where, imported = json.loads(done.stdout)
    return where, imported


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A path of collections with this one."""
    collection = tmp_path / "collections" / "ansible_collections" / "qemu" / "guest_agent"
    shutil.copytree(ROOT / "plugins", collection / "plugins")
    (collection / SOURCE.relative_to(ROOT)).parent.mkdir(parents=True)
    shutil.copy(SOURCE, collection / SOURCE.relative_to(ROOT))
    return tmp_path / "collections"


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The file, copied to where nothing else is."""
    directory = tmp_path / "sources"
    directory.mkdir()
    return Path(shutil.copy(SOURCE, directory))


WATCHER = Path("ansible_collections/qemu/guest_agent/plugins/module_utils/_watch/watcher.py")


class TestItFindsItsCollection:
    def test_in_a_checkout(self) -> None:
        assert found_by(SOURCE) == (str(ROOT / "plugins/module_utils/_watch/watcher.py"), [])

    def test_where_it_is_installed_before_all_others(self, installed: Path) -> None:
        source = installed / "ansible_collections/qemu/guest_agent" / SOURCE.relative_to(ROOT)
        assert found_by(source, ANSIBLE_COLLECTIONS_PATH="/nonexistent") == (str(installed / WATCHER), [])

    def test_by_a_link_to_it(self, tmp_path: Path) -> None:
        link = tmp_path / SOURCE.name
        link.symlink_to(SOURCE)
        assert found_by(link)[0] == str(ROOT / "plugins/module_utils/_watch/watcher.py")

    def test_where_python_finds_it(self, alone: Path, installed: Path) -> None:
        assert found_by(alone, PYTHONPATH=str(installed))[0] == str(installed / WATCHER)

    def test_by_ansibles_variable(self, alone: Path, installed: Path) -> None:
        path = f"/nonexistent:{installed}"
        assert found_by(alone, ANSIBLE_COLLECTIONS_PATH=path) == (str(installed / WATCHER), [])

    def test_where_ansible_looks_by_itself(self, alone: Path, installed: Path) -> None:
        (installed.parent / ".ansible").mkdir()
        installed.rename(installed.parent / ".ansible" / "collections")
        where = str(installed.parent / ".ansible" / "collections" / WATCHER)
        assert found_by(alone, HOME=str(installed.parent))[0] == where
        assert found_by(alone, ANSIBLE_HOME=str(installed.parent / ".ansible"))[0] == where

    def test_or_says_where_it_has_looked(self, alone: Path) -> None:
        said, _imported = found_by(alone, ANSIBLE_COLLECTIONS_PATH="/nonexistent/a:/nonexistent/b")
        assert said.startswith("libvirt_guest needs the rest of its collection, qemu.guest_agent, which is in none of")
        assert "/nonexistent/a/ansible_collections/qemu/guest_agent, /nonexistent/b/" in said
        assert said.endswith("by ANSIBLE_COLLECTIONS_PATH.")
