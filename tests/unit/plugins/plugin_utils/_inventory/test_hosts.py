# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.inventory.data import InventoryData
from ansible.plugins.inventory import to_safe_group_name
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.hosts import (
    Constructed,
    Host,
    hosts_of,
    populate,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import settings_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.survey import Surveyed

from tests.support.fake_hypervisor import uuid_of
from tests.support.inventory_defaults import DEFAULTS

NOTHING = Constructed(lambda _host: None, lambda _host: None, lambda _host: None)


def unable(expression: str, _variables: Any) -> Any:
    raise AssertionError(f"{expression} is to be evaluated")


def guest(name: str, system: str = "debian", uri: str = "qemu:///system") -> Surveyed:
    return Surveyed(uri, name, uuid_of(name + uri), "running", "ok", {"os": {"id": system}})


def inventory_of(*guests: Surveyed, constructed: Constructed = NOTHING, **options: Any) -> InventoryData:
    inventory = InventoryData()
    settings = settings_of({**DEFAULTS, **options}.__getitem__)
    hosts, _warnings = hosts_of(guests, settings, inventory.groups, unable, False)
    populate(inventory, hosts, settings, to_safe_group_name, constructed)
    inventory.reconcile_inventory()
    return inventory


def members(inventory: InventoryData, group: str) -> list[str]:
    return [host.name for host in inventory.groups[group].get_hosts()]


def test_guests_become_hosts_with_variables_and_groups() -> None:
    inventory = inventory_of(guest("web1"), guest("web2", "fedora"))
    assert set(inventory.hosts) == {"web1", "web2"}
    assert inventory.hosts["web1"].vars["qga_os"] == {"id": "debian"}
    assert members(inventory, "qga_os_fedora") == ["web2"]


def test_names_of_groups_are_made_by_ansibles_own_function() -> None:
    inventory = inventory_of(guest("web1", "x-{{ y }}.z"))
    assert members(inventory, "qga_os_x____y____z") == ["web1"]


def test_those_that_filters_leave_out_are_no_hosts() -> None:
    inventory = inventory_of(guest("web1"), filters=[{"exclude": True}])
    assert set(inventory.hosts) == set()


@pytest.mark.parametrize("name", ["all", "ungrouped", "localhost", "127.0.0.1", "::1"])
def test_a_guest_never_bears_the_name_of_a_group_or_of_this_machine(name: str) -> None:
    inventory = inventory_of(guest(name), guest("web1"))
    assert set(inventory.hosts) == {f"{name}@localhost", "web1"}
    assert inventory.groups["all"].vars == {}
    assert inventory.localhost is None


def test_a_guest_that_makes_a_group_of_another_ones_name_gets_none_of_its_variables() -> None:
    def compose(host: Host) -> None:
        inventory.set_variable(host.name, "composed", host.name)

    def group(host: Host) -> None:
        inventory.add_group("chosen")
        inventory.add_child("chosen", host.name)

    def key(host: Host) -> None:
        inventory.add_host(host.name, group=inventory.add_group(host.variables["qga_os"]["id"]))

    inventory = InventoryData()
    settings = settings_of({**DEFAULTS, "group_prefix": "", "connection": "qga"}.__getitem__)
    guests = [guest("aaa", "web1"), guest("os_web1"), guest("web1"), guest("zzz", "web1")]
    hosts, _warnings = hosts_of(guests, settings, inventory.groups, unable, False)
    populate(inventory, hosts, settings, to_safe_group_name, Constructed(compose, group, key))
    inventory.reconcile_inventory()
    for name in ("web1", "os_web1"):
        assert inventory.groups[name].vars == {}
        assert inventory.hosts[name].vars["composed"] == name
        assert inventory.hosts[name].vars["qga_name"] == name
    assert set(members(inventory, "chosen")) == {"aaa", "os_web1", "web1", "zzz"}
    assert inventory.groups["chosen"].child_groups == []
