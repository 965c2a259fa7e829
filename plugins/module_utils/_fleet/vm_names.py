# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of virtual machines that are addressed by a socket, whose path has no name."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path

from .._agent import GuestAgent
from .._protocol.errors import QgaError
from .._untrusted import visible
from .results import GuestResult, Work

# Proxmox VE names the socket by the VM's number, which also names its configuration (qemu-server 8, PVE/QemuServer.pm).
_SOCKET = re.compile(r"/(?:var/)?run/qemu-server/([0-9]+)\.qga\Z")
_CONFIGURATIONS = Path("/etc/pve/qemu-server")
# A snapshot's section begins with its name in brackets, and may have an older name.
_NAME = re.compile(r"^(?:name: *(\S+) *$|\[)", re.MULTILINE)

_LONGEST_NAME = 253  # of a host (RFC 1035); Proxmox VE takes a VM's name for one


def node_name(socket: str, configurations: Path = _CONFIGURATIONS) -> str | None:
    """Return the name of the VM in the configuration of this Proxmox VE node; None without one."""
    vmid = _SOCKET.match(socket)
    if vmid is None:
        return None
    with contextlib.suppress(OSError):
        found = _NAME.search((configurations / f"{vmid[1]}.conf").read_text(encoding="utf-8", errors="replace"))
        return None if found is None or found[1] is None else visible(found[1], _LONGEST_NAME)
    return None


def with_claimed_name(work: Work) -> Work:
    """Return the same work, which then asks the agent for the guest's host name. A guest may claim any name."""

    async def named(agent: GuestAgent) -> GuestResult:
        result = await work(agent)
        if result.error is not None:
            return result
        try:
            reply = await agent.call("guest-get-host-name")
        except QgaError:
            return result  # the work is done, and that counts
        name = reply.get("host-name") if isinstance(reply, dict) else None
        if not isinstance(name, str) or not name:
            return result
        claim = {"vm_name": visible(name, _LONGEST_NAME), "vm_name_from": "agent"}
        return replace(result, entry={**result.entry, **claim})

    return named
