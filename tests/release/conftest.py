"""The collection as it is published: built, and installed into an empty directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import collection


@pytest.fixture(scope="session")
def tarball() -> Path:
    return collection.build()


@pytest.fixture(scope="session")
def collections_path(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path that contains only the collection."""
    path = tmp_path_factory.mktemp("collections")
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    subprocess.run([galaxy, "collection", "install", "--offline", "-p", path, tarball], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def installed(collections_path: Path) -> Path:
    return collections_path / collection.PACKAGE
