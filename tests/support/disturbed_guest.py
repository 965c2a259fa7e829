"""A guest of the simulated fleet while faults are injected: its true offset, and the checks of a run's result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.fleet import SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.processes.held_module import run_here

BEHIND_NS = -10 * SECOND_NS
TOLERANCE_NS = 100_000_000
# Difference between the readings of this machine's clock by the simulated fleet and by the module.
SLACK_NS = 1_000_000
STEPPING_COMMANDS = ("guest-update-time", "guest-set-time")


class Guest(NamedTuple):
    """A guest of the simulated fleet, and its true offset."""

    fleet: SimulatedFleet
    name: str

    @property
    def agent_path(self) -> str:
        return self.fleet.path(self.name)

    @property
    def stepping(self) -> str:
        return "guest-set-time" if self.name == "stock" else "guest-update-time"

    def truth_ns(self) -> int:
        return self.fleet.truths()[self.name]

    def put_off_by(self, offset_ns: int) -> None:
        self.fleet.shift({self.name: offset_ns - self.truth_ns()})

    def steps(self) -> int:
        received = self.fleet.received()[self.name]
        return sum(received.get(command, 0) for command in STEPPING_COMMANDS)


both_agents = pytest.mark.parametrize("guest", ["extended", "stock"], indirect=True)


def assert_true(entry: Mapping[str, Any], before_ns: int, after_ns: int) -> None:
    """Assert that the result of an undisturbed run agrees with the true offsets before and after it."""
    assert abs(after_ns) <= TOLERANCE_NS
    assert entry["within_tolerance"]
    assert "error" not in entry
    assert abs(entry["offset_before_ns"] - before_ns) <= entry["uncertainty_before_ns"] + SLACK_NS
    assert entry["changed"] is (abs(entry["offset_before_ns"]) > TOLERANCE_NS)
    if entry["changed"]:
        assert abs(entry["offset_after_ns"] - after_ns) <= entry["uncertainty_after_ns"] + SLACK_NS
    else:
        assert (entry["attempts"], entry["method"], entry["offset_after_ns"]) == (0, None, None)


def run_plainly(guest: Guest, path: Path, host_ns: int = 0) -> dict[str, Any]:
    """Run the module twice. The first run must correct the clock, and the second must change nothing.

    ``host_ns``: the host's clock was stepped by so much, as seen by the module. Return the entry of the first run.
    """
    before_ns = guest.truth_ns() - host_ns
    entry: dict[str, Any] = run_here({"socket": str(path)})["guest"]
    assert_true(entry, before_ns, guest.truth_ns() - host_ns)
    assert run_here({"socket": str(path)})["guest"]["changed"] is False
    return entry
