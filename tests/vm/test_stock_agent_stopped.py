"""A stock agent that was stopped or removed stays so despite the extended agent, the host gets no reply from it, and
the extended agent can still be removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.processes.ansible_run import PlaybookRun
from tests.support.until import until
from tests.vm.deployment import LEFT, ROLE, UNIT, stock_answers
from tests.vm.guest import STOCK_UNIT, Guest
from tests.vm.saved_state import EXTENDED, GuestKind
from tests.vm.session import restored_guest
from tests.vm.witness_shell import root, run_role

AWAY = (
    r"The stock agent is unavailable: it is not running \(nothing listens on '/run/qemu-ga-extended/stock\.sock'\)\. "
    "Start the service qemu-guest-agent in the guest"
)
# How an administrator stops the stock agent, and starts it again.
ENDS = {
    "stopped": (f"systemctl stop {STOCK_UNIT}", f"systemctl start {STOCK_UNIT}"),
    "masked": (f"systemctl mask --now {STOCK_UNIT}", f"systemctl unmask {STOCK_UNIT}; systemctl start {STOCK_UNIT}"),
    "disabled": (f"systemctl disable --now {STOCK_UNIT}", f"systemctl start {STOCK_UNIT}"),
}


@pytest.fixture(name="guest")
def _guest(connection: libvirt.virConnect) -> Iterator[Guest]:
    with restored_guest(connection, "qga-stopped", EXTENDED) as restored:
        yield restored


def until_it_is_back(guest: Guest, after: str) -> None:
    until(lambda: stock_answers(guest), f"the stock agent is not back after {after}", 60)


def assert_only_the_extended_agent_answers(guest: Guest) -> None:
    until(guest.answers, "the extended agent does not answer", 90)
    assert guest.ask("guest-get-clock")["received"] > 0
    for command, arguments in (("guest-get-host-name", {}), ("guest-exec", {"path": "/bin/true"})):
        with pytest.raises(libvirt.libvirtError, match=AWAY):
            guest.ask(command, **arguments)
    assert root(guest.files, f"systemctl is-active {STOCK_UNIT} || true").strip() == "inactive"


def assert_it_stays_so_until_it_is_started(guest: Guest, end: str) -> None:
    stop, start = ENDS[end]
    root(guest.files, stop)
    assert_only_the_extended_agent_answers(guest)
    # A new connection must not start it either.
    root(guest.files, f"systemctl restart {UNIT}")
    assert_only_the_extended_agent_answers(guest)
    root(guest.files, start)
    until_it_is_back(guest, "its start")


def remove(guest: Guest, directory: Path, *arguments: str) -> PlaybookRun:
    run = run_role(guest.files, ROLE, directory, *arguments, extended_agent_state="absent")
    assert run.status == 0, run.output
    return run


def test_a_stopped_stock_agent_stays_stopped_until_it_is_started(guest: Guest) -> None:
    assert_it_stays_so_until_it_is_started(guest, "stopped")


@pytest.mark.thorough
@pytest.mark.parametrize("release", ["bullseye", "bookworm", "trixie"])
def test_a_stock_agent_stays_stopped_however_it_was_stopped(connection: libvirt.virConnect, release: str) -> None:
    with restored_guest(connection, f"qga-stopped-{release}", GuestKind(release, is_extended=True)) as guest:
        for end in ENDS:
            assert_it_stays_so_until_it_is_started(guest, end)
        root(guest.files, "/var/lib/dpkg/info/qemu-guest-agent.postinst configure 1")
        until_it_is_back(guest, "the upgrade of its package")
        for _time in range(3):
            root(guest.files, f"systemctl kill --signal=KILL {STOCK_UNIT}")
            until_it_is_back(guest, "it was killed")


@pytest.mark.thorough
def test_a_removed_stock_agent_does_not_return_and_the_extended_one_can_be_removed(
    guest: Guest, tmp_path: Path
) -> None:
    root(guest.files, "dpkg --remove qemu-guest-agent")
    assert_only_the_extended_agent_answers(guest)

    guest.witness.start("systemctl --no-block start reboot.target")
    until(lambda: not guest.answers(1), "the guest does not shut down", 90)
    until(guest.answers, "the extended agent is not back after the reboot", 300)
    guest.witness.wait(120)
    assert_only_the_extended_agent_answers(guest)

    # Removal needs neither Python nor all of the role's files. The witness has already imported its modules.
    root(guest.files, "mv /usr/bin/python3 /usr/bin/python3.away; rm -r /usr/lib/qemu-ga-extended/switch")
    remove(guest, tmp_path, "--check")
    remove(guest, tmp_path)
    assert root(guest.files, LEFT) == ""
    assert not [task for task in remove(guest, tmp_path).tasks if task.outcome == "changed"]


@pytest.mark.thorough
@pytest.mark.parametrize("end", ["stopped", "masked"])
def test_a_stopped_stock_agent_stays_stopped_when_the_extended_one_is_removed(
    guest: Guest, end: str, tmp_path: Path
) -> None:
    stop, start = ENDS[end]
    root(guest.files, stop)
    remove(guest, tmp_path)
    assert root(guest.files, f"{LEFT}; systemctl is-active {STOCK_UNIT}; true") == "inactive\n"
    root(guest.files, start)
    until_it_is_back(guest, "its start")
