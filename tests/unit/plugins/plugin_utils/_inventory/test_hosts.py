"""Hosts: their names, groups and variables, and the filters."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.qemu.guest_agent.plugins.inventory.libvirt_guests import InventoryModule
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.hosts import (
    hosts_of,
    passes_filters,
    variables_of,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import ListedGuest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import Filter, settings_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import untrusted

from tests.fakes.domains import uuid_of
from tests.support.ansible_core import trusted
from tests.support.inventory_defaults import DEFAULTS

URI = "qemu:///system"
NOTHING_CONSTRUCTED = {"compose": {}, "groups": {}, "keyed_groups": [], "leading_separator": True}


def guest(name: str, system: str = "debian") -> ListedGuest:
    return ListedGuest(URI, name, uuid_of(name), "running", "ok", {"os": {"id": system}})


def never_evaluated(expression: str, _variables: Any) -> Any:
    raise AssertionError(f"{expression} was evaluated")


def plugin_for(inventory: InventoryData, **options: Any) -> InventoryModule:
    plugin = InventoryModule()
    plugin.inventory = inventory
    plugin.templar = Templar(DataLoader())
    plugin._options = {**DEFAULTS, **NOTHING_CONSTRUCTED, **options}
    return plugin


def fill(inventory: InventoryData, *guests: ListedGuest, **options: Any) -> list[str]:
    """Add the guests as hosts, and return the warnings."""
    plugin = plugin_for(inventory, **options)
    settings = settings_of(plugin.get_option)
    hosts, warnings = hosts_of(guests, settings, inventory.groups, never_evaluated, False)
    plugin._populate(hosts, settings, True)
    inventory.reconcile_inventory()
    return warnings


def members(inventory: InventoryData, group: str) -> list[str]:
    return [host.name for host in inventory.groups[group].get_hosts()]


class TestAnInventory:
    def test_guests_that_pass_the_filters_become_hosts_with_variables_and_groups(self) -> None:
        inventory = InventoryData()
        fill(inventory, guest("web1"), guest("web2", "x-{{ y }}.z"))
        assert set(inventory.hosts) == {"web1", "web2"}
        assert inventory.hosts["web1"].vars["qga_os"] == {"id": "debian"}
        assert members(inventory, "qga_os_x____y____z") == ["web2"]
        fill(inventory, guest("web3"), filters=[{"exclude": True}])
        assert set(inventory.hosts) == {"web1", "web2"}

    @pytest.mark.parametrize("name", ["all", "ungrouped", "localhost", "127.0.0.1", "::1"])
    def test_a_host_never_has_the_name_of_a_group_or_of_this_machine(self, name: str) -> None:
        inventory = InventoryData()
        fill(inventory, guest(name), guest("web1"))
        assert set(inventory.hosts) == {f"{name}@{URI}", "web1"}
        assert inventory.groups["all"].vars == {}
        assert inventory.localhost is None

    def test_a_guest_without_a_unique_name_is_left_out_with_a_warning(self) -> None:
        inventory = InventoryData()
        for name in ("web1", f"web1@{URI}"):
            inventory.add_group(name)
        (warning,) = fill(inventory, guest("web1"), guest("web2"))
        assert set(inventory.hosts) == {"web2"}
        assert "left out" in warning

    def test_a_group_with_the_name_of_another_guest_gets_none_of_its_variables(self) -> None:
        constructed = {
            "compose": {"composed": trusted("qga_name")},
            "groups": {"chosen": trusted("true")},
            "keyed_groups": [{"key": trusted("qga_os.id"), "separator": ""}],
        }
        inventory = InventoryData()
        guests = [guest("aaa", "web1"), guest("os_web1"), guest("web1"), guest("zzz", "web1")]
        fill(inventory, *guests, **constructed, group_prefix="", connection="qga")
        for name in ("web1", "os_web1"):
            assert inventory.groups[name].vars == {}
            assert inventory.hosts[name].vars["composed"] == inventory.hosts[name].vars["qga_name"] == name
        assert set(members(inventory, "chosen")) == {"aaa", "os_web1", "web1", "zzz"}
        assert inventory.groups["chosen"].child_groups == []


UUID = uuid_of("web1")
REACHED = {"ansible_qga_domain": UUID, "ansible_qga_uri": URI}
KNOWN = {
    "qga_uri": URI,
    "qga_hypervisor": "localhost",
    "qga_local_uri": URI,
    "qga_uuid": UUID,
    "qga_name": "web1",
    "qga_state": "running",
    "qga_agent_status": "ok",
    **REACHED,
}
NETWORK = [
    {"name": "eth0", "ip_addresses": [{"ip_address": "10.0.0.5"}, {"ip_address": "fd00::5"}]},
    {"name": "br-ex", "hardware_address": "52:54:00:aa:bb:cc", "ip_addresses": [{"ip_address": "10.0.0.6"}]},
]
ERROR = {"code": "timeout", "message": "it did not answer", "hint": "look at it"}


class TestVariables:
    @staticmethod
    def of(facts: dict[str, Any], connection: str = "ssh", prefix: str = "qga_", **changes: Any) -> dict[str, Any]:
        guest = ListedGuest(**{**vars(ListedGuest(URI, "web1", UUID, "running", "ok", facts)), **changes})
        return variables_of(guest, settings_of({**DEFAULTS, "prefix": prefix, "connection": connection}.__getitem__))

    @pytest.mark.parametrize(
        ("facts", "made"),
        [
            (
                {"hostname": "web1.example", "os": {"id": "debian"}, "errors": {}},
                {"qga_hostname": "web1.example", "qga_os": {"id": "debian"}, "qga_errors": {}},
            ),
            # A guest cannot override what the inventory knows.
            (dict.fromkeys(("uuid", "state", "uri", "agent_status", "name", "hypervisor", "local_uri"), "x"), {}),
        ],
    )
    def test_facts_become_variables_with_the_prefix(self, facts: dict[str, Any], made: dict[str, Any]) -> None:
        assert self.of(facts) == {**KNOWN, **made}
        renamed = {name.replace("qga_", "vm_") if name.startswith("qga_") else name for name in (*KNOWN, *made)}
        assert set(self.of(facts, prefix="vm_")) == renamed

    @pytest.mark.parametrize(
        ("connection", "made"),
        [
            ("ssh", {"ansible_host": "10.0.0.5"}),
            ("qga", {"ansible_connection": "qemu.guest_agent.qga"}),
            ("none", {}),
        ],
    )
    def test_the_connection_option_sets_the_connection_variables(self, connection: str, made: dict[str, str]) -> None:
        found = self.of({"network": NETWORK}, connection)
        assert {name: value for name, value in found.items() if name.startswith("ansible_")} == {**made, **REACHED}
        assert found["qga_address"] == "10.0.0.5"

    @pytest.mark.parametrize(
        ("hypervisors", "name"),
        [({}, "hv1.example.com"), ({"qemu+ssh://root@hv1.example.com:22/system": "hv-a"}, "hv-a")],
    )
    def test_a_task_can_be_delegated_to_the_hypervisor(self, hypervisors: dict[str, str], name: str) -> None:
        uri = "qemu+ssh://root@hv1.example.com:22/system"
        guest = ListedGuest(uri, "web1", UUID, "running", "ok", {})
        options = {**DEFAULTS, "uris": [uri, URI], "hypervisors": hypervisors}
        made = variables_of(guest, settings_of(options.__getitem__))
        assert (made["qga_hypervisor"], made["qga_local_uri"]) == (name, URI)
        assert made["qga_uri"] == made["ansible_qga_uri"] == uri

    def test_an_address_of_a_device_of_the_domain_is_preferred(self) -> None:
        found = self.of({"network": NETWORK}, macs=("52:54:00:aa:bb:cc",))
        assert found["qga_address"] == found["ansible_host"] == "10.0.0.6"

    @pytest.mark.parametrize("network", [[], [{"name": "lo", "ip_addresses": [{"ip_address": "127.0.0.1"}]}]])
    def test_without_an_address_there_is_no_ansible_host(self, network: list[Any]) -> None:
        assert self.of({"network": network}) == {**KNOWN, "qga_network": network}

    def test_a_guest_without_facts_has_an_error(self) -> None:
        found = self.of({}, status="failed", error=ERROR)
        assert found == {**KNOWN, "qga_agent_status": "failed", "qga_error": ERROR}


def passes(*filters: tuple[str, str | bool], is_strict: bool = False) -> bool:
    variables = {"inventory_hostname": "web1", "os": untrusted({"id": "debian", "name": "{{ nosuch }}"})}
    made = [
        Filter(kind == "include", trusted(condition) if isinstance(condition, str) else condition)
        for kind, condition in filters
    ]
    return passes_filters(made, variables, plugin_for(InventoryData())._compose, is_strict)


DEBIAN, WINDOWS, FAILING = "os.id == 'debian'", "os.id == 'mswindows'", "nosuch.id == 'x'"


class TestFilters:
    @pytest.mark.parametrize(
        ("filters", "is_included"),
        [
            ((), True),
            ((("include", DEBIAN),), True),
            ((("exclude", DEBIAN),), False),
            ((("include", WINDOWS),), True),
            ((("include", WINDOWS), ("exclude", True)), False),
            ((("include", DEBIAN), ("exclude", True)), True),
            ((("exclude", False), ("include", True), ("exclude", True)), True),
            ((("exclude", "inventory_hostname == 'web1'"),), False),
            ((("exclude", FAILING), ("include", True)), True),
            ((("include", FAILING), ("exclude", True)), False),
        ],
    )
    def test_the_first_true_filter_decides(
        self, filters: tuple[tuple[str, str | bool], ...], is_included: bool
    ) -> None:
        assert passes(*filters) is is_included

    def test_a_filter_that_fails_is_an_error_with_strict(self) -> None:
        with pytest.raises(InvalidOptionError, match=r"fails for 'web1': .*nosuch"):
            passes(("include", FAILING), is_strict=True)

    def test_a_guests_text_is_never_templated(self) -> None:
        assert passes(("include", "os.name == '{' ~ '{ nosuch }' ~ '}'"), ("exclude", True), is_strict=True)
