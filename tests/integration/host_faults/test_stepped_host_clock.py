"""The host's clock is stepped at a chosen moment.

Whatever the result of the disturbed run, the next run must end with the right time and a true report.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.figures import signed

from tests.fakes.clock import HostClock
from tests.fakes.fleet import SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.processes.held_module import run_here
from tests.support.disturbed_guest import (
    BEHIND_NS,
    SLACK_NS,
    TOLERANCE_NS,
    Guest,
    assert_true,
    both_agents,
    run_plainly,
)
from tests.support.moments import CLOSING, READING, STEPPING, Moment, at

# With one reading for each measurement, so that the last one is known.
STEPPED_AT = {
    "before the first request": Moment("guest-info"),
    "while measuring": Moment(READING),
    "between measuring and stepping": Moment(STEPPING),
    "between stepping and verifying": Moment(STEPPING, is_after=True),
    "while verifying": Moment(READING, since=STEPPING),
    "after the last reading": Moment(READING, is_after=True, since=STEPPING),
}
STEPPED_AT_A_RIGHT_GUEST = {
    "before the first request": Moment("guest-info"),
    "while measuring": Moment(READING),
    "after the last reading": Moment(READING, is_after=True),
}
in_each_direction = pytest.mark.parametrize(
    "by_ns",
    [
        pytest.param(7 * SECOND_NS, id="forward"),
        pytest.param(-7 * SECOND_NS, id="back"),
        pytest.param(300_000_000, id="forward by a little"),
    ],
)


def run_stepped(guest: Guest, moment: Moment, host: HostClock, by_ns: int, **options: Any) -> dict[str, Any]:
    """Run the module on the guest and step the host's clock at that moment."""
    with at({moment: lambda: host.step(by_ns)}):
        entry: dict[str, Any] = run_here({"socket": guest.agent_path, **options})["guest"]
    return entry


def assert_claims(entry: Mapping[str, Any], truth_ns: int) -> None:
    assert abs(entry["offset_after_ns"] - truth_ns) <= entry["uncertainty_after_ns"] + SLACK_NS


@both_agents
@pytest.mark.parametrize("phase", STEPPED_AT)
@in_each_direction
def test_a_guest_gets_the_new_time_of_a_stepped_host(guest: Guest, by_ns: int, phase: str, host: HostClock) -> None:
    entry = run_stepped(guest, STEPPED_AT[phase], host, by_ns, samples=1)
    truth_ns = guest.truth_ns() - by_ns
    assert abs(truth_ns) <= TOLERANCE_NS
    assert entry["changed"]
    assert entry["within_tolerance"]
    assert_claims(entry, truth_ns)
    assert any(f"was stepped by {signed(by_ns)}" in warning for warning in entry["warnings"])
    run_plainly(guest, Path(guest.agent_path), by_ns)


@both_agents
@pytest.mark.parametrize("phase", STEPPED_AT_A_RIGHT_GUEST)
@in_each_direction
def test_a_guest_that_was_right_follows_a_host_that_was_stepped(
    guest: Guest, by_ns: int, phase: str, host: HostClock
) -> None:
    guest.put_off_by(0)
    entry = run_stepped(guest, STEPPED_AT_A_RIGHT_GUEST[phase], host, by_ns, samples=1)
    assert_true(entry, -by_ns, guest.truth_ns() - by_ns)
    assert any("was stepped by" in warning for warning in entry["warnings"])
    run_plainly(guest, Path(guest.agent_path), by_ns)


@both_agents
@in_each_direction
def test_a_step_of_the_host_after_the_last_reading_does_not_count(guest: Guest, by_ns: int, host: HostClock) -> None:
    entry = run_stepped(guest, Moment(CLOSING), host, by_ns)
    assert_true(entry, BEHIND_NS, guest.truth_ns())  # compared with the host's clock before its step
    run_plainly(guest, Path(guest.agent_path), by_ns)


@both_agents
def test_a_host_clock_that_is_stepped_repeatedly_ends_in_not_converged(guest: Guest, host: HostClock) -> None:
    steps = {Moment(STEPPING, nth, is_after=True): functools.partial(host.step, SECOND_NS) for nth in range(3)}
    with at(steps):
        entry = run_here({"socket": guest.agent_path, "attempts": 3})["guest"]
    assert entry["error"]["code"] == "not_converged"
    assert entry["changed"]
    assert not entry["within_tolerance"]
    assert_claims(entry, guest.truth_ns() - 3 * SECOND_NS)
    run_plainly(guest, Path(guest.agent_path), 3 * SECOND_NS)


@both_agents
@pytest.mark.parametrize("phase", STEPPED_AT)
def test_a_given_time_runs_on_while_the_hosts_clock_is_stepped(guest: Guest, phase: str, host: HostClock) -> None:
    entry = run_stepped(guest, STEPPED_AT[phase], host, 7 * SECOND_NS, samples=1, time=f"{time.time():.6f}")
    assert entry["within_tolerance"]
    assert abs(entry["offset_after_ns"]) <= TOLERANCE_NS
    assert "warnings" not in entry
    run_plainly(guest, Path(guest.agent_path), 7 * SECOND_NS)


@in_each_direction
def test_guests_after_a_step_of_the_host_get_its_new_time(fleet: SimulatedFleet, by_ns: int, host: HostClock) -> None:
    guests = [Guest(fleet, name) for name in ("extended", "stock", "other")]
    for each in guests:
        each.put_off_by(BEHIND_NS)
    options = {"sockets": [each.agent_path for each in guests], "concurrency": 1}
    with at({Moment(STEPPING, 1): lambda: host.step(by_ns)}):
        done = run_here(options)
    assert done["summary"]["corrected"] == 3
    for each, entry, host_ns in zip(guests, done["guests"], (0, by_ns, by_ns), strict=True):
        truth_ns = each.truth_ns() - host_ns
        assert abs(truth_ns) <= TOLERANCE_NS
        assert_claims(entry, truth_ns)
    again = run_here(options)
    assert [entry["changed"] for entry in again["guests"]] == [True, False, False]
    assert all(abs(each.truth_ns() - by_ns) <= TOLERANCE_NS for each in guests)
