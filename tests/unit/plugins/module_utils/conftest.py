# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import finding

from tests.fakes.guest import SECOND, TimeLine
from tests.support.module_fleet import Run, SimulatedFleet, run_module


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> TimeLine:
    line = TimeLine()
    line.install(monkeypatch)
    return line


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return lambda which, **arguments: run_module(capsys, which, arguments)


@pytest.fixture
def fleet(line: TimeLine, monkeypatch: pytest.MonkeyPatch) -> SimulatedFleet:
    """web1 is 20 s late, web2 is right, db1 is 3 s ahead."""
    fleet = SimulatedFleet(line)
    fleet.add("web1", -20 * SECOND)
    fleet.add("web2")
    fleet.add("db1", 3 * SECOND)
    monkeypatch.setitem(finding.FINDERS, "domains", fleet.find)  # type: ignore[arg-type]
    return fleet
