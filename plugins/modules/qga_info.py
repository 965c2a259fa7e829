#!/usr/bin/python
# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qga_info
short_description: Gather facts about QEMU guests through their guest agents
version_added: 1.0.0
description:
  - Gathers facts about a guest and its agent, or about all guests of a hypervisor at once.
  - Facts that the agent lacks or refuses are listed in RV(guest.errors); all others are returned.
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
extends_documentation_fragment:
  - qemu.guest_agent.target
  - qemu.guest_agent.target.attributes
options:
  gather_subset:
    description:
      - The facts to gather. A name with a leading C(!) excludes that subset. If there are only such names, they are
        excluded from V(all).
      - "V(min) is V(agent), V(hostname), V(os) and V(timezone)."
      - "The others are V(commands), V(time), V(network), V(routes), V(filesystems), V(users), V(vcpus), V(memory),
        V(disks), V(load), V(cpu_stats), V(disk_stats) and V(freeze)."
    type: list
    elements: str
    default: [all]
  command:
    description:
      - Name of an agent command. Return its details instead of facts.
    type: str
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
notes:
  - A guest is not trusted. A fact has the type that QEMU's schema gives it; any other reply is a V(protocol_error).
  - Text is cut after 4096 characters. Invisible characters, such as escape sequences and bidirectional marks,
    are replaced by escapes.
  - One reply may have up to 2 MiB, and so may all facts of one guest together.
seealso:
  - module: qemu.guest_agent.qga_update_time
  - plugin: qemu.guest_agent.libvirt_guests
    plugin_type: inventory
    description: Makes an inventory of guests, with the same facts as host variables.
  - plugin: qemu.guest_agent.guest_facts_json
    plugin_type: filter
    description: Converts the facts of many guests to JSON for a file.
  - name: QEMU Guest Agent Protocol Reference
    link: https://www.qemu.org/docs/master/interop/qemu-ga-ref.html
    description: The agent's commands, and the members of their replies.
"""

EXAMPLES = r"""
- name: Gather all facts of a guest
  qemu.guest_agent.qga_info:
    domain: web1
  register: web1

- name: Gather its operating system and the offset of its clock
  qemu.guest_agent.qga_info:
    domain: web1
    gather_subset: [min, time]

- name: Gather the operating systems of all guests of this hypervisor
  qemu.guest_agent.qga_info:
    domains: ["*"]
    gather_subset: [min]
    fail_on: none
  register: fleet

- name: List the guests without contacting their agents
  qemu.guest_agent.qga_info:
    domains: ["*"]
    gather_subset: ["!all"]
  register: listed

- name: Look up whether a command is allowed
  qemu.guest_agent.qga_info:
    domain: web1
    command: guest-exec
  register: exec_details
"""

RETURN = r"""
msg:
  description:
    - With O(domains) or O(sockets), the number of guests by status.
    - If the task failed, the error with its code and hint.
  returned: with O(domains), with O(sockets), and on failure
  type: str
  sample: "12 guests: 11 gathered, 1 skipped"
host_clock:
  description: The clock that guests are compared with, which is that of the machine where the module runs.
  returned: always
  type: dict
  contains:
    synchronized:
      description: Whether the kernel reports the clock as synchronized; V(null) if the kernel does not report this.
      type: bool
      sample: true
    max_error:
      description: The maximum error that the kernel reports, in seconds; V(null) if it does not report one.
      type: float
      sample: 0.0115
    max_error_ns:
      description: RV(host_clock.max_error) in nanoseconds; V(null) if the kernel does not report one.
      type: int
      sample: 11500000
    source:
      description:
        - The time service that runs on the machine, V(chronyd), V(ntpd), V(phc2sys) or V(systemd-timesyncd).
        - V(null) if it is another one, or none.
      type: str
      sample: chronyd
