# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands that run failed guests again, to be pasted into a shell.

A guest may have any name. A name in a command passes through the shell, JSON and Ansible's templating, and the module
takes it for a pattern. A name that any of these would interpret is not put into a command: a domain is selected by its
UUID instead, otherwise all guests of the hypervisor are run again. Clocks within tolerance are left alone.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Iterable, Mapping, NamedTuple

from .format import counted
from .model import NOWHERE, Fleet, Header, ReportedGuest

PLAYBOOK = "qemu.guest_agent.resync_fleet"

_INVENTORY = "INVENTORY"
# Characters of names that are not taken literally: by shell patterns, by templates, and as escapes.
_SPECIAL = re.compile(r"[]*?[{}\\]")
_LEADING = ("!", "#", "~", "&")
_LONGEST_NAME = 255
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# The name of an inventory host that is not a pattern for several.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LONGEST = 6000  # characters of variables; longer commands are unreadable, and Linux limits an argument to 128 KiB


class Rerun(NamedTuple):
    """A command and what it runs again. ``long``: it does not fit on a few lines."""

    sentence: str
    command: str
    long: bool


def reruns(fleet: Fleet, header: Header) -> list[Rerun]:
    """Return the commands that run again what failed: by domain, by socket, and whole hypervisors."""
    failed = [guest for guest in fleet.guests if guest.status == "failed" and guest.host != NOWHERE]
    whole = [each.host for each in fleet.hypervisors if each.problem and not each.guests and each.host != NOWHERE]
    named: dict[str, list[tuple[ReportedGuest, str]]] = {"qga_domains": [], "qga_sockets": []}
    for guest in failed:
        option, name = _selector(guest)
        if name and _HOST.fullmatch(guest.host):
            named[option].append((guest, name))
        else:
            whole.append(guest.host)
    made, remark = [], ""
    for option, guests in named.items():
        hosts = _unique(guest.host for guest, _name in guests)
        variables = {"qga_hosts": ",".join(hosts), option: _unique(name for _guest, name in guests)}
        if not guests:
            continue
        if len(json.dumps(variables)) > _LONGEST:
            remark = f"{len(guests):,} failed guests are too many to select in one command. "
            whole += hosts
            continue
        made.append(_rerun(f"Run {counted(len(guests), 'failed guest')} again:", variables, fleet, header))
    return [*made, *_whole(_unique(whole), remark, fleet, header)]


def _whole(hosts: list[str], remark: str, fleet: Fleet, header: Header) -> list[Rerun]:
    if not hosts:
        return []
    variables = {"qga_hosts": ",".join(hosts)}
    if not all(map(_HOST.fullmatch, hosts)) or len(json.dumps(variables)) > _LONGEST:
        return [_rerun(f"{remark}Run the whole fleet again:", {}, fleet, header)]
    return [_rerun(f"{remark}Run all guests of {counted(len(hosts), 'hypervisor')} again:", variables, fleet, header)]


def _rerun(sentence: str, variables: Mapping[str, object], fleet: Fleet, header: Header) -> Rerun:
    inventory = header.inventory if all(map(str.isprintable, header.inventory)) else ()
    arguments = ["ansible-playbook", PLAYBOOK]
    for source in inventory or (_INVENTORY,):
        arguments += ["-i", source]
    if fleet.settings.check_mode:
        arguments.append("--check")
    if variables:
        # In ASCII, so that no terminal shows a name as another one.
        arguments += ["-e", json.dumps(variables)]
    command = shlex.join(arguments)
    return Rerun(sentence, command, len(command) > 500)


def _selector(guest: ReportedGuest) -> tuple[str, str]:
    """Return the option that selects the guest, and the name by which it does; an empty one if there is none."""
    name = guest.target
    literal = (
        0 < len(name) <= _LONGEST_NAME
        and name.isprintable()
        and not name.startswith(_LEADING)
        and _SPECIAL.search(name) is None
    )
    if name.startswith("/"):
        return "qga_sockets", name if literal else ""
    if literal:
        return "qga_domains", name
    return "qga_domains", guest.uuid if _UUID.fullmatch(guest.uuid) else ""


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
