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
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult, Work
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.runner import RunOptions, run_all
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.domains import PAUSED, SHUT_OFF, Definition
from tests.fakes.libvirt import FakeHypervisor, threads_of_lines

FOREVER = 60.0  # s; no test waits for it
OPTIONS = RunOptions(3.0)
TOUCHING = RunOptions(3.0, touches_clock=True)
OPTED_OUT = f'<resync xmlns="{NAMESPACE}" enabled="no"/>'
GUESTS = 200
SILENT = {f"guest{number}" for number in range(5, GUESTS, 10)}
PARAMS: dict[str, Any] = {
    "uri": "qemu:///system",
    "timeout": 3.0,
    "exclude": [],
    "skip_unusable": False,
    "allow_empty": False,
}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHypervisor]:
    fake = FakeHypervisor([Definition(f"guest{number}") for number in range(1, GUESTS + 1)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    yield fake
    fake.release()
    fake.wait_until_all_is_given_back()


async def ask_several_times(agent: GuestAgent) -> GuestResult:
    for command in ("guest-get-time", "guest-get-osinfo", "guest-get-time"):
        await agent.call(command)
    return GuestResult({})


Outcome = tuple[str, "str | None"]  # the status of a result, and the code of its error or reason


def run(
    *domains: str,
    work: Work = ask_several_times,
    options: RunOptions = OPTIONS,
    concurrency: int = 20,
    deadline: float = math.inf,
) -> dict[str, Outcome]:
    with fleet_of({**PARAMS, "domains": domains}, Limits()) as found:
        results = run_all(found.guests, work, options, concurrency, Deadline(deadline))
    return {
        each.name: (each.status, (each.entry.get("error") or each.entry.get("reason") or {}).get("code"))
        for each in results
    }


def all_but(failed: set[str], code: str) -> dict[str, Outcome]:
    names = [f"guest{number}" for number in range(1, GUESTS + 1)]
    return {name: ("failed", code) if name in failed else ("done", None) for name in names}


@pytest.mark.slow
def test_silent_guests_fail_and_hold_up_no_others(fake: FakeHypervisor) -> None:
    ended: list[str] = []

    async def work(agent: GuestAgent) -> GuestResult:
        try:
            return await ask_several_times(agent)
        finally:
            ended.append(str(agent._channel).split()[1])

    for each in fake.definitions:
        each.is_silent = each.name in SILENT
    assert run("*", work=work) == all_but(SILENT, "unresponsive")
    assert set(ended[-len(SILENT) :]) == SILENT
    assert len(ended) == GUESTS
    # The daemon is never asked more than it can work on.
    assert fake.most_calls < 20
    assert fake.most_calls_of_a_connection <= 5
    assert len(fake.connections) <= 3 + 4
    asked = [domain for domain, _command in fake.commands]
    # A ping to see whether it answers, and then the work.
    assert all(asked.count(name) <= (2 if name in SILENT else 4) for name in set(asked))
    # Once, and again for those that were asked over another connection while silent ones held theirs.
    assert GUESTS <= fake.calls["lookupByName"] == fake.calls["state"] < 2 * GUESTS


def test_a_thousand_at_once_take_three_connections(fake: FakeHypervisor) -> None:
    assert run("*", options=TOUCHING, concurrency=1000) == all_but(set(), "")
    assert len(fake.connections) == 3
    assert fake.most_calls <= 15
    assert fake.most_calls_of_a_connection <= 5


def test_connections_that_break_and_a_daemon_that_is_away_for_a_while_cost_no_guest(fake: FakeHypervisor) -> None:
    fake.at_agent_command = {
        **dict.fromkeys((100, 101, 350), fake.break_connections),
        450: lambda: fake.go_away(attempts=50),
    }
    assert run("*") == all_but(set(), "")
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
    found = run(*(["*"] if status == "skipped" else ["good", *reasons]), options=TOUCHING)
    assert found == {"good": ("done", None), **{name: (status, code) for name, code in reasons.items()}}
    assert {domain for domain, _command in fake.commands} <= {"good", "bare", "without"}


@pytest.mark.slow
def test_calls_that_hang_are_left_behind_at_the_deadline(fake: FakeHypervisor) -> None:
    silent = {each.name for each in fake.definitions[:: GUESTS // 4]}
    for each in fake.definitions:
        each.is_silent = each.name in silent
    assert run("*", options=RunOptions(FOREVER), deadline=5.0) == all_but(silent, "deadline")
    assert threads_of_lines(), "they still wait for the hypervisor"
