"""The extended agent on a real guest; a witness in it, independent of both agents, says what became of the clock."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks
from tests.support.correction import (
    MODULE,
    NEAR_NS,
    TASK,
    claims,
    correct_by_module,
    entry_of,
    run_module,
    save_and_restore,
)
from tests.support.until import until
from tests.vm.deployment import UNIT, deploy, main_pid
from tests.vm.errors import VmError
from tests.vm.guest import STOCK_UNIT, Guest
from tests.vm.saved_state import EXTENDED
from tests.vm.session import restored_guest
from tests.vm.witness import DRIFT_PPM, Reading

SECOND_NS = 1_000_000_000
ASLEEP_S = 1.5
ADDED = {"guest-get-clock", "guest-get-command-info", "guest-update-time"}
# What the page https://wiki.qemu.org/Features/GuestAgent/UsefulCommands proposes, in quotes that libvirt takes.
SEED_REQUEST = '{ "command": "guest-update-time", "arguments" : { "seconds": 1343862720, "nanoseconds": "123000000" } }'
SEED_NS = 1343862720_123000000

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no seconds": ({"nanoseconds": 1}, "'seconds' is missing"),
    "seconds in a string": ({"seconds": "1795406733"}, "'seconds', expected: integer"),
    "seconds with a fraction": ({"seconds": 1795406733.5}, "'seconds', expected: integer"),
    "seconds that are true": ({"seconds": True}, "'seconds', expected: integer"),
    "a whole second of nanoseconds": ({"seconds": 1795406733, "nanoseconds": 10**9}, "'nanoseconds'"),
    "negative nanoseconds": ({"seconds": 1795406733, "nanoseconds": -1}, "'nanoseconds'"),
    "nanoseconds that are no number": ({"seconds": 1795406733, "nanoseconds": "0x10"}, "'nanoseconds'"),
    "empty nanoseconds": ({"seconds": 1795406733, "nanoseconds": ""}, "'nanoseconds'"),
    "relative in a string": ({"seconds": 1, "relative": "yes"}, "'relative', expected: boolean"),
    "an argument too many": ({"seconds": 1795406733, "minutes": 1}, "'minutes' is unexpected"),
    "a year before 1970": ({"seconds": -1}, "1970 to 2261"),
    "a year after 2261": ({"seconds": 2**62}, "1970 to 2261"),
    "back to before 1970": ({"seconds": -4 * 10**9, "relative": True}, "1970 to 2261"),
}


@pytest.fixture(name="guest", scope="module")
def _guest(extended_guest: Guest) -> Guest:
    return extended_guest


def moved(before: Reading, after: Reading, elapsed_s: float, by_ns: int) -> bool:
    """Whether the guest's clock was moved by so much between two readings, as far as both can tell."""
    unsure_ns = before.uncertainty_ns + after.uncertainty_ns + elapsed_s * DRIFT_PPM * 1000
    return abs(after.offset_ns - before.offset_ns - by_ns) <= unsure_ns


class Set:
    """What asking the guest's agent to set its clock to a time has to have made of it."""

    def __init__(self, guest: Guest, request: str, time_ns: int) -> None:
        sent_ns = time.time_ns()
        self.returned = guest.ask_raw(request)
        answered_ns = time.time_ns()
        self.is_done = time_ns <= self.returned["after"] <= time_ns + answered_ns - sent_ns
        witnessed = guest.witness.offset()
        # It was set at some time between the two.
        unsure_ns = witnessed.uncertainty_ns + (time.time_ns() - sent_ns) * DRIFT_PPM // 1_000_000
        lowest_ns, highest_ns = time_ns - answered_ns, time_ns - sent_ns
        self.is_witnessed = lowest_ns - unsure_ns <= witnessed.offset_ns <= highest_ns + unsure_ns


# ------------------------------------------------------------------------------------------------------- its commands


