"""A service that watches simulated hypervisors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.hypervisors import HypervisorsByUri, SimulatedHypervisor
from tests.processes.served import CONFIG, HERE, USUAL, Serve, Served, simulated
from tests.support.resync_service import module


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """``serve("web1", "web2", agent_patience=1)``, or with ``hypervisors`` by URI."""

    def make(
        *names: str, hypervisors: Mapping[str, SimulatedHypervisor] | None = None, uris: str = HERE, **options: Any
    ) -> Served:
        all_of_them = hypervisors or {HERE: simulated(*names)}
        libvirt = HypervisorsByUri(all_of_them)
        monkeypatch.setattr(
            module("_hypervisor.connections", "guest_agent"), "import_libvirt", lambda: (libvirt, libvirt)
        )
        return Served(all_of_them, CONFIG.format(**{"uris": uris, **USUAL, **options}), tmp_path)

    return make
