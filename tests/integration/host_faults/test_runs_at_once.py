"""Two concurrent runs on one guest: it ends with the right time, and both reports are true."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import resync
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks

from tests.fakes.agent import FakeAgent
from tests.fakes.clock import Clock
from tests.fakes.guest import (
    EXTENDED_COMMANDS,
    STOCK_COMMANDS,
    SharedGuest,
    SimulatedGuest,
    TimeLine,
    jitter,
    side_by_side,
)
from tests.fakes.kinds import EXTENDED, SLOW_HWCLOCK
from tests.processes.held_module import HeldModule, Stop, run_here
from tests.processes.socket_server import listen_unix
from tests.support.disturbed_guest import (
    BEHIND_NS,
    SLACK_NS,
    STEPPING_COMMANDS,
    TOLERANCE_NS,
    Guest,
    assert_true,
    both_agents,
    run_plainly,
)
from tests.support.moments import STEPPING, Moment

SEEDS = 200
# The number of pairs in which a run may report not_converged, because each may step after the other's last reading.
MOST_UNDECIDED = 1
# Simulated measurements are rounded and aged.
DRIFT_NS = 1_000


class Scene:
    """Several runs on one simulated guest whose clock was behind, each with a client of its own."""

    def __init__(self, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.line = TimeLine()
        self.line.install(monkeypatch)
        drawn = random.Random(seed)
        monkeypatch.setattr(random, "uniform", drawn.uniform)
        commands = EXTENDED_COMMANDS if kind == "extended" else STOCK_COMMANDS
        clock = Clock(BEHIND_NS, host=self.line)
        self.shared = SharedGuest(self.line, SimulatedGuest(self.line, clock, commands, jitter(drawn)))
        self.drawn = drawn
        self.steps_by_run: list[int] = []

    def run(self, delays_s: Sequence[float], is_in_step: bool) -> list[ResyncReport]:
        """Start each run after its delay. ``is_in_step``: no run steps before all have measured."""
        runs = range(len(delays_s))
        self.steps_by_run = [0 for _run in runs]

        def gate(run: int) -> Callable[[Request], bool]:
            def may_be_sent(request: Request) -> bool:
                if request.execute not in STEPPING_COMMANDS:
                    return True
                at_the_gate.add(run)
                may = len(at_the_gate) == len(delays_s) or not is_in_step
                self.steps_by_run[run] += may
                return may

            return may_be_sent

        async def resync_once(run: int) -> ResyncReport:
            await tasks.pause(delays_s[run])
            agent = GuestAgent(self.shared.client(gate(run)), 5.0)
            return await resync.resync(agent, self.line.reference(), ResyncOptions())

        at_the_gate: set[int] = set()
        return side_by_side(self.line, [resync_once(run) for run in runs])

    def assert_truthful(self, report: ResyncReport, steps: int) -> None:
        """Assert that the reported offsets were true at some time of the run, and that steps were reported."""
        for offset in (report.before, *filter(None, (report.after,))):
            assert any(
                abs(truth_ns - offset.ns) <= offset.uncertainty_ns + DRIFT_NS for truth_ns in self.shared.offsets
            )
        assert report.attempts == steps
        assert report.changed is (steps > 0)
        assert (report.within_tolerance is True) is (report.error is None)


@pytest.mark.parametrize("kind", ["extended", "stock"])
@pytest.mark.parametrize("start", ["in step", "together", "one after the other"])
def test_two_concurrent_runs_end_with_the_right_time_and_report_truthfully(
    kind: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = 0
    for seed in range(SEEDS):
        scene = Scene(kind, seed, monkeypatch)
        late_s = scene.drawn.uniform(0, 0.03) if start == "one after the other" else 0.0
        reports = scene.run([0.0, late_s], is_in_step=start == "in step")
        for report, steps in zip(reports, scene.steps_by_run, strict=True):
            scene.assert_truthful(report, steps)
        right = abs(scene.shared.offsets[-1]) <= TOLERANCE_NS
        assert right or any(report.error for report in reports)
        failed += any(report.error is not None for report in reports)
        (rerun,) = scene.run([0.0], is_in_step=False)
        assert rerun.within_tolerance
        assert rerun.changed is not right
        assert abs(scene.shared.offsets[-1]) <= TOLERANCE_NS
    assert failed <= MOST_UNDECIDED


@pytest.mark.parametrize("name", ["extended", "stock"])
@pytest.mark.parametrize("holds", ["both have measured before either steps", "one steps after the other verified"])
def test_two_concurrent_modules_both_correct_an_agent_that_serves_both(name: str, holds: str, tmp_path: Path) -> None:
    kind = EXTENDED if name == "extended" else SLOW_HWCLOCK
    clock = Clock(BEHIND_NS)
    paths = [tmp_path / "one.qga", tmp_path / "two.qga"]
    with (
        FakeAgent(listen_unix(paths[0]), kind, clock),
        FakeAgent(listen_unix(paths[1]), kind, clock),
        HeldModule({"socket": str(paths[0])}, [Stop(Moment(STEPPING))], seed=1) as one,
        HeldModule({"socket": str(paths[1])}, [Stop(Moment(STEPPING))], seed=2) as two,
    ):
        one.wait()
        two.wait()
        one.go_on()
        if holds == "both have measured before either steps":
            two.go_on()
            entries = [one.result()["guest"], two.result()["guest"]]
        else:
            entries = [one.result()["guest"]]
            assert abs(clock.offset_ns()) <= TOLERANCE_NS
            two.go_on()
            entries.append(two.result()["guest"])
        assert abs(clock.offset_ns()) <= TOLERANCE_NS
        for entry in entries:
            assert abs(entry["offset_before_ns"] - BEHIND_NS) <= entry["uncertainty_before_ns"] + SLACK_NS
            assert entry["changed"]
            assert entry["within_tolerance"]
        assert run_here({"socket": str(paths[0])})["guest"]["changed"] is False


@both_agents
@pytest.mark.usefixtures("channel")
def test_the_second_module_changes_nothing_on_a_channel_for_one_client(guest: Guest, path: Path) -> None:
    steps = guest.steps()
    with HeldModule({"socket": str(path)}, [Stop(Moment(STEPPING))]) as one:
        one.wait()
        with HeldModule({"socket": str(path)}, [Stop(Moment("guest-info"), is_held=False)]) as two:
            two.wait()
            one.go_on()
            entries = [one.result()["guest"], two.result()["guest"]]
        assert [entry["changed"] for entry in entries] == [True, False]
        assert all(entry["within_tolerance"] for entry in entries)
        assert guest.steps() == steps + entries[0]["attempts"]
        run_plainly(guest, path)


@both_agents
@pytest.mark.usefixtures("channel")
def test_a_module_that_cannot_wait_for_the_channel_returns_unresponsive(guest: Guest, path: Path) -> None:
    with HeldModule({"socket": str(path)}, [Stop(Moment(STEPPING))]) as one:
        one.wait()
        entry = run_here({"socket": str(path), "timeout": 0.3})["guest"]
        assert entry["error"]["code"] == "unresponsive"
        assert "one client at a time" in entry["error"]["hint"]
        one.go_on()
        assert_true(one.result()["guest"], BEHIND_NS, guest.truth_ns())
        run_plainly(guest, path)
