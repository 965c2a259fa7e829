"""The extended agent in the life of a system: isolate, manual restarts, failures, a read-only /usr, RPC lists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest

from tests.processes.ansible_run import run_tasks_in_guest
from tests.support.until import until
from tests.vm.deployment import LEFT, ROLE, UNIT, changed, deploy, is_in_front, main_pid, stands_alone, stock_answers
from tests.vm.guest import STOCK_UNIT, Guest
from tests.vm.saved_state import GuestKind
from tests.vm.session import restored_guest
from tests.vm.witness_shell import root

pytestmark = pytest.mark.thorough

RELEASES = ["bullseye", "bookworm", "trixie"]
# As the RHEL family's unit of the stock agent does, and for the witness.
IGNORING = f"""
for unit in {STOCK_UNIT} qga-witness.service; do
    mkdir -p /etc/systemd/system/$unit.d
    printf '[Unit]\\nIgnoreOnIsolate=True\\n' >/etc/systemd/system/$unit.d/family.conf
done
systemctl daemon-reload
"""
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
# Written when the stock agent has stayed up for a moment; the reboot has removed the deployment's result.
RESULT = "cat /run/qemu-ga-extended-switch/result || true"
READ_ONLY = "mount --bind /usr /usr && mount -o remount,bind,ro /usr"


@pytest.fixture(name="guest", params=RELEASES)
def _guest(connection: libvirt.virConnect, request: pytest.FixtureRequest) -> Iterator[Guest]:
    with restored_guest(connection, f"qga-life-{request.param}", GuestKind(request.param)) as restored:
        yield restored


def test_isolate_and_manual_restarts_change_nothing_but_repeated_failures_do(guest: Guest) -> None:
    root(guest.files, IGNORING)
    deploy(guest)
    root(guest.files, "systemctl isolate multi-user.target")
    assert is_in_front(guest)
    assert guest.sh("true") == ""

    for _time in range(6):
        root(guest.files, f"systemctl restart {UNIT}")
    until(lambda: is_in_front(guest), "the agent is not back after the restarts", 60)
    booted = guest.sh(BOOT_ID)
    guest.witness.start("systemctl --no-block start reboot.target")
    until(lambda: not guest.agent_is_connected, "the guest does not shut down", 90)
    guest.wait()
    until(lambda: is_in_front(guest) and stock_answers(guest), "the agents are not back after the reboot", 60)
    assert guest.sh(BOOT_ID) != booted

    stock = main_pid(guest, STOCK_UNIT)
    root(guest.files, f"kill -KILL {stock}")
    until(lambda: stock_answers(guest), "the stock agent is not back after it was killed", 60)
    assert main_pid(guest, STOCK_UNIT) != stock
    for _time in range(4):
        before = main_pid(guest, UNIT)
        root(guest.files, f"kill -KILL {before}")
        until(lambda: is_in_front(guest), "the agent is not back after it was killed", 60)
        assert main_pid(guest, UNIT) != before
    root(guest.files, f"kill -KILL {main_pid(guest, UNIT)}")
    until(lambda: stands_alone(guest), "the channel was not given back", 120)
    said = "stock The extended agent did not stay up:.*status=9/KILL"
    until(lambda: re.match(said, guest.sh(RESULT)), "there is no result", 60)
    deploy(guest)
    assert is_in_front(guest)


def test_with_a_read_only_usr_the_agent_is_installed_elsewhere_and_found_there(guest: Guest) -> None:
    root(guest.files, READ_ONLY)
    task = {"name": "Deploy", "ansible.builtin.include_role": {"name": ROLE}}
    foreseen = run_tasks_in_guest(guest.name, [task], "--check")
    assert foreseen.status == 0, foreseen.output
    deploy(guest)
    assert is_in_front(guest)
    assert guest.sh("find /usr -path '*qemu-ga-extended*'") == ""
    assert guest.sh("ls /var/lib/qemu-ga-extended/lib/switch") != ""

    assert changed(deploy(guest)) == []
    # The recorded place is kept, although /usr is writable now.
    root(guest.files, "mount -o remount,bind,rw /usr")
    assert changed(deploy(guest)) == []
    deploy(guest, extended_agent_state="absent")
    assert guest.sh(LEFT) == ""


# --------------------------------------------------------------------- RPC lists that block what the role itself needs

ASKED = ["guest-get-clock", "guest-info", "guest-sync-delimited"]
# Needed by the connection through the agent, and by libvirt.
NEEDED = [
    *("guest-ping", "guest-sync", "guest-exec", "guest-exec-status"),
    *(f"guest-file-{what}" for what in ("open", "close", "read", "write", "seek")),
]


def is_refused(guest: Guest, command: str) -> bool:
    try:
        guest.ask(command)
    except libvirt.libvirtError as error:
        return "has been disabled" in str(error)
    return False


@pytest.mark.parametrize(
    ("stocks", "roles", "refused"),
    [
        ("", {"extended_agent_block_rpcs": ASKED}, ["guest-get-clock", "guest-info"]),
        ("", {"extended_agent_allow_rpcs": NEEDED}, ["guest-get-clock", "guest-info"]),
        # qemu-ga 7.2 knows the key "blacklist", and newer ones "block-rpcs".
        (f"blacklist={','.join(ASKED)}", {}, ["guest-info"]),
        ("blacklist=guest-get-time,guest-info", {}, ["guest-info"]),
    ],
    ids=["the role blocks", "the role allows", "the stock agent blocks", "the stock agent blocks another one"],
)
def test_a_deployment_works_with_every_rpc_list(
    connection: libvirt.virConnect, stocks: str, roles: dict[str, Any], refused: list[str]
) -> None:
    with restored_guest(connection, "qga-lists") as guest:
        configuration = shlex.quote(f"[general]\n{stocks}\n")
        written = f"mkdir -p /etc/qemu; printf %s {configuration} >/etc/qemu/qemu-ga.conf"
        root(guest.files, f"{written}; systemctl restart {STOCK_UNIT}")
        until(guest.answers, "the stock agent does not answer", 60)
        deploy(guest, **roles)
        assert all(is_refused(guest, command) for command in refused)
        assert guest.sh(RESULT) == "extended\n"
        assert guest.sh(f"systemctl is-active {STOCK_UNIT}") == "active\n"
