# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.addresses import rule
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.survey import Surveyed
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.variables import variables_of

from tests.support.fake_hypervisor import uuid_of

RULE = rule(("ipv4", "ipv6"), (), ())
URI = "qemu:///system"
UUID = uuid_of("web1")
KNOWN = {"qga_uri": URI, "qga_uuid": UUID, "qga_name": "web1", "qga_state": "running", "qga_agent_status": "ok"}
NETWORK = [{"name": "eth0", "ip_addresses": [{"ip_address": "10.0.0.5"}, {"ip_address": "fd00::5"}]}]


REACHED = {"ansible_qga_domain": UUID, "ansible_qga_uri": URI}
MAC = "52:54:00:aa:bb:cc"


def variables(facts: dict[str, Any], connection: str = "ssh", prefix: str = "qga_", **changes: Any) -> dict[str, Any]:
    guest = Surveyed(**{**vars(Surveyed(URI, "web1", UUID, "running", "ok", facts)), **changes})
    return variables_of(guest, prefix, RULE, connection)


def test_facts_have_the_keys_of_qga_info_behind_the_prefix() -> None:
    facts = {"hostname": "web1.example", "os": {"id": "debian"}, "errors": {}}
    assert variables(facts) == {
        **KNOWN,
        **REACHED,
        "qga_hostname": "web1.example",
        "qga_os": {"id": "debian"},
        "qga_errors": {},
    }
    assert "vm_hostname" in variables(facts, prefix="vm_")


@pytest.mark.parametrize(
    ("connection", "made"),
    [
        ("ssh", {"ansible_host": "10.0.0.5"}),
        ("qga", {"ansible_connection": "qemu.guest_agent.qga"}),
        ("none", {}),
    ],
)
def test_a_connection_is_made_as_it_was_asked_for(connection: str, made: dict[str, str]) -> None:
    found = variables({"network": NETWORK}, connection)
    assert {name: value for name, value in found.items() if name.startswith("ansible_")} == {**made, **REACHED}
    assert found["qga_address"] == "10.0.0.5"


def test_the_address_is_that_of_a_device_which_the_host_gave_the_guest() -> None:
    network = [*NETWORK, {"name": "br-ex", "hardware_address": MAC, "ip_addresses": [{"ip_address": "10.0.0.6"}]}]
    assert variables({"network": network})["qga_address"] == "10.0.0.5"
    assert variables({"network": network}, macs=(MAC,))["qga_address"] == "10.0.0.6"


def test_without_an_address_there_is_no_ansible_host() -> None:
    lo = [{"name": "lo", "ip_addresses": [{"ip_address": "127.0.0.1"}]}]
    for facts in ({}, {"network": []}, {"network": lo}):
        found = variables(facts)
        assert "ansible_host" not in found
        assert "qga_address" not in found


def test_one_that_told_nothing_has_its_reason() -> None:
    error = {"code": "timeout", "message": "it did not answer", "hint": "look at it"}
    assert variables({}, status="failed", error=error) == {
        **KNOWN,
        **REACHED,
        "qga_agent_status": "failed",
        "qga_error": error,
    }


def test_what_is_known_here_is_not_what_the_guest_tells() -> None:
    lies = {"uuid": "x", "state": "x", "uri": "x", "agent_status": "x", "name": "x"}
    assert variables(lies) == {**KNOWN, **REACHED}
