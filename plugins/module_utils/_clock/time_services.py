# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services that discipline a Linux machine's clock."""

from __future__ import annotations

from pathlib import Path

# By the name of their process, which the kernel cuts to 15 characters (TASK_COMM_LEN, include/linux/sched.h).
# A machine may run several: phc2sys steers the clock by hardware, so it comes first.
_SERVICES = {
    "phc2sys": "phc2sys",
    "chronyd": "chronyd",
    "ntpd": "ntpd",
    "ntpsec": "ntpd",
    "systemd-timesyn": "systemd-timesyncd",
}


def running(processes: Path = Path("/proc")) -> str | None:
    """Return the name of the time service that runs on this machine; None if none of the known ones is seen."""
    found = {_name(process) for process in processes.glob("[0-9]*")}
    return next((service for name, service in _SERVICES.items() if name in found), None)


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:  # it has ended meanwhile
        return ""
