# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an agent can do to who asks it, and what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Action:
    """One thing that is done to the peer."""


@dataclass(frozen=True)
class Send(Action):
    data: bytes


@dataclass(frozen=True)
class Pause(Action):
    seconds: float


@dataclass(frozen=True)
class HangUp(Action):
    """Close the connection; who connects again is served."""


@dataclass(frozen=True)
class Deaf(Action):
    """Read nothing more of what is sent, and keep the connection."""


@dataclass(frozen=True)
class Asked:
    """One request.

    ``number`` counts all of them since the agent started, ``nth`` those of this command, both from 0. ``answer`` is
    what the honest agent sends; calling it carries the command out, once: a step is taken then.
    """

    command: str
    arguments: Mapping[str, Any]
    number: int
    nth: int
    answer: Callable[[], bytes]


# Called for each request in turn. What it yields is done at once, so it may go on for ever.
Play = Callable[[Asked], Iterable[Action]]

Actions = Iterator[Action]
