# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: libvirt_guests
short_description: Guests of libvirt hypervisors, with facts from their guest agents
version_added: 1.0.0
description:
  - Adds each domain of one or more hypervisors as a host, with facts from its guest agent as host variables, and with
    groups by operating system, agent and state.
  - Its configuration is a YAML file whose name ends in C(libvirt_guests.yml) or C(libvirt_guests.yaml).
  - All guests are queried at the same time. Unresponsive guests are marked, and all of them together cost one
    O(timeout).
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description:
      - The name of this plugin, which marks the file as its configuration.
    type: str
    required: true
    choices: [qemu.guest_agent.libvirt_guests]
  uris:
    description:
      - The libvirt connection URIs of the hypervisors. All are queried at the same time.
      - If a hypervisor cannot be reached, there is a warning, and the others are not delayed. If none can be reached,
        that is an error.
    type: list
    elements: str
    default: ["qemu:///system"]
  hypervisors:
    description:
      - Inventory hostnames of the hypervisors, by URI from O(uris). They are the values of the host variable
        C(hypervisor).
      - By default, this is the host of the URI, or C(localhost) for a URI without a host.
    type: dict
    default: {}
  strict_hypervisors:
    description:
      - Whether it is an error if any of O(uris) cannot be reached.
    type: bool
    default: false
  domains:
    description:
      - The domains to include. Each entry is a name, a UUID, or a shell pattern for names; V(*) matches all domains.
      - An entry with a leading C(!) leaves out the domains that it matches. If all entries begin with C(!), all other
        domains are included.
      - If an entry matches no domain at any of O(uris), there is a warning.
      - A guest that is listed by name or UUID and cannot be queried has failed. A guest that matches a pattern is
        skipped if it does not run, has no channel for an agent, or its agent does not run.
    type: list
    elements: str
    default: ["*"]
  exclude:
    description:
      - The domains to leave out, even if they match O(domains). The entries are as in O(domains), without the C(!).
    type: list
    elements: str
    default: []
  states:
    description:
      - Include only domains in these states, by libvirt's names for them.
    type: list
    elements: str
    choices: [nostate, running, blocked, paused, shutdown, shutoff, crashed, pmsuspended]
    default: [nostate, running, blocked, paused, shutdown, shutoff, crashed, pmsuspended]
  gather_subset:
    description:
      - The subsets of facts to gather, as in M(qemu.guest_agent.qga_info).
      - Without V(network), no address is known. With V(!all), no guest is queried.
    type: list
    elements: str
    default: [min, network]
  timeout:
    description:
      - Timeout in seconds for one exchange with an agent, and for a hypervisor to list its domains.
      - All guests that do not reply within a second share this time, plus a quarter of a second for each 100 guests.
    type: float
    default: 5
  concurrency:
    description:
      - Maximum number of guests to query at the same time. Unresponsive guests do not count.
      - One hypervisor gets at most 15 calls at a time, and four more while slow guests block these. Its daemon handles
        20 calls at a time for all clients.
    type: int
    default: 20
  strict_agents:
    description:
      - Whether it is an error if a guest has failed. Skipped guests do not count as failed.
    type: bool
    default: false
  prefix:
    description:
      - Prefix for the names of host variables, except for connection variables.
    type: str
    default: qga_
  hostnames:
    description:
      - The form of hostnames. In V(name@host), the host is the URI's host, or C(localhost).
      - Two guests never become one host. Guests with the same name are named C(name@URI) instead, with a warning. If
        this name is not unique either, the guest is left out with a warning.
      - A guest is also named C(name@URI) if its name is the name of a group, or means this machine, as V(localhost)
        does.
      - If several domains have the same UUID and only one runs, the others are definitions that a migration left on the
        old hypervisor. They are left out with a warning.
    type: str
    choices: [name, uuid, name@host]
    default: name
  connection:
    description:
      - The way to connect to hosts.
      - V(ssh) sets C(ansible_host) to the guest's address, if one is known and allowed. Otherwise Ansible connects to
        the hostname.
      - V(qga) sets C(ansible_connection) to the connection plugin P(qemu.guest_agent.qga#connection), which uses the
        guest agent and needs no network.
      - V(none) sets neither.
      - C(ansible_qga_domain) and C(ansible_qga_uri) are always set. Other connections ignore them. With them,
        C(ansible -c qemu.guest_agent.qga) can reach a guest whose network does not work.
    type: str
    choices: [ssh, qga, none]
    default: ssh
  address_family:
    description:
      - The allowed address families, in order of preference. V(any) allows both without preference.
    type: list
    elements: str
    choices: [ipv4, ipv6, any]
    default: [ipv4, ipv6]
  address_networks:
    description:
      - The allowed networks for an address, in order of preference, such as V(192.0.2.0/24).
      - Networks with a leading C(!) are refused. If all entries begin with C(!), all other networks are allowed.
      - A guest can report any address and any MAC address. List the networks of your guests here, so that no guest can
        redirect connections to another network.
    type: list
    elements: str
    default: []
  address_interfaces:
    description:
      - Shell patterns for the allowed interfaces of an address, in order of preference; C(!) works as in
        O(address_networks).
      - By default, interfaces of containers and nested guests are refused, unless they have the MAC address of one of
        the domain's own network devices, as the external switch of Hyper-V does.
      - Your own patterns replace all of these. They refuse interfaces regardless of the MAC address.
      - If patterns give two interfaces the same preference, one with the MAC address of a device of the domain comes
        first.
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
      - The kinds of groups to create. An empty list creates none.
      - V(os) is the system's ID, V(os_version) the ID and the version, V(agent) the agent's kind, V(status) the agent's
        status, V(state) the domain's state, and V(uri) its hypervisor.
      - The agent of a system without C(/etc/os-release) returns no ID. The ID is then derived from the name of the
        system or its kernel. V(freebsd) is an example.
      - An unknown value makes no group, such as the version C(N/A) that an agent reports for a version of Windows that
        it does not know.
    type: list
    elements: str
    choices: [os, os_version, agent, status, state, uri]
    default: [os, os_version, agent, status, state, uri]
  group_prefix:
    description:
      - Prefix for the names of these groups. The kind and the value follow, as in C(qga_os_debian).
    type: str
    default: qga_
  filters:
    description:
      - Conditions on the variables of guests, to include or to leave out guests. The first condition that is true
        decides. If none is true, the guest is included.
      - A condition that fails, such as one on facts of a guest without facts, is not true. With O(strict), it is an
        error.
    type: list
    elements: dict
    suboptions:
      include:
        description:
          - A condition, or V(true). Guests that meet it are included.
        type: raw
      exclude:
        description:
          - A condition, or V(true). Guests that meet it are left out.
        type: raw
    default: []
requirements:
  - ansible-core 2.16 or newer and Python 3.10 or newer where Ansible runs
  - libvirt-python for that Python
notes:
  - C(ansible_host) and the variable C(address) are chosen from the network facts of the guest. Loopback, link-local,
    multicast, reserved and unspecified addresses are never chosen. Allowed addresses are compared by the order of
    O(address_networks), then by the order of O(address_interfaces), then by whether the interface has the MAC address
    of one of the domain's network devices, then by the order of O(address_family), then by the order of the devices in
    the domain's definition, then by the guest's own order of interfaces and addresses.
  - Besides the facts of M(qemu.guest_agent.qga_info), hosts have the variables C(name), C(uuid), C(uri),
    C(hypervisor), C(local_uri), C(state), C(agent_status), which is V(ok), V(skipped) or V(failed), and, unless it is
    V(ok), C(error) with C(code), C(message) and C(hint). All these names begin with O(prefix).
  - C(hypervisor) is the host to delegate tasks to that use modules of this collection on the guest. C(local_uri) is the
    libvirt URI for O(qemu.guest_agent.qga_info#module:uri) on that host.
  - Text from guests is never treated as a template, neither directly nor from the cache.
  - The cache keeps the replies of hypervisors and guests, and only if every hypervisor was reached. Hosts, groups and
    variables are created from it each time.
seealso:
  - module: qemu.guest_agent.qga_info
  - plugin: qemu.guest_agent.qga
    plugin_type: connection
    description: Connects to these guests without a network.
  - plugin: ansible.builtin.constructed
    plugin_type: inventory
    description: Describes O(compose), O(groups) and O(keyed_groups).
  - name: Facts and inventories
    link: https://github.com/qemu-guest-agent/qemu.guest_agent/blob/main/docs/docsite/rst/inventory.rst
    description: A guide to facts and inventories of guests.
"""

# Without the first line, the sanity tests of ansible-core 2.16 expect a single document.
EXAMPLES = r"""
# fmt: code

# All guests of this machine, with SSH to the addresses that they report
plugin: qemu.guest_agent.libvirt_guests

---
# Running guests of two hypervisors, except databases, without a network
plugin: qemu.guest_agent.libvirt_guests
uris:
  - qemu+ssh://root@hv1/system
  - qemu+ssh://root@hv2/system
hostnames: name@host
domains: ["*", "!db*"]
states: [running]
connection: qga

---
# Only addresses of one network, only Debian, groups by the first part of the name, and a cache for ten minutes
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
            # With a cause, ansible-core 2.19 would print the message twice, the second time without the hint.
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

        A guest's facts can create a group with the name of another guest, and Ansible looks up groups before hosts. So
        hosts and variables come first, and groups that guests can name come last.
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
