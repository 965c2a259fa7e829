# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The notices that a watcher returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Union

from .._protocol.errors import QgaError


class WatchedGuest(NamedTuple):
    """A domain. It may have been renamed or restarted since; its UUID stays the same."""

    uri: str
    uuid: str
    name: str


@dataclass(frozen=True)
class Stale:
    """The guest's clock may be stale because of ``cause``, one of those in :mod:`causes`.

    ``since_ns`` is when the event arrived, on the host's monotonic clock. According to libvirt, the guest runs and its
    agent is connected; or waiting for that timed out.
    """

    guest: WatchedGuest
    cause: str
    since_ns: int


@dataclass(frozen=True)
class Withdrawn:
    """The guest's clock was stale, but the guest was "paused" or "stopped" (``became``) before it could be resynced."""

    guest: WatchedGuest
    cause: str
    became: str


@dataclass(frozen=True)
class NotNeeded:
    """An event that does not affect the guest's clock."""

    guest: WatchedGuest
    cause: str


@dataclass(frozen=True)
class Connected:
    """A hypervisor is watched from now on. ``running``: the number of running guests."""

    uri: str
    running: int


@dataclass(frozen=True)
class Lost:
    """A hypervisor cannot be watched. There is one notice, however often connecting fails."""

    uri: str
    error: QgaError


Notice = Union[Stale, Withdrawn, NotNeeded, Connected, Lost]
