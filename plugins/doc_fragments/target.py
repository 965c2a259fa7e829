# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that name a guest, and the attributes and requirements that come with them."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  domain:
    description:
      - Name or UUID of a libvirt domain.
      - Exactly one of O(domain), O(domains), O(socket), O(sockets), O(address) and O(vsock) is needed.
    type: str
  domains:
    description:
      - Libvirt domains, all worked on at once.
      - Each entry is a name, a UUID, or a shell pattern that names are held against; V(*) stands for all guests.
      - An entry with a leading C(!) leaves out what it names or matches; if there are only such, all others are meant.
      - A guest that is named itself and cannot be used is an error. One that a pattern matches is skipped if it is shut
        off or paused, has no channel for an agent or no agent that runs, or must not be touched.
    type: list
    elements: str
  uri:
    description:
      - The libvirt connection to look for O(domain) and O(domains) at. Remote ones work as well; the clock that guests
        are compared with is always that of the machine where the module runs.
    type: str
    default: qemu:///system
  socket:
    description:
      - Path of the unix socket that is the host's end of the agent's channel, for QEMU without libvirt.
      - Such a socket serves one client at a time. The socket of a domain belongs to libvirt; use O(domain) for it.
    type: path
  sockets:
    description:
      - As O(domains), for QEMU without libvirt. Each entry is the path of a unix socket as in O(socket), or a shell
        pattern of such paths, or either with a leading C(!). What is left out may be told by the file's name alone.
      - Proxmox VE keeps its guests' sockets at C(/var/run/qemu-server/VMID.qga).
    type: list
    elements: path
  address:
    description:
      - The host's end of the agent's channel as C(host:port), for a QEMU character device on TCP.
      - An IPv6 address stands in brackets, as in V([::1]:4444).
    type: str
  vsock:
    description:
      - An agent that listens on vsock in the guest, as C(cid:port).
    type: str
  exclude:
    description:
      - Of O(domains) or O(sockets), what is left out however it is named. The entries are the same, without the C(!).
    type: list
    elements: str
    default: []
  skip_unusable:
    description:
      - Of O(domains) or O(sockets), also skip guests that are named themselves, if they are gone or cannot be used.
    type: bool
    default: false
  allow_empty:
    description:
      - Whether O(domains) or O(sockets) may be empty, and a pattern in it may match nothing. If not, that is an error.
    type: bool
    default: false
  concurrency:
    description:
      - Of O(domains) or O(sockets), how many guests are worked on at the same time.
      - A guest that keeps silent for a twentieth of a second is only waited for, and no longer counts. So dead guests
        take no one's place, and cost their own time limits side by side.
      - Through libvirt no more than 15 calls are under way at the same time, whatever is given here, and four more
        while slow guests hold those up. Its daemon works on 20 for all of its clients.
    type: int
    default: 20
  deadline:
    description:
      - Of O(domains) or O(sockets), the seconds that all of it may take. A guest that is not done by then fails with
        the code V(deadline); what was done with the others stands.
      - There is no such limit by default; each guest has its own.
    type: float
  fail_on:
    description:
      - Of O(domains) or O(sockets), whether the task fails, after all guests were tried, if V(any) guest failed, if
        V(all) failed that were not skipped, or if V(none) ever does.
    type: str
    choices: [any, all, none]
    default: any
  timeout:
    description:
      - Seconds that one exchange with the agent may take, connecting included.
    type: float
    default: 5
  wait_timeout:
    description:
      - Seconds to wait for the agent to answer, for guests that boot or wake.
      - A guest that does not run, or has no channel for an agent, fails at once.
    type: float
    default: 0
requirements:
  - libvirt-python on the machine where the module runs, if O(domain) or O(domains) is used
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return what it would do, without changing the guest.
  diff_mode:
    support: none
    description: Will return what has changed, or would in C(check_mode), when in diff mode.
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
