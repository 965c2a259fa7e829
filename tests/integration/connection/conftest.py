"""A stock agent whose guest is this machine. Tasks change only files in a temporary directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.connection.playbooks import BECOME_SHIM, PASSWORD
from tests.processes.stock_agent import StockAgent


@pytest.fixture(scope="module")
def agent() -> Iterator[StockAgent]:
    with StockAgent() as running:
        yield running


@pytest.fixture
def become(tmp_path: Path) -> dict[str, Any]:
    shim = tmp_path / "shim"
    shim.write_text(BECOME_SHIM)
    shim.chmod(0o755)
    return {"ansible_become": True, "ansible_become_exe": str(shim), "ansible_become_password": PASSWORD}
