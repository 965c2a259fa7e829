"""Kinds of guest agents, as plain descriptions. Kinds that exist in the field are the rows of ``FIELD``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG, FROZEN_ALLOWED

MICROSECOND_NS, MILLISECOND_NS, SECOND_NS = 1_000, 1_000_000, 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
WINDOWS_TICK_NS = 15_625_000

# A Linux build lacks these commands of the catalog: the Windows-only one, and those of the extended agent.
_STOCK = frozenset(name for name, command in CATALOG.items() if command.origin == "stock") - {"guest-get-devices"}
_EXTENDED = frozenset(name for name, command in CATALOG.items() if command.origin == "extended")
# Disabled by default in RHEL's /etc/sysconfig/qemu-ga (qemu-guest-agent of RHEL 8).
RHEL_BLOCKED = frozenset(
    (
        *(f"guest-file-{what}" for what in ("open", "close", "read", "write", "seek", "flush")),
        *("guest-exec", "guest-exec-status"),
    )
)

# The agents' error texts for a refused command, by their meaning and the version of QEMU that introduced them.
REFUSED_WORDS: Mapping[str, str] = {
    "disabled since 0.15": "The command {} has been disabled for this instance",
    "disabled since 6.1": "Command {} has been disabled: the command is not allowed",
    "frozen since 6.1": "Command {} has been disabled: the agent is in frozen state",
    "frozen, of another vendor": "Command not allowed while filesystem is frozen",
    "missing": "The command {} has not been found",
    "unsupported": "this feature or command is not currently supported",
}


@dataclass(frozen=True)
class Kind:
    """The properties of an agent, and its behavior without faults.

    ``read_step_ns`` and ``set_step_ns`` are the units that it cuts times to. guest-set-time returns ``set_error``
    although the clock was set, and answers after ``set_seconds``; guest-get-clock answers after ``get_clock_seconds``.
    ``claims_only``: it reports success without setting the clock. ``rtc_offset_ns`` is the hardware clock's offset;
    None: there is no hardware clock. ``disabled_as`` is the error's class and text for a disabled or frozen command.
    ``unsupported`` lists commands that it has but cannot execute. ``number_digits``: it keeps numbers as doubles and
    writes this many digits. ``slews``: an extended agent that can slew its clock. ``is_disciplined``: a time service in
    the guest prevents slewing. ``source`` is the source of its time.
    """

    version: str = "10.0.13"
    extended_version: str = ""
    commands: frozenset[str] = _STOCK
    disabled: frozenset[str] = frozenset()
    is_frozen: bool = False
    has_success_response: bool = True
    takes_id: bool = True
    tick_ns: int = 1
    read_step_ns: int = MICROSECOND_NS
    set_step_ns: int = MICROSECOND_NS
    set_seconds: float = 0.0
    set_error: str = ""
    get_clock_seconds: float = 0.0
    claims_only: bool = False
    rtc_offset_ns: int | None = 0
    disabled_as: tuple[str, str] = ("CommandNotFound", REFUSED_WORDS["disabled since 6.1"])
    unsupported: frozenset[str] = frozenset()
    number_digits: int | None = None
    slews: bool = True
    is_disciplined: bool = False
    source: str = "host-message"

    def enabled(self, command: str) -> bool:
        return command not in self.disabled and (not self.is_frozen or command in FROZEN_ALLOWED)


_HWCLOCK_FAILED = "hwclock failed to set hardware clock to system time"

STOCK = Kind()
NO_RTC = Kind(set_error=_HWCLOCK_FAILED, rtc_offset_ns=None)
SLOW_HWCLOCK = Kind(set_seconds=0.3)
WINDOWS = Kind(commands=_STOCK | {"guest-get-devices"}, read_step_ns=MILLISECOND_NS, set_step_ns=MILLISECOND_NS)
WINDOWS_TICKING = replace(WINDOWS, tick_ns=WINDOWS_TICK_NS)
WHOLE_MINUTES = Kind(version="9.2.0", set_step_ns=MINUTE_NS)
BEFORE_1_7 = Kind(
    version="1.6.0",
    commands=frozenset(name for name in _STOCK if CATALOG[name].since in ("0.15.0", "1.1", "1.2", "1.5")),
    has_success_response=False,
)
REFUSES_ID = Kind(version="2.12.0", takes_id=False)
# Real ones have no time commands either (1.5), so this one is a port that kept the old sync.
PLAIN_SYNC_ONLY = Kind(commands=_STOCK - {"guest-sync-delimited"})
EXTENDED = Kind(extended_version="1.0.0", commands=_STOCK | _EXTENDED)
EXTENDED_NO_RTC = replace(EXTENDED, rtc_offset_ns=None)
KINDS: Mapping[str, Kind] = {"stock": STOCK, "extended": EXTENDED}
RHEL = Kind(disabled=RHEL_BLOCKED)
SET_TIME_DISABLED = Kind(disabled=frozenset(("guest-set-time",)))
FROZEN = Kind(is_frozen=True)
# Refusals in the field. Some Windows builds still have the error class of the first versions.
BEFORE_4_2 = Kind(version="2.12.0", disabled_as=("GenericError", REFUSED_WORDS["disabled since 0.15"]))
BEFORE_1_2 = Kind(version="1.1.0", disabled_as=("CommandDisabled", REFUSED_WORDS["disabled since 0.15"]))
# Debian 12 and Ubuntu 24.04 without util-linux-extra: the agent checks for /sbin/hwclock before it sets a clock.
NO_HWCLOCK = Kind(version="7.2.22", unsupported=frozenset(("guest-set-time",)))
# Agents built on cJSON.
CJSON = Kind(number_digits=17)
CJSON_15 = Kind(number_digits=15)


@dataclass(frozen=True)
class FieldRow:
    """An agent from the field, and the result for a guest with this agent whose clock is 90 s behind.

    ``code`` is the error's code; empty means success. ``warning`` is a part of the expected warning. ``is_readable``:
    its clock can be read. ``resolution_ns`` is the least that must be reported.
    """

    kind: Kind
    code: str = ""
    warning: str = ""
    method: str = "set_time"
    is_readable: bool = True
    resolution_ns: int = MICROSECOND_NS


FIELD: Mapping[str, FieldRow] = {
    "stock": FieldRow(STOCK),
    "no RTC": FieldRow(NO_RTC, warning=_HWCLOCK_FAILED),
    "slow hwclock": FieldRow(SLOW_HWCLOCK),
    "Windows": FieldRow(WINDOWS, resolution_ns=MILLISECOND_NS),
    "Windows, ticking": FieldRow(WINDOWS_TICKING, warning="coarse", resolution_ns=10 * MILLISECOND_NS),
    "whole minutes": FieldRow(WHOLE_MINUTES, code="not_converged"),
    "before 1.7": FieldRow(BEFORE_1_7),
    "refuses id": FieldRow(REFUSES_ID),
    "plain sync only": FieldRow(PLAIN_SYNC_ONLY),
    "extended": FieldRow(EXTENDED, method="extended", resolution_ns=1),
    "extended, no RTC": FieldRow(EXTENDED_NO_RTC, method="extended", resolution_ns=1),
    "RHEL": FieldRow(RHEL),
    "set-time disabled": FieldRow(SET_TIME_DISABLED, code="command_disabled"),
    "get-time disabled": FieldRow(
        Kind(disabled=frozenset(("guest-get-time",))), code="command_disabled", is_readable=False
    ),
    "info disabled": FieldRow(Kind(disabled=frozenset(("guest-info",)))),
    "frozen": FieldRow(FROZEN, code="frozen", is_readable=False),
    **{
        f"{what}, {when}": FieldRow(replace(kind, **change), code=code, is_readable=False)
        for when, kind in (("before 4.2", BEFORE_4_2), ("before 1.2", BEFORE_1_2))
        for what, change, code in (
            ("get-time disabled", {"disabled": frozenset(("guest-get-time",))}, "command_disabled"),
            ("frozen", {"is_frozen": True}, "frozen"),
        )
    },
    "frozen, of another vendor": FieldRow(
        replace(FROZEN, disabled_as=("GenericError", REFUSED_WORDS["frozen, of another vendor"])),
        code="frozen",
        is_readable=False,
    ),
    "set-time disabled, before 4.2": FieldRow(
        replace(BEFORE_4_2, disabled=frozenset(("guest-set-time",))), code="command_disabled"
    ),
    "no hwclock": FieldRow(NO_HWCLOCK, code="not_supported"),
    "cJSON": FieldRow(CJSON, resolution_ns=256),
    "cJSON, 15 digits": FieldRow(CJSON_15, resolution_ns=10 * MICROSECOND_NS),
    "cJSON, extended": FieldRow(replace(EXTENDED, number_digits=15), method="extended", resolution_ns=256),
    "liar": FieldRow(Kind(claims_only=True), code="not_converged"),
}

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

# Every member that qga/qapi-schema.json (QEMU 10.0.13) defines for the facts, including optional ones.
FACTS: Mapping[str, Any] = {
    "guest-ping": {},
    "guest-get-host-name": {"host-name": "web1"},
    "guest-get-osinfo": {
        "kernel-release": "6.1.0-25-cloud-amd64",
        "kernel-version": "SMP Debian 6.1.106-3",
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
