"""A simulated guest that has all facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned

from tests.fakes.clock import Clock
from tests.fakes.guest import SECOND, STOCK_COMMANDS, SimulatedGuest, TimeLine

# What a guest says, and what becomes of it. The subsets agent, commands and time are tested by themselves.
REPLIES: Mapping[str, tuple[str, Any, Any]] = {
    "hostname": ("guest-get-host-name", {"host-name": "web1"}, "web1"),
    "os": ("guest-get-osinfo", {"id": "debian", "version-id": "12"}, {"id": "debian", "version_id": "12"}),
    "timezone": ("guest-get-timezone", {"zone": "UTC", "offset": 0}, {"zone": "UTC", "offset": 0}),
    "network": (
        "guest-network-get-interfaces",
        [{"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}], "statistics": {"rx-bytes": 1}}],
        [{"name": "lo", "ip_addresses": [{"ip_address": "127.0.0.1", "prefix": 8}], "statistics": {"rx_bytes": 1}}],
    ),
    "routes": ("guest-network-get-route", [{"iface": "eth0", "mtu": 1500}], [{"iface": "eth0", "mtu": 1500}]),
    "filesystems": (
        "guest-get-fsinfo",
        [{"mountpoint": "/", "total-bytes": 957571072, "disk": [{"bus-type": "virtio"}]}],
        [{"mountpoint": "/", "total_bytes": 957571072, "disk": [{"bus_type": "virtio"}]}],
    ),
    "users": ("guest-get-users", [{"user": "root", "login-time": 1.5}], [{"user": "root", "login_time": 1.5}]),
    "vcpus": ("guest-get-vcpus", [{"logical-id": 0, "online": True}], [{"logical_id": 0, "online": True}]),
    "disks": (
        "guest-get-disks",
        [{"name": "/dev/vda", "partition": False}],
        [{"name": "/dev/vda", "partition": False}],
    ),
    "load": ("guest-get-load", {"load1m": 0.5, "load5m": 0.25}, {"load1m": 0.5, "load5m": 0.25}),
    "cpu_stats": ("guest-get-cpustats", [{"cpu": 0, "type": "linux"}], [{"cpu": 0, "type": "linux"}]),
    "disk_stats": ("guest-get-diskstats", [{"name": "vda", "major": 254}], [{"name": "vda", "major": 254}]),
    "freeze": ("guest-fsfreeze-status", "thawed", "thawed"),
}


def full_guest(line: TimeLine, commands: tuple[str, ...] = STOCK_COMMANDS) -> SimulatedGuest:
    memory = ("guest-get-memory-block-info", "guest-get-memory-blocks")
    names = dict.fromkeys((*commands, *(command for command, _reply, _fact in REPLIES.values()), *memory))
    guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), names)
    for command, reply, _fact in REPLIES.values():
        says(guest, command, reply)
    says(guest, "guest-get-memory-blocks", [{"phys-index": 0, "online": True}, {"phys-index": 1, "online": False}, {}])
    return guest


def says(guest: SimulatedGuest, command: str, value: Any) -> None:
    guest.handlers[command] = lambda _arguments: Returned(value)


def fails(guest: SimulatedGuest, command: str, error: QgaError) -> None:
    def fail(_arguments: Any) -> Reply:
        raise error

    guest.handlers[command] = fail
