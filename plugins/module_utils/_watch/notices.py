# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The notices that a watcher gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Union

from .._protocol.errors import QgaError


class WatchedGuest(NamedTuple):
    """A domain. It may have been renamed or started anew since; its UUID stays."""

    uri: str
    uuid: str
    name: str


@dataclass(frozen=True)
class Stale:
    """The guest's clock may be stale, because of ``cause``, one of those in :mod:`causes`.

    ``since_ns`` is when that was heard of, on the host's monotonic clock. The guest runs and its agent is connected, as
    far as libvirt has said; or it was waited for in vain.
    """

    guest: WatchedGuest
    cause: str
    since_ns: int


@dataclass(frozen=True)
class Withdrawn:
    """The guest's clock was stale, but before it could be asked the guest was ``became``: "paused" or "stopped"."""

    guest: WatchedGuest
    cause: str
    became: str


@dataclass(frozen=True)
class NotNeeded:
    """Something happened to the guest that its clock does not mind."""

    guest: WatchedGuest
    cause: str


@dataclass(frozen=True)
class Connected:
    """A hypervisor is watched from now on, with this many guests running."""

    uri: str
    running: int


@dataclass(frozen=True)
class Lost:
    """A hypervisor cannot be watched. It is tried again and again, with one notice only."""

    uri: str
    error: QgaError


Notice = Union[Stale, Withdrawn, NotNeeded, Connected, Lost]
