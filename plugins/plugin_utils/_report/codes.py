# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Codes of errors that no module returns: Ansible's own, and those of results that are missing or unreadable."""

from __future__ import annotations

from typing import Mapping

UNREACHABLE = "unreachable"
MODULE_FAILED = "module_failed"
STOPPED = "stopped"
UNREADABLE = "unreadable_result"

HINTS: Mapping[str, str] = {
    UNREACHABLE: "Check the connection: ansible HOST -i INVENTORY -m ansible.builtin.ping",
    MODULE_FAILED: "Run the playbook again with -vvv to see the module's output.",
    STOPPED: "Look in the output of the run for the task that failed on this host.",
    UNREADABLE: "Pass the results as the filter qemu.guest_agent.fleet_results returns them.",
}
