#!/usr/bin/python
# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: qga_info
short_description: Tell what QEMU guests and their guest agents are
version_added: 0.1.0
description:
  - Gathers facts about a guest from its agent, and about the agent itself; or about all guests of a hypervisor at once.
  - What the agent lacks or refuses is told under C(errors), and does not cost the other facts.
author:
  - The qemu.guest_agent maintainers (@qemu-guest-agent)
extends_documentation_fragment:
  - qemu.guest_agent.target
  - qemu.guest_agent.target.attributes
options:
  gather_subset:
    description:
      - Which facts to gather. A name with a leading C(!) leaves that subset out; if there are only such names, the rest
        of V(all) is gathered.
      - "V(min) is V(agent), V(hostname), V(os) and V(timezone)."
      - "The others are V(commands), V(time), V(network), V(routes), V(filesystems), V(users), V(vcpus), V(memory),
        V(disks), V(load), V(cpu_stats), V(disk_stats) and V(freeze)."
    type: list
    elements: str
    default: [all]
  command:
    description:
      - Name of an agent command to tell the details of, in place of gathering facts.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
notes:
  - A guest is not trusted. What it says has the types that QEMU's schema gives it, or is a C(protocol_error). In text,
    what cannot be seen, such as escape sequences and bidirectional marks, is written as its escape, and more than 4096
    characters are cut.
  - One reply may have up to 2 MiB, and so may all facts of one guest together.
seealso:
  - module: qemu.guest_agent.qga_update_time
"""

EXAMPLES = r"""
- name: Learn all that the agent tells
  qemu.guest_agent.qga_info:
    domain: web1
  register: web1

- name: Learn which system it is, and how far its clock is off
  qemu.guest_agent.qga_info:
    domain: web1
    gather_subset: [min, time]

- name: Learn which systems all guests of this hypervisor are
  qemu.guest_agent.qga_info:
    domains: ["*"]
    gather_subset: [min]
    fail_on: none
  register: fleet

- name: List the guests without asking any of them
  qemu.guest_agent.qga_info:
    domains: ["*"]
    gather_subset: ["!all"]
  register: listed

- name: Ask whether a command is allowed
  qemu.guest_agent.qga_info:
    domain: web1
    command: guest-exec
  register: exec_details
