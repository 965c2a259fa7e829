# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An agent that plays one trick: bytes in, actions out. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from .actions import Action, Actions, Asked, Play, Send
from .framing import Requests
from .guest import Guest, encoded, not_found


class HostileAgent:
    """``asked`` are the commands that came. ``greeting`` is done to whoever connects."""

    def __init__(self, guest: Guest, play: Play, greeting: Iterable[Action] = ()) -> None:
        self.guest = guest
        self.asked: list[str] = []
        self._play = play
        self._greeting = tuple(greeting)
        self._requests = Requests()
        self._counts: Counter[str] = Counter()

    def connected(self) -> Actions:
        self._requests = Requests()
        yield from self._greeting

    def received(self, data: bytes) -> Actions:
        for request in self._requests.feed(data):
            yield from self._play(self._as_asked(request))

    def _as_asked(self, request: dict[str, Any]) -> Asked:
        command = str(request.get("execute"))
        arguments = request.get("arguments", {})
        asked = Asked(command, arguments, len(self.asked), self._counts[command], lambda: self._reply(request))
        self.asked.append(command)
        self._counts[command] += 1
        return asked

    def _reply(self, request: dict[str, Any]) -> bytes:
        command = str(request.get("execute"))
        try:
            returned = self.guest.returned(command, request.get("arguments", {}))
        except KeyError:
            return encoded(not_found(command))
        return encoded({"return": returned}, command)


def honestly(asked: Asked) -> Iterable[Action]:
    """The play of an agent without malice."""
    yield Send(asked.answer())
