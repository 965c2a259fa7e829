# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Simulated agents behind a stand-in for libvirt-python: what is asked of a domain really steps its agent's clock."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tests.fakes.agent import Agent
from tests.fakes.events import AGENT_CONNECTED
from tests.fakes.faults import Pause
from tests.fakes.fleet.profile import Profile
from tests.fakes.libvirt import RUNNING, Definition, FakeHypervisor
from tests.fakes.one_domain import AT_LENGTH, INTERNAL_ERROR, PAUSED, LibvirtError

# Events and their details: VIR_DOMAIN_EVENT_RESUMED_UNPAUSED, VIR_DOMAIN_EVENT_STARTED_RESTORED.
RESUMED, UNPAUSED = 4, 0
STARTED, RESTORED = 2, 2
SUSPENDED = 3


class AgentBehindLibvirt:
    """A definition's ``agent``. Like libvirt, it lets one command at a time through, on whatever thread it comes."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._lock = threading.Lock()

    def __call__(self, request: dict[str, Any]) -> str:
        with self._lock:
            answer = b""
            for piece in self.agent.received(json.dumps(request).encode() + b"\n"):
                if isinstance(piece, Pause):
                    time.sleep(piece.seconds)
                else:
                    assert isinstance(piece, bytes), "this stand-in knows no agent that sends for ever, or hangs up"
                    answer += piece
        reply = json.loads(answer)
        if "error" in reply:
            said = f"unable to execute QEMU agent command '{request['execute']}': {reply['error']['desc']}"
            raise LibvirtError(INTERNAL_ERROR, f"internal error: {said}")
        return answer.decode()


class SimulatedHypervisor(FakeHypervisor):
    """``profiles``: its guests' agents by the domain's name."""

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self.agents = {name: profile.agent(name) for name, profile in profiles.items()}
        super().__init__(Definition(name, agent=AgentBehindLibvirt(agent)) for name, agent in self.agents.items())

    def resume(self, names: Iterable[str]) -> None:
        for name in names:
            self.definition(name).state = RUNNING
            self.fire_lifecycle(name, RESUMED, UNPAUSED)

    def suspend(self, names: Iterable[str]) -> None:
        for name in names:
            self.definition(name).state = PAUSED
            self.fire_lifecycle(name, SUSPENDED, 0)

    def restore(self, names: Iterable[str]) -> None:
        """All that libvirt tells of it: that it was started, that it runs, and that its agent is there."""
        for name in names:
            self.fire_lifecycle(name, STARTED, RESTORED)
            self.resume([name])
            self.fire_agent(name, AGENT_CONNECTED)

    def break_at(self, names: Iterable[str], command: str, is_deadly: bool = False) -> None:
        """At each of their answers to that command, the daemon hangs up on its client, or ends and is started anew."""
        for name in names:
            self.definition(name).breaks = lambda request: request["execute"] == command
        self.at_break = (lambda _connection: self.break_connections()) if is_deadly else self.hang_up

    def slow_down(self, names: Iterable[str], seconds: float) -> None:
        """Each of their answers takes so long."""
        for name in names:
            self.definition(name).takes = lambda _request: seconds

    def silence(self, name: str) -> None:
        """Its agent keeps every reply from now on."""
        self.definition(name).is_silent = True

    def pause(self, names: Iterable[str]) -> None:
        for name in names:
            self.definition(name).state = PAUSED
            self.fire_lifecycle(name, SUSPENDED, 0)

    def answer_at_length(self, name: str, what: str) -> None:
        """Its agent answers everything so from now on; ``what`` is a key of AT_LENGTH."""
        self.definition(name).agent = AT_LENGTH[what]

    def truths(self) -> dict[str, int]:
        """How far off each clock is, in nanoseconds."""
        return {name: agent.clock.offset_ns() for name, agent in self.agents.items()}

    def received(self) -> dict[str, dict[str, int]]:
        """How often each agent was asked for what."""
        return {name: agent.commands for name, agent in self.agents.items()}

    def is_asked(self, name: str) -> bool:
        """Whether any command to it has begun."""
        return any(each == name for each, _command in self.commands)

    def definition(self, name: str) -> Definition:
        (found,) = (each for each in self.definitions if each.name == name)
        return found
