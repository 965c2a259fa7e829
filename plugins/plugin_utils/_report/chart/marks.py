# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The marks of the chart. Across, they are placed in percent of the width, so that it fits any window."""

from __future__ import annotations

from typing import NamedTuple

from ..model import Guest, Settings


class Mark(NamedTuple):
    """One offset. Its shape follows from the status, so that statuses differ by more than their color."""

    status: str
    percent: float
    y: float
    radius: float
    tooltip: str = ""
    hollow: bool = False


def described(guest: Guest, settings: Settings) -> str:
    """Return a guest and its figures, for a tooltip."""
    lines = [f"{guest.name} on {guest.host}", settings.label(guest.status)]
    for when, offset in (("before", guest.before), ("after", guest.after)):
        if offset is not None:
            lines.append(f"{when} {offset.signed} {offset.uncertain}")
    return "\n".join(lines)
