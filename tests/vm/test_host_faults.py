"""Faults on the host, with a real guest under a real libvirt: each is injected at a chosen moment.

However the disturbed run ends, a plain run after it ends with the correct time and a true report, as a witness in the
guest verifies.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.processes.held_module import HeldModule, Stop
from tests.support.correction import NEAR_NS, TOLERANCE_NS, claims, is_right, suspend_and_resume
from tests.support.moments import CONNECTION, IDENTITY, LISTING, READING, STEPPING, Moment
from tests.support.tiers import quick
from tests.support.until import until
from tests.vm import libvirtd
from tests.vm.deployment import UNIT, main_pid, stock_answers
from tests.vm.errors import VmError
from tests.vm.guest import BOOT_DEADLINE_S, STOCK_UNIT, Guest

SECOND_NS = 1_000_000_000
PATIENCE_SECONDS = 60.0
# For each exchange: an emulated guest on a busy machine is slow.
TIMEOUT_SECONDS = 20
# More than the tolerance, without any other delay.
NAP_SECONDS = 0.3

PHASES = {
    "connected, not looked up yet": Moment(CONNECTION, is_after=True),
    "before guest-info": Moment("guest-info"),
    "while measuring": Moment(READING, 1),
    "between measuring and stepping": Moment(STEPPING),
    "between stepping and verifying": Moment(STEPPING, is_after=True),
    "while verifying": Moment(READING, 1, since=STEPPING),
}
WITH_THE_AGENT = [*PHASES][2:]


@pytest.fixture
def guest(extended_guest: Guest) -> Guest:
    """The guest with the extended agent, 10 s late."""
    make_late(extended_guest)
    return extended_guest


def make_late(guest: Guest) -> None:
    guest.witness.step(-10 * SECOND_NS - guest.witness.offset().offset_ns)


def options(guest: Guest, **others: Any) -> dict[str, Any]:
    return {"domain": guest.name, "uri": guest.uri, "timeout": TIMEOUT_SECONDS, **others}


def fleet_options(guest: Guest) -> dict[str, Any]:
    return {"domains": [guest.name], "uri": guest.uri, "timeout": TIMEOUT_SECONDS}


OPTIONS: dict[str, Callable[[Guest], dict[str, Any]]] = {"one guest": options, "fleet": fleet_options}


def run(guest: Guest) -> dict[str, Any]:
    """Return the guest's entry from an undisturbed run."""
    with HeldModule(options(guest)) as module:
        entry: dict[str, Any] = module.result()["guest"]
    return entry


def disturbed(guest: Guest, phase: str, disturb: Callable[[], object], **others: Any) -> dict[str, Any]:
    """Return the guest's entry from a run that was disturbed in this phase."""
    with HeldModule(options(guest, **others), [Stop(PHASES[phase])]) as module:
        module.wait()
        disturb()
        module.go_on()
        entry: dict[str, Any] = module.result()["guest"]
    return entry


def run_plainly(guest: Guest) -> None:
    """Run the module twice more: the clock is correct, the report is true, and the second run changes nothing."""
    guest.wait_for_agent()  # a daemon that has just started needs a moment to find it
    before = guest.witness.offset()
    entry = run(guest)
    after = guest.witness.offset()
    assert abs(after.offset_ns) < NEAR_NS
    assert "error" not in entry
    assert entry["within_tolerance"]
    assert claims(entry, "before", before)
    assert entry["changed"] is (abs(entry["offset_before_ns"]) > TOLERANCE_NS)
    if entry["changed"]:
        assert claims(entry, "after", after)
    assert run(guest)["changed"] is False


def code_of(entry: Mapping[str, Any]) -> str:
    """Return the code of the entry's error; empty: it has none."""
    code: str = entry["error"]["code"] if "error" in entry else ""
    return code


def assert_no_lie(guest: Guest, entry: Mapping[str, Any]) -> None:
    """Assert that a disturbed run ended with an error or with a correct clock."""
    assert (entry.get("within_tolerance") is True) is ("error" not in entry)
    if "error" not in entry:
        after = guest.witness.offset()
        assert claims(entry, "after", after)
        assert abs(after.offset_ns) < NEAR_NS


