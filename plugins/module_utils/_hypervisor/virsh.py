# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands of virsh for an operator to run, in hints; none is ever run from here."""

from __future__ import annotations

import re
import shlex
from typing import Mapping

from . import numbers

# What virsh connects to by itself, for root (virConnectGetDefaultURI, src/libvirt.c, libvirt 11.3.0).
_DEFAULT_URIS = ("", "qemu:///system")

# What virsh takes for the number of a running domain, if there is one (virshLookupDomainInternal, tools/virsh-util.c,
# libvirt 11.3.0).
_LIKE_A_NUMBER = re.compile(r"\s*\+?[0-9]+\Z")

# What has a domain run again: one of these, each of which may be several commands.
_REMEDIES: Mapping[int, tuple[tuple[str, ...], ...]] = {
    numbers.PAUSED: (("resume",),),
    numbers.SHUT_OFF: (("start",),),
    # Only one whose on_crash is "preserve" stays so.
    numbers.CRASHED: (("reset",), ("destroy", "start")),
    numbers.PM_SUSPENDED: (("dompmwakeup",),),  # "resume" and "start" are refused
}


def virsh(uri: str, command: str, domain: str | None = None) -> str:
    """Return that command of virsh, with its options if it has any, in backticks and for a shell.

    ``uri`` is libvirt's, and left out where virsh uses it by itself.
    """
    words = ["virsh"]
    if uri not in _DEFAULT_URIS:
        words += ["-c", shlex.quote(uri)]
    words.append(command)
    if domain is not None:
        # virsh takes nothing after "--" for an option.
        words += ["--"] * domain.startswith("-") + [shlex.quote(domain)]
    return f"`{' '.join(words)}`"


def unmistakable(name: str, uuid: str) -> str:
    """Return what virsh finds that domain by and never another one: its name, or its UUID if the name is a number."""
    return uuid if _LIKE_A_NUMBER.match(name) else name


def list_hint(uri: str) -> str:
    return f"Check the name; {virsh(uri, 'list --all')} shows the domains that the hypervisor knows."


def remedy(name: str, uri: str, state: int) -> str:
    """Return the commands that have a domain in that virDomainState run again, as the beginning of a sentence."""
    if state == numbers.SHUTTING_DOWN:
        return "Wait until it has shut down, and start it again then"
    if state not in _REMEDIES:
        shown, start = virsh(uri, "domstate --reason", name), virsh(uri, "start", name)
        return f"See what {shown} shows, and run {start} if the guest does not run"
    ways = (" and ".join(virsh(uri, command, name) for command in way) for way in _REMEDIES[state])
    return f"Run {', or '.join(ways)} first"