guest:
  description: The facts of the guest.
  returned: with O(domain), O(socket), O(address) or O(vsock)
  type: dict
  contains: &guest
    name:
      description: The name of the domain; without libvirt, the socket or address of the guest.
      type: str
      returned: always
      sample: web1
    uuid:
      description: The domain's UUID.
      type: str
      returned: with O(domains), if the domain exists
      sample: 865f09bb-cb14-4026-9cb5-1dc38a71b8b9
    vm_name:
      description: The name of a virtual machine that was addressed by its socket.
      type: str
      returned: if the configuration of a Proxmox VE node has it
      sample: web1
    vm_name_from:
      description: The origin of RV(guest.vm_name), which is V(node).
      type: str
      returned: with RV(guest.vm_name)
      sample: node
    status:
      description: V(gathered), V(skipped) or V(failed).
      type: str
      returned: always
      sample: gathered
    reason:
      description: Why the guest was skipped, in the form of RV(guest.error).
      type: dict
      returned: if it was skipped
      sample: {"code": "not_running", "message": "domain 'web2' at qemu:///system is shut off",
               "hint": "Run `virsh start web2` first; an agent answers only while its guest runs."}
    agent:
      description: The agent.
      type: dict
      returned: subset V(agent)
      contains:
        version:
          description: The version of QEMU that the agent comes from.
          type: str
          sample: 10.0.13
        kind:
          description: V(stock) if it is QEMU's, V(extended) if it is this collection's in front of QEMU's.
          type: str
          sample: stock
        command_count:
          description: Number of its commands, disabled ones included.
          type: int
          sample: 43
    hostname:
      description: The guest's host name.
      type: str
      returned: subset V(hostname)
      sample: web1
    os:
      description: The guest's operating system. The agent leaves out members that it does not know.
      type: dict
      returned: subset V(os)
      contains:
        id:
          description: Identifier of the system, as in C(/etc/os-release), or V(mswindows).
          type: str
          sample: debian
        name:
          description: Its name.
          type: str
          sample: Debian GNU/Linux
        pretty_name:
          description: Its name and version.
          type: str
          sample: Debian GNU/Linux 13 (trixie)
        version:
          description: Its version, for people.
          type: str
          sample: 13 (trixie)
        version_id:
          description: Its version, for programs.
          type: str
          sample: "13"
        variant:
          description: Its variant, for people.
          type: str
          sample: Server Edition
        variant_id:
          description: Its variant, for programs.
          type: str
          sample: server
        kernel_release:
          description: The kernel's release.
          type: str
          sample: 6.1.0-50-cloud-amd64
        kernel_version:
          description: The kernel's version.
          type: str
          sample: '\x231 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-07-02)'
        machine:
          description: The machine's architecture.
          type: str
          sample: x86_64
    timezone:
      description: The guest's time zone.
      type: dict
      returned: subset V(timezone)
      contains:
        zone:
          description: Its name, if the agent knows it.
          type: str
          sample: UTC
        offset:
          description: Seconds east of UTC.
          type: int
          sample: 0
    commands:
      description: The agent's commands, sorted by name.
      type: list
      elements: dict
      returned: subset V(commands)
      contains:
        name:
          description: The command's name.
          type: str
          sample: guest-exec
        enabled:
          description: Whether the guest's administrator allows it.
          type: bool
          sample: true
        success_response:
          description: Whether the agent sends a reply on success.
          type: bool
          sample: true
    time:
      description: The guest's clock, compared with the clock of the machine where the module runs.
      type: dict
      returned: subset V(time)
      contains:
        guest_time:
          description: The time that the guest's clock showed, as ISO 8601 in UTC.
          type: str
          sample: "2026-11-24T18:06:08.564057107Z"
        guest_time_ns:
          description: RV(guest.time.guest_time) in nanoseconds since 1970.
          type: int
          sample: 1795543568564057107
        offset:
          description: Guest clock minus host clock, in seconds. Negative if the guest is behind.
          type: float
          sample: -0.98383409
        offset_ns:
          description: RV(guest.time.offset) in nanoseconds.
          type: int
          sample: -983834090
        uncertainty:
          description: The true offset was within this many seconds of RV(guest.time.offset).
          type: float
          sample: 0.000819247
        uncertainty_ns:
          description: RV(guest.time.uncertainty) in nanoseconds.
          type: int
          sample: 819247
        round_trip:
          description: The shortest round trip of the measurement, in seconds.
          type: float
          sample: 0.002606861
        round_trip_ns:
          description: RV(guest.time.round_trip) in nanoseconds.
          type: int
          sample: 2606861
        resolution:
          description: The resolution at which the guest's clock could be read, in seconds.
          type: float
          sample: 0.000001
        resolution_ns:
          description: RV(guest.time.resolution) in nanoseconds.
          type: int
          sample: 1000
        synchronized:
          description: Whether the guest's kernel reports its clock as synchronized.
          type: bool
          returned: by the extended agent
          sample: false
        max_error:
          description: The maximum error that the guest's kernel reports, in seconds.
          type: float
          returned: by the extended agent
          sample: 16.0
        max_error_ns:
          description: RV(guest.time.max_error) in nanoseconds.
          type: int
          returned: by the extended agent
          sample: 16000000000
        source:
          description: The time service that disciplines the guest's clock; V(null) if the agent does not report it.
          type: str
          returned: by the extended agent
          sample: ntp
        slewing:
          description:
            - Seconds that a slew still has to add to the guest's clock. Negative if it is slewed back.
            - V(null) if the agent does not slew clocks.
          type: float
          returned: by the extended agent
          sample: 0.0
        slewing_ns:
          description: RV(guest.time.slewing) in nanoseconds; V(null) if the agent does not slew clocks.
          type: int
          returned: by the extended agent
          sample: 0
        slewable:
          description:
            - Whether the clock can be slewed, because no time service disciplines it.
            - V(null) if the agent does not slew clocks.
          type: bool
          returned: by the extended agent
          sample: true
    network:
      description: The guest's network interfaces.
      type: list
      elements: dict
      returned: subset V(network)
      contains:
        name:
          description: The interface's name in the guest.
          type: str
          sample: lo
        hardware_address:
          description: Its MAC address.
          type: str
          sample: 00:00:00:00:00:00
        ip_addresses:
          description: Its addresses; an empty list without any.
          type: list
          elements: dict
          sample: [{"ip_address": "127.0.0.1", "ip_address_type": "ipv4", "prefix": 8},
                   {"ip_address": "::1", "ip_address_type": "ipv6", "prefix": 128}]
        statistics:
          description: Its traffic since the guest booted.
          type: dict
          sample: {"rx_bytes": 0, "rx_dropped": 0, "rx_errs": 0, "rx_packets": 0,
                   "tx_bytes": 0, "tx_dropped": 0, "tx_errs": 0, "tx_packets": 0}
    addresses:
      description:
        - The addresses at which the guest can be reached, the best first, by the default rule of the inventory plugin
          P(qemu.guest_agent.libvirt_guests#inventory).
        - Loopback, link-local and multicast addresses are left out, and so are interfaces of containers and of nested
          guests.
      type: list
      elements: str
      returned: subset V(network)
      sample: [192.0.2.17, "2001:db8::17"]
    address:
      description: The first of RV(guest.addresses); V(null) without any.
      type: str
      returned: subset V(network)
      sample: 192.0.2.17
    routes:
      description: The guest's routes; the stock agent has them since 9.1.
      type: list
      elements: dict
      returned: subset V(routes)
      sample: [{"desprefixlen": "0", "destination": "::", "flags": 2097664, "iface": "lo", "metric": -1,
                "nexthop": "::", "refcnt": 1, "source": "::", "srcprefixlen": "0", "use": 0, "version": 6}]
    filesystems:
      description: The guest's mounted file systems.
      type: list
      elements: dict
      returned: subset V(filesystems)
      contains:
        name:
          description: The device's name.
          type: str
          sample: vda
        mountpoint:
          description: Where it is mounted.
          type: str
          sample: /
        type:
          description: Its type.
          type: str
          sample: ext4
        used_bytes:
          description: Bytes in use.
          type: int
          sample: 307941376
        total_bytes:
          description: Total bytes for users.
          type: int
          sample: 2916290560
        total_bytes_privileged:
          description: Total bytes for root; the stock agent has it since 9.1.
          type: int
          sample: 3094126592
        disk:
          description: The disks that contain it.
          type: list
          elements: dict
          sample: [{"bus": 0, "bus_type": "virtio", "dev": "/dev/vda", "target": 0, "unit": 0,
                    "pci_controller": {"bus": 0, "domain": 0, "function": 0, "slot": 3}}]
    users:
      description: The users that are logged in.
      type: list
      elements: dict
      returned: subset V(users)
      contains:
        user:
          description: The user's name.
          type: str
          sample: root
        domain:
          description: The logon domain, on Windows.
          type: str
          sample: EXAMPLE
        login_time:
          description: When the user logged in, in seconds since 1970.
          type: float
          sample: 1795543571.482126
        logged_in_at:
          description: RV(guest.users[].login_time) as ISO 8601 in UTC.
          type: str
          sample: "2026-11-24T18:06:11.482126000Z"
    vcpus:
      description: The guest's processors.
      type: list
      elements: dict
      returned: subset V(vcpus)
      contains:
        logical_id:
          description: The processor's number in the guest.
          type: int
          sample: 0
        online:
          description: Whether the guest uses it.
          type: bool
          sample: true
        can_offline:
          description: Whether the guest can take it offline.
          type: bool
          sample: false
    memory:
      description: The guest's memory blocks.
      type: dict
      returned: subset V(memory)
      contains:
        block_size:
          description: The size of one block in bytes.
          type: int
          sample: 134217728
        blocks:
          description: Number of blocks.
          type: int
          sample: 3
        online_blocks:
          description: Number of blocks that are online.
          type: int
          sample: 3
    disks:
      description: The guest's disks and partitions.
      type: list
      elements: dict
      returned: subset V(disks)
      sample: [{"address": {"bus": 0, "bus_type": "virtio", "dev": "/dev/vda", "target": 0, "unit": 0,
                            "pci_controller": {"bus": 0, "domain": 0, "function": 0, "slot": 3}},
                "dependencies": [], "name": "/dev/vda", "partition": false}]
    load:
      description: The guest's load averages; the stock agent has them since 10.0.
      type: dict
      returned: subset V(load)
      contains:
        load1m:
          description: Average over one minute.
          type: float
          sample: 3.48583984375
        load5m:
          description: Average over five minutes.
          type: float
          sample: 1.16748046875
        load15m:
          description: Average over fifteen minutes.
          type: float
          sample: 0.41455078125
    cpu_stats:
      description: The guest's processor time by kind, in milliseconds since it booted.
      type: list
      elements: dict
      returned: subset V(cpu_stats)
      sample: [{"cpu": 0, "guest": 0, "guestnice": 0, "idle": 9770, "iowait": 1180, "irq": 0, "nice": 0,
                "softirq": 1400, "steal": 0, "system": 22140, "type": "linux", "user": 20720}]
    disk_stats:
      description: The guest's disk statistics.
      type: list
      elements: dict
      returned: subset V(disk_stats)
      sample: [{"major": 254, "minor": 0, "name": "vda",
                "stats": {"discard_ios": 0, "discard_merges": 0, "discard_sectors": 0, "discard_ticks": 0,
                          "flush_ios": 30, "flush_ticks": 119, "ios_pgr": 0, "read_ios": 1071, "read_merges": 392,
                          "read_sectors": 94034, "read_ticks": 7471, "total_ticks": 7460, "weight_ticks": 10746,
                          "write_ios": 179, "write_merges": 203, "write_sectors": 101432, "write_ticks": 3155}}]
    freeze:
      description: Whether the guest's file systems are frozen, V(frozen) or V(thawed).
      type: str
      returned: subset V(freeze)
      sample: thawed
    command:
      description: The details of the command.
      type: dict
      returned: with O(command)
      contains:
        name:
          description: The command's name.
          type: str
          sample: guest-set-time
        present:
          description: Whether the agent has it.
          type: bool
          sample: true
        enabled:
          description: Whether the agent has it and the guest's administrator allows it.
          type: bool
          sample: true
        success_response:
          description: Whether the agent sends a reply on success.
          type: bool
          sample: true
        details_from:
          description: The source of the details, V(agent) or the V(catalog) of this collection.
          type: str
          sample: catalog
        since:
          description: The first version of QEMU that had it.
          type: str
          returned: if it is known
          sample: "1.5"
        description:
          description: What it does.
          type: str
          returned: if it is known
          sample: >-
            Sets the guest's clock, then its hardware clock; without a time, takes the time from the hardware clock.
        arguments:
          description: Its arguments, with QAPI's types.
          type: list
          elements: dict
          returned: if they are known
          sample: [{"name": "time", "optional": true, "type": "int"}]
        returns:
          description: What it returns, as QAPI's type, or V(none).
          type: str
          returned: if it is known
          sample: none
        origin:
          description: The agent that introduced it, V(stock) or V(extended).
          type: str
          returned: if it is known
          sample: stock
    errors:
      description: The error of each subset that could not be gathered, in the form of RV(guest.error).
      type: dict
      returned: if facts were gathered
      sample:
        load:
          code: command_not_found
          message: the agent has no command guest-get-load
          hint: This agent is too old, or built without that command; a newer qemu-guest-agent may have it.
    error:
      description: Why the guest failed.
      type: dict
      returned: if it failed
      contains:
        code:
          description: One of the documented codes, for conditions in playbooks.
          type: str
          sample: not_running
        message:
          description: What was wrong, and where.
          type: str
          sample: domain 'web2' at qemu:///system is shut off
        hint:
          description: What to do about it.
          type: str
          sample: Run `virsh start web2` first; an agent answers only while its guest runs.
guests:
  description: The facts of the guests, in the order in which they were named.
  returned: with O(domains) or O(sockets), if the guests could be listed
  type: list
  elements: dict
  contains: *guest
summary:
  description: Number of guests by status.
  returned: with O(domains) or O(sockets), if the guests could be listed
  type: dict
  contains:
    total:
      description: All guests.
      type: int
      sample: 2
    gathered:
      description: Guests that returned facts.
      type: int
      sample: 1
    skipped:
      description: Guests that were skipped.
      type: int
      sample: 1
    failed:
      description: Guests that failed.
      type: int
      sample: 0
    duration:
      description: How long the task took for all guests, in seconds.
      type: float
      sample: 0.613002553
    duration_ns:
      description: RV(summary.duration) in nanoseconds.
      type: int
      sample: 613002553
error:
  description: Why the task failed, if this is not the error of its only guest.
  returned: if an option is wrong, no guest can be listed, or O(fail_on) fails the task
  type: dict
  sample:
    code: guests_failed
    message: "1 of 2 guests failed: web2 (not_running)"
    hint: Each guest's entry in guests has its error and a hint; fail_on decides when that fails the task.
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.addresses import with_addresses
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.command_details import command_details
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import GATHERED, gathering
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult, Work
from ansible_collections.qemu.guest_agent.plugins.module_utils._module import TARGET_SPEC, run
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import FACTS_REPLIES

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **TARGET_SPEC,
    "gather_subset": {"type": "list", "elements": "str", "default": ["all"]},
    "command": {"type": "str"},
}


def prepare(params: Mapping[str, Any]) -> Work:
    command = params["command"]
    gather = with_addresses(gathering(params["gather_subset"]))

    async def describe_command(agent: GuestAgent) -> GuestResult:
        return GuestResult({"command": await command_details(agent, command)}, GATHERED)

    return gather if command is None else describe_command


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True), prepare, (GATHERED,), FACTS_REPLIES)


if __name__ == "__main__":
    main()
