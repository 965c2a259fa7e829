"""Resyncing every agent met in the field, with every offset that is reported held against the truth."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import methods
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandDisabledError, FrozenError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError

from tests.fakes.faults import Delays, Instead, On, SilentFrom
from tests.fakes.kinds import (
    BEFORE_1_2,
    BEFORE_4_2,
    EXTENDED,
    EXTENDED_NO_RTC,
    FIELD,
    MILLISECOND_NS,
    NO_HWCLOCK,
    NO_RTC,
    SECOND_NS,
    SLOW_HWCLOCK,
    STOCK,
    WINDOWS,
    WINDOWS_TICKING,
    Kind,
)
from tests.support.agents_in_the_field import (
    BEHIND_NS,
    NEAR_NS,
    READING_NS,
    agent_at,
    assert_honest,
    corrected,
    guest_through,
    mid_minute,
    resync,
)


@pytest.mark.parametrize("name", FIELD)
def test_resync(name: str, tmp_path: Path) -> None:
    row = FIELD[name]
    reference = mid_minute()
    with agent_at(tmp_path, row.kind) as agent:
        if not row.is_readable:
            with pytest.raises(QgaError) as caught:
                corrected(tmp_path, reference)
            assert caught.value.code == row.code
            assert abs(agent.clock.offset_ns() - BEHIND_NS) < READING_NS + MILLISECOND_NS
            return
        started_ns = time.monotonic_ns()
        first = corrected(tmp_path, reference)
        true_after_ns = agent.clock.offset_ns() - reference.utc_offset_ns
        age_ns = time.monotonic_ns() - started_ns
        second = corrected(tmp_path, reference) if not row.code else None
        true_at_last_ns = agent.clock.offset_ns() - reference.utc_offset_ns
    assert_honest(first.before, BEHIND_NS - reference.utc_offset_ns, age_ns)
    if first.after is not None:
        assert_honest(first.after, true_after_ns, age_ns)
    assert first.before.measurement.resolution_ns >= row.resolution_ns
    assert row.warning in " ".join(first.warnings)
    assert (first.error.code if first.error else "") == row.code
    assert first.within_tolerance is (not row.code)
    if second is None:
        return
    assert (first.changed, first.method) == (True, row.method)
    assert abs(true_after_ns) <= max(NEAR_NS, 2 * row.kind.set_step_ns, row.kind.tick_ns)
    assert (second.changed, second.attempts, second.error) == (False, 0, None)
    assert_honest(second.before, true_at_last_ns, age_ns)


# ------------------------------------------------------------------------------------------------ whichever the channel

WAYS = ("unix", "tcp", "libvirt")
# What they refuse and how they write numbers must be read in the same way through all channels.
IN_OTHER_WORDS = tuple(
    name for name in FIELD if re.search("before|disabled|frozen|hwclock|cJSON|plain", name) and name != "slow hwclock"
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_what_becomes_of_a_guest_does_not_depend_on_the_way_to_it(name: str, way: str, tmp_path: Path) -> None:
    row = FIELD[name]
    with guest_through(way, tmp_path, row.kind) as (fake, agent):
        if not row.is_readable:
            with pytest.raises(QgaError) as caught:
                resync(agent, HostReference(), ResyncOptions())
            assert caught.value.code == row.code
            return
        report = resync(agent, HostReference(), ResyncOptions())
        true_ns = fake.clock.offset_ns()
    assert_honest(report.before, BEHIND_NS, report.duration_ns)
    assert report.before.measurement.resolution_ns >= row.resolution_ns
    assert (report.error.code if report.error else "") == row.code
    assert (abs(true_ns) <= NEAR_NS) is report.within_tolerance is (not row.code)


@pytest.mark.parametrize("way", WAYS)
def test_a_guest_without_hwclock_is_asked_once_to_set_its_clock_and_says_what_it_lacks(
    way: str, tmp_path: Path
) -> None:
    with guest_through(way, tmp_path, NO_HWCLOCK) as (fake, agent):
        report = resync(agent, HostReference(), ResyncOptions())
        assert len(fake.asked("guest-set-time")) == 1
    assert report.error is not None
    assert report.error.code == "not_supported"
    assert "install util-linux-extra" in report.error.hint
    assert "extended agent" in report.error.hint
    assert (report.changed, report.attempts) == (False, 1)
    assert report.after is not None  # measured all the same


@pytest.mark.parametrize("way", ["unix", "tcp"])
@pytest.mark.parametrize("name", ["stock", "before 4.2", "before 1.2"])
def test_an_agent_that_refuses_to_be_synced_with_is_told_at_once(name: str, way: str, tmp_path: Path) -> None:
    kinds = {"stock": STOCK, "before 4.2": BEFORE_4_2, "before 1.2": BEFORE_1_2}
    kind = replace(kinds[name], disabled=frozenset(("guest-sync-delimited", "guest-sync")))
    with guest_through(way, tmp_path, kind) as (fake, agent):
        started = time.monotonic()
        agent.timeout = 60.0
        with pytest.raises(CommandDisabledError, match="guest-sync-delimited and guest-sync"):
            resync(agent, HostReference(), ResyncOptions())
        assert time.monotonic() - started < 30.0
        assert {command for command, _arguments in fake.requests} == {"guest-sync-delimited", "guest-sync"}


# --------------------------------------------------------------------------------------- wherever the clock is, and how


@pytest.mark.parametrize("offset_ns", [-86400 * SECOND_NS, -SECOND_NS // 2, SECOND_NS // 2, 3600 * SECOND_NS])
@pytest.mark.parametrize("kind", [STOCK, EXTENDED])
def test_resync_from_either_side(offset_ns: int, kind: Kind, tmp_path: Path) -> None:
    with agent_at(tmp_path, kind, offset_ns) as agent:
        report = corrected(tmp_path)
        true_ns = agent.clock.offset_ns()
    assert_honest(report.before, offset_ns, report.duration_ns)
    assert report.after is not None
    assert_honest(report.after, true_ns, report.duration_ns)
    assert report.changed
    assert report.error is None
    assert abs(true_ns) < NEAR_NS


@pytest.mark.parametrize("kind", [STOCK, EXTENDED, WINDOWS, WINDOWS_TICKING])
@pytest.mark.parametrize(
    "delays",
    [
        Delays(forward=(0.004,)),
        Delays(backward=(0.004,)),
        Delays(forward=(0.001, 0.006, 0.0), backward=(0.003, 0.0, 0.0, 0.008)),
    ],
    ids=["request late", "reply late", "uneven"],
)
def test_offsets_are_honest_whatever_the_delays(kind: Kind, delays: Delays, tmp_path: Path) -> None:
    with agent_at(tmp_path, kind, delays=delays) as agent:
        report = corrected(tmp_path)
        true_ns = agent.clock.offset_ns()
    assert_honest(report.before, BEHIND_NS, report.duration_ns)
    assert report.after is not None
    assert_honest(report.after, true_ns, report.duration_ns)
    assert report.within_tolerance


@pytest.mark.parametrize("rate_ppm", [-400.0, 400.0])
def test_offsets_of_a_clock_that_runs_wrong_are_honest(rate_ppm: float, tmp_path: Path) -> None:
    delays = Delays(forward=(0.001, 0.003), backward=(0.002, 0.0))
    with agent_at(tmp_path, rate_ppm=rate_ppm, delays=delays) as agent:
        report = corrected(tmp_path)
        true_ns = agent.clock.offset_ns()
    assert_honest(report.before, BEHIND_NS, report.duration_ns)
    assert report.after is not None
    assert_honest(report.after, true_ns, report.duration_ns)


# ---------------------------------------------------------------------------------------------- what is said and done


def test_without_an_rtc_the_error_becomes_a_warning_and_is_not_repeated(tmp_path: Path) -> None:
    with agent_at(tmp_path, NO_RTC) as agent:
        report = corrected(tmp_path)
        assert report.error is None
        assert any("although the agent reported an error" in warning for warning in report.warnings)
        assert len(agent.asked("guest-set-time")) == report.attempts


def test_whole_minutes_are_found_out_and_told_with_figures(tmp_path: Path) -> None:
    with agent_at(tmp_path, FIELD["whole minutes"].kind) as agent:
        report = corrected(tmp_path, mid_minute(), attempts=2)
        assert len(agent.asked("guest-set-time")) == 2
    assert report.error is not None
    assert report.error.code == "not_converged"
    assert "still off by -3" in report.error.message
    assert "after 2 attempts" in report.error.message
    assert report.after is not None
    assert report.as_dict()["offset_after_ns"] == report.after.ns


def test_a_lie_is_found_out_and_changes_nothing(tmp_path: Path) -> None:
    with agent_at(tmp_path, FIELD["liar"].kind):
        report = corrected(tmp_path)
    assert report.error is not None
    assert re.search(r"still off by -(90\.000|89\.999)", report.error.message)
    assert (report.changed, report.attempts) == (False, 3)


def test_a_set_time_that_is_disabled_is_not_tried_and_told_beside_the_figures(tmp_path: Path) -> None:
    with agent_at(tmp_path, FIELD["set-time disabled"].kind) as agent:
        report = corrected(tmp_path)
        assert agent.asked("guest-set-time") == []
    assert isinstance(report.error, CommandDisabledError)
    assert (report.changed, report.after) == (False, None)


def test_a_frozen_guest_is_told_from_a_forbidden_command(tmp_path: Path) -> None:
    with agent_at(tmp_path, FIELD["frozen"].kind), pytest.raises(FrozenError, match="frozen"):
        corrected(tmp_path)
    (tmp_path / "agent.sock").unlink()
    with agent_at(tmp_path, FIELD["get-time disabled"].kind), pytest.raises(CommandDisabledError):
        corrected(tmp_path)


QUICK_HWCLOCK = methods.Timings(hwclock=0.5)


def test_a_slow_hwclock_does_not_spoil_the_time_that_was_set(tmp_path: Path) -> None:
    with agent_at(tmp_path, SLOW_HWCLOCK) as agent:
        report = corrected(tmp_path)
        assert abs(agent.clock.offset_ns()) < NEAR_NS
        assert report.duration_ns >= 300_000_000


def test_an_hwclock_slower_than_the_time_limit_is_waited_for(tmp_path: Path) -> None:
    with agent_at(tmp_path, Kind(set_seconds=1.2)) as agent:
        report = corrected(tmp_path, timeout=0.3)
        assert report.error is None
        assert abs(agent.clock.offset_ns()) < NEAR_NS


def test_a_reply_to_set_time_that_never_comes_is_no_verdict(tmp_path: Path) -> None:
    lost = On("guest-set-time", Instead(()))
    with agent_at(tmp_path, faults=(lost,)) as agent:
        report = corrected(tmp_path, timeout=0.3, timings=QUICK_HWCLOCK)
        assert abs(agent.clock.offset_ns()) < NEAR_NS
    assert report.error is None
    assert any("although the agent reported an error" in warning for warning in report.warnings)


def test_an_agent_that_falls_silent_at_set_time_is_an_error_with_the_figures_before(tmp_path: Path) -> None:
    with agent_at(tmp_path, faults=(SilentFrom("guest-set-time"),)):
        report = corrected(tmp_path, timeout=0.3, samples=8, timings=QUICK_HWCLOCK)
    assert report.error is not None
    assert report.error.code in ("timeout", "unresponsive")
    assert_honest(report.before, BEHIND_NS, report.duration_ns)


def test_a_dry_run_changes_nothing_and_tells_what_it_would_do(tmp_path: Path) -> None:
    with agent_at(tmp_path) as agent:
        report = corrected(tmp_path, dry_run=True)
        assert agent.asked("guest-set-time") == []
        true_ns = agent.clock.offset_ns()
    assert (report.changed, report.method, report.attempts, report.after) == (True, "set_time", 0, None)
    assert abs(true_ns - BEHIND_NS) < MILLISECOND_NS
    assert abs(report.guest_time_after_ns - report.guest_time_before_ns + BEHIND_NS) < NEAR_NS


def test_a_guest_that_is_ahead_is_left_alone_if_it_must_be(tmp_path: Path) -> None:
    with agent_at(tmp_path, offset_ns=5 * SECOND_NS) as agent:
        report = corrected(tmp_path, backward="leave")
        assert agent.asked("guest-set-time") == []
    assert (report.changed, report.within_tolerance, report.error) == (False, False, None)
    assert "backward=leave" in report.warnings[0]


def test_a_guest_that_is_ahead_glides_back_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    with agent_at(tmp_path, EXTENDED, offset_ns=SECOND_NS // 5) as agent:
        first = corrected(tmp_path, backward="slew")
        second = corrected(tmp_path, backward="slew")
        (request,) = agent.asked("guest-update-time")
        assert (request["relative"], request["slew"]) == (True, True)
    assert (first.changed, first.within_tolerance, first.error) == (True, False, None)
    assert (second.changed, second.within_tolerance, second.error) == (False, False, None)
    assert first.slewing_ns < second.slewing_ns < 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Kind(), "its agent does not slew"),
        (replace(EXTENDED, slews=False), "its agent does not slew"),
        (replace(EXTENDED, is_disciplined=True), "a time service"),
    ],
)
def test_a_guest_that_is_ahead_is_left_alone_if_it_cannot_glide(tmp_path: Path, kind: Kind, reason: str) -> None:
    with agent_at(tmp_path, kind, offset_ns=SECOND_NS // 5) as agent:
        report = corrected(tmp_path, backward="slew")
        assert agent.asked("guest-set-time") + agent.asked("guest-update-time") == []
    assert (report.changed, report.within_tolerance, report.error) == (False, False, None)
    assert reason in report.warnings[0]


def test_the_hardware_clock_method(tmp_path: Path) -> None:
    with agent_at(tmp_path) as agent:
        report = corrected(tmp_path, method="rtc", tolerance_ns=SECOND_NS)
        assert agent.asked("guest-set-time") == [{}]
    assert (report.changed, report.error) == (True, None)
    (tmp_path / "agent.sock").unlink()
    with agent_at(tmp_path, NO_RTC) as agent:
        report = corrected(tmp_path, method="rtc", tolerance_ns=SECOND_NS)
    assert report.error is not None
    assert report.error.code == "command_failed"
    assert "hwclock failed to set system clock" in report.error.message
    assert report.changed is False


def test_the_extended_agent_writes_its_rtc_if_asked_and_its_failure_is_a_warning(tmp_path: Path) -> None:
    with agent_at(tmp_path, EXTENDED_NO_RTC) as agent:
        report = corrected(tmp_path, update_rtc=True)
        (request,) = agent.asked("guest-update-time")
        assert request["rtc"] is True
        assert request["relative"] is True
    assert report.error is None
    assert report.warnings == ("the guest's hardware clock was not updated: there is no hardware clock",)


def test_the_extended_method_is_an_error_with_a_stock_agent(tmp_path: Path) -> None:
    with agent_at(tmp_path):
        report = corrected(tmp_path, method="extended")
    assert report.error is not None
    assert report.error.code == "command_not_found"
    assert "role qemu.guest_agent.extended_agent" in report.error.hint


NONSENSE = {
    "a string": b'{"return": "1795406754194651471"}\n',
    "a float": b'{"return": 1795406754194651471.5}\n',
    "a bool": b'{"return": true}\n',
    "an object": b'{"return": {}}\n',
    "before 1970": b'{"return": -1}\n',
    "beyond 2261": b'{"return": 9223372036854775808}\n',
}


@pytest.mark.parametrize("what", NONSENSE)
def test_a_time_that_is_none_is_the_agents_fault(what: str, tmp_path: Path) -> None:
    faults = (On("guest-get-time", Instead((NONSENSE[what],))),)
    with agent_at(tmp_path, faults=faults), pytest.raises(RemoteProtocolError):
        corrected(tmp_path)
