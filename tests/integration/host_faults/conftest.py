from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import options

from tests.fakes.clock import HostClock
from tests.fakes.fleet import Profile, SimulatedFleet
from tests.processes.guest_channel import GuestChannel
from tests.support.disturbed_guest import BEHIND_NS, Guest


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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "guest.qga"


@pytest.fixture
def channel(guest: Guest, path: Path) -> Iterator[GuestChannel]:
    """The guest's channel, with its socket at ``path``."""
    with GuestChannel(path, guest.agent_path) as channel:
        yield channel


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostClock:
    """The host's clock as the module sees it. This machine's clock is never changed."""
    host = HostClock()
    real = options.HostReference
    monkeypatch.setattr(options, "HostReference", functools.partial(real, realtime_ns=host.time_ns))
    return host
