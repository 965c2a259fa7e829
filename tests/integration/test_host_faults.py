# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults on the host's side while a guest's clock is set: each is injected at a chosen moment, and counted.

Whatever becomes of the run that a fault falls into, a plain run behind it ends with the right time and a true report.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import methods, options, resync
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks

from tests.support.fake_agent import EXTENDED, SECOND_NS, SLOW_HWCLOCK, FakeAgent, FakeClock, listen_unix
from tests.support.faults import Ledger
from tests.support.guest_channel import GuestChannel
from tests.support.held_module import HeldModule, Stop, run_here
from tests.support.host_clock import HostClock
from tests.support.moments import CLOSING, READING, STEPPING, Moment, at
from tests.support.side_by_side import SharedGuest, jitter, side_by_side
from tests.support.simulated_fleet import Profile, SimulatedFleet
from tests.support.simulated_guest import EXTENDED_COMMANDS, STOCK_COMMANDS, GuestClock, SimulatedGuest, TimeLine
from tests.support.until import until

BEHIND_NS = -10 * SECOND_NS
TOLERANCE_NS = 100_000_000
# Between the simulated fleet's reading of this machine's clock and the module's.
SLACK_NS = 1_000_000
PATIENCE_SECONDS = 30.0
STEPPING_COMMANDS = ("guest-update-time", "guest-set-time")
SEEDS = 200
# In how many of that many pairs one may say that it did not converge: each may step behind the other's last look.
MOST_UNDECIDED = 1
# A computed measurement is rounded, and aged.
DRIFT_NS = 1_000


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    ledger = Ledger("streams")
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


class Guest(NamedTuple):
    """A guest of the simulated fleet, and what is true of it."""

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
        """How often its agent was asked to step its clock so far."""
        received = self.fleet.received()[self.name]
        return sum(received.get(command, 0) for command in STEPPING_COMMANDS)


@pytest.fixture
def guest(fleet: SimulatedFleet, request: pytest.FixtureRequest) -> Guest:
    found = Guest(fleet, request.param)
    found.put_off_by(BEHIND_NS)
    return found


both_agents = pytest.mark.parametrize("guest", ["extended", "stock"], indirect=True)


def assert_true(entry: Mapping[str, Any], before_ns: int, after_ns: int) -> None:
    """A run that nothing disturbed: it found what there was, left what there is, and says so."""
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
    """Run the module once more and once again: it ends right, and leaves nothing to be done.

    ``host_ns``: the host's clock was stepped by so much, in the eyes of the module. Returns what the first run says.
    """
    before_ns = guest.truth_ns() - host_ns
    entry: dict[str, Any] = run_here({"socket": str(path)})["guest"]
    assert_true(entry, before_ns, guest.truth_ns() - host_ns)
    assert run_here({"socket": str(path)})["guest"]["changed"] is False
    return entry


# ---------------------------------------------------------------------------------------------- the module is killed


class Kill(NamedTuple):
    """When the module is killed, and whether its step is carried out all the same."""

    moment: Moment
    steps: bool


KILLS = {
    "before anything is asked": Kill(Moment("guest-info"), steps=False),
    "while measuring": Kill(Moment(READING, 1), steps=False),
    "between measuring and stepping": Kill(Moment(STEPPING), steps=False),
    "between stepping and verifying": Kill(Moment(STEPPING, is_after=True), steps=True),
    "while verifying": Kill(Moment(READING, 1, behind=STEPPING), steps=True),
    "at the end": Kill(Moment(CLOSING), steps=True),
}


