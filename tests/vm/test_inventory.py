"""A real guest in an inventory, through a real libvirt, on every supported ansible-core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libvirt

from tests.processes.ansible_run import every_core, run_tasks
from tests.processes.inventory_run import InventoryRun, configured, run_inventory
from tests.support.until import until
from tests.vm.guest import Guest

ADDRESS, OF_PODS = "10.98.76.5", "10.128.0.2"
MAC = "52:54:00:98:76:05"
# Seconds; an emulated guest on a busy machine.
PATIENT_S = 20


def inventory(directory: Path, guest: Guest, core: str = "2.19", **options: Any) -> InventoryRun:
    # With the environment's real libvirt-python.
    source = configured(directory, **{"uris": [guest.uri], "domains": [guest.name], "timeout": PATIENT_S, **options})
    run = run_inventory(source, directory / "nothing", core=core)
    assert run.status == 0, run.said
    return run


@every_core
def test_a_guests_variables_are_the_facts_of_qga_info(core: str, guest: Guest, tmp_path: Path) -> None:
    run = inventory(tmp_path, guest, core)
    variables = run.hosts[guest.name]
    options = {"domain": guest.name, "gather_subset": ["min", "network"]}
    info = run_tasks([{"name": "ask", "qemu.guest_agent.qga_info": options}]).result("ask")["guest"]
    for subset in ("agent", "hostname", "os", "timezone"):
        assert variables[f"qga_{subset}"] == info[subset]
    assert [each["name"] for each in variables["qga_network"]] == [each["name"] for each in info["network"]]
    assert variables["qga_agent_status"] == "ok"
    assert "ansible_host" not in variables
    assert run.group("qga_os_debian") == run.group("qga_state_running") == run.group("qga_agent_stock") == {guest.name}


def test_the_address_is_that_of_the_hypervisors_network_device(
    connection: libvirt.virConnect, guest: Guest, tmp_path: Path
) -> None:
    """The guest has its own earlier interface, and a bridge that took over the device's MAC address."""
    domain = connection.lookupByName(guest.name)
    device = f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/></interface>"
    guest.sh(f"ip link add pods0 type bridge; ip address add {OF_PODS}/24 dev pods0; ip link set pods0 up")
    domain.attachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    try:
        appeared = f"grep -l {MAC} /sys/class/net/*/address | cut -d/ -f5"
        until(lambda: guest.sh(appeared).strip(), "the guest does not have the device", 60.0)
        guest.sh(f"ip link add br-ex address {MAC} type bridge; ip address add {ADDRESS}/24 dev br-ex")
        guest.sh(f"ip link set $({appeared} | grep -v br-ex) up master br-ex; ip link set br-ex up")
        for options, address in (
            ({}, ADDRESS),
            ({"address_interfaces": ["!br-ex"]}, OF_PODS),
            ({"address_networks": ["192.0.2.0/24"]}, None),
        ):
            assert inventory(tmp_path, guest, **options).hosts[guest.name].get("ansible_host") == address
    finally:
        guest.sh("ip link del br-ex; ip link del pods0")
        domain.detachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_LIVE)