"""

RETURN = r"""
guests:
  description: One entry for each guest that was addressed.
  returned: when a guest could be named
  type: list
  elements: dict
  contains: &guest
    name:
      description: The guest, as it was addressed; a domain of many by its name.
      type: str
      returned: always
      sample: web1
    uuid:
      description: The domain's UUID.
      type: str
      returned: when it was addressed by O(domains) and exists
      sample: 1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b
    status:
      description: What came of the guest in one word, V(gathered), V(skipped) or V(failed).
      type: str
      returned: always
      sample: gathered
    reason:
      description: Why the guest was skipped; the same as C(error) of one that failed.
      type: dict
      returned: when it was skipped
      sample: {"code": "not_running", "message": "domain web2 at qemu:///system is shut off",
               "hint": "Run `virsh start web2` first; an agent answers only while its guest runs."}
    agent:
      description: The agent's version, whether it is the stock agent or the extended one, and how many commands it has.
      type: dict
      returned: subset agent
      sample: {"command_count": 42, "kind": "stock", "version": "7.2.22"}
    hostname:
      description: The guest's host name.
      type: str
      returned: subset hostname
      sample: web1
    os:
      description: The guest's operating system.
      type: dict
      returned: subset os
      sample: {"id": "debian", "kernel_release": "6.1.0-40-cloud-amd64", "machine": "x86_64", "version_id": "12"}
    timezone:
      description: The guest's time zone; C(offset) is in seconds east of UTC.
      type: dict
      returned: subset timezone
      sample: {"offset": 0, "zone": "UTC"}
    commands:
      description: The agent's commands by name, whether each is enabled, and whether it answers on success.
      type: list
      elements: dict
      returned: subset commands
      sample: [{"enabled": true, "name": "guest-ping", "success_response": true}]
    time:
      description:
        - The guest's clock, its offset from the host's and the uncertainty of that, in nanoseconds.
        - The extended agent also tells C(synchronized), C(max_error) and C(source).
      type: dict
      returned: subset time
      sample: {"guest_time_ns": 1795406754194651471, "offset_ns": -48211, "resolution_ns": 1000,
               "round_trip_ns": 1012904, "uncertainty_ns": 516873}
    network:
      description: The guest's network interfaces with their addresses and counters.
      type: list
      elements: dict
      returned: subset network
      sample: [{"hardware_address": "00:00:00:00:00:00", "name": "lo",
                "ip_addresses": [{"ip_address": "127.0.0.1", "ip_address_type": "ipv4", "prefix": 8}]}]
    routes:
      description: The guest's routes; the stock agent has them since 9.1.
      type: list
      elements: dict
      returned: subset routes
    filesystems:
      description: The guest's mounted file systems, with sizes in bytes.
      type: list
      elements: dict
      returned: subset filesystems
      sample: [{"mountpoint": "/", "name": "vda", "total_bytes": 957571072, "type": "ext4", "used_bytes": 548069376}]
    users:
      description: The users who are logged in.
      type: list
      elements: dict
      returned: subset users
    vcpus:
      description: The guest's processors.
      type: list
      elements: dict
      returned: subset vcpus
      sample: [{"can_offline": false, "logical_id": 0, "online": true}]
    memory:
      description: The number of memory blocks, how many of them are online, and the size of one in bytes.
      type: dict
      returned: subset memory
      sample: {"block_size": 134217728, "blocks": 3, "online_blocks": 3}
    disks:
      description: The guest's disks and partitions.
      type: list
      elements: dict
      returned: subset disks
    load:
      description: The guest's load averages; the stock agent has them since 10.0.
      type: dict
      returned: subset load
    cpu_stats:
      description: The guest's processor time by kind.
      type: list
      elements: dict
      returned: subset cpu_stats
    disk_stats:
      description: The guest's disk statistics.
      type: list
      elements: dict
      returned: subset disk_stats
    freeze:
      description: Whether the guest's file systems are frozen, V(frozen) or V(thawed).
      type: str
      returned: subset freeze
      sample: thawed
    command:
      description:
        - The details of the command that was asked for.
        - C(details_from) says whether they are the agent's, or the catalogue's of this collection.
      type: dict
      returned: with O(command)
      sample: {"arguments": [{"name": "time", "optional": true, "type": "int"}], "description": "Sets the clock.",
               "details_from": "catalogue", "enabled": true, "name": "guest-set-time", "origin": "stock",
               "present": true, "returns": "none", "since": "1.5", "success_response": true}
    errors:
      description: The subsets that could not be gathered, with the reason.
      type: dict
      returned: when facts were gathered
      sample: {"load": {"code": "command_not_found", "message": "the agent does not know guest-get-load",
                        "hint": "This agent is too old, or built without that command."}}
    error:
      description: Why nothing could be gathered.
      type: dict
      returned: when it failed
      sample: {"code": "not_connected", "message": "no guest agent runs in domain web1 at qemu:///system",
               "hint": "Install and start qemu-guest-agent in the guest."}
guest:
  description: The one entry of RV(guests), when exactly one guest was addressed.
  returned: when exactly one guest was addressed
  type: dict
  contains: *guest
summary:
  description: How many guests came to what.
  returned: with O(domains) or O(sockets)
  type: dict
  contains:
    total:
      description: All that were addressed.
      type: int
      sample: 200
    gathered:
      description: Guests that told something.
      type: int
      sample: 196
    skipped:
      description: Guests that could not be used, and need not have been.
      type: int
      sample: 3
    failed:
      description: Guests that failed.
      type: int
      sample: 1
    duration_ns:
      description: How long it all took, in nanoseconds.
      type: int
      sample: 1413207731
error:
  description: Why the task failed. Of one guest, the same as in its entry; of many, how many failed and which.
  returned: on failure
  type: dict
  sample: {"code": "guests_failed", "message": "1 of 200 guests failed: web3 (unresponsive)",
           "hint": "Each guest's entry tells its reason and what to do; fail_on says when that fails the task."}
"""

from typing import Any, Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.qemu.guest_agent.plugins.module_utils.agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils.facts import REPLY_LIMITS, command_details
from ansible_collections.qemu.guest_agent.plugins.module_utils.fleet import Outcome, Work
from ansible_collections.qemu.guest_agent.plugins.module_utils.gathering import GATHERED, gathering
from ansible_collections.qemu.guest_agent.plugins.module_utils.module import TARGET_SPEC, run

ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **TARGET_SPEC,
    "gather_subset": {"type": "list", "elements": "str", "default": ["all"]},
    "command": {"type": "str"},
}


def prepare(params: Mapping[str, Any]) -> Work:
    command = params["command"]
    gather = gathering(params["gather_subset"])

    async def tell_of_command(agent: GuestAgent) -> Outcome:
        return Outcome({"command": await command_details(agent, command)}, GATHERED)

    return gather if command is None else tell_of_command


def main() -> None:
    run(AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True), prepare, (GATHERED,), REPLY_LIMITS)


if __name__ == "__main__":
    main()
