# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.guest_scripts import Shell
from tests.support.shells import SHELLS


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


@pytest.fixture
def placed(shell: Shell, tmp_path: Path) -> Shell:
    """A shell that has no directory yet."""
    assert shell.directory is not None
    shell.directory.rmdir()
    shell.directory = None
    shell.places = [str(tmp_path / "none"), str(tmp_path), "/tmp"]  # noqa: S108  # none is made there
    return shell
