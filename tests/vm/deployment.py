"""The extended agent in a test guest, put there by its role."""

from __future__ import annotations

from typing import Any

from tests.processes.ansible_run import PlaybookRun, run_tasks_in_guest
from tests.vm.errors import VmError
from tests.vm.guest import Guest

ROLE = "qemu.guest_agent.extended_agent"
UNIT = "qemu-ga-extended.service"


def deploy(guest: Guest, **variables: Any) -> PlaybookRun:
    """Run the role in the guest. It takes a minute under software emulation."""
    task = {"name": "Deploy", "ansible.builtin.include_role": {"name": ROLE}, "vars": variables}
    run = run_tasks_in_guest(guest.name, [task])
    if run.status != 0:
        raise VmError(f"The extended agent was not deployed:\n{run.output}")
    return run


def main_pid(guest: Guest, unit: str) -> int:
    """The process of a unit that runs in the guest."""
    return int(guest.sh(f"systemctl show --property=MainPID --value {unit}"))
