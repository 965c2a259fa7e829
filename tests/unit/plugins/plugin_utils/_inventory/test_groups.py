from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.groups import KINDS, groups_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import ListedGuest

from tests.fakes.domains import uuid_of
from tests.fakes.windows_replies import NAMED, UNNAMED


def groups(*kinds: str, prefix: str = "", **facts: Any) -> list[str]:
    guest = ListedGuest("qemu:///system", "web1", uuid_of("web1"), "running", "ok", facts)
    return list(groups_of(guest, kinds, prefix))


def test_group_names_consist_of_the_prefix_the_kind_and_the_value() -> None:
    facts = {"os": {"id": "debian", "version_id": "12"}, "agent": {"kind": "stock"}}
    assert groups(*KINDS, prefix="qga_", **facts) == [
        *("qga_os_debian", "qga_os_version_debian_12", "qga_agent_stock", "qga_status_ok", "qga_state_running"),
        "qga_uri_qemu:///system",
    ]
    assert groups("os", **facts) == ["os_debian"]


@pytest.mark.parametrize(
    "facts",
    [
        *({}, {"os": {}}, {"os": {"id": ""}}, {"os": {"version_id": "12"}}, {"os": None}),
        *({"os": {"id": "N/A"}}, {"os": {"id": " "}}, {"os": {"name": "N/A", "pretty_name": "N/A"}}),
    ],
)
def test_missing_and_unknown_facts_make_no_group(facts: dict[str, Any]) -> None:
    assert groups("os", "os_version", "agent", **facts) == []


@pytest.mark.parametrize(
    ("reply", "names"),
    [(NAMED, ["os_mswindows", "os_version_mswindows_2022"]), (UNNAMED, ["os_mswindows"])],
)
def test_a_windows_version_that_the_agent_does_not_know_makes_no_group(reply: dict[str, str], names: list[str]) -> None:
    assert groups("os", "os_version", os={name.replace("-", "_"): text for name, text in reply.items()}) == names


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
def test_a_system_without_an_id_gets_one_from_its_name_or_kernel(
    system: dict[str, Any], name: str, version: str
) -> None:
    expected = ([f"os_{name}"] if name else []) + ([f"os_version_{name}_{version}"] if version else [])
    assert groups("os", "os_version", os=system) == expected


@pytest.mark.parametrize("lie", ["all", "../x", "state_running", "agent_extended", ""])
def test_a_false_system_only_leads_to_another_group_of_systems(lie: str) -> None:
    names = groups(*KINDS, prefix="qga_", os={"id": lie, "version_id": lie})
    known = {"qga_status_ok", "qga_state_running", "qga_uri_qemu:///system"}
    assert all(name.startswith("qga_os_") for name in set(names) - known)


@pytest.mark.parametrize("member", ["id", "name", "pretty_name"])
def test_the_names_of_groups_are_truncated(member: str) -> None:
    assert groups("os", os={member: "x" * 4096}) == ["os_" + "x" * 100]
