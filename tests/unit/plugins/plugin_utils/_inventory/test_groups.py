from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.groups import KINDS, groups_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import ListedGuest

from tests.fakes.domains import uuid_of


def guest(**facts: Any) -> ListedGuest:
    return ListedGuest("qemu:///system", "web1", uuid_of("web1"), "running", "ok", facts)


def test_a_guest_is_in_a_group_of_each_kind() -> None:
    told = guest(os={"id": "debian", "version_id": "12"}, agent={"kind": "stock"})
    assert list(groups_of(told, KINDS, "qga_")) == [
        *("qga_os_debian", "qga_os_version_debian_12", "qga_agent_stock", "qga_status_ok", "qga_state_running"),
        "qga_uri_qemu:///system",
    ]


def test_only_kinds_that_are_named_are_made_and_behind_the_prefix() -> None:
    told = guest(os={"id": "debian", "version_id": "12"})
    assert list(groups_of(told, ["os"], "")) == ["os_debian"]
    assert list(groups_of(told, [], "x_")) == []


@pytest.mark.parametrize("facts", [{}, {"os": {}}, {"os": {"id": ""}}, {"os": {"version_id": "12"}}, {"os": None}])
def test_what_a_guest_has_not_told_makes_no_group(facts: dict[str, Any]) -> None:
    assert list(groups_of(guest(**facts), ["os", "os_version", "agent"], "")) == []


FREEBSD = {"kernel_version": "FreeBSD 14.1-RELEASE releng/14.1-n267679 GENERIC", "kernel_release": "14.1-RELEASE"}


@pytest.mark.parametrize(
    ("system", "names"),
    [
        (FREEBSD, ["os_freebsd", "os_version_freebsd_14.1"]),
        ({**FREEBSD, "kernel_release": "13.1-RELEASE-p5"}, ["os_freebsd", "os_version_freebsd_13.1"]),
        ({**FREEBSD, "name": "FreeBSD", "version_id": "14.2"}, ["os_freebsd", "os_version_freebsd_14.2"]),
        ({**FREEBSD, "id": "opnsense"}, ["os_opnsense"]),
        (
            {"kernel_version": "NetBSD 9.3 (GENERIC) #0", "kernel_release": "9.3"},
            ["os_netbsd", "os_version_netbsd_9.3"],
        ),
        ({"kernel_version": "GENERIC.MP#52", "kernel_release": "7.5"}, ["os_openbsd", "os_version_openbsd_7.5"]),
        (
            {"kernel_version": "DragonFly v6.4.0-RELEASE #1", "kernel_release": "6.4-RELEASE"},
            ["os_dragonfly", "os_version_dragonfly_6.4"],
        ),
        ({"kernel_version": "Darwin Kernel Version 23.5.0", "kernel_release": "23.5.0"}, ["os_darwin"]),
        ({"kernel_version": "#1 SMP Fri", "kernel_release": "2.6.32-754.el6.x86_64"}, ["os_linux"]),
        ({"kernel_version": visible("#101-Ubuntu SMP"), "kernel_release": "5.4.0"}, ["os_linux"]),
        ({"name": "Oracle Solaris", "version_id": "11.4"}, ["os_oracle_solaris", "os_version_oracle_solaris_11.4"]),
        ({"pretty_name": "FreeBSD 14.1-RELEASE", **FREEBSD}, ["os_freebsd", "os_version_freebsd_14.1"]),
        ({"pretty_name": "Gadget OS v3 (x)"}, ["os_gadget_os"]),
        ({"id": "", "name": "", **FREEBSD}, ["os_freebsd", "os_version_freebsd_14.1"]),
        ({"id": "mswindows", "version_id": "2019"}, ["os_mswindows", "os_version_mswindows_2019"]),
        ({"id": "arch"}, ["os_arch"]),
        ({"kernel_version": "something else", "kernel_release": "1.2"}, []),
        ({"kernel_version": "FreeBSDish"}, []),
        ({"kernel_version": 5, "name": ["x"]}, []),
    ],
)
def test_a_system_that_has_no_id_is_known_by_its_name_or_its_kernel(system: dict[str, Any], names: list[str]) -> None:
    assert list(groups_of(guest(os=system), ["os", "os_version"], "")) == names


def test_a_guest_only_chooses_among_groups_of_systems() -> None:
    for lie in ("all", "../x", "state_running", "agent_extended", ""):
        names = groups_of(guest(os={"id": lie, "version_id": lie}), KINDS, "qga_")
        known = {"qga_status_ok", "qga_state_running", "qga_uri_qemu:///system"}
        assert all(name.startswith("qga_os_") for name in set(names) - known)


def test_a_name_has_an_end() -> None:
    for member in ("id", "name", "pretty_name"):
        (name,) = groups_of(guest(os={member: "x" * 4096}), ["os"], "")
        assert len(name) < 200
