# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""virsh commands for operators, in hints. They are never run from here."""

from __future__ import annotations

import os
import re
import shlex
from typing import Mapping

from . import numbers

# virsh reads such a name as the ID of a running domain, if there is one (virshLookupDomainInternal, tools/virsh-util.c,
# libvirt 11.3.0).
_LIKE_A_NUMBER = re.compile(r"\s*\+?[0-9]+\Z")

# Ways to make a domain run again. Each may need several commands.
_REMEDIES: Mapping[int, tuple[tuple[str, ...], ...]] = {
    numbers.PAUSED: (("resume",),),
    numbers.SHUT_OFF: (("start",),),
    # Only domains with on_crash "preserve" stay crashed.
    numbers.CRASHED: (("reset",), ("destroy", "start")),
    numbers.PM_SUSPENDED: (("dompmwakeup",),),  # "resume" and "start" are refused
}


def default_uri() -> str:
    """Return virsh's default connection for this user (virConnectGetDefaultURI, src/libvirt.c, libvirt 11.3.0)."""
    return "qemu:///system" if os.geteuid() == 0 else "qemu:///session"


def virsh(uri: str, command: str, domain: str | None = None) -> str:
    """Return a virsh command, which may include options, in backticks and quoted for a shell.

    ``uri`` is the libvirt URI; it is left out if it is virsh's default.
    """
    words = ["virsh"]
    if uri not in ("", default_uri()):
        words += ["-c", shlex.quote(uri)]
    words.append(command)
    if domain is not None:
        # After "--", virsh reads no options.
        words += ["--"] * domain.startswith("-") + [shlex.quote(domain)]
    return f"`{' '.join(words)}`"


def unmistakable(name: str, uuid: str) -> str:
    """Return a name by which virsh finds only this domain: its name, or its UUID if the name is a number."""
    return uuid if _LIKE_A_NUMBER.match(name) else name


def connect_hint(uri: str) -> str:
    return f"Check uri, and that libvirt's daemon is running there; {virsh(uri, 'list')} tests the connection."


def list_hint(uri: str) -> str:
    return f"Check the name; {virsh(uri, 'list --all')} shows the domains that the hypervisor knows."


def remedy(name: str, uri: str, state: int) -> str:
    """Return the commands to make a domain in this virDomainState run again, as the beginning of a sentence."""
    if state == numbers.SHUTTING_DOWN:
        return "Wait until it has shut down, then start it"
    if state not in _REMEDIES:
        shown, start = virsh(uri, "domstate --reason", name), virsh(uri, "start", name)
        return f"Check {shown}, and run {start} if the guest is not running"
    ways = (" and ".join(virsh(uri, command, name) for command in way) for way in _REMEDIES[state])
    return f"Run {', or '.join(ways)} first"
