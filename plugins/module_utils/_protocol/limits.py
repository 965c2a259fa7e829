# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on what one message may cost its receiver, and the limits for this collection's own requests."""

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

# The longest reply is that to guest-info, about 6 KiB. A thousand hostile guests may all send the maximum at once.
CLOCK_REPLIES = Limits(size=64 * 1024, nesting=16)

# A container host with 500 interfaces lists them in 250 KiB and 10,000 values; 2 TiB of memory blocks are 64,000. No
# QAPI reply is nested deeper than seven levels.
FACTS_REPLIES = Limits(size=2 * 1024 * 1024, nesting=16, values=64 * 1024)
