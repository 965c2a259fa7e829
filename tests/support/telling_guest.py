"""A simulated guest that has all facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned

from tests.fakes.clock import Clock
from tests.fakes.guest import SECOND, STOCK_COMMANDS, SimulatedGuest, TimeLine
from tests.fakes.kinds import FACTS

# The subsets agent, commands, memory and time are tested by themselves.
_COMMANDS = {
    "hostname": "guest-get-host-name",
    "os": "guest-get-osinfo",
    "timezone": "guest-get-timezone",
    "network": "guest-network-get-interfaces",
    "routes": "guest-network-get-route",
    "filesystems": "guest-get-fsinfo",
    "users": "guest-get-users",
    "vcpus": "guest-get-vcpus",
    "disks": "guest-get-disks",
    "load": "guest-get-load",
    "cpu_stats": "guest-get-cpustats",
    "disk_stats": "guest-get-diskstats",
    "freeze": "guest-fsfreeze-status",
}


def _fact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.replace("-", "_"): _fact(member) for name, member in value.items()}
    return [_fact(item) for item in value] if isinstance(value, list) else value


# What a guest says, and what becomes of it.
REPLIES: Mapping[str, tuple[str, Any, Any]] = {
    **{name: (command, FACTS[command], _fact(FACTS[command])) for name, command in _COMMANDS.items()},
    "hostname": ("guest-get-host-name", FACTS["guest-get-host-name"], "web1"),
}


def full_guest(line: TimeLine, commands: tuple[str, ...] = STOCK_COMMANDS) -> SimulatedGuest:
    guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), dict.fromkeys((*commands, *FACTS)))
    says(guest, "guest-get-memory-blocks", [{"phys-index": 0, "online": True}, {"phys-index": 1, "online": False}, {}])
    return guest


def says(guest: SimulatedGuest, command: str, value: Any) -> None:
    guest.handlers[command] = lambda _arguments: Returned(value)


def fails(guest: SimulatedGuest, command: str, error: QgaError) -> None:
    def fail(_arguments: Any) -> Reply:
        raise error

    guest.handlers[command] = fail
