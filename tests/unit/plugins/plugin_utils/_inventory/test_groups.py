from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.groups import KINDS, groups_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import ListedGuest

from tests.fakes.domains import uuid_of


def groups(*kinds: str, prefix: str = "", **facts: Any) -> list[str]:
    guest = ListedGuest("qemu:///system", "web1", uuid_of("web1"), "running", "ok", facts)
    return list(groups_of(guest, kinds, prefix))


def test_a_guest_is_in_a_group_of_each_kind_that_is_named_after_the_prefix() -> None:
    facts = {"os": {"id": "debian", "version_id": "12"}, "agent": {"kind": "stock"}}
    assert groups(*KINDS, prefix="qga_", **facts) == [
        *("qga_os_debian", "qga_os_version_debian_12", "qga_agent_stock", "qga_status_ok", "qga_state_running"),
        "qga_uri_qemu:///system",
    ]
    assert groups("os", **facts) == ["os_debian"]


@pytest.mark.parametrize("facts", [{}, {"os": {}}, {"os": {"id": ""}}, {"os": {"version_id": "12"}}, {"os": None}])
def test_facts_that_a_guest_does_not_report_make_no_group(facts: dict[str, Any]) -> None:
    assert groups("os", "os_version", "agent", **facts) == []


FREEBSD = {"kernel_version": "FreeBSD 14.1-RELEASE releng/14.1-n267679 GENERIC", "kernel_release": "14.1-RELEASE"}


def kernel(version: str, release: str) -> dict[str, str]:
    return {"kernel_version": version, "kernel_release": release}


@pytest.mark.parametrize(
    ("system", "name", "version"),
    [
        (FREEBSD, "freebsd", "14.1"),
        ({**FREEBSD, "kernel_release": "13.1-RELEASE-p5"}, "freebsd", "13.1"),
        ({**FREEBSD, "name": "FreeBSD", "version_id": "14.2"}, "freebsd", "14.2"),
        ({**FREEBSD, "id": "", "name": ""}, "freebsd", "14.1"),
        ({**FREEBSD, "pretty_name": "FreeBSD 14.1-RELEASE"}, "freebsd", "14.1"),
        ({**FREEBSD, "id": "opnsense"}, "opnsense", ""),
        (kernel("NetBSD 9.3 (GENERIC) #0", "9.3"), "netbsd", "9.3"),
        (kernel("GENERIC.MP#52", "7.5"), "openbsd", "7.5"),
        (kernel("DragonFly v6.4.0-RELEASE #1", "6.4-RELEASE"), "dragonfly", "6.4"),
        (kernel("Darwin Kernel Version 23.5.0", "23.5.0"), "darwin", ""),
        (kernel("#1 SMP Fri", "2.6.32-754.el6.x86_64"), "linux", ""),
        (kernel(visible("#101-Ubuntu SMP"), "5.4.0"), "linux", ""),
        ({"name": "Oracle Solaris", "version_id": "11.4"}, "oracle_solaris", "11.4"),
        ({"pretty_name": "Gadget OS v3 (x)"}, "gadget_os", ""),
        ({"id": "mswindows", "version_id": "2019"}, "mswindows", "2019"),
        ({"id": "arch"}, "arch", ""),
        (kernel("something else", "1.2"), "", ""),
        ({"kernel_version": "FreeBSDish"}, "", ""),
        ({"kernel_version": 5, "name": ["x"]}, "", ""),
    ],
)
def test_a_system_that_has_no_id_is_known_by_its_name_or_its_kernel(
    system: dict[str, Any], name: str, version: str
) -> None:
    expected = ([f"os_{name}"] if name else []) + ([f"os_version_{name}_{version}"] if version else [])
    assert groups("os", "os_version", os=system) == expected


@pytest.mark.parametrize("lie", ["all", "../x", "state_running", "agent_extended", ""])
def test_a_guest_only_chooses_among_groups_of_systems(lie: str) -> None:
    names = groups(*KINDS, prefix="qga_", os={"id": lie, "version_id": lie})
    known = {"qga_status_ok", "qga_state_running", "qga_uri_qemu:///system"}
    assert all(name.startswith("qga_os_") for name in set(names) - known)


@pytest.mark.parametrize("member", ["id", "name", "pretty_name"])
def test_the_name_of_a_group_is_cut(member: str) -> None:
    assert groups("os", os={member: "x" * 4096}) == ["os_" + "x" * 100]
