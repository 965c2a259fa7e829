# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that name guests, with their attributes and requirements."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  domain:
    description:
      - Name or UUID of a libvirt domain.
      - Exactly one of O(domain), O(domains), O(socket), O(sockets), O(address) and O(vsock) is required.
    type: str
  domains:
    description:
      - Several libvirt domains, processed concurrently.
      - Each entry is a name, a UUID, or a shell pattern that is matched against names; V(*) matches all guests.
      - An entry with a leading C(!) excludes the guests that it names or matches. With only such entries, all other
        guests are selected.
      - A guest that is listed by name or UUID and cannot be used is an error. A guest that matches a pattern is skipped
        if it is shut off or paused, has no agent channel or no running agent, or has opted out.
    type: list
    elements: str
  uri:
    description:
      - The libvirt connection URI for O(domain) and O(domains). Remote URIs work as well. Guests are always compared
        with the clock of the machine where the module runs.
    type: str
    default: qemu:///system
  socket:
    description:
      - Path of the unix socket of the agent's channel on the host, for QEMU without libvirt.
      - Such a socket serves one client at a time. The socket of a libvirt domain is used by libvirt; use O(domain)
        instead.
    type: path
  sockets:
    description:
      - As O(domains), for QEMU without libvirt. Each entry is the path of a unix socket as in O(socket), or a shell
        pattern for such paths, or either with a leading C(!). For exclusions, the file name is enough.
      - The sockets of Proxmox VE are at C(/var/run/qemu-server/VMID.qga).
    type: list
    elements: path
  address:
    description:
      - The agent's channel on the host as C(host:port), for a QEMU character device on TCP.
      - Put an IPv6 address in brackets, as in V([::1]:4444).
    type: str
  vsock:
    description:
      - An agent that listens on vsock in the guest, as C(cid:port).
    type: str
  exclude:
    description:
      - Guests to exclude from O(domains) or O(sockets). The entries are the same, without the C(!).
    type: list
    elements: str
    default: []
  skip_unusable:
    description:
      - With O(domains) or O(sockets), also skip guests that are listed by name if they are missing or cannot be used.
    type: bool
    default: false
  allow_empty:
    description:
      - Allow O(domains) or O(sockets) to be empty, and patterns in it to match nothing. By default, both are errors.
    type: bool
    default: false
  concurrency:
    description:
      - With O(domains) or O(sockets), the number of guests that are processed at the same time.
      - A guest that is silent for 0.05 seconds no longer counts while the module waits for it. So unresponsive guests
        do not delay others, and their timeouts run concurrently.
      - Through libvirt, at most 15 calls are made at the same time regardless of this option, and four more if slow
        guests hold those up. libvirt's daemon runs 20 calls for all of its clients.
    type: int
    default: 20
  deadline:
    description:
      - With O(domains) or O(sockets), the time limit for the whole task in seconds. A guest that is not done by then
        fails with the code V(deadline); the results of the other guests are kept.
      - There is no such limit by default; each guest has its own timeouts.
    type: float
  fail_on:
    description:
      - With O(domains) or O(sockets), when the task fails. All guests are tried first in any case.
      - V(any), if at least one guest failed.
      - V(all), if every guest that was not skipped failed.
      - V(none), never.
    type: str
    choices: [any, all, none]
    default: any
  timeout:
    description:
      - Timeout in seconds for one exchange with the agent, including the connection.
    type: float
    default: 5
  wait_timeout:
    description:
      - Seconds to wait for the agent to answer, for guests that are booting or waking up.
      - A guest that is not running, or has no agent channel, fails at once.
    type: float
    default: 0
requirements:
  - Python 3.8 or newer on the machine where the module runs
  - libvirt-python for that Python with O(domain) or O(domains)
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return what it would do, without changing the guest.
  diff_mode:
    support: none
    description: Will return what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row with the same arguments, the second run changes nothing.
  action_group:
    support: full
    description: Use C(group/qemu.guest_agent.qga) in C(module_defaults) to set defaults for this module.
    membership:
      - qemu.guest_agent.qga
  platform:
    support: full
    description: The machine where the module runs, which is the hypervisor or can reach it.
    platforms: posix
"""
