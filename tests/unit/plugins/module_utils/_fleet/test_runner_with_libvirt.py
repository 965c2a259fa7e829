"""The runner over the channels of libvirt, at a hypervisor with many guests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.tasks import Deadline
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.finding import fleet_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.opt_out import NAMESPACE
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import RunOptions, run_all
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition
from tests.fakes.libvirt import FakeHypervisor

TOUCHING = RunOptions(3.0, touches_clock=True)
OPTED_OUT = f'<resync xmlns="{NAMESPACE}" enabled="no"/>'
DONE = {f"guest{number}": ("done", None) for number in range(1, 201)}
PARAMS: dict[str, Any] = {
    "uri": "qemu:///system",
    "timeout": 3.0,
    "exclude": [],
    "skip_unusable": False,
    "allow_empty": False,
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    fake = FakeHypervisor(map(Definition, DONE))
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()
    fake.wait_until_all_is_given_back()


async def ask_several_times(agent: GuestAgent) -> GuestResult:
    for command in ("guest-get-time", "guest-get-osinfo", "guest-get-time"):
        await agent.call(command)
    return GuestResult({})


def run(*domains: str, concurrency: int = 20) -> dict[str, tuple[str, str | None]]:
    """The status of each result, and the code of its error or reason."""
    with fleet_of({**PARAMS, "domains": domains}, Limits()) as found:
        results = run_all(found.guests, ask_several_times, TOUCHING, concurrency, Deadline(math.inf))
    return {
        each.name: (each.status, (each.entry.get("error") or each.entry.get("reason") or {}).get("code"))
        for each in results
    }


def test_a_thousand_at_once_take_three_connections(fake: FakeHypervisor) -> None:
    assert run("*", concurrency=1000) == DONE
    assert len(fake.connections) == 3
    assert fake.most_calls <= 15
    assert fake.most_calls_of_a_connection <= 5


def test_connections_that_break_and_a_daemon_that_is_away_for_a_while_cost_no_guest(fake: FakeHypervisor) -> None:
    fake.at_agent_command = {
        **dict.fromkeys((100, 101, 350), fake.break_connections),
        450: lambda: fake.go_away(attempts=50),
    }
    assert run("*") == DONE
    assert len(fake.connections) > 3


@pytest.mark.parametrize("status", ["skipped", "failed"])
def test_guests_that_a_pattern_matched_and_that_cannot_be_used_are_skipped(fake: FakeHypervisor, status: str) -> None:
    fake.definitions = [
        Definition("good"),
        Definition("off", state=SHUT_OFF),
        Definition("paused", state=PAUSED),
        Definition("bare", channel_state=None),
        Definition("without", channel_state="disconnected"),
        Definition("kept", metadata=OPTED_OUT),
    ]
    reasons = {
        "off": "not_running",
        "paused": "not_running",
        "bare": "not_configured",
        "without": "not_connected",
        "kept": "opted_out",
        **({"gone": "not_found"} if status == "failed" else {}),
    }
    found = run(*(["*"] if status == "skipped" else ["good", *reasons]))
    assert found == {"good": ("done", None), **{name: (status, code) for name, code in reasons.items()}}
    assert {domain for domain, _command in fake.commands} <= {"good", "bare", "without"}
