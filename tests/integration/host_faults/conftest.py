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
