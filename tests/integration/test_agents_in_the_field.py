"""Resyncs and facts of every agent in the field, with every reported offset compared with the truth."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import SUBSETS
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Delays, Fault, Instead, Late, On, SilentFrom
from tests.fakes.kinds import EXTENDED, FIELD, MILLISECOND_NS, STOCK, WINDOWS, WINDOWS_TICKING, Kind
from tests.processes.socket_server import listen_unix
from tests.support.agents_in_the_field import (
    BEHIND_NS,
    NEAR_NS,
    READING_NS,
    assert_honest,
    gather,
    guest,
    guest_through,
    mid_minute,
    resync,
)

# Refusals and numbers in all spellings must be read in the same way through all channels.
IN_OTHER_WORDS = tuple(
    name for name in FIELD if re.search("before|disabled|frozen|hwclock|cJSON|plain", name) and name != "slow hwclock"
)


@pytest.mark.parametrize(
    ("name", "way"),
    [*((name, "unix") for name in FIELD), *((name, way) for name in IN_OTHER_WORDS for way in ("tcp", "libvirt"))],
)
def test_a_resync_of_each_agent_corrects_the_clock_or_explains(name: str, way: str, tmp_path: Path) -> None:
    row = FIELD[name]
    reference = mid_minute()
    with guest_through(way, tmp_path, row.kind) as (fake, agent):
        if not row.is_readable:
            with pytest.raises(QgaError) as caught:
                resync(agent, reference, ResyncOptions())
            assert caught.value.code == row.code
            assert abs(fake.clock.offset_ns() - BEHIND_NS) < READING_NS + MILLISECOND_NS
            return
        started_ns = time.monotonic_ns()
        first = resync(agent, reference, ResyncOptions())
        true_after_ns = fake.clock.offset_ns() - reference.utc_offset_ns
        age_ns = time.monotonic_ns() - started_ns
        second = resync(agent, reference, ResyncOptions()) if not row.code else None
        true_at_last_ns = fake.clock.offset_ns() - reference.utc_offset_ns
    assert_honest(first.before, BEHIND_NS - reference.utc_offset_ns, age_ns)
    if first.after is not None:
        assert_honest(first.after, true_after_ns, first.duration_ns)
    assert first.before.measurement.resolution_ns >= row.resolution_ns
    assert row.warning in " ".join(first.warnings)
    assert (first.error.code if first.error else "") == row.code
    assert first.within_tolerance is (not row.code)
    if second is None:
        return
    assert (first.changed, first.method) == (True, row.method)
    assert abs(true_after_ns) <= max(NEAR_NS, 2 * row.kind.set_step_ns, row.kind.tick_ns)
    assert (second.changed, second.attempts, second.error) == (False, 0, None)
    assert_honest(second.before, true_at_last_ns, second.duration_ns)


UNEVEN = Delays(forward=(0.001, 0.006, 0.0), backward=(0.003, 0.0, 0.0, 0.008))


@pytest.mark.parametrize("kind", [STOCK, EXTENDED, WINDOWS, WINDOWS_TICKING])
@pytest.mark.parametrize(
    ("delays", "rate_ppm"),
    [(Delays(forward=(0.004,)), 0), (Delays(backward=(0.004,)), 0), (UNEVEN, 0), (UNEVEN, -400), (UNEVEN, 400)],
    ids=["request late", "reply late", "uneven", "slow clock", "fast clock"],
)
def test_offsets_are_honest_whatever_the_delays(kind: Kind, delays: Delays, rate_ppm: int, tmp_path: Path) -> None:
    with guest_through("unix", tmp_path, kind, rate_ppm=rate_ppm, delays=delays) as (fake, agent):
        report = resync(agent, HostReference(), ResyncOptions())
        true_ns = fake.clock.offset_ns()
    assert_honest(report.before, BEHIND_NS, report.duration_ns)
    assert report.after is not None
    assert_honest(report.after, true_ns, report.duration_ns)
    assert report.within_tolerance


@pytest.mark.parametrize(
    ("kind", "faults", "code", "warning"),
    [
        (replace(STOCK, set_seconds=0.6), (), None, ""),
        (STOCK, (On("guest-set-time", Instead(())),), None, "although the agent reported an error"),
        (STOCK, (SilentFrom("guest-set-time"),), "timeout|unresponsive", ""),
    ],
    ids=["hwclock takes longer than the timeout", "the reply is lost", "the agent falls silent"],
)
def test_a_step_without_an_answer_in_time_is_verified_by_measuring(
    kind: Kind, faults: tuple[Fault, ...], code: str | None, warning: str, tmp_path: Path
) -> None:
    options = ResyncOptions(samples=8, timings=Timings(hwclock=1.0))
    with guest_through("unix", tmp_path, kind, faults=faults) as (fake, agent):
        agent.timeout = 0.3
        report = resync(agent, HostReference(), options)
        assert code or abs(fake.clock.offset_ns()) < NEAR_NS
    assert_honest(report.before, BEHIND_NS, report.duration_ns)
    assert re.fullmatch(code or "", report.error.code if report.error else "")
    assert warning in " ".join(report.warnings)


# ---------------------------------------------------------------------------------------------------------------- facts

EVERYTHING = {subset.name for subset in SUBSETS}


@pytest.mark.parametrize("name", FIELD)
def test_facts_of_every_agent_are_gathered_or_explained(name: str, tmp_path: Path) -> None:
    row = FIELD[name]
    with guest_through("unix", tmp_path, row.kind) as (_fake, agent):
        facts = gather(agent, SUBSETS)
    errors = facts.pop("errors")
    assert set(facts) | set(errors) == EVERYTHING
    assert not set(facts) & set(errors)
    missing = "frozen" if row.kind.is_frozen else "command_not_found"
    for subset, error in errors.items():
        disabled = subset in ("agent", "commands") if "guest-info" in row.kind.disabled else subset == "time"
        assert error["code"] == ("command_disabled" if disabled and not row.kind.is_frozen else missing), subset
    if row.is_readable:
        offset_ns, uncertainty_ns = facts["time"]["offset_ns"], facts["time"]["uncertainty_ns"]
        assert abs(offset_ns - BEHIND_NS) <= uncertainty_ns + READING_NS


# -------------------------------------------------------------------------------------------------------------- waiting


def test_an_agent_that_appears_and_answers_late_is_waited_for(tmp_path: Path) -> None:
    """A socket refuses connections at first, like QEMU's between a client that left and an agent that starts."""
    over = threading.Event()

    def serve() -> None:
        time.sleep(1.0)
        late = On("guest-sync-delimited", Late(1.0), nth=0)  # the guest boots
        with FakeAgent(listen_unix(tmp_path / "new.sock"), faults=(late,)):
            (tmp_path / "new.sock").rename(tmp_path / "agent.sock")  # atomic: a missing socket is not waited for
            over.wait(30.0)

    listen_unix(tmp_path / "agent.sock").close()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with guest(tmp_path, timeout=0.3) as agent:
            started = time.monotonic()
            agent.wait(10.0)
            assert time.monotonic() - started > 0.7
            assert agent.call("guest-ping") == {}
    finally:
        over.set()
        thread.join()
