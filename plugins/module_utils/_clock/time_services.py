# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services that discipline a Linux machine's clock."""

from __future__ import annotations

import os

# By the name of their process, which the kernel cuts to 15 characters (TASK_COMM_LEN, include/linux/sched.h).
# A machine may run several: phc2sys steers the clock by hardware, so it comes first.
_SERVICES = {
    "phc2sys": "phc2sys",
    "chronyd": "chronyd",
    "ntpd": "ntpd",
    "ntpsec": "ntpd",
    "systemd-timesyn": "systemd-timesyncd",
}


def running(processes: str = "/proc") -> str | None:
    """Return the name of the time service that runs on this machine; None if none of the known ones is seen."""
    try:
        found = {_name(f"{processes}/{entry}/comm") for entry in os.listdir(processes) if entry.isdigit()}
    except OSError:  # not Linux
        return None
    return next((service for name, service in _SERVICES.items() if name in found), None)


def _name(path: str) -> str:
    # A hypervisor may have thousands of processes, and each module reads them: without the cost of pathlib.
    try:
        with open(path, "rb", buffering=0) as comm:
            return comm.read().decode("utf-8", "replace").rstrip("\n")
    except OSError:  # it has ended meanwhile
        return ""
