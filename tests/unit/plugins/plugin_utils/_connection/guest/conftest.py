from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.guest_scripts import SHELLS, Shell


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


@pytest.fixture
def placed(shell: Shell, tmp_path: Path) -> Shell:
    """A shell without a directory."""
    assert shell.directory is not None
    shell.directory.rmdir()
    shell.directory = None
    shell.places = [str(tmp_path / "none"), str(tmp_path), "/tmp"]  # noqa: S108  # none is made there
    return shell
