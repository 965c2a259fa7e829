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
from typing import Iterable, Mapping, NamedTuple, Sequence

from .format import counted
from .model import Fleet, Header, ReportedGuest

PLAYBOOK = "qemu.guest_agent.resync_fleet"

_INVENTORY = "INVENTORY"
# Characters of names that are not taken literally: by patterns, by templates, as variables of paths, and as escapes.
_SPECIAL = re.compile(r"[]*?[{}$\\]")
_LEADING = ("!", "#", "~", "&")
_LONGEST_NAME = 255
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# The name of an inventory host that is not a pattern for several.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST_COMMANDS = 20
_UNFOLDED = 3  # commands
_UNFOLDED_LENGTH = 700  # characters
_EMPTY = "not_found"  # the code of a hypervisor without guests
_LONGEST = 6000  # characters of variables; longer commands are unreadable, and Linux limits an argument to 128 KiB


class Rerun(NamedTuple):
    """Commands and what they run again, together. ``long``: they do not fit on a few lines."""

    sentence: str
    commands: tuple[str, ...]
    long: bool


def reruns(fleet: Fleet, header: Header) -> list[Rerun]:
    """Return the commands that run again what failed: by domain, by socket, and whole hypervisors.

    A command selects all its names on all its hypervisors. Hypervisors share one only if the same names failed on them.
    """
    whole = [
        each.host for each in fleet.hypervisors if each.problem and not each.guests and each.problem.code != _EMPTY
    ]
    named: dict[str, dict[str, list[str]]] = {"qga_domains": {}, "qga_sockets": {}}
    for guest in fleet.guests:
        if guest.status != "failed":
            continue
        option, name = _selector(guest)
        if name and _HOST.fullmatch(guest.host):
            named[option].setdefault(guest.host, []).append(name)
        else:
            whole.append(guest.host)
    made, too_many = [], 0
    for option, names in named.items():
        selections, left = _selections(option, {host: names[host] for host in names if host not in whole})
        if selections:
            number = sum(len(hosts) * len(guests) for hosts, guests in selections)
            variables = [{"qga_hosts": ",".join(hosts), option: guests} for hosts, guests in selections]
            made.append(_rerun(f"Run {counted(number, 'failed guest')} again:", variables, fleet, header))
        whole += left
        too_many += sum(len(names[host]) for host in left)
    remark = f"{too_many:,} failed guests are too many to select by name. " if too_many else ""
    return [*made, *_whole(_unique(whole), remark, fleet, header)]


def _selections(option: str, names: Mapping[str, list[str]]) -> tuple[list[tuple[list[str], list[str]]], list[str]]:
    """Return hypervisors and the guests that they all have, for a command each, and the hypervisors with too many."""
    by_names: dict[tuple[str, ...], list[str]] = {}
    for host, guests in names.items():
        by_names.setdefault(tuple(sorted(set(guests))), []).append(host)
    selections = [(hosts, list(guests)) for guests, hosts in by_names.items()]
    if len(selections) > _MOST_COMMANDS:
        return [], list(names)
    left = [hosts for hosts, guests in selections if len(json.dumps([option, hosts, guests])) > _LONGEST]
    return [each for each in selections if each[0] not in left], [host for hosts in left for host in hosts]


def _whole(hosts: list[str], remark: str, fleet: Fleet, header: Header) -> list[Rerun]:
    if not hosts:
        return []
    variables = {"qga_hosts": ",".join(hosts)}
    if not all(map(_HOST.fullmatch, hosts)) or len(json.dumps(variables)) > _LONGEST:
        return [_rerun(f"{remark}Run the whole fleet again:", [{}], fleet, header)]
    return [_rerun(f"{remark}Run all guests of {counted(len(hosts), 'hypervisor')} again:", [variables], fleet, header)]


def _rerun(sentence: str, variables: Sequence[Mapping[str, object]], fleet: Fleet, header: Header) -> Rerun:
    commands = tuple(_command(each, fleet, header) for each in variables)
    return Rerun(sentence, commands, len(commands) > _UNFOLDED or sum(map(len, commands)) > _UNFOLDED_LENGTH)


def _command(variables: Mapping[str, object], fleet: Fleet, header: Header) -> str:
    inventory = header.inventory if all(map(str.isprintable, header.inventory)) else ()
    arguments = ["ansible-playbook", PLAYBOOK]
    for source in inventory or (_INVENTORY,):
        arguments += ["-i", source]
    if fleet.settings.check_mode:
        arguments.append("--check")
    if variables:
        # In ASCII, so that no terminal shows a name as another one.
        arguments += ["-e", json.dumps(variables)]
    return shlex.join(arguments)


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
