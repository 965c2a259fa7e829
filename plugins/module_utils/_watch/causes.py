# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The causes of a stale clock, and libvirt's events that report them."""

from __future__ import annotations

from typing import Mapping

RESUMED = "resumed"
RESTORED = "restored"
REVERTED = "reverted"
MIGRATED = "migrated"
WOKE_UP = "woke_up"

# Found by a scan of all running guests: events may have been missed before it.
WATCH_BEGAN = "watch_began"
WATCH_RESUMED = "watch_resumed"
SCAN_CAUSES = frozenset({WATCH_BEGAN, WATCH_RESUMED})

# The guest boots and reads its hardware clock, which QEMU keeps correct.
RESET = "reset"

ALL = (RESUMED, RESTORED, REVERTED, MIGRATED, WOKE_UP, WATCH_BEGAN, WATCH_RESUMED, RESET)

# virDomainEventType, virDomainEventResumedDetailType and virDomainEventStartedDetailType
# (include/libvirt/libvirt-domain.h, libvirt 11.3.0).
EVENT_STARTED = 2
EVENT_SUSPENDED = 3
EVENT_RESUMED = 4
EVENT_STOPPED = 5
EVENT_PMSUSPENDED = 7
EVENT_CRASHED = 8

CAUSE_BY_RESUMED_DETAIL: Mapping[int, str] = {
    0: RESUMED,  # unpaused
    1: MIGRATED,
    2: REVERTED,  # from a snapshot, or from a file: the start event before it says which
    3: MIGRATED,  # postcopy: the guest runs before all of its memory has arrived
    4: MIGRATED,  # postcopy failed, and the guest runs on
}
# The guest does not run yet: it is resumed a moment later, or stays paused.
CAUSE_BY_STARTED_DETAIL: Mapping[int, str] = {1: MIGRATED, 2: RESTORED, 3: REVERTED}
STARTED_BY_BOOT = 0
STARTED_BY_WAKEUP = 4
