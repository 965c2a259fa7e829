"""Hosts: their names and groups, their variables, and which of them the filters leave."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable, to_safe_group_name
from ansible.template import Templar
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.hosts import (
    Constructed,
    Host,
    hosts_of,
    is_taken,
    populate,
    variables_of,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import ListedGuest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import Filter, settings_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import untrusted

from tests.fakes.domains import uuid_of
from tests.support.inventory_defaults import DEFAULTS
from tests.support.templates import trusted

NOTHING = Constructed(lambda _host: None, lambda _host: None, lambda _host: None)


def unable(expression: str, _variables: Any) -> Any:
    raise AssertionError(f"{expression} is to be evaluated")


def guest(name: str, system: str = "debian", uri: str = "qemu:///system") -> ListedGuest:
    return ListedGuest(uri, name, uuid_of(name + uri), "running", "ok", {"os": {"id": system}})


def inventory_of(*guests: ListedGuest, constructed: Constructed = NOTHING, **options: Any) -> InventoryData:
    inventory = InventoryData()
    settings = settings_of({**DEFAULTS, **options}.__getitem__)
    hosts, _warnings = hosts_of(guests, settings, inventory.groups, unable, False)
    populate(inventory, hosts, settings, to_safe_group_name, constructed)
    inventory.reconcile_inventory()
    return inventory


def test_a_guest_without_a_name_of_its_own_is_no_host() -> None:
    inventory = InventoryData()
    settings = settings_of(DEFAULTS.__getitem__)
    taken = ("web1", "web1@qemu:///system")
    hosts, warnings = hosts_of([guest("web1"), guest("web2")], settings, taken, unable, False)
    populate(inventory, hosts, settings, to_safe_group_name, NOTHING)
    assert set(inventory.hosts) == {"web2"}
    assert "left out" in warnings[0]


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
    assert set(inventory.hosts) == {f"{name}@qemu:///system", "web1"}
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


# ------------------------------------------------------------------------------------------------------------ variables


URI = "qemu:///system"
UUID = uuid_of("web1")
KNOWN = {"qga_uri": URI, "qga_uuid": UUID, "qga_name": "web1", "qga_state": "running", "qga_agent_status": "ok"}
NETWORK = [{"name": "eth0", "ip_addresses": [{"ip_address": "10.0.0.5"}, {"ip_address": "fd00::5"}]}]


REACHED = {"ansible_qga_domain": UUID, "ansible_qga_uri": URI}
MAC = "52:54:00:aa:bb:cc"


def variables(facts: dict[str, Any], connection: str = "ssh", prefix: str = "qga_", **changes: Any) -> dict[str, Any]:
    guest = ListedGuest(**{**vars(ListedGuest(URI, "web1", UUID, "running", "ok", facts)), **changes})
    options = {**DEFAULTS, "prefix": prefix, "connection": connection}
    return variables_of(guest, settings_of(options.__getitem__))


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


# -------------------------------------------------------------------------------------------------------------- filters


VARIABLES = {"inventory_hostname": "web1", "os": untrusted({"id": "debian", "name": "{{ nosuch }}"})}


class Evaluating(BaseInventoryPlugin, Constructable):  # type: ignore[misc]  # Ansible has no types
    """What the plugin evaluates expressions by, without its options."""

    templar = Templar(DataLoader())


def include(condition: str | bool) -> Filter:
    return Filter(True, trusted(condition) if isinstance(condition, str) else condition)


def exclude(condition: str | bool) -> Filter:
    return include(condition)._replace(is_included=False)


def taken(*filters: Filter, is_strict: bool = False, variables: dict[str, Any] | None = None) -> bool:
    return is_taken(filters, VARIABLES if variables is None else variables, Evaluating()._compose, is_strict)


DEBIAN, WINDOWS, FAILING = "os.id == 'debian'", "os.id == 'mswindows'", "nosuch.id == 'x'"


@pytest.mark.parametrize(
    ("filters", "is_one"),
    [
        ((), True),
        ((include(DEBIAN),), True),
        ((exclude(DEBIAN),), False),
        ((include(WINDOWS),), True),
        ((include(WINDOWS), exclude(True)), False),
        ((include(DEBIAN), exclude(True)), True),
        ((exclude(False), include(True), exclude(True)), True),
        ((exclude("inventory_hostname == 'web1'"),), False),
        ((exclude(FAILING), include(True)), True),
        ((include(FAILING), exclude(True)), False),
    ],
)
def test_the_first_that_is_true_decides(filters: tuple[Filter, ...], is_one: bool) -> None:
    assert taken(*filters) is is_one


def test_one_that_fails_is_an_error_if_that_is_asked_for() -> None:
    with pytest.raises(InvalidOptionError, match="web1") as caught:
        taken(include(FAILING), is_strict=True)
    assert "nosuch" in caught.value.message


def test_what_a_guest_tells_is_compared_and_never_carried_out() -> None:
    assert taken(include("os.name == '{' ~ '{ nosuch }' ~ '}'"), exclude(True), is_strict=True)
