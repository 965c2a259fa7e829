"""The extended agent on a real guest; a witness in it, independent of both agents, reads the clock."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import libvirt
import pytest

from tests.support.correction import NEAR_NS, TASK, claims, correct_by_module, entry_of, run_module, save_and_restore
from tests.support.until import until
from tests.vm.deployment import LEFT, UNIT, commands, deploy, is_in_front, main_pid, stands_alone, stock_answers
from tests.vm.errors import VmError
from tests.vm.guest import STOCK_UNIT, Guest
from tests.vm.saved_state import EXTENDED
from tests.vm.session import restored_guest
from tests.vm.witness import DRIFT_PPM

SECOND_NS = 1_000_000_000
# From https://wiki.qemu.org/Features/GuestAgent/UsefulCommands, with quotes that libvirt accepts.
SEED_REQUEST = '{ "command": "guest-update-time", "arguments" : { "seconds": 1343862720, "nanoseconds": "123000000" } }'
SEED_NS = 1343862720_123000000
REQUEST = '{"execute": "guest-update-time", "arguments": {"seconds": 1935810489, "nanoseconds": %s}}'
REQUESTED_NS = 1935810489 * SECOND_NS
HARDWARE_CLOCK = "cat /sys/class/rtc/rtc0/since_epoch"


@pytest.fixture(name="guest", scope="module")
def _guest(extended_guest: Guest) -> Guest:
    return extended_guest


@contextmanager
def moved(guest: Guest, by_ns: int) -> Iterator[None]:
    """Assert that the block moves the guest's clock by ``by_ns``, within the accuracy of the witness."""
    begun = time.monotonic()
    before = guest.witness.offset()
    yield
    after = guest.witness.offset()
    drift_ns = (time.monotonic() - begun) * DRIFT_PPM * 1000
    unsure_ns = before.uncertainty_ns + after.uncertainty_ns + drift_ns
    assert abs(after.offset_ns - before.offset_ns - by_ns) <= unsure_ns


# ------------------------------------------------------------------------------------------------------- commands


