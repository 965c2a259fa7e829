from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import (
    TcpAddress,
    VsockAddress,
    parse_address,
    parse_vsock,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._ranges import check_numbers
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import names_many, target_of

from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking

# As AnsibleModule fills them in where the user gives none.
LIMITS = Limits(size=1000)
NONE_GIVEN: dict[str, Any] = {
    "domain": None,
    "uri": "qemu:///system",
    "socket": None,
    "address": None,
    "vsock": None,
    "timeout": 5.0,
    "wait_timeout": 0.0,
}


def refused(function: Any, *arguments: Any) -> InvalidOptionError:
    with pytest.raises(InvalidOptionError) as caught:
        function(*arguments)
    error = caught.value
    assert "\n" not in error.message
    assert error.message
    return error


class TestTargets:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("socket", "/var/run/qemu-server/100.qga"),
            ("address", "host.example:4444"),
            ("address", "[::1]:4444"),
            ("vsock", "3:1234"),
        ],
    )
    def test_a_stream_is_opened_to_what_is_named(self, option: str, value: str) -> None:
        target = target_of({**NONE_GIVEN, option: value}, LIMITS)
        assert target.name == value
        channel = target.open()
        with Blocking(channel):
            assert isinstance(channel, StreamChannel)
            assert channel._limits == LIMITS

    def test_a_domain_is_opened_at_its_uri(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = FakeLibvirt()
        monkeypatch.setattr(connections, "import_libvirt", lambda: (fake, fake))
        target = target_of({**NONE_GIVEN, "domain": "web1", "uri": "qemu+ssh://host/system"}, LIMITS)
        assert target.name == "web1"
        channel = target.open()
        with Blocking(channel):
            assert isinstance(channel, LibvirtChannel)
            assert channel._calls._limits == LIMITS
            assert str(channel) == "domain web1 at qemu+ssh://host/system"

    def test_a_stream_needs_no_libvirt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "libvirt", None)
        Blocking(target_of({**NONE_GIVEN, "socket": "/run/a"}, LIMITS).open()).close()

    def test_none_is_refused(self) -> None:
        error = refused(names_many, NONE_GIVEN)
        assert "no guest is named" in error.message
        assert error.hint == "Give exactly one of domain, socket, address, vsock, domains, sockets."

    def test_several_are_refused_by_name(self) -> None:
        error = refused(names_many, {**NONE_GIVEN, "vsock": "3:1", "domain": "web1"})
        assert error.message == "several options name guests: domain, vsock"

    @pytest.mark.parametrize("option", ["domain", "socket", "address", "vsock"])
    @pytest.mark.parametrize("value", ["", "a\0b", "\0"])
    def test_empty_values_and_nuls_are_refused(self, option: str, value: str) -> None:
        assert refused(target_of, {**NONE_GIVEN, option: value}, LIMITS).message.startswith(option)

    @pytest.mark.parametrize(("option", "value"), [("address", "nowhere"), ("vsock", "3")])
    def test_a_value_in_a_wrong_form_is_refused_before_anything_is_opened(self, option: str, value: str) -> None:
        target = target_of({**NONE_GIVEN, option: value}, LIMITS)
        assert value in refused(target.open).message


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("127.0.0.1:4444", "127.0.0.1", 4444),
        ("host.example:1", "host.example", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:4444", "fe80::1%eth0", 4444),
        ("web1:04444", "web1", 4444),
    ],
)
def test_addresses(value: str, host: str, port: int) -> None:
    assert parse_address(value) == TcpAddress(host, port)


@pytest.mark.parametrize(
    "value",
    [
        "127.0.0.1",
        ":4444",
        "[]:4444",
        "::1:4444",
        "[::1]4444",
        "[::1",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:+1",
        "host:1.5",
        "host: 1",
        "host:http",
        "host:\u00b2",
        "host:" + "9" * 5000,
    ],
)
def test_what_is_no_address(value: str) -> None:
    assert refused(parse_address, value).message.startswith("address ")


@pytest.mark.parametrize(("value", "cid", "port"), [("3:1", 3, 1), ("4294967294:4294967294", 2**32 - 2, 2**32 - 2)])
def test_vsocks(value: str, cid: int, port: int) -> None:
    assert parse_vsock(value) == VsockAddress(cid, port)


@pytest.mark.parametrize(
    "value",
    ["3", "3:", ":1", "3:0", "3:4294967295", "4294967295:1", "-1:1", "x:1", "3:x", "3:1:2", "9" * 5000 + ":1"],
)
def test_what_is_no_vsock(value: str) -> None:
    assert refused(parse_vsock, value).message.startswith("vsock ")


class TestNumbers:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("timeout", 0.05),
            ("timeout", 86400.0),
            ("wait_timeout", 0.0),
            ("tolerance", 0.0),
            ("utc_offset", -172800.0),
            ("utc_offset", 0.0),
            ("attempts", 1),
            ("attempts", 100),
            ("samples", 1),
            ("samples", 1000),
            ("tolerance", None),
        ],
    )
    def test_what_is_allowed(self, option: str, value: float | None) -> None:
        check_numbers({option: value})

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *((option, float("nan")) for option in ("timeout", "wait_timeout", "tolerance", "utc_offset")),
            *((option, float("inf")) for option in ("timeout", "wait_timeout", "tolerance", "utc_offset")),
            *((option, float("-inf")) for option in ("timeout", "wait_timeout", "tolerance", "utc_offset")),
            ("timeout", 0.0),
            ("timeout", 0.049),
            ("timeout", -1.0),
            ("timeout", 86401.0),
            ("wait_timeout", -0.001),
            ("tolerance", -0.1),
            ("tolerance", 1e300),
            ("utc_offset", 172801.0),
            ("attempts", 0),
            ("attempts", 101),
            ("samples", 0),
            ("samples", -5),
            ("samples", 1001),
            ("samples", 10**400),
        ],
    )
    def test_what_is_not(self, option: str, value: float) -> None:
        error = refused(check_numbers, {option: value})
        assert error.message.startswith(f"{option} is ")
        assert error.hint.startswith("Choose between ")
