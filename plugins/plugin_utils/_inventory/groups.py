# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The groups that a guest belongs to, by kind.

Each has its kind in its name, so a guest that lies about its system only gets into another group of systems.
"""

from __future__ import annotations

import re
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Pattern

from .listing import ListedGuest

# Characters of a guest's own in the name of a group.
_LONGEST = 100


# The IDs of systems without /etc/os-release, by the start of ``uname -v``: qemu-ga returns only what uname prints there
# (qmp_guest_get_osinfo, qga/commands-posix.c, QEMU 10.0.13). That of Linux starts with a number sign, an escape here
# (``_untrusted.py``).
_KERNELS: tuple[tuple[Pattern[str], str], ...] = (
    (re.compile(r"(?:#|\\x23)\d"), "linux"),  # the default of os-release(5)
    (re.compile(r"FreeBSD\b"), "freebsd"),
    (re.compile(r"NetBSD\b"), "netbsd"),
    (re.compile(r"DragonFly\b"), "dragonfly"),
    (re.compile(r"GENERIC(?:\.MP)?#\d"), "openbsd"),
    (re.compile(r"Darwin\b"), "darwin"),
)

# Systems whose version is that of their kernel.
_OF_ONE_RELEASE = ("freebsd", "netbsd", "dragonfly", "openbsd")

_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_NAME = re.compile(r"[^\W\d_][^\d]*?(?=\s+\S*\d|\s*\Z)")  # without the version after it
_NO_PART_OF_AN_ID = re.compile(r"[^a-z0-9._-]+")  # os-release(5)


class _System(NamedTuple):
    """A system's ID and version, as ``/etc/os-release`` has them or would have them; empty: not known."""

    id: str
    version: str


def _system(guest: ListedGuest) -> _System:
    facts = guest.facts.get("os") or {}
    texts = {name: text for name, text in facts.items() if isinstance(text, str)}
    if texts.get("id"):
        return _System(texts["id"], texts.get("version_id", ""))
    kernel = next((name for form, name in _KERNELS if form.match(texts.get("kernel_version", ""))), "")
    name = _NAME.match((texts.get("name") or texts.get("pretty_name", ""))[:_LONGEST])
    named = _NO_PART_OF_AN_ID.sub("_", name.group().lower()).strip("_") if name else ""
    found = named or kernel
    release = _RELEASE.match(texts.get("kernel_release", "")) if found in _OF_ONE_RELEASE else None
    return _System(found, texts.get("version_id") or (release.group() if release else ""))


def _joined(*parts: str) -> str:
    return "_".join(part[:_LONGEST] for part in parts) if all(parts) else ""


# What follows the kind in the name of the group; nothing: the guest is in none.
KINDS: Mapping[str, Callable[[ListedGuest], str]] = {
    "os": lambda guest: _joined(_system(guest).id),
    "os_version": lambda guest: _joined(*_system(guest)),
    "agent": lambda guest: str((guest.facts.get("agent") or {}).get("kind", "")),
    "status": lambda guest: guest.status,
    "state": lambda guest: guest.state,
    "uri": lambda guest: guest.uri,
}


def groups_of(guest: ListedGuest, kinds: Iterable[str], prefix: str) -> Iterator[str]:
    """The names, with whatever characters the guest told."""
    for kind in kinds:
        value = KINDS[kind](guest)
        if value:
            yield f"{prefix}{kind}_{value}"
