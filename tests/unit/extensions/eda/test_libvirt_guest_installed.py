"""The places where the event source finds its collection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.collection import ROOT

SOURCE = ROOT / "extensions/eda/plugins/event_source/libvirt_guest.py"
# Run in a process of its own, because loaded modules stay loaded.
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
    """A path of collections that has this one. It is Ansible's default if HOME is ``tmp_path``."""
    collections = tmp_path / ".ansible" / "collections"
    collection = collections / "ansible_collections" / "qemu" / "guest_agent"
    shutil.copytree(ROOT / "plugins", collection / "plugins")
    (collection / SOURCE.relative_to(ROOT)).parent.mkdir(parents=True)
    shutil.copy(SOURCE, collection / SOURCE.relative_to(ROOT))
    return collections


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """The file, copied to an empty directory."""
    directory = tmp_path / "sources"
    directory.mkdir()
    return Path(shutil.copy(SOURCE, directory))


WATCHER = Path("plugins/module_utils/_watch/watcher.py")
INSTALLED = Path("ansible_collections/qemu/guest_agent")


class TestTheCollectionIsFound:
    def test_in_a_checkout_and_through_a_link_to_it(self, tmp_path: Path) -> None:
        link = tmp_path / SOURCE.name
        link.symlink_to(SOURCE)
        for source in (SOURCE, link):
            assert found_by(source) == (str(ROOT / WATCHER), [])

    def test_where_the_source_is_installed_before_all_other_places(self, installed: Path) -> None:
        source = installed / INSTALLED / SOURCE.relative_to(ROOT)
        found = found_by(source, ANSIBLE_COLLECTIONS_PATH="/nonexistent")
        assert found == (str(installed / INSTALLED / WATCHER), [])

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("PYTHONPATH", "{0}/.ansible/collections"),
            ("ANSIBLE_COLLECTIONS_PATH", "/nonexistent:{0}/.ansible/collections"),
            ("HOME", "{0}"),
            ("ANSIBLE_HOME", "{0}/.ansible"),
        ],
    )
    def test_in_the_paths_of_python_and_ansible(
        self, alone: Path, installed: Path, tmp_path: Path, variable: str, value: str
    ) -> None:
        where, _imported = found_by(alone, **{variable: value.format(tmp_path)})
        assert where == str(installed / INSTALLED / WATCHER)

    def test_or_the_error_lists_the_searched_places(self, alone: Path) -> None:
        error, _imported = found_by(alone, ANSIBLE_COLLECTIONS_PATH="/nonexistent/a:/nonexistent/b")
        assert error.startswith("libvirt_guest needs the rest of its collection, qemu.guest_agent, which is not in any")
        assert "/nonexistent/a/ansible_collections/qemu/guest_agent, /nonexistent/b/" in error
        assert error.endswith("set ANSIBLE_COLLECTIONS_PATH to the path where collections are installed.")
