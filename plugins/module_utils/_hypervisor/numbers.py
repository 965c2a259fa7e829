# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's numbers, because old bindings lack the names (include/libvirt/virterror.h, libvirt-domain.h; 11.3.0).

The numbers of events are in ``_watch/causes.py`` and ``_watch/sources/libvirt.py``.
"""

from __future__ import annotations

# virErrorNumber.
INTERNAL_ERROR = 1
NO_SUPPORT = 3
INVALID_ARG = 8
OPERATION_FAILED = 9
OPERATION_DENIED = 29
SYSTEM_ERROR = 38
RPC = 39
NO_DOMAIN = 42
AUTH_FAILED = 45
OPERATION_INVALID = 55
CONFIG_UNSUPPORTED = 67
OPERATION_TIMEOUT = 68
ARGUMENT_UNSUPPORTED = 74
AUTH_CANCELLED = 79
NO_DOMAIN_METADATA = 80
OPERATION_UNSUPPORTED = 84
AGENT_UNRESPONSIVE = 86
ACCESS_DENIED = 88
AUTH_UNAVAILABLE = 94
AGENT_UNSYNCED = 97
AGENT_COMMAND_TIMEOUT = 112  # since 11.2.0; before it 86
AGENT_COMMAND_FAILED = 113  # since 11.2.0; before it 1

# virDomainState, and libvirt's names for the states in the same order.
NO_STATE, RUNNING, BLOCKED, PAUSED, SHUTTING_DOWN, SHUT_OFF, CRASHED, PM_SUSPENDED = range(8)
STATE_NAMES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")

# virConnectListAllDomainsFlags, each with the state that it selects.
LISTED_STATES = ((16, RUNNING), (32, PAUSED), (64, SHUT_OFF))

METADATA_ELEMENT = 2  # virDomainMetadataType


def is_running(state: int) -> bool:
    """Return whether the CPUs of a domain in this virDomainState run, so that its agent can answer.

    A blocked domain waits for a resource, as any machine does now and then; Xen reports idle guests as blocked.
    """
    return state in (RUNNING, BLOCKED)


def state_name(state: int) -> str:
    """Return libvirt's name for a virDomainState; for a state of a newer libvirt, that of "no state"."""
    return STATE_NAMES[state] if 0 <= state < len(STATE_NAMES) else STATE_NAMES[NO_STATE]