# ----------------------------------------------------------------------------------- the daemon or the module is killed


def kill_daemon() -> None:
    """Kill libvirtd and start it again."""
    libvirtd.restart(how=signal.SIGKILL)


DAEMON_KILLED_AT = {
    "not connected yet": Moment(CONNECTION),
    "before the list": Moment(LISTING),
    **PHASES,
}
# In a task with one guest, the daemon is either gone or already back. A fleet waits for a daemon that ended while its
# guests were processed; before the lookup, its guests are not known yet.
GONE = "hypervisor_unavailable"
CODES: dict[tuple[str, str], tuple[str, ...]] = {
    ("one guest", "not connected yet"): ("",),
    **{("one guest", phase): ("", GONE) for phase in PHASES},
    ("fleet", "before the list"): ("",),
    **{("fleet", phase): ("",) for phase in PHASES},
    ("fleet", "connected, not looked up yet"): (GONE,),
}


@pytest.mark.parametrize(
    "case",
    quick(CODES, [("one guest", "while measuring"), ("fleet", "between measuring and stepping")]),
    ids=": ".join,
)
def test_a_plain_run_is_correct_after_the_daemon_was_killed_and_restarted(guest: Guest, case: tuple[str, str]) -> None:
    named, phase = case
    with HeldModule(OPTIONS[named](guest), [Stop(DAEMON_KILLED_AT[phase])]) as module:
        module.wait()
        kill_daemon()
        module.go_on()
        result = module.result()
    assert code_of(result.get("guest", result)) in CODES[case]
    if "guest" in result:
        assert_no_lie(guest, result["guest"])
    run_plainly(guest)


@pytest.mark.parametrize("phase", quick(WITH_THE_AGENT[1:], ["between stepping and verifying"]))
def test_a_plain_run_is_correct_after_the_module_was_killed(guest: Guest, phase: str) -> None:
    with HeldModule(options(guest), [Stop(PHASES[phase])]) as module:
        module.wait()
        module.kill()
    run_plainly(guest)


@pytest.mark.thorough
@pytest.mark.parametrize("killed", ["daemon", "module"])
def test_a_plain_run_is_correct_after_a_kill_while_the_stock_agent_sets_the_clock(guest: Guest, killed: str) -> None:
    def is_set() -> bool:
        with suppress(VmError):  # the clock may be set during the reading
            return abs(guest.witness.offset(2).offset_ns) < SECOND_NS
        return False

    with HeldModule(options(guest, method="set_time"), [Stop(Moment(STEPPING), is_held=False)]) as module:
        module.wait()
        until(is_set, "the clock was not set", PATIENCE_SECONDS)  # hwclock takes another second
        if killed == "daemon":
            kill_daemon()
            entry = module.result()["guest"]
            assert entry["changed"]
            assert_no_lie(guest, entry)
        else:
            module.kill()
    run_plainly(guest)


