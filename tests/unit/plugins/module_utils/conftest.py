"""Fixtures that several wings share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _module
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.threads import BoundedCaller
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import finding
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target

from tests.fakes.guest import SECOND, SimulatedGuest, TimeLine
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking, BlockingAgent
from tests.support.module_fleet import Run, SimulatedFleet, run_module


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> TimeLine:
    line = TimeLine()
    line.install(monkeypatch)
    return line


@pytest.fixture
def guest(line: TimeLine) -> SimulatedGuest:
    return SimulatedGuest(line)


@pytest.fixture
def agent(guest: SimulatedGuest) -> BlockingAgent:
    return BlockingAgent(guest, 5.0)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    """In place of libvirt-python for all lines that are made."""
    fake = FakeLibvirt()
    monkeypatch.setattr(connections, "import_libvirt", lambda: (fake, fake))
    return fake


@pytest.fixture
def caller() -> Iterator[Blocking]:
    made = Blocking(BoundedCaller())
    yield made
    made.close()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Lets go of what hangs when the test is over."""
    event = threading.Event()
    yield event
    event.set()


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


@pytest.fixture
def web1(fleet: SimulatedFleet, monkeypatch: pytest.MonkeyPatch) -> SimulatedGuest:
    """The guest web1, 20 s behind; whatever target the options name, it is this one."""
    guest = fleet.guests["web1"]
    real = _module.target_of
    monkeypatch.setattr(_module, "target_of", lambda *asked: Target(real(*asked).name, lambda: guest))
    return guest
