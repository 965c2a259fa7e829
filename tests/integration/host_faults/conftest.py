# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.fleet import Profile, SimulatedFleet
from tests.support.disturbed_guest import (
    BEHIND_NS,
    Guest,
)
from tests.support.faults import Ledger


@pytest.fixture(scope="module")
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    ledger = Ledger(request.path.stem)
    yield ledger
    ledger.write()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFleet]:
    profiles = {
        "extended": Profile("extended"),
        "stock": Profile("stock", set_seconds=0.05),
        "other": Profile("extended"),
    }
    with SimulatedFleet(tmp_path_factory.mktemp("agents"), profiles) as fleet:
        yield fleet


@pytest.fixture
def guest(fleet: SimulatedFleet, request: pytest.FixtureRequest) -> Guest:
    found = Guest(fleet, request.param)
    found.put_off_by(BEHIND_NS)
    return found