def test_guest_info_is_the_stock_agents_and_complete(guest: Guest) -> None:
    info = guest.ask("guest-info")
    commands = {entry["name"]: entry for entry in info["supported_commands"]}
    assert len(commands) == len(info["supported_commands"])
    assert info["version"].startswith("7.2")
    assert info["extended-version"]
    assert set(commands) > ADDED
    assert all(commands[name]["enabled"] for name in ADDED)
    silent = {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"}
    assert {name for name, entry in commands.items() if not entry["success-response"]} == silent


def test_the_details_of_a_command(guest: Guest) -> None:
    stock = guest.ask("guest-get-command-info", name="guest-shutdown")
    assert stock["arguments"] == [{"name": "mode", "type": "str", "optional": True}]
    assert (stock["origin"], stock["enabled"], stock["success-response"]) == ("stock", True, False)

    ours = guest.ask("guest-get-command-info", name="guest-update-time")
    assert [argument["name"] for argument in ours["arguments"]] == ["seconds", "nanoseconds", "relative", "slew", "rtc"]
    assert (ours["origin"], ours["enabled"], ours["success-response"]) == ("extended", True, True)

    with pytest.raises(libvirt.libvirtError, match="The command guest-nonesuch has not been found"):
        guest.ask("guest-get-command-info", name="guest-nonesuch")


def test_the_clock_that_it_reads_is_the_guests(guest: Guest) -> None:
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


@pytest.mark.parametrize("nanoseconds", [987654321, "987654321", "000000042", 0])
def test_an_absolute_time(guest: Guest, nanoseconds: int | str) -> None:
    arguments = {"seconds": 1935810489, "nanoseconds": nanoseconds}
    request = json.dumps({"execute": "guest-update-time", "arguments": arguments})
    done = Set(guest, request, 1935810489 * SECOND_NS + int(nanoseconds))
    assert done.is_done
    assert done.is_witnessed


def test_the_seed_pages_own_request(guest: Guest) -> None:
    done = Set(guest, SEED_REQUEST, SEED_NS)
    assert done.is_done
    assert done.is_witnessed


@pytest.mark.parametrize(
    ("seconds", "nanoseconds"), [(5, 0), (-5, 0), (0, 1_000_000), (-1, "999000000"), (86400, 1), (-86401, 999999999)]
)
def test_a_difference(guest: Guest, seconds: int, nanoseconds: int | str) -> None:
    delta_ns = seconds * SECOND_NS + int(nanoseconds)
    begun = time.monotonic()
    before = guest.witness.offset()
    returned = guest.ask("guest-update-time", seconds=seconds, nanoseconds=nanoseconds, relative=True)
    after = guest.witness.offset()
    assert moved(before, after, time.monotonic() - begun, delta_ns)
    assert delta_ns <= returned["after"] - returned["before"] < delta_ns + (time.monotonic() - begun) * SECOND_NS


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_refused_leaves_the_clock_alone(guest: Guest, reason: str) -> None:
    arguments, words = REFUSED[reason]
    begun = time.monotonic()
    before = guest.witness.offset()
    with pytest.raises(libvirt.libvirtError, match=words):
        guest.ask("guest-update-time", **arguments)
    assert moved(before, guest.witness.offset(), time.monotonic() - begun, 0)


def test_the_hardware_clock_is_set_only_if_that_is_asked_for(guest: Guest) -> None:
    def hardware_s() -> int:
        return int(guest.sh("cat /sys/class/rtc/rtc0/since_epoch"))

    guest.witness.step(-guest.witness.offset().offset_ns)
    assert abs(hardware_s() - time.time()) < 3
    guest.ask("guest-update-time", seconds=1000, relative=True)
    assert abs(hardware_s() - time.time()) < 3
    assert "rtc-error" not in guest.ask("guest-update-time", seconds=0, relative=True, rtc=True)
    assert abs(hardware_s() - time.time() - 1000) < 3
    guest.ask("guest-update-time", seconds=-1000, relative=True, rtc=True)
    assert abs(hardware_s() - time.time()) < 3


# --------------------------------------------------------------------------------------------------- with our module


def test_a_restored_guest_gets_its_time_back_by_a_difference(guest: Guest) -> None:
    save_and_restore(guest, ASLEEP_S)
    before = guest.witness.offset()
    foretold = run_module(guest, "--check").result(TASK)
    assert foretold["changed"]
    assert foretold["guest"]["method"] == "extended"
    assert abs(guest.witness.offset().offset_ns - before.offset_ns) < NEAR_NS

    correction, entry = correct_by_module(guest, wait_timeout=60)
    assert correction.before.offset_ns < -SECOND_NS
    assert abs(correction.after.offset_ns) < NEAR_NS
    assert entry["changed"]
    assert entry["within_tolerance"]
    assert entry["method"] == "extended"
    assert claims(entry, "before", correction.before)
    assert claims(entry, "after", correction.after)

    again = entry_of(guest)
    assert not again["changed"]
    assert again["attempts"] == 0
    assert again["method"] is None


@pytest.mark.parametrize("method", ["set_time", "extended"])
def test_a_method_that_is_asked_for_is_used(guest: Guest, method: str) -> None:
    guest.witness.step(-3 * SECOND_NS)
    assert entry_of(guest, method=method)["method"] == method
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS


def test_the_module_has_the_hardware_clock_set_too_if_it_is_told_to(guest: Guest) -> None:
    guest.ask("guest-update-time", seconds=1000, relative=True, rtc=True)
    result = run_tasks([{"name": TASK, MODULE: {"domain": guest.name, "update_rtc": True}}]).result(TASK)
    assert result["changed"]
    assert not [warning for warning in result.get("warnings", []) if "hardware" in warning]
    assert abs(int(guest.sh("cat /sys/class/rtc/rtc0/since_epoch")) - time.time()) < 3


# --------------------------------------------------------------------------------------------- without the stock agent


def test_the_clock_is_set_right_while_the_stock_agent_hangs_and_after_it_died(guest: Guest) -> None:
    stock = main_pid(guest, STOCK_UNIT)
    said = f"{stock} was stopped"
    # The extended agent believes a stock agent that it heard within a second (stock_link.py) for as long as a command
    # may take; otherwise it asks first whether it is there, and gives it a few seconds.
    guest.witness.start(f"sleep 1.5; kill -STOP {stock}; echo {said} >/dev/ttyS0")
    # Not by its agent: whom the stock agent has begun to answer when it is stopped has ten minutes' patience with it.
    until(lambda: guest.console.has_said(said), "it was not stopped")
    guest.witness.step(-3 * SECOND_NS)
    with pytest.raises(libvirt.libvirtError, match="The stock agent has not answered guest-get-host-name in time"):
        guest.ask("guest-get-host-name")
    entry = entry_of(guest)
    assert entry["changed"]
    assert entry["method"] == "extended"
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS

    guest.witness.start(f"kill -KILL {stock}")
    deadline = time.monotonic() + 60
    while True:
        begun = time.monotonic()
        before = guest.witness.offset()
        guest.ask("guest-update-time", seconds=0, nanoseconds=5_000_000, relative=True)
        assert moved(before, guest.witness.offset(), time.monotonic() - begun, 5_000_000)
        try:
            assert guest.ask("guest-get-host-name")["host-name"] == guest.name
            break
        except libvirt.libvirtError:
            assert time.monotonic() < deadline, "the stock agent did not come back"
    assert main_pid(guest, STOCK_UNIT) != stock


# ---------------------------------------------------------------------------------------- what the stock agent forbids

FORBIDDING = "[general]\nblock-rpcs=guest-set-time,guest-get-time\nblacklist=guest-set-time,guest-get-time\n"


def disabled(guest: Guest) -> set[str] | None:
    """Which commands for the time are disabled; None while the agent does not say."""
    try:
        commands = guest.ask("guest-info")["supported_commands"]
    except libvirt.libvirtError:
        return None
    time_commands = {*ADDED, "guest-get-time"}
    return {each["name"] for each in commands if each["name"] in time_commands and not each["enabled"]}


def test_what_the_stock_agents_configuration_disables_is_disabled_under_every_name(guest: Guest) -> None:
    forbidden = {"guest-update-time", "guest-get-clock", "guest-get-time"}
    assert disabled(guest) == set()
    written = f"mkdir -p /etc/qemu; printf {shlex.quote(FORBIDDING)} >/etc/qemu/qemu-ga.conf"
    try:
        guest.witness.start(f"{written}; systemctl restart {STOCK_UNIT}")
        until(lambda: disabled(guest) == forbidden, "it does not know what is disabled", 60)
        with pytest.raises(libvirt.libvirtError, match="Command guest-update-time has been disabled"):
            guest.ask("guest-update-time", seconds=0, relative=True)
        assert guest.sh("stat -c '%U %a' /var/lib/qemu-ga-extended/agent/stock.json") == "qemu-ga-extended 600\n"

        # One that starts while the stock agent hangs knows it as well.
        before = main_pid(guest, UNIT)
        restarted = f"restarted while {before} was stopped"
        guest.witness.start(
            f"systemctl kill --signal=STOP {STOCK_UNIT}; systemctl restart {UNIT}; echo {restarted} >/dev/ttyS0"
        )
        until(lambda: guest.console.has_said(restarted), "it was not restarted", 90)
        until(lambda: disabled(guest) is not None, "it does not answer", 60)
        assert disabled(guest) == forbidden
    finally:
        guest.witness.start(f"rm -f /etc/qemu/qemu-ga.conf; systemctl kill --signal=KILL {STOCK_UNIT}")
        until(lambda: disabled(guest) == set(), "it does not know what is allowed again", 90)
    until(guest.answers, "the stock agent does not answer", 60)


REFUSING = (
    "guest-shutdown",
    "guest-suspend-disk",
    "guest-suspend-ram",
    "guest-suspend-hybrid",
    "guest-sync-delimited",
)
# Not the minute that libvirt gives a shutdown.
AT_ONCE_S = 15.0


def enabled(guest: Guest) -> set[str]:
    """The commands that are enabled; none while the agent does not list them."""
    try:
        return {each["name"] for each in guest.ask("guest-info")["supported_commands"] if each["enabled"]}
    except libvirt.libvirtError:
        return set()


def test_a_refused_shutdown_or_suspension_fails_at_once_with_the_reason_and_no_sync_is_needed(guest: Guest) -> None:
    assert enabled(guest) >= {*REFUSING}
    names = ",".join(REFUSING)
    written = f"[general]\nblock-rpcs={names}\nblacklist={names}\n"
    try:
        guest.witness.start(
            f"mkdir -p /etc/qemu; printf {shlex.quote(written)} >/etc/qemu/qemu-ga.conf; systemctl restart {STOCK_UNIT}"
        )
        until(lambda: "guest-ping" in enabled(guest), "it does not list its commands", 60)
        until(lambda: not enabled(guest) & {*REFUSING}, "it does not know what is disabled", 60)
        for command, ask in (("shutdown", guest.shut_down_by_agent), ("suspend-ram", guest.suspend_to_memory)):
            begun = time.monotonic()
            with pytest.raises(libvirt.libvirtError, match=f"ommand guest-{command} has been disabled"):
                ask()
            assert time.monotonic() - begun < AT_ONCE_S
            assert guest.answers()
        # The stock agent refuses guest-sync-delimited, and what is passed on is answered all the same.
        assert guest.ask("guest-get-host-name")["host-name"] == guest.name
        assert guest.ask("guest-info")["version"].startswith("7.2")
    finally:
        guest.witness.start(f"rm -f /etc/qemu/qemu-ga.conf; systemctl kill --signal=KILL {STOCK_UNIT}")
        until(lambda: enabled(guest) >= {*REFUSING}, "it does not know what is allowed again", 90)
    until(guest.answers, "the stock agent does not answer", 60)


def test_after_a_suspension_both_agents_answer(guest: Guest) -> None:
    guest.suspend_to_memory()
    guest.wake_up()
    guest.wait_for_agent(60)
    assert guest.ask("guest-get-host-name")["host-name"] == guest.name


# ------------------------------------------------------------------------------------------------------------ the role


@pytest.mark.thorough
def test_a_shutdown_by_the_agent_ends_the_guest_or_fails_with_the_reason(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-shut-down", EXTENDED) as guest:
        # Without logind, which test guests boot sooner without, shutdown(8) refuses to plan one.
        with pytest.raises(libvirt.libvirtError, match="child process has failed to shutdown"):
            guest.shut_down_by_agent()
        guest.sh("systemctl unmask systemd-logind; systemctl daemon-reload; systemctl start systemd-logind")
        guest.shut_down_by_agent()
        until(lambda: guest.state == "shut off", "it does not end", 120)


def test_its_role_removes_it_and_the_stock_agent_is_there_alone(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-removed", EXTENDED) as guest:
        deploy(guest, extended_agent_state="absent")
        listed = {command["name"] for command in guest.ask("guest-info")["supported_commands"]}
        assert "guest-exec" in listed
        assert not ADDED & listed
        assert guest.sh("find /etc /usr/lib /var/lib /run -xdev -path '*qemu-ga-extended*'") == ""
        assert guest.sh(f"systemctl is-active {STOCK_UNIT}; systemctl is-failed 'qemu*' || true").split()[0] == "active"
        assert "qemu-ga-extended" not in guest.sh("cat /etc/passwd /etc/group")


@pytest.mark.thorough
def test_a_guest_keeps_an_agent_when_the_extended_one_cannot_start_and_gets_it_again(guest: Guest) -> None:
    with pytest.raises(VmError, match=r"(?s)went back to the stock agent.*ModuleNotFoundError"):
        deploy(guest, extended_agent_code=["roles/extended_agent/files/qemu_ga_extended/*.py"])
    listed = {command["name"] for command in guest.ask("guest-info")["supported_commands"]}
    assert "guest-exec" in listed
    assert not ADDED & listed
    deploy(guest)
    assert guest.ask("guest-get-clock")["received"] > 0
