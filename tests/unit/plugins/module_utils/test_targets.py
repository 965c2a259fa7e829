from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import (
    Address,
    TcpAddress,
    UnixAddress,
    VsockAddress,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._ranges import RANGES, check_numbers
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target, target_of

from tests.support.blocking import Blocking

LIMITS = Limits(size=1000)
NONE_GIVEN: dict[str, Any] = {
    **dict.fromkeys(("domain", "socket", "address", "vsock", "domains", "sockets")),
    "uri": "qemu+ssh://host/system",
}


def target(**option: str) -> Target:
    return target_of({**NONE_GIVEN, **option}, LIMITS)


@pytest.mark.parametrize(
    ("option", "value", "address"),
    [
        ("socket", "/var/run/qemu-server/100.qga", UnixAddress("/var/run/qemu-server/100.qga")),
        ("address", "host.example:1", TcpAddress("host.example", 1)),
        ("address", "web1:04444", TcpAddress("web1", 4444)),
        ("address", "[::1]:65535", TcpAddress("::1", 65535)),
        ("address", "[fe80::1%eth0]:4444", TcpAddress("fe80::1%eth0", 4444)),
        ("vsock", "3:1", VsockAddress(3, 1)),
        ("vsock", "4294967294:4294967294", VsockAddress(2**32 - 2, 2**32 - 2)),
    ],
)
def test_a_stream_channel_is_opened_without_libvirt(
    monkeypatch: pytest.MonkeyPatch, option: str, value: str, address: Address
) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    named = target(**{option: value})
    assert named.name == value
    channel = named.open()
    with Blocking(channel):
        assert isinstance(channel, StreamChannel)
        assert (channel._address, channel._limits) == (address, LIMITS)


@pytest.mark.usefixtures("fake")
def test_a_domain_is_opened_at_its_uri() -> None:
    channel = target(domain="web1").open()
    with Blocking(channel):
        assert isinstance(channel, LibvirtChannel)
        assert channel._calls._limits == LIMITS
        assert str(channel) == "domain 'web1' at qemu+ssh://host/system"


@pytest.mark.parametrize("option", ["domain", "socket", "address", "vsock"])
@pytest.mark.parametrize("value", ["", "a\0b", "\0"])
def test_empty_values_and_nul_characters_are_refused(option: str, value: str) -> None:
    with pytest.raises(InvalidOptionError, match=f"^{option} is empty or contains a NUL character$"):
        target(**{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("address", value) for value in ("127.0.0.1", ":4444", "[]:4444", "::1:4444", "[::1]4444", "[::1", "host:")),
        *(
            ("address", f"host:{port}")
            for port in ("0", "65536", "-1", "+1", "1.5", " 1", "http", "\u00b2", "9" * 5000)
        ),
        *(("vsock", value) for value in ("3", "3:", ":1", "3:0", "3:4294967295", "4294967295:1", "-1:1", "x:1", "3:x")),
        *(("vsock", value) for value in ("3:1:2", "9" * 5000 + ":1")),
    ],
)
def test_a_value_in_the_wrong_form_is_refused_before_anything_is_opened(option: str, value: str) -> None:
    with pytest.raises(InvalidOptionError) as caught:
        target(**{option: value}).open()
    assert caught.value.message.startswith(f"{option} '{value}' ")
    assert "\n" not in caught.value.message


LIMITS_OF_NUMBERS = {
    "timeout": (0.05, 86400.0),
    "wait_timeout": (0.0, 86400.0),
    "tolerance": (0.0, 366 * 86400.0),
    "deadline": (0.05, 7 * 86400.0),
    "concurrency": (1, 1000),
    "utc_offset": (-172800.0, 172800.0),
    "attempts": (1, 100),
    "samples": (1, 1000),
}


@pytest.mark.parametrize("option", RANGES)
def test_numbers_out_of_their_range_are_refused(option: str) -> None:
    lowest, highest = LIMITS_OF_NUMBERS[option]
    for value in (None, lowest, highest):
        check_numbers({option: value})
    for outside in (lowest - 0.001, highest + 1, float("nan"), float("inf"), float("-inf"), 10**400):
        with pytest.raises(InvalidOptionError, match=f"^{option} is ") as caught:
            check_numbers({option: outside})
        assert caught.value.hint.startswith("Choose between ")
