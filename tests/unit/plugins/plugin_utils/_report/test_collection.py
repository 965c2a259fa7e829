from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.collection import version

from tests.support.collection import ROOT

MANIFEST = '{\n "collection_info": {\n  "name": "guest_agent",\n  "version": "1.2.3-rc.1",\n  "authors": []\n }\n}\n'


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"MANIFEST.json": MANIFEST, "galaxy.yml": "version: 2.0.0\n"}, "1.2.3-rc.1"),
        ({"galaxy.yml": "namespace: qemu\nversion: 2.0.0\n"}, "2.0.0"),
        ({"MANIFEST.json": "{}", "galaxy.yml": "name: x\n"}, ""),
        ({}, ""),
    ],
)
def test_the_version_is_that_of_the_manifest_or_of_the_clone(files: dict[str, str], found: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert version(tmp_path) == found


def test_the_clone_has_a_version() -> None:
    assert version() == yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
