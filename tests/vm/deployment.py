"""The extended agent in a test guest, deployed by its role, and its state as the host sees it."""

from __future__ import annotations

from typing import Any

import libvirt

from tests.processes.ansible_run import PlaybookRun, run_tasks_in_guest
from tests.vm.errors import VmError
from tests.vm.guest import Guest

ROLE = "qemu.guest_agent.extended_agent"
UNIT = "qemu-ga-extended.service"
ADDED = {"guest-get-clock", "guest-get-command-info", "guest-update-time"}
# Prints everything that the role has left in a guest; nothing after the agent is removed.
LEFT = (
    "find /etc /usr/lib /var/lib /run -xdev -path '*qemu-ga-extended*'; "
    "grep -s qemu-ga-extended /etc/passwd /etc/group /etc/default/* /etc/conf.d/*; true"
)


def deploy(guest: Guest, **variables: Any) -> PlaybookRun:
    """Run the role in the guest. It takes a minute under software emulation."""
    task = {"name": "Deploy", "ansible.builtin.include_role": {"name": ROLE}, "vars": variables}
    run = run_tasks_in_guest(guest.name, [task])
    if run.status != 0:
        raise VmError(f"The extended agent was not deployed:\n{run.output}")
    return run


def changed(run: PlaybookRun) -> list[str]:
    """Return the names of the tasks that changed something."""
    return [record.task for record in run.tasks if record.result.get("changed")]


def main_pid(guest: Guest, unit: str) -> int:
    """Return the process ID of a running unit in the guest."""
    return int(guest.sh(f"systemctl show --property=MainPID --value {unit}"))


def commands(guest: Guest) -> set[str]:
    """Return the enabled commands of the guest's agent; none while it does not list them."""
    try:
        return {each["name"] for each in guest.ask("guest-info")["supported_commands"] if each["enabled"]}
    except libvirt.libvirtError:
        return set()


def is_in_front(guest: Guest) -> bool:
    return commands(guest) >= {"guest-exec", *ADDED}


def stands_alone(guest: Guest) -> bool:
    """Return whether the stock agent answers without the extended one."""
    return "guest-exec" in (found := commands(guest)) and not found & ADDED


def stock_answers(guest: Guest) -> bool:
    """Return whether a command that only the stock agent implements is answered."""
    try:
        return bool(guest.ask("guest-get-host-name"))
    except libvirt.libvirtError:
        return False
