# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that put together what came of a run on many hypervisors, from what its tasks registered."""

from __future__ import annotations

from typing import Any, Callable

from ansible_collections.qemu.guest_agent.plugins.plugin_utils._filter_errors import made
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.outcome import elsewhere, found, outcome


def fleet_outcome(listed: Any, host: Any, batches: Any = ()) -> dict[str, Any]:
    return made("fleet_outcome", outcome, host, listed, batches)


def fleet_found(listed: Any, host: Any) -> dict[str, Any]:
    return made("fleet_found", found, host, listed)


def fleet_elsewhere(everywhere: Any, hosts: Any, guests: Any = ()) -> list[dict[str, Any]]:
    return made("fleet_elsewhere", elsewhere, hosts, everywhere, guests)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "fleet_elsewhere": fleet_elsewhere,
            "fleet_found": fleet_found,
            "fleet_outcome": fleet_outcome,
        }
