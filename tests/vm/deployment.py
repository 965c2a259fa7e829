# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

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
