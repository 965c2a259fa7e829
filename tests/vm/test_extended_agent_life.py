"""What the system does to the extended agent's units: isolate, restarts by hand, failures, and a read-only /usr."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks_in_guest
from tests.support.until import until
from tests.vm.deployment import ROLE, UNIT, deploy, main_pid
from tests.vm.guest import STOCK_UNIT, Guest
from tests.vm.saved_state import GuestKind
from tests.vm.session import restored_guest
from tests.vm.witness_shell import root

pytestmark = pytest.mark.thorough

RELEASES = ["bullseye", "bookworm", "trixie"]
# As in the unit of the RHEL family, and for the witness.
IGNORING = f"""
for unit in {STOCK_UNIT} qga-witness.service; do
    mkdir -p /etc/systemd/system/$unit.d
    printf '[Unit]\\nIgnoreOnIsolate=True\\n' >/etc/systemd/system/$unit.d/family.conf
done
systemctl daemon-reload
"""
VERDICT = "/run/qemu-ga-extended-switch/verdict"
READ_ONLY = "mount --bind /usr /usr && mount -o remount,bind,ro /usr"


@pytest.fixture(name="guest", params=RELEASES)
def _guest(connection: libvirt.virConnect, request: pytest.FixtureRequest) -> Iterator[Guest]:
    with restored_guest(connection, f"qga-life-{request.param}", GuestKind(request.param)) as restored:
        yield restored


def is_extended(guest: Guest) -> bool | None:
    """None while no agent answers."""
    try:
        listed = {command["name"] for command in guest.ask("guest-info")["supported_commands"]}
    except libvirt.libvirtError:
        return None
    return "guest-get-clock" in listed and "guest-exec" in listed


def test_isolate_and_restarts_by_hand_end_nothing_and_failures_do(guest: Guest) -> None:
    root(guest.files, IGNORING)
    deploy(guest)
    root(guest.files, "systemctl isolate multi-user.target")
    assert is_extended(guest)
    assert guest.sh("true") == ""

    for _time in range(6):
        root(guest.files, f"systemctl restart {UNIT}")
    until(lambda: is_extended(guest), "it is not back after the restarts", 60)
    assert guest.sh(f"systemctl is-enabled {UNIT}") == "enabled\n"

    for _time in range(4):
        before = main_pid(guest, UNIT)
        root(guest.files, f"kill -KILL {before}")
        until(lambda: is_extended(guest), "it is not back after it was killed", 60)
        assert main_pid(guest, UNIT) != before
    root(guest.files, f"kill -KILL {main_pid(guest, UNIT)}")
    until(lambda: is_extended(guest) is False, "the channel was not given back", 120)
    # It comes when the stock agent has stayed up for a moment.
    said = "stock The extended agent did not stay up:.*status=9/KILL"
    until(lambda: re.match(said, guest.sh(f"cat {VERDICT}")), "there is no verdict", 60)
    deploy(guest)
    assert is_extended(guest)


def test_where_usr_is_read_only_it_goes_elsewhere_and_is_found_there(guest: Guest) -> None:
    root(guest.files, READ_ONLY)
    task = {"name": "Deploy", "ansible.builtin.include_role": {"name": ROLE}}
    foreseen = run_tasks_in_guest(guest.name, [task], "--check")
    assert foreseen.status == 0, foreseen.output
    deploy(guest)
    assert is_extended(guest)
    assert guest.sh("find /usr -path '*qemu-ga-extended*'") == ""
    assert guest.sh("ls /var/lib/qemu-ga-extended/lib/switch") != ""

    again = deploy(guest)
    assert not [each for each in again.tasks if each.outcome == "changed"]
    # By what is recorded, too: it could go to /usr now.
    root(guest.files, "mount -o remount,bind,rw /usr")
    again = deploy(guest)
    assert not [each for each in again.tasks if each.outcome == "changed"]
    deploy(guest, extended_agent_state="absent")
    assert guest.sh("find /etc /usr/lib /var/lib /run -xdev -path '*qemu-ga-extended*'") == ""