def test_guest_info_is_that_of_the_stock_agent_plus_the_added_commands(guest: Guest) -> None:
    info = guest.ask("guest-info")
    listed = {entry["name"]: entry for entry in info["supported_commands"]}
    assert len(listed) == len(info["supported_commands"])
    assert info["version"].startswith("7.2")
    assert info["extended-version"]
    assert is_in_front(guest)
    silent = {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"}
    assert {name for name, entry in listed.items() if not entry["success-response"]} == silent


def test_guest_get_clock_reads_the_guests_clock(guest: Guest) -> None:
    witnessed = guest.witness.offset()
    sent_ns = time.time_ns()
    clock = guest.ask("guest-get-clock")
    answered_ns = time.time_ns()
    assert clock["received"] <= clock["transmitted"]
    assert clock["transmitted"] - answered_ns <= witnessed.offset_ns + witnessed.uncertainty_ns
    assert clock["received"] - sent_ns >= witnessed.offset_ns - witnessed.uncertainty_ns
    # No time service runs in the guest.
    assert clock["synchronized"] is False
    assert clock["max-error"] > 0


@pytest.mark.parametrize(
    ("asked", "time_ns"),
    [
        (SEED_REQUEST, SEED_NS),
        (REQUEST % "987654321", REQUESTED_NS + 987654321),
        (REQUEST % '"000000042"', REQUESTED_NS + 42),
    ],
    ids=["the request of the wiki page", "a number", "a text"],
)
def test_guest_update_time_sets_an_absolute_time(guest: Guest, asked: str, time_ns: int) -> None:
    sent_ns = time.time_ns()
    returned = guest.ask_raw(asked)
    answered_ns = time.time_ns()
    assert time_ns <= returned["after"] <= time_ns + answered_ns - sent_ns
    witnessed = guest.witness.offset()
    # The clock was set at some time between the two.
    unsure_ns = witnessed.uncertainty_ns + (time.time_ns() - sent_ns) * DRIFT_PPM // 1_000_000
    assert time_ns - answered_ns - unsure_ns <= witnessed.offset_ns <= time_ns - sent_ns + unsure_ns


@pytest.mark.parametrize(("seconds", "nanoseconds"), [(5, 0), (-1, "999000000"), (-86401, 999999999)])
def test_guest_update_time_steps_by_a_difference(guest: Guest, seconds: int, nanoseconds: int | str) -> None:
    delta_ns = seconds * SECOND_NS + int(nanoseconds)
    begun = time.monotonic()
    with moved(guest, delta_ns):
        returned = guest.ask("guest-update-time", seconds=seconds, nanoseconds=nanoseconds, relative=True)
    assert delta_ns <= returned["after"] - returned["before"] < delta_ns + (time.monotonic() - begun) * SECOND_NS


def test_the_hardware_clock_is_set_only_on_request(guest: Guest) -> None:
    def ahead_s() -> float:
        return int(guest.sh(HARDWARE_CLOCK)) - time.time()

    guest.witness.step(-guest.witness.offset().offset_ns)
    assert abs(ahead_s()) < 3
    guest.ask("guest-update-time", seconds=1000, relative=True)
    assert abs(ahead_s()) < 3
    assert "rtc-error" not in guest.ask("guest-update-time", seconds=0, relative=True, rtc=True)
    assert abs(ahead_s() - 1000) < 3
    # The module sets it, too.
    result = run_module(guest, update_rtc=True).result(TASK)
    assert result["changed"]
    assert not [warning for warning in result.get("warnings", []) if "hardware" in warning]
    assert abs(ahead_s()) < 3


# --------------------------------------------------------------------------------------------------- with our module


def test_a_restored_guest_is_corrected_by_a_difference(guest: Guest) -> None:
    save_and_restore(guest, 1.5)
    before = guest.witness.offset()
    foretold = run_module(guest, "--check").result(TASK)
    assert (foretold["changed"], foretold["guest"]["method"]) == (True, "extended")
    assert abs(guest.witness.offset().offset_ns - before.offset_ns) < NEAR_NS

    correction, entry = correct_by_module(guest, wait_timeout=60)
    assert correction.before.offset_ns < -SECOND_NS
    assert abs(correction.after.offset_ns) < NEAR_NS
    assert (entry["changed"], entry["within_tolerance"], entry["method"]) == (True, True, "extended")
    assert claims(entry, "before", correction.before)
    assert claims(entry, "after", correction.after)

    again = entry_of(guest)
    assert (again["changed"], again["attempts"], again["method"]) == (False, 0, None)

    guest.witness.step(-3 * SECOND_NS)
    assert entry_of(guest, method="set_time")["method"] == "set_time"
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS


# --------------------------------------------------------------------------------------------- without the stock agent


def test_the_clock_is_corrected_while_the_stock_agent_hangs_and_after_it_was_killed(guest: Guest) -> None:
    stock = main_pid(guest, STOCK_UNIT)
    mark = f"{stock} was stopped"
    # If the stock agent answered within the last second (stock_link.py), the extended agent waits for a whole command's
    # timeout; otherwise it first checks with a sync, for a few seconds.
    guest.witness.start(f"sleep 1.5; kill -STOP {stock}; echo {mark} >/dev/ttyS0")
    # Not through the agent: if the stock agent is stopped in the middle of a reply, the client waits ten minutes.
    until(lambda: guest.console.shows(mark), "the stock agent was not stopped")
    guest.witness.step(-3 * SECOND_NS)
    with pytest.raises(libvirt.libvirtError, match="The stock agent did not answer guest-get-host-name in time"):
        guest.ask("guest-get-host-name")
    entry = entry_of(guest)
    assert (entry["changed"], entry["method"]) == (True, "extended")
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS

    guest.witness.start(f"kill -KILL {stock}")

    def is_back() -> bool:
        with moved(guest, 5_000_000):
            guest.ask("guest-update-time", seconds=0, nanoseconds=5_000_000, relative=True)
        return stock_answers(guest)

    until(is_back, "the stock agent did not come back", 60)
    assert main_pid(guest, STOCK_UNIT) != stock


# ---------------------------------------------------------------------------------------- what the stock agent blocks

TIME = {"guest-set-time", "guest-get-time", "guest-update-time", "guest-get-clock"}
REFUSING = {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid", "guest-sync-delimited"}
# Less than the minute for which libvirt waits for a shutdown.
AT_ONCE_S = 15.0


def is_forbidden(guest: Guest) -> bool:
    found = commands(guest)
    return "guest-ping" in found and not found & {*TIME, *REFUSING}


def test_commands_that_the_stock_agent_blocks_are_blocked_under_every_name_and_refused_at_once(
    guest: Guest,
) -> None:
    names = ",".join(["guest-set-time", "guest-get-time", *sorted(REFUSING)])
    written = shlex.quote(f"[general]\nblock-rpcs={names}\nblacklist={names}\n")
    refused: dict[str, Callable[[], object]] = {
        "update-time": lambda: guest.ask("guest-update-time", seconds=0, relative=True),
        "shutdown": guest.shut_down_by_agent,
        "suspend-ram": guest.suspend_to_memory,
    }
    try:
        guest.witness.start(
            f"mkdir -p /etc/qemu; printf {written} >/etc/qemu/qemu-ga.conf; systemctl restart {STOCK_UNIT}"
        )
        until(lambda: is_forbidden(guest), "the blocked commands are not known", 60)
        for command, ask in refused.items():
            begun = time.monotonic()
            with pytest.raises(libvirt.libvirtError, match=f"ommand guest-{command} has been disabled"):
                ask()
            assert time.monotonic() - begun < AT_ONCE_S
            assert guest.answers()
        # The stock agent refuses guest-sync-delimited, but delegated commands are still answered.
        assert guest.ask("guest-get-host-name")["host-name"] == guest.name
        assert guest.ask("guest-info")["version"].startswith("7.2")
        assert guest.sh("stat -c '%U %a' /var/lib/qemu-ga-extended/agent/stock.json") == "qemu-ga-extended 600\n"

        # An extended agent that starts while the stock agent hangs also knows the blocked commands.
        restarted = f"restarted while {main_pid(guest, UNIT)} was stopped"
        guest.witness.start(
            f"systemctl kill --signal=STOP {STOCK_UNIT}; systemctl restart {UNIT}; echo {restarted} >/dev/ttyS0"
        )
        until(lambda: guest.console.shows(restarted), "the extended agent was not restarted", 90)
        until(lambda: commands(guest), "the extended agent does not answer", 60)
        assert is_forbidden(guest)
    finally:
        guest.witness.start(f"rm -f /etc/qemu/qemu-ga.conf; systemctl kill --signal=KILL {STOCK_UNIT}")
        until(lambda: commands(guest) >= {*TIME, *REFUSING}, "the commands are not allowed again", 90)
    until(guest.answers, "the stock agent does not answer", 60)


def test_both_agents_answer_after_a_suspend(guest: Guest) -> None:
    guest.suspend_to_memory()
    guest.wake_up()
    guest.wait_for_agent(60)
    assert guest.ask("guest-get-host-name")["host-name"] == guest.name


# ------------------------------------------------------------------------------------------------------------ the role


@pytest.mark.thorough
def test_a_shutdown_by_the_agent_ends_the_guest_or_fails_with_the_reason(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-shut-down", EXTENDED) as guest:
        # Test guests boot without logind to save time, and without it shutdown(8) refuses to schedule a shutdown.
        with pytest.raises(libvirt.libvirtError, match="child process has failed to shutdown"):
            guest.shut_down_by_agent()
        guest.sh("systemctl unmask systemd-logind; systemctl daemon-reload; systemctl start systemd-logind")
        guest.shut_down_by_agent()
        until(lambda: guest.state == "shut off", "the guest does not shut down", 120)


def test_the_role_removes_the_extended_agent_and_the_stock_agent_remains(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-removed", EXTENDED) as guest:
        deploy(guest, extended_agent_state="absent")
        assert stands_alone(guest)
        assert guest.sh(LEFT) == ""
        assert guest.sh(f"systemctl is-active {STOCK_UNIT}; systemctl is-failed 'qemu*' || true").split()[0] == "active"


@pytest.mark.thorough
def test_a_failed_deployment_restores_the_stock_agent_and_can_be_repeated(guest: Guest) -> None:
    with pytest.raises(VmError, match=r"(?s)reverted to the stock agent.*ModuleNotFoundError"):
        deploy(guest, extended_agent_code=["roles/extended_agent/files/qemu_ga_extended/*.py"])
    assert stands_alone(guest)
    deploy(guest)
    assert guest.ask("guest-get-clock")["received"] > 0