@both_agents
@pytest.mark.parametrize("phase", KILLS)
def test_the_module_is_killed(guest: Guest, phase: str, ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "guest.qga"
    kill = KILLS[phase]
    steps = guest.steps()
    with ledger.entry(f"module killed, {guest.name} agent", phase), GuestChannel(path, guest.agent_path):
        with HeldModule({"socket": str(path)}, [Stop(kill.moment)]) as run:
            run.wait()
            run.kill()
        assert (guest.steps() > steps) is kill.steps
        rerun = run_plainly(guest, path)
        # A time that was late on its way leaves something to be done.
        assert guest.name == "stock" or rerun["changed"] is not kill.steps


@both_agents
@pytest.mark.parametrize("waits_for", ["its agent", "its client"])
def test_the_module_is_killed_while_its_step_or_the_reply_to_it_lies_in_the_channel(
    guest: Guest, waits_for: str, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "guest.qga"
    steps = guest.steps()
    with (
        ledger.entry(f"module killed, {guest.name} agent", f"step in the channel, waits for {waits_for}"),
        GuestChannel(path, guest.agent_path) as channel,
    ):
        held = channel.hold(guest.stepping, is_reply=waits_for == "its client")
        with HeldModule({"socket": str(path)}) as run:
            held.wait()
            run.kill()
        held.release()
        until(lambda: guest.steps() == steps + 1, "the step was not carried out", PATIENCE_SECONDS)
        rerun = run_plainly(guest, path)
        assert guest.steps() == steps + 1 + rerun["attempts"]
        # A difference is right however late it comes; a time may have grown old.
        assert guest.name == "stock" or not rerun["changed"]


@both_agents
def test_the_module_is_killed_and_its_step_is_carried_out_while_the_next_one_measures(
    guest: Guest, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "guest.qga"
    steps = guest.steps()
    with (
        ledger.entry(f"module killed, {guest.name} agent", "step in the channel until the next run"),
        GuestChannel(path, guest.agent_path) as channel,
    ):
        held = channel.hold(guest.stepping)
        with HeldModule({"socket": str(path)}) as run:
            held.wait()
            run.kill()
        # Starting takes it longer than this tolerance.
        options = {"socket": str(path), "tolerance": 0.01}
        with HeldModule(options, [Stop(Moment("guest-info"), is_held=False)]) as next_run:
            next_run.wait()
            assert guest.steps() == steps
            held.release()
            entry = next_run.result()["guest"]
        assert entry["within_tolerance"]
        # A difference has been added by then, and is not added again; a time was fresh when it was sent.
        assert entry["changed"] is (guest.name == "stock")
        assert guest.steps() == steps + 1 + entry["attempts"]
        run_plainly(guest, path)


# -------------------------------------------------------------------------------------- the socket's file is replaced


class Replacement(NamedTuple):
    """What is put at the socket's path, and the code of the error that a run meets then; none: the other guest."""

    put: Callable[[Path, Path], object]
    code: str = ""


REPLACEMENTS = {
    "nothing": Replacement(lambda _path, _other: None, "not_found"),
    "another guest's socket": Replacement(lambda path, other: path.hardlink_to(other)),
    "a plain file": Replacement(lambda path, _other: path.write_text("plain"), "not_connected"),
    "a directory": Replacement(lambda path, _other: path.mkdir(), "not_connected"),
    "a link to another guest's socket": Replacement(lambda path, other: path.symlink_to(other)),
    "a link to nothing": Replacement(lambda path, _other: path.symlink_to(path.parent / "missing"), "not_found"),
    "a link to itself": Replacement(lambda path, _other: path.symlink_to(path), "not_connected"),
}
OTHER_NS = 3 * SECOND_NS


@pytest.fixture
def other(fleet: SimulatedFleet) -> Guest:
    found = Guest(fleet, "other")
    found.put_off_by(OTHER_NS)
    return found


def replace(path: Path, what: str, other: Guest) -> None:
    path.rename(path.with_suffix(".kept"))
    REPLACEMENTS[what].put(path, Path(other.agent_path))


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def put_back(path: Path) -> None:
    clear(path)
    path.with_suffix(".kept").replace(path)


one_agent = pytest.mark.parametrize("guest", ["extended"], indirect=True)


@one_agent
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_the_sockets_file_is_replaced_between_two_runs(
    guest: Guest, other: Guest, what: str, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "guest.qga"
    code = REPLACEMENTS[what].code
    with ledger.entry(f"socket replaced by {what}", "between two runs"), GuestChannel(path, guest.agent_path):
        replace(path, what, other)
        entry = run_here({"socket": str(path)})["guest"]
        if code:
            assert entry["error"]["code"] == code
            assert abs(other.truth_ns() - OTHER_NS) < SLACK_NS
        else:
            assert_true(entry, OTHER_NS, other.truth_ns())
        assert abs(guest.truth_ns() - BEHIND_NS) < SLACK_NS
        put_back(path)
        run_plainly(guest, path)


REPLACED_AT = {
    "while measuring": Moment(READING, 1),
    "between measuring and stepping": Moment(STEPPING),
    "between stepping and verifying": Moment(STEPPING, is_after=True),
    "while verifying": Moment(READING, 1, behind=STEPPING),
}


@one_agent
@pytest.mark.parametrize("phase", REPLACED_AT)
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_the_sockets_file_is_replaced_in_the_middle_of_a_run_which_goes_on_with_its_own_guest(
    guest: Guest, other: Guest, what: str, phase: str, ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "guest.qga"
    with ledger.entry(f"socket replaced by {what}", phase), GuestChannel(path, guest.agent_path):
        with at({REPLACED_AT[phase]: lambda: replace(path, what, other)}):
            entry = run_here({"socket": str(path)})["guest"]
        assert_true(entry, BEHIND_NS, guest.truth_ns())
        assert abs(other.truth_ns() - OTHER_NS) < SLACK_NS
        put_back(path)
        run_plainly(guest, path)


LOST_TO = [(what, OTHER_NS) for what in REPLACEMENTS]
LOST_TO += [(what, 0) for what, replacement in REPLACEMENTS.items() if not replacement.code]


@one_agent
@pytest.mark.parametrize("phase", REPLACED_AT)
@pytest.mark.parametrize(("what", "other_ns"), LOST_TO)
def test_the_channel_is_lost_and_its_sockets_file_replaced_in_the_middle_of_a_run(
    guest: Guest,
    other: Guest,
    what: str,
    other_ns: int,
    phase: str,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for patience in ("_HWCLOCK_SECONDS", "_AGENT_RESTART_SECONDS"):
        monkeypatch.setattr(resync, patience, 0.3)
    other.put_off_by(other_ns)
    steps, steps_of_other = guest.steps(), other.steps()
    path = tmp_path / "guest.qga"
    with GuestChannel(path, guest.agent_path) as channel:

        def lose() -> None:
            channel.end()
            replace(path, what, other)

        with ledger.entry(f"channel lost, socket replaced by {what} ({other_ns} ns)", phase):
            with at({REPLACED_AT[phase]: lose}):
                entry = run_here({"socket": str(path)})["guest"]
            stepped = guest.steps() - steps, other.steps() - steps_of_other
            # Whichever was stepped at all was stepped by what was measured of it.
            for each, has_stepped, was_ns in zip((guest, other), stepped, (BEHIND_NS, other_ns), strict=True):
                assert abs(each.truth_ns() - (0 if has_stepped else was_ns)) < TOLERANCE_NS
            if "error" in entry:
                assert entry.get("changed", False) or not any(stepped)
            else:
                is_first = abs(entry["offset_before_ns"] - BEHIND_NS) <= entry["uncertainty_before_ns"] + SLACK_NS
                assert stepped == ((entry["attempts"], 0) if is_first else (0, entry["attempts"]))
                assert entry["changed"] is any(stepped)
            clear(path)
            with GuestChannel(path, guest.agent_path):
                run_plainly(guest, path)


# ---------------------------------------------------------------------------------------- the host's clock is stepped


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostClock:
    """The host's clock in the eyes of the module. This machine's is never touched."""
    host = HostClock()
    real = options.HostReference
    monkeypatch.setattr(options, "HostReference", functools.partial(real, realtime_ns=host.time_ns))
    return host


# With one reading each, so that it is known which is the last.
STEPPED_AT = {
    "before anything is asked": Moment("guest-info"),
    "while measuring": Moment(READING),
    "between measuring and stepping": Moment(STEPPING),
    "between stepping and verifying": Moment(STEPPING, is_after=True),
    "while verifying": Moment(READING, behind=STEPPING),
    "behind the last reading": Moment(READING, is_after=True, behind=STEPPING),
}
STEPPED_BY = {"forward": 7 * SECOND_NS, "back": -7 * SECOND_NS, "forward by a little": 300_000_000}


@both_agents
@pytest.mark.parametrize("phase", STEPPED_AT)
@pytest.mark.parametrize("direction", STEPPED_BY)
def test_the_hosts_clock_is_stepped_during_a_run(
    guest: Guest, direction: str, phase: str, host: HostClock, ledger: Ledger
) -> None:
    by_ns = STEPPED_BY[direction]
    options = {"socket": guest.agent_path, "samples": 1}
    with ledger.entry(f"host's clock stepped {direction}, {guest.name} agent", phase):
        with at({STEPPED_AT[phase]: lambda: host.step(by_ns)}):
            result = run_here(options)
        entry, truth_ns = result["guest"], guest.truth_ns() - by_ns
        assert abs(truth_ns) <= TOLERANCE_NS
        assert entry["changed"]
        assert entry["within_tolerance"]
        assert abs(entry["offset_after_ns"] - truth_ns) <= entry["uncertainty_after_ns"] + SLACK_NS
        assert any(f"was stepped by {by_ns / SECOND_NS:.2f}" in warning for warning in entry["warnings"])
        run_plainly(guest, Path(guest.agent_path), by_ns)


STEPPED_AT_A_RIGHT_GUEST = {
    "before anything is asked": Moment("guest-info"),
    "while measuring": Moment(READING),
    "behind the last reading": Moment(READING, is_after=True),
}


@both_agents
@pytest.mark.parametrize("phase", STEPPED_AT_A_RIGHT_GUEST)
@pytest.mark.parametrize("direction", STEPPED_BY)
def test_the_hosts_clock_is_stepped_while_a_guest_is_looked_at_that_was_right(
    guest: Guest, direction: str, phase: str, host: HostClock, ledger: Ledger
) -> None:
    by_ns = STEPPED_BY[direction]
    guest.put_off_by(0)
    with ledger.entry(f"host's clock stepped {direction}, {guest.name} agent, right before", phase):
        with at({STEPPED_AT_A_RIGHT_GUEST[phase]: lambda: host.step(by_ns)}):
            entry = run_here({"socket": guest.agent_path, "samples": 1})["guest"]
        assert_true(entry, -by_ns, guest.truth_ns() - by_ns)
        assert any("was stepped by" in warning for warning in entry["warnings"])
        run_plainly(guest, Path(guest.agent_path), by_ns)


@both_agents
@pytest.mark.parametrize("direction", STEPPED_BY)
def test_the_hosts_clock_is_stepped_when_all_is_done(
    guest: Guest, direction: str, host: HostClock, ledger: Ledger
) -> None:
    by_ns = STEPPED_BY[direction]
    with ledger.entry(f"host's clock stepped {direction}, {guest.name} agent", "at the end"):
        with at({Moment(CLOSING): lambda: host.step(by_ns)}):
            entry = run_here({"socket": guest.agent_path})["guest"]
        assert_true(entry, BEHIND_NS, guest.truth_ns())  # as it was then
        run_plainly(guest, Path(guest.agent_path), by_ns)


@both_agents
def test_a_hosts_clock_that_is_stepped_again_and_again_is_no_reference(
    guest: Guest, host: HostClock, ledger: Ledger
) -> None:
    steps = {Moment(STEPPING, nth, is_after=True): functools.partial(host.step, SECOND_NS) for nth in range(3)}
    with ledger.entry(f"host's clock stepped forward, {guest.name} agent", "after each attempt"):
        with at(steps):
            entry = run_here({"socket": guest.agent_path, "attempts": 3})["guest"]
        assert entry["error"]["code"] == "not_converged"
        assert entry["changed"]
        assert not entry["within_tolerance"]
        truth_ns = guest.truth_ns() - 3 * SECOND_NS
        assert abs(entry["offset_after_ns"] - truth_ns) <= entry["uncertainty_after_ns"] + SLACK_NS
        run_plainly(guest, Path(guest.agent_path), 3 * SECOND_NS)


@both_agents
@pytest.mark.parametrize("phase", STEPPED_AT)
def test_a_stated_time_runs_on_whatever_becomes_of_the_hosts_clock(
    guest: Guest, phase: str, host: HostClock, ledger: Ledger
) -> None:
    options = {"socket": guest.agent_path, "samples": 1, "time": f"{time.time():.6f}"}
    with ledger.entry(f"host's clock stepped under a stated time, {guest.name} agent", phase):
        with at({STEPPED_AT[phase]: lambda: host.step(7 * SECOND_NS)}):
            entry = run_here(options)["guest"]
        assert entry["within_tolerance"]
        assert abs(entry["offset_after_ns"]) <= TOLERANCE_NS
        assert "warnings" not in entry
        run_plainly(guest, Path(guest.agent_path), 7 * SECOND_NS)


@pytest.mark.parametrize("direction", STEPPED_BY)
def test_the_hosts_clock_is_stepped_in_the_middle_of_a_fleet(
    fleet: SimulatedFleet, direction: str, host: HostClock, ledger: Ledger
) -> None:
    by_ns = STEPPED_BY[direction]
    guests = [Guest(fleet, name) for name in ("extended", "stock", "other")]
    for each in guests:
        each.put_off_by(BEHIND_NS)
    options = {"sockets": [each.agent_path for each in guests], "concurrency": 1}
    with ledger.entry(f"host's clock stepped {direction}, fleet", "between two guests"):
        with at({Moment(STEPPING, 1): lambda: host.step(by_ns)}):
            done = run_here(options)
        assert done["summary"]["corrected"] == 3
        for each, entry, host_ns in zip(guests, done["guests"], (0, by_ns, by_ns), strict=True):
            truth_ns = each.truth_ns() - host_ns
            assert abs(truth_ns) <= TOLERANCE_NS
            assert abs(entry["offset_after_ns"] - truth_ns) <= entry["uncertainty_after_ns"] + SLACK_NS
        again = run_here(options)
        assert [entry["changed"] for entry in again["guests"]] == [True, False, False]
        assert all(abs(each.truth_ns() - by_ns) <= TOLERANCE_NS for each in guests)


# ---------------------------------------------------------------------------------------------------- two runs at once


class Scene:
    """Several runs at one computed guest that was behind, each with a client of its own."""

    def __init__(self, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.line = TimeLine()
        self.line.install(monkeypatch)
        drawn = random.Random(seed)
        monkeypatch.setattr(resync.random, "uniform", drawn.uniform)
        commands = EXTENDED_COMMANDS if kind == "extended" else STOCK_COMMANDS
        clock = GuestClock(self.line, BEHIND_NS)
        self.shared = SharedGuest(self.line, SimulatedGuest(self.line, clock, commands, jitter(drawn)))
        self.drawn = drawn
        self.steps_by_run: list[int] = []

    def run(self, delays_s: Sequence[float], is_in_step: bool) -> list[ResyncReport]:
        """Each begins behind its delay. ``is_in_step``: nobody steps before all have measured."""
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

        async def resync_of(run: int) -> ResyncReport:
            await tasks.pause(delays_s[run])
            agent = GuestAgent(self.shared.client(gate(run)), 5.0)
            return await resync.resync(agent, self.line.reference(), methods.ResyncOptions())

        at_the_gate: set[int] = set()
        return side_by_side(self.line, [resync_of(run) for run in runs])

    def assert_no_lie(self, report: ResyncReport, steps: int) -> None:
        """What a run says was true at some time of it, and it says that it has stepped if it has."""
        for offset in (report.before, *filter(None, (report.after,))):
            assert any(
                abs(truth_ns - offset.ns) <= offset.uncertainty_ns + DRIFT_NS for truth_ns in self.shared.offsets
            )
        assert report.attempts == steps
        assert report.changed is (steps > 0)
        assert (report.within_tolerance is True) is (report.error is None)


@pytest.mark.parametrize("kind", ["extended", "stock"])
@pytest.mark.parametrize("start", ["in step", "together", "one behind the other"])
def test_two_runs_at_once_end_with_the_right_time_and_do_not_lie(
    kind: str, start: str, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = 0
    with ledger.entry(f"two runs at once, {kind} agent", f"{start}, {SEEDS} times"):
        for seed in range(SEEDS):
            scene = Scene(kind, seed, monkeypatch)
            late_s = scene.drawn.uniform(0, 0.03) if start == "one behind the other" else 0.0
            reports = scene.run([0.0, late_s], is_in_step=start == "in step")
            for report, steps in zip(reports, scene.steps_by_run, strict=True):
                scene.assert_no_lie(report, steps)
            right = abs(scene.shared.offsets[-1]) <= TOLERANCE_NS
            assert right or any(report.error for report in reports)
            failed += any(report.error is not None for report in reports)
            (rerun,) = scene.run([0.0], is_in_step=False)
            assert rerun.within_tolerance
            assert rerun.changed is not right
            assert abs(scene.shared.offsets[-1]) <= TOLERANCE_NS
    assert failed <= MOST_UNDECIDED


@pytest.mark.parametrize("name", ["extended", "stock"])
@pytest.mark.parametrize("holds", ["all have measured before either steps", "one steps behind the other's verifying"])
def test_two_modules_at_once_on_an_agent_that_serves_both(
    name: str, holds: str, ledger: Ledger, tmp_path: Path
) -> None:
    kind = EXTENDED if name == "extended" else SLOW_HWCLOCK
    clock = FakeClock(BEHIND_NS)
    paths = [tmp_path / "one.qga", tmp_path / "two.qga"]
    with (
        ledger.entry(f"two modules at once, {name} agent", holds),
        FakeAgent(listen_unix(paths[0]), kind, clock),
        FakeAgent(listen_unix(paths[1]), kind, clock),
        HeldModule({"socket": str(paths[0])}, [Stop(Moment(STEPPING))], seed=1) as one,
        HeldModule({"socket": str(paths[1])}, [Stop(Moment(STEPPING))], seed=2) as two,
    ):
        one.wait()
        two.wait()
        one.go_on()
        if holds == "all have measured before either steps":
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
def test_two_modules_at_once_on_a_channel_that_serves_one(guest: Guest, ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "guest.qga"
    steps = guest.steps()
    with (
        ledger.entry(f"two modules at once, {guest.name} agent", "one waits for the other's channel"),
        GuestChannel(path, guest.agent_path),
        HeldModule({"socket": str(path)}, [Stop(Moment(STEPPING))]) as one,
    ):
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
def test_a_module_that_cannot_wait_for_the_channel_says_so(guest: Guest, ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "guest.qga"
    with (
        ledger.entry(f"two modules at once, {guest.name} agent", "one holds the channel for too long"),
        GuestChannel(path, guest.agent_path),
        HeldModule({"socket": str(path)}, [Stop(Moment(STEPPING))]) as one,
    ):
        one.wait()
        entry = run_here({"socket": str(path), "timeout": 0.3})["guest"]
        assert entry["error"]["code"] == "unresponsive"
        assert "one client at a time" in entry["error"]["hint"]
        one.go_on()
        assert_true(one.result()["guest"], BEHIND_NS, guest.truth_ns())
        run_plainly(guest, path)
