"""The extended agent in a test guest, put there by its role, and what its host sees of it."""

from __future__ import annotations

from typing import Any

import libvirt

from tests.processes.ansible_run import PlaybookRun, run_tasks_in_guest
from tests.vm.errors import VmError
from tests.vm.guest import Guest

ROLE = "qemu.guest_agent.extended_agent"
UNIT = "qemu-ga-extended.service"
ADDED = {"guest-get-clock", "guest-get-command-info", "guest-update-time"}
# All that the role leaves in a guest, once the agent is removed: nothing.
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
    """The tasks that have changed something."""
    return [record.task for record in run.tasks if record.result.get("changed")]


def main_pid(guest: Guest, unit: str) -> int:
    """The process of a unit that runs in the guest."""
    return int(guest.sh(f"systemctl show --property=MainPID --value {unit}"))


def commands(guest: Guest) -> set[str]:
    """The enabled commands of the guest's agent; none while it does not list them."""
    try:
        return {each["name"] for each in guest.ask("guest-info")["supported_commands"] if each["enabled"]}
    except libvirt.libvirtError:
        return set()


def is_in_front(guest: Guest) -> bool:
    return commands(guest) >= {"guest-exec", *ADDED}


def stands_alone(guest: Guest) -> bool:
    """Whether the stock agent answers without the extended one."""
    return "guest-exec" in (found := commands(guest)) and not found & ADDED


def stock_answers(guest: Guest) -> bool:
    """Whether what only the stock agent answers is answered."""
    try:
        return bool(guest.ask("guest-get-host-name"))
    except libvirt.libvirtError:
        return False
