# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: libvirt_guests
short_description: Guests of libvirt hypervisors, with what their guest agents tell
version_added: 1.0.0
description:
  - Makes a host of each domain of one or many hypervisors, with facts that its guest agent tells as host variables, and
    with groups by operating system, agent and state.
  - Its configuration is a YAML file whose name ends in C(libvirt_guests.yml) or C(libvirt_guests.yaml).
  - Guests are asked side by side. One that keeps silent is marked, and all silent ones together cost one O(timeout).
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description:
      - The name of this plugin, which says that the file is meant for it.
    type: str
    required: true
    choices: [qemu.guest_agent.libvirt_guests]
  uris:
    description:
      - The libvirt connections whose domains are taken, asked side by side.
      - One that cannot be reached is a warning, and costs the others nothing. If none can be reached, that is an error.
    type: list
    elements: str
    default: ["qemu:///system"]
  strict_hypervisors:
    description:
      - Whether it is an error if any of O(uris) cannot be reached.
    type: bool
    default: false
  domains:
    description:
      - Which domains to take. Each entry is a name, a UUID, or a shell pattern that names are held against; V(*) stands
        for all of them.
      - An entry with a leading C(!) leaves out what it names or matches; if there are only such, all others are taken.
      - An entry that fits no domain at any of O(uris) is a warning.
      - A guest that is named itself and cannot be asked has failed. One that a pattern matches is skipped if it does
        not run, has no channel for an agent, or no agent that runs.
    type: list
    elements: str
    default: ["*"]
  exclude:
    description:
      - What is left out however it is named. The entries are those of O(domains), without the C(!).
    type: list
    elements: str
    default: []
  states:
    description:
      - The states in which a domain is taken, by libvirt's names for them.
    type: list
    elements: str
    choices: [nostate, running, blocked, paused, shutdown, shutoff, crashed, pmsuspended]
    default: [nostate, running, blocked, paused, shutdown, shutoff, crashed, pmsuspended]
  gather_subset:
    description:
      - Which facts to gather, by the names that M(qemu.guest_agent.qga_info) has for them.
      - Without V(network) no address is known. With V(!all) no guest is asked for anything.
    type: list
    elements: str
    default: [min, network]
  timeout:
    description:
      - Seconds that one exchange with an agent may take, and that a hypervisor may take to list its domains.
      - All guests that keep silent, or take longer than a second for an answer, have this time together, and a quarter
        of a second more for each 100 guests.
    type: float
    default: 5
  concurrency:
    description:
      - How many guests are asked at the same time. Those that keep silent do not count. No more than 15 calls are under
        way at one hypervisor, whatever is given here, and four more while slow guests hold those up; its daemon works
        on 20 for all of its clients.
    type: int
    default: 20
  strict_agents:
    description:
      - Whether it is an error if a guest has failed. Guests that were skipped have not.
    type: bool
    default: false
  prefix:
    description:
      - What the names of host variables begin with, those that make a connection excepted.
    type: str
    default: qga_
  hostnames:
    description:
      - What hosts are called. In V(name@host), the host is that of the URI, or C(localhost).
      - Two guests never become one host. Guests that would have the same name are called C(name@URI) instead, with a
        warning. A guest that would share that name as well is left out with a warning.
      - A guest whose name is that of a group, or stands for this machine as V(localhost) does, is called so as well.
      - If of several domains with one UUID one runs, and the others do not, these are definitions that stayed behind
        when the guest was moved. They are left out with a warning.
    type: str
    choices: [name, uuid, name@host]
    default: name
  connection:
    description:
      - How hosts are reached.
      - V(ssh) sets C(ansible_host) to the guest's address, if one is known and allowed. A host without it is reached by
        its name.
      - V(qga) sets C(ansible_connection) to the connection plugin P(qemu.guest_agent.qga#connection), which reaches
        guests through their agents and needs no network.
      - V(none) sets neither.
      - C(ansible_qga_domain) and C(ansible_qga_uri) are set in any case. They have no effect on other connections, and
        let C(ansible -c qemu.guest_agent.qga) reach a guest whose network does not work.
    type: str
    choices: [ssh, qga, none]
    default: ssh
  address_family:
    description:
      - The families that an address may be of, in order of preference. V(any) is both without preference.
    type: list
    elements: str
    choices: [ipv4, ipv6, any]
    default: [ipv4, ipv6]
  address_networks:
    description:
      - The networks that an address may be in, in order of preference, such as V(192.0.2.0/24).
      - Those with a leading C(!) are refused. If there are only such, all others are allowed.
      - A guest may report any address, and any MAC address. Name the networks of your guests here, and none can send
        you elsewhere.
    type: list
    elements: str
    default: []
  address_interfaces:
    description:
      - Shell patterns for the interfaces that an address may be of, in order of preference; C(!) as in
        O(address_networks).
      - By default those of containers and of guests in the guest are refused, unless they have the MAC address of one
        of the domain's own network devices, as the external switch of Hyper-V has.
      - Patterns of your own take the place of all of these. What they refuse is refused whatever its MAC address.
      - Of what they allow alike, interfaces with the MAC address of one of the domain's own devices are preferred.
    type: list
    elements: str
    default: ["!docker*", "!br-[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]\
              [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]",
              "!veth*", "!podman*", "!nerdctl*", "!virbr*", "!vnet*", "!lxc*", "!lxdbr*", "!incusbr*", "!mpqemubr*",
              "!vmnet*", "!VMware Network Adapter*", "!vboxnet*", "!VirtualBox Host-Only*", "!vEthernet*", "!kube-*",
              "!nodelocaldns*", "!cbr0", "!cni*", "!flannel*", "!cali*", "!*.cali*", "!vxlan-v6.calico", "!tunl0",
              "!cilium*", "!weave*", "!antrea-*", "!ovn*", "!genev_sys_*", "!vxlan_sys_*"]
  group_by:
    description:
      - The kinds of groups to make. An empty list makes none.
      - V(os) is the system's ID, V(os_version) that and its version, V(agent) is the agent's kind, V(status) its
        status, V(state) is the domain's state, and V(uri) its hypervisor.
      - The agent of a system without C(/etc/os-release) returns no ID. The ID is then derived from the system's name,
        or from what its kernel reports. V(freebsd) is an example.
    type: list
    elements: str
    choices: [os, os_version, agent, status, state, uri]
    default: [os, os_version, agent, status, state, uri]
  group_prefix:
    description:
      - What the names of these groups begin with. The kind and the value follow, as in C(qga_os_debian).
    type: str
    default: qga_
  filters:
    description:
      - Which guests to take, by conditions on their variables. The first one that is true decides; without any, a guest
        is taken.
      - A condition that fails is not true, unless O(strict) makes it an error. So does one on facts of a guest that has
        told none.
    type: list
    elements: dict
    suboptions:
      include:
        description:
          - A condition, or V(true). Guests that meet it are taken.
        type: raw
      exclude:
        description:
          - A condition, or V(true). Guests that meet it are left out.
        type: raw
    default: []
requirements:
  - libvirt-python on the machine where Ansible runs
notes:
  - C(ansible_host), and the variable C(address) behind O(prefix), is chosen from what the guest tells of its network.
    Loopback, link-local, multicast, reserved and unspecified addresses are never taken.
    Of those that are allowed, the order of O(address_networks) counts most, then that of O(address_interfaces), then
    whether the interface has the MAC address of one of the domain's network devices, then the order of
    O(address_family), then that of the devices in the domain's definition, then the guest's own order of interfaces and
    addresses.
  - Beside the facts of M(qemu.guest_agent.qga_info), hosts have the variables C(name), C(uuid), C(uri),
    C(state), C(agent_status), which is V(ok), V(skipped) or V(failed), and, unless it is V(ok), C(error) with C(code),
    C(message) and C(hint), all behind O(prefix).
  - What guests tell is never taken for a template, whether it was just told or comes from the cache.
  - Only what was asked is cached, and only if every hypervisor was reached; the rest is made anew from it.
seealso:
  - module: qemu.guest_agent.qga_info
  - plugin: qemu.guest_agent.qga
    plugin_type: connection
    description: Reaches these guests without a network.
  - plugin: ansible.builtin.constructed
    plugin_type: inventory
    description: What O(compose), O(groups) and O(keyed_groups) can do.
  - ref: ansible_collections.qemu.guest_agent.docsite.inventory
    description: Inventories of fleets, and what is to be thought of with them.
"""

EXAMPLES = r"""
# All guests of this machine, reached by SSH at the addresses that they tell
plugin: qemu.guest_agent.libvirt_guests

---
# Running guests of two hypervisors but databases, reached without a network
plugin: qemu.guest_agent.libvirt_guests
uris:
  - qemu+ssh://root@hv1/system
  - qemu+ssh://root@hv2/system
hostnames: name@host
domains: ["*", "!db*"]
states: [running]
connection: qga

---
# Addresses of one network alone, Debian alone, groups by the first label of the name, and a cache of ten minutes
plugin: qemu.guest_agent.libvirt_guests
address_networks: [10.20.0.0/16]
address_interfaces: ["en*", "eth*"]
filters:
  - include: qga_os.id == 'debian'
  - exclude: true
compose:
  kernel: qga_os.kernel_release
keyed_groups:
  - key: qga_name.split('-')[0]
    prefix: role
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /var/cache/ansible/guests
cache_timeout: 600
"""

from typing import Any, Sequence

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import sentence
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.groups import groups_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.hosts import Host, hosts_of
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import (
    Listing,
    failure_of,
    list_guests,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.options import (
    Settings,
    require_known,
    settings_of,
)

_LONGEST_WARNING = 1000


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]  # Ansible has no types
    NAME = "qemu.guest_agent.libvirt_guests"

    def verify_file(self, path: str) -> bool:
        is_readable: bool = super().verify_file(path)
        return is_readable and path.endswith(("libvirt_guests.yml", "libvirt_guests.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        given = self._read_config_data(path)
        try:
            require_known(given, self._options)
            settings = settings_of(self.get_option)
            found = self._listing(settings, path, cache)
            problem = failure_of(found.guests)
            if problem is not None and settings.is_strict_on_agents:
                raise problem
            is_strict = self.get_option("strict")
            hosts, warnings = hosts_of(found.guests, settings, inventory.groups, self._compose, is_strict)
        except QgaError as error:
            # ansible-core 2.19 would say it twice, the second time without the hint.
            raise AnsibleParserError(sentence(error)) from None
        for warning in (*found.warnings, *([] if problem is None else [f"{problem.message}."]), *warnings):
            self.display.warning(visible(warning[:1].upper() + warning[1:], _LONGEST_WARNING))
        self._populate(hosts, settings, is_strict)

    def _listing(self, settings: Settings, path: str, may_read: bool) -> Listing:
        if not self.get_option("cache"):
            return list_guests(settings.query)
        key = f"{self.get_cache_key(path)}_{settings.query.digest()}"
        kept = Listing.of_dict(self._cache.get(key)) if may_read else None
        if kept is not None:
            return kept
        found = list_guests(settings.query)
        if found.is_complete:
            self._cache[key] = found.as_dict()
        return found

    def _populate(self, hosts: Sequence[Host], settings: Settings, is_strict: bool) -> None:
        """Add the hosts and their groups.

        A guest may return what makes a group of the name of another guest, and Ansible looks for groups first wherever
        it is given a name. So all is done by steps, and groups that guests can name come last.
        """
        for host in hosts:
            self.inventory.add_host(host.name)
            for name, value in host.variables.items():
                self.inventory.set_variable(host.name, name, value)
        compose, groups, keys = (self.get_option(name) for name in ("compose", "groups", "keyed_groups"))
        for host in hosts:
            self._set_composite_vars(compose, host.variables, host.name, strict=is_strict)
        for host in hosts:
            self._add_host_to_composed_groups(groups, host.variables, host.name, strict=is_strict)
        for host in hosts:
            for name in groups_of(host.guest, settings.group_by, settings.group_prefix):
                self.inventory.add_host(host.name, group=self.inventory.add_group(self._sanitize_group_name(name)))
            self._add_host_to_keyed_groups(keys, host.variables, host.name, strict=is_strict)
