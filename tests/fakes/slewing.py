# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A slew as Linux does it, for clocks that are objects, without the kernel's whole seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

SLEW_PPM = 500
HALF_SECOND_NS = 500_000_000


class Slew(NamedTuple):
    """``delta_ns`` is added to a clock from ``since_ns`` on, by the host's monotonic clock. By default: no slew."""

    delta_ns: int = 0
    since_ns: int = 0

    def done_ns(self, now_ns: int) -> int:
        most_ns = (now_ns - self.since_ns) * SLEW_PPM // 1_000_000
        return max(-most_ns, min(most_ns, self.delta_ns))

    def left_ns(self, now_ns: int) -> int:
        return self.delta_ns - self.done_ns(now_ns)


def refusal(arguments: Mapping[str, object], delta_ns: int, is_disciplined: bool) -> str | None:
    """Return why the extended agent refuses such a slew, None if it does not."""
    if not arguments.get("relative"):
        return "Parameter 'slew' expects 'relative'"
    if arguments.get("rtc"):
        return "Parameter 'slew' excludes 'rtc'"
    if abs(delta_ns) > HALF_SECOND_NS:
        return "Parameter 'slew' expects a difference of half a second at most"
    return "The clock was not slewed: another time service disciplines it" if is_disciplined else None
