# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one message may cost its receiver, and what the collection's own readers of replies allow."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """The most that one message may cost its receiver.

    ``size`` is in bytes (libvirt's own limit for a reply is 10 MiB, ``QEMU_AGENT_MAX_RESPONSE``), ``nesting`` counts
    braces and brackets together, ``values`` bounds the objects that decoding makes.
    """

    size: int = 10 * 1024 * 1024
    nesting: int = 512
    values: int = 256 * 1024


USUAL_LIMITS = Limits()

# Limits of one reply. The longest is that to guest-info, some 6 KiB; of a thousand guests, all may send as much as they
# can at the same time.
CLOCK_REPLIES = Limits(size=64 * 1024, nesting=16)

# What one reply may cost. Of a host of containers with 500 interfaces, that list is 250 KiB and 10,000 values; the
# memory blocks of 2 TiB are 64,000. No reply of QAPI's nests deeper than seven levels.
FACTS_REPLIES = Limits(size=2 * 1024 * 1024, nesting=16, values=64 * 1024)