@contextmanager
def deaf(guest: Guest) -> Iterator[None]:
    """Stop QEMU with SIGSTOP: requests stay in the channel, and libvirt considers the guest running."""
    pid = int(Path(f"/run/libvirt/qemu/{guest.name}.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("fate", quick(["killed", "continued"], ["killed"]))
def test_a_step_that_waits_unread_in_the_channel_is_applied_once(guest: Guest, fate: str) -> None:
    stops = [Stop(Moment(STEPPING)), Stop(Moment("guest-ping", since=STEPPING))]
    with HeldModule(options(guest, timeout=3), stops) as module:
        module.wait()
        with deaf(guest):
            module.go_on()
            module.wait()
            if fate == "killed":
                module.kill()
        if fate == "killed":
            guest.wait_for_agent()
        else:
            module.go_on()
            entry = module.result()["guest"]
            assert (entry["attempts"], entry["changed"], entry["within_tolerance"]) == (1, True, True)
        assert is_right(guest)
        run_plainly(guest)


# ------------------------------------------------------------------------------ the guest is paused, or an agent killed


@pytest.mark.parametrize("phase", quick(PHASES, ["between measuring and stepping"]))
def test_a_guest_that_is_paused_during_a_run_fails_as_not_running(guest: Guest, phase: str) -> None:
    try:
        assert code_of(disturbed(guest, phase, guest.suspend)) == "not_running"
        time.sleep(NAP_SECONDS)
    finally:
        guest.resume()
    run_plainly(guest)


@pytest.mark.parametrize("phase", quick(PHASES, ["between measuring and stepping"]))
def test_a_guest_that_is_paused_and_resumed_during_a_run_is_corrected(guest: Guest, phase: str) -> None:
    entry = disturbed(guest, phase, lambda: suspend_and_resume(guest, NAP_SECONDS))
    assert "error" not in entry
    assert_no_lie(guest, entry)
    run_plainly(guest)


def kill_in(guest: Guest, unit: str, pid: int) -> None:
    """Kill an agent; if it is the extended one, wait until the channel closes. systemd restarts it after a second."""
    with suppress(libvirt.libvirtError):  # the agent may be killed before it answers
        guest.ask("guest-exec", path="/bin/sh", arg=["-c", f"kill -KILL {pid}"])
    if unit == UNIT:
        deadline = time.monotonic() + 5.0
        while guest.agent_is_connected and time.monotonic() < deadline:
            time.sleep(0.01)


def settle(guest: Guest) -> None:
    """Wait until both agents answer, and reset systemd's limit of restarts, so that they can be killed again."""

    def answers() -> bool:
        with suppress(libvirt.libvirtError, KeyError):
            guest.sh(f"systemctl reset-failed {UNIT} {STOCK_UNIT}")
            return stock_answers(guest)
        return False

    until(answers, "the agent does not answer", PATIENCE_SECONDS)


@pytest.mark.parametrize("phase", quick(WITH_THE_AGENT, ["between measuring and stepping"]))
@pytest.mark.parametrize(("unit", "method"), [(UNIT, "extended"), (STOCK_UNIT, "set_time")])
def test_a_plain_run_is_correct_after_an_agent_was_killed(guest: Guest, unit: str, method: str, phase: str) -> None:
    pid = main_pid(guest, unit)
    entry = disturbed(guest, phase, lambda: kill_in(guest, unit, pid), method=method)
    assert_no_lie(guest, entry)
    settle(guest)
    assert main_pid(guest, unit) != pid
    run_plainly(guest)


# ------------------------------------------------------------------------------------- the guest ends and restarts


@pytest.mark.thorough
def test_a_guest_that_was_destroyed_or_restarted_during_a_run_is_not_stepped(guest: Guest) -> None:
    """One boot serves all phases: one run is held in each of them."""
    moments = {**{phase: PHASES[phase] for phase in WITH_THE_AGENT}, "between measuring and stepping": Moment(IDENTITY)}
    with ExitStack() as held:
        runs = {}
        for phase, fate in itertools.product(moments, ("destroyed", "started anew")):
            make_late(guest)
            runs[phase, fate] = held.enter_context(HeldModule(options(guest), [Stop(moments[phase])]))
            runs[phase, fate].wait()

        def end(phase: str, fate: str) -> str:
            """Return the code of the run's error."""
            runs[phase, fate].go_on()
            return code_of(runs[phase, fate].result()["guest"])

        guest._domain.destroy()
        for phase in moments:
            assert end(phase, "destroyed") == "not_running"
        guest.start()
        guest.witness.wait(BOOT_DEADLINE_S)
        settle(guest)
        for phase in moments:
            # Whatever the restarted guest's clock shows, the earlier measurement is invalid.
            guest.witness.step(3 * SECOND_NS - guest.witness.offset().offset_ns)
            assert end(phase, "started anew") == "replaced"
            assert abs(guest.witness.offset().offset_ns - 3 * SECOND_NS) < NEAR_NS
            run_plainly(guest)
