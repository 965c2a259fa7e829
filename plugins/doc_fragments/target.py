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
      - Exactly one of O(domain), O(socket), O(address) and O(vsock) is needed.
    type: str
  uri:
    description:
      - The libvirt connection to look for O(domain) at. Remote ones work as well; the clock that guests are compared
        with is always that of the machine where the module runs.
    type: str
    default: qemu:///system
  socket:
    description:
      - Path of the unix socket that is the host's end of the agent's channel, for QEMU without libvirt.
      - Such a socket serves one client at a time. The socket of a domain belongs to libvirt; use O(domain) for it.
    type: path
  address:
    description:
      - The host's end of the agent's channel as C(host:port), for a QEMU character device on TCP.
      - An IPv6 address stands in brackets, as in V([::1]:4444).
    type: str
  vsock:
    description:
      - An agent that listens on vsock in the guest, as C(cid:port).
    type: str
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
  - libvirt-python on the machine where the module runs, if O(domain) is used
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
  platform:
    support: full
    description: The machine where the module runs, which is the hypervisor or can reach it.
    platforms: posix
"""
