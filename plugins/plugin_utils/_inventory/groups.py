# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The groups that a guest belongs to, by kind.

The kind is part of a group's name, so a guest with a false system only gets into another group of systems.
"""

from __future__ import annotations

import re
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Pattern

from .listing import ListedGuest

# Characters from a guest in the name of a group.
_LONGEST = 100

# qemu-ga returns this for a version of Windows that it does not know (ga_get_win_name, qga/commands-win32.c).
_UNKNOWN = "N/A"

# The IDs of systems without /etc/os-release, by the start of ``uname -v``: there, qemu-ga returns only the output of
# uname (qmp_guest_get_osinfo, qga/commands-posix.c, QEMU 10.0.13). That of Linux starts with a number sign, which is
# escaped here (``_untrusted.py``).
_KERNELS: tuple[tuple[Pattern[str], str], ...] = (
    (re.compile(r"(?:#|\\x23)\d"), "linux"),  # the default of os-release(5)
    (re.compile(r"FreeBSD\b"), "freebsd"),
    (re.compile(r"NetBSD\b"), "netbsd"),
    (re.compile(r"DragonFly\b"), "dragonfly"),
    (re.compile(r"GENERIC(?:\.MP)?#\d"), "openbsd"),
    (re.compile(r"Darwin\b"), "darwin"),
)

# Systems whose version is the kernel's version.
_VERSIONED_BY_KERNEL = ("freebsd", "netbsd", "dragonfly", "openbsd")

_RELEASE = re.compile(r"\d+(?:\.\d+)*")
_NAME = re.compile(r"[^\W\d_][^\d]*?(?=\s+\S*\d|\s*\Z)")  # without the version after it
_NOT_ID_CHARACTERS = re.compile(r"[^a-z0-9._-]+")  # os-release(5)


class _System(NamedTuple):
    """A system's ID and version as in ``/etc/os-release``, or empty if unknown."""

    id: str
    version: str


def _system(guest: ListedGuest) -> _System:
    facts = guest.facts.get("os") or {}
    texts = {name: text for name, text in facts.items() if isinstance(text, str) and text.strip() not in ("", _UNKNOWN)}
    if texts.get("id"):
        return _System(texts["id"], texts.get("version_id", ""))
    kernel = next((name for form, name in _KERNELS if form.match(texts.get("kernel_version", ""))), "")
    name = _NAME.match((texts.get("name") or texts.get("pretty_name", ""))[:_LONGEST])
    named = _NOT_ID_CHARACTERS.sub("_", name.group().lower()).strip("_") if name else ""
    found = named or kernel
    release = _RELEASE.match(texts.get("kernel_release", "")) if found in _VERSIONED_BY_KERNEL else None
    return _System(found, texts.get("version_id") or (release.group() if release else ""))


def _joined(*parts: str) -> str:
    return "_".join(part[:_LONGEST] for part in parts) if all(parts) else ""


# The value that follows the kind in the group's name. An empty value makes no group.
KINDS: Mapping[str, Callable[[ListedGuest], str]] = {
    "os": lambda guest: _joined(_system(guest).id),
    "os_version": lambda guest: _joined(*_system(guest)),
    "agent": lambda guest: str((guest.facts.get("agent") or {}).get("kind", "")),
    "status": lambda guest: guest.status,
    "state": lambda guest: guest.state,
    "uri": lambda guest: guest.uri,
}


def groups_of(guest: ListedGuest, kinds: Iterable[str], prefix: str) -> Iterator[str]:
    """Yield the names of the groups. They can contain any characters that the guest reported."""
    for kind in kinds:
        value = KINDS[kind](guest)
        if value:
            yield f"{prefix}{kind}_{value}"
