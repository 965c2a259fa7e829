# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the server is told and asked while it runs: one line of JSON, answered with one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.fleet.agent import SimulatedAgent
from tests.fakes.fleet.clock import host_epoch_ns

Agents = Mapping[str, SimulatedAgent]


def _truths(agents: Agents, _request: Mapping[str, Any]) -> dict[str, int]:
    epoch_ns = host_epoch_ns()
    return {name: agent.clock.offset_ns(epoch_ns) for name, agent in agents.items()}


def _shift(agents: Agents, request: Mapping[str, Any]) -> dict[str, int]:
    """Says by how much each clock was moved."""
    by_ns = request["by_ns"]
    moved: dict[str, int] = by_ns if isinstance(by_ns, dict) else dict.fromkeys(agents, by_ns)
    for name, delta_ns in moved.items():
        if name not in agents:
            raise ValueError(f"there is no agent {name!r}")
        if not isinstance(delta_ns, int):
            raise ValueError(f"a clock is shifted by whole nanoseconds, not by {delta_ns!r}")
    for name, delta_ns in moved.items():
        agents[name].clock.shift_ns(delta_ns)
    return moved


def _received(agents: Agents, _request: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {name: agent.commands for name, agent in agents.items()}


_DO: Mapping[str, Callable[[Agents, Mapping[str, Any]], object]] = {
    "truths": _truths,
    "shift": _shift,
    "received": _received,
}


def answer(agents: Agents, line: bytes) -> bytes:
    """The answer to one request. One that cannot be done is answered with ``{"error": why}``, and nothing was."""
    try:
        request = json.loads(line)
        done = _DO[request["do"]](agents, request)
    except (KeyError, TypeError) as error:
        done = {"error": f"this is no request, or it lacks something: {error}"}
    except ValueError as error:
        done = {"error": str(error)}
    return json.dumps(done).encode() + b"\n"
