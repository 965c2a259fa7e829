"""Replies of qemu-ga on real Windows guests, published by others; the addresses are invented.

Windows Server 2022: the tests of pademelon's internal/agent. A preview of it that qemu-ga did not know by name yet:
the mailing list qemu-devel on guest-get-osinfo, September 2, 2021.
"""

from __future__ import annotations

from typing import Any

_OSINFO = {
    "id": "mswindows",
    "name": "Microsoft Windows",
    "machine": "x86_64",
    "kernel-version": "10.0",
    "variant": "server",
    "variant-id": "server",
}
NAMED = {
    "kernel-release": "20348",
    "version": "Microsoft Windows Server 2022",
    "version-id": "2022",
    "pretty-name": "Windows Server 2022 Standard",
    **_OSINFO,
}
UNNAMED = {
    "kernel-release": "20344",
    "version": "N/A",
    "version-id": "N/A",
    "pretty-name": "Windows Server 2022 Datacenter",
    **_OSINFO,
}


def _address(text: str, prefix: int) -> dict[str, Any]:
    return {"ip-address-type": "ipv6" if ":" in text else "ipv4", "ip-address": text, "prefix": prefix}


# The link-local address has the number of its zone.
INTERFACES = [
    {
        "name": "Ethernet",
        "hardware-address": "52:54:00:63:a7:d1",
        "ip-addresses": [_address("fe80::3a11:dfb6:9b8f:8241%6", 64), _address("192.0.2.81", 24)],
    },
    {"name": "Loopback Pseudo-Interface 1", "ip-addresses": [_address("::1", 128), _address("127.0.0.1", 8)]},
]


def _volume(number: int, mountpoint: str, kind: str, total: int, used: int) -> dict[str, Any]:
    name = f"\\\\?\\Volume{{e22d309{number}-a70b-11f1-abc2-806e6f6e6963}}\\"
    return {"name": name, "mountpoint": mountpoint, "type": kind, "total-bytes": total, "used-bytes": used}


# Two of them have the same label and no drive letter.
FILESYSTEMS = [
    _volume(1, "E:\\", "CDFS", 877373440, 877373440),
    _volume(2, "System Reserved", "FAT32", 100663296, 31732736),
    _volume(3, "System Reserved", "NTFS", 870313984, 750354432),
    _volume(4, "C:\\", "NTFS", 52691988480, 14206033920),
]
