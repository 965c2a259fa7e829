"""The honest guest that a hostile agent pretends to be: a clock, and an answer to every command that is asked here.

Its clock is an object; this machine's is only read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

SECOND_NS = 1_000_000_000

STOCK = "stock"
EXTENDED = "extended"

# What reads the clock, and what steps it, with either agent.
READS = ("guest-get-time", "guest-get-clock")
STEPS = ("guest-set-time", "guest-update-time")

_EXTENDED_ONLY = ("guest-get-clock", "guest-update-time", "guest-get-command-info")

_DISK_ADDRESS = {
    "pci-controller": {"domain": 0, "bus": 0, "slot": 4, "function": 0},
    "bus-type": "virtio",
    "bus": 0,
    "target": 0,
    "unit": 0,
    "serial": "QM00001",
    "dev": "/dev/vda1",
    "ccw-address": {"cssid": 254, "ssid": 0, "subchno": 1, "devno": 2},
}

_ROUTE = {
    "iface": "eth0",
    "destination": "10.0.2.0",
    "gateway": "10.0.2.2",
    "mask": "255.255.255.0",
    "source": "10.0.2.15",
    "nexthop": "10.0.2.2",
    "desprefixlen": "24",
    "srcprefixlen": "0",
    "metric": 100,
    "flags": 1,
    "mtu": 1500,
    "version": 4,
    **dict.fromkeys(("irtt", "refcnt", "use", "window"), 0),
}

# Every member that qga/qapi-schema.json (QEMU 10.0.13) has for the facts, the optional ones included.
FACTS: Mapping[str, Any] = {
    "guest-get-host-name": {"host-name": "tenant"},
    "guest-get-osinfo": {
        "kernel-release": "6.1.0-25-cloud-amd64",
        "kernel-version": "#1 SMP Debian 6.1.106-3",
        "machine": "x86_64",
        "id": "debian",
        "name": "Debian GNU/Linux",
        "pretty-name": "Debian GNU/Linux 12 (bookworm)",
        "version": "12 (bookworm)",
        "version-id": "12",
        "variant": "Cloud",
        "variant-id": "cloud",
    },
    "guest-get-timezone": {"zone": "UTC", "offset": 0},
    "guest-network-get-interfaces": [
        {
            "name": "eth0",
            "hardware-address": "52:54:00:12:34:56",
            "ip-addresses": [{"ip-address": "10.0.2.15", "ip-address-type": "ipv4", "prefix": 24}],
            "statistics": {
                f"{way}-{what}": 1 for way in ("rx", "tx") for what in ("bytes", "packets", "errs", "dropped")
            },
        }
    ],
    "guest-network-get-route": [_ROUTE],
    "guest-get-fsinfo": [
        {
            "name": "vda1",
            "mountpoint": "/",
            "type": "ext4",
            "used-bytes": 1,
            "total-bytes": 3,
            "total-bytes-privileged": 4,
            "disk": [_DISK_ADDRESS],
        }
    ],
    "guest-get-users": [{"user": "alice", "domain": "EXAMPLE", "login-time": 1795406754.5}],
    "guest-get-vcpus": [{"logical-id": 0, "online": True, "can-offline": False}],
    "guest-get-memory-blocks": [{"phys-index": 0, "online": True, "can-offline": False}],
    "guest-get-memory-block-info": {"size": 134217728},
    "guest-get-disks": [
        {
            "name": "/dev/vda",
            "partition": False,
            "dependencies": ["/dev/vda1"],
            "address": _DISK_ADDRESS,
            "alias": "data",
            "smart": {"type": "nvme", "critical-warning": 0, "temperature": 300, "available-spare": 100},
        }
    ],
    "guest-get-load": {"load1m": 0.25, "load5m": 0.5, "load15m": 1.0},
    "guest-get-cpustats": [{"type": "linux", "cpu": 0, "user": 1, "nice": 2, "system": 3, "idle": 4, "iowait": 5}],
    "guest-get-diskstats": [
        {"name": "vda", "major": 254, "minor": 0, "stats": {"read-sectors": 8, "read-ios": 1, "total-ticks": 9}}
    ],
    "guest-fsfreeze-status": "thawed",
}

COMMAND_INFO: Mapping[str, Any] = {
    "name": "guest-set-time",
    "enabled": True,
    "success-response": True,
    "since": "1.5",
    "description": "Sets the clock.",
    "arguments": [{"name": "time", "type": "int", "optional": True}],
    "returns": "none",
    "origin": "stock",
}


def _clock_base_ns() -> int:
    """Realtime minus monotonic. A process that loses its processor between two readings would be off by as long."""
    readings = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _reading in range(5)]
    before_ns, realtime_ns, after_ns = min(readings, key=lambda reading: reading[2] - reading[0])
    return realtime_ns - (before_ns + after_ns) // 2


@dataclass
class Guest:
    """``kind`` is of its agent. ``offset_ns`` is how far its clock is off the host's; a step changes it."""

    kind: str = STOCK
    offset_ns: int = -3 * SECOND_NS
    steps: int = 0
    base_ns: int = field(default_factory=_clock_base_ns)

    @property
    def commands(self) -> tuple[str, ...]:
        return tuple(sorted(name for name in _ANSWERS if self.kind == EXTENDED or name not in _EXTENDED_ONLY))

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.base_ns + self.offset_ns

    def info(self) -> dict[str, Any]:
        listed = [{"name": name, "enabled": True, "success-response": True} for name in self.commands]
        return {"version": "10.0.13", "supported_commands": listed}

    def returned(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """What the command returns; it is carried out.

        :raises KeyError: there is no such command
        """
        if command not in self.commands:
            raise KeyError(command)
        return _ANSWERS[command](self, arguments)

    def reply(self, command: str, arguments: Mapping[str, Any]) -> bytes:
        """Return what an honest agent sends."""
        try:
            return encoded({"return": self.returned(command, arguments)}, command)
        except KeyError:
            description = f"The command {command} has not been found"
            return encoded({"error": {"class": "CommandNotFound", "desc": description}})

    def _read_clock(self) -> dict[str, Any]:
        now_ns = self.now_ns()
        return {
            "received": now_ns,
            "transmitted": self.now_ns(),
            "synchronized": False,
            "max-error": 16 * SECOND_NS,
            "source": "host-message",
        }

    def _set_time(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.steps += 1
        if "time" in arguments:
            self.offset_ns += arguments["time"] - self.now_ns()
        return {}

    def _update_time(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.steps += 1
        amount_ns = arguments["seconds"] * SECOND_NS + int(arguments.get("nanoseconds", 0))
        before_ns = self.now_ns()
        self.offset_ns += amount_ns if arguments.get("relative") else amount_ns - before_ns
        return {"before": before_ns, "after": self.now_ns()}


_ANSWERS: Mapping[str, Callable[[Guest, Mapping[str, Any]], Any]] = {
    **{command: (lambda _guest, _arguments, fact=fact: fact) for command, fact in FACTS.items()},
    "guest-sync": lambda _guest, arguments: arguments["id"],
    "guest-sync-delimited": lambda _guest, arguments: arguments["id"],
    "guest-ping": lambda _guest, _arguments: {},
    "guest-info": lambda guest, _arguments: guest.info(),
    # The stock agent reads microseconds.
    "guest-get-time": lambda guest, _arguments: guest.now_ns() // 1000 * 1000,
    "guest-get-clock": lambda guest, _arguments: guest._read_clock(),
    "guest-set-time": lambda guest, arguments: guest._set_time(arguments),
    "guest-update-time": lambda guest, arguments: guest._update_time(arguments),
    "guest-get-command-info": lambda _guest, _arguments: COMMAND_INFO,
}


def encoded(reply: Any, command: str = "") -> bytes:
    """As the stock agent sends it: in one line, and behind 0xFF if that was asked for."""
    return (b"\xff" if command == "guest-sync-delimited" else b"") + json.dumps(reply).encode() + b"\n"
