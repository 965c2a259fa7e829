# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts about the guests of one hypervisor as a file."""

from __future__ import annotations

import json
from typing import Any, Mapping

from .._untrusted import inert


def document(hypervisor: str, guests: object) -> str:
    """Return JSON in which guests and keys are sorted, and nothing is a template where it is read back.

    :raises TypeError: the guests are not a list of dicts, or hold what JSON does not have
    """
    if not isinstance(guests, (list, tuple)) or not all(isinstance(guest, Mapping) for guest in guests):
        raise TypeError(f"the guests of a hypervisor are a list of dicts, not of type {type(guests).__name__}")
    in_order = sorted(guests, key=_name)
    return json.dumps(inert({"hypervisor": hypervisor, "guests": in_order}), indent=4, sort_keys=True) + "\n"


def _name(guest: Mapping[str, Any]) -> str:
    return str(guest.get("name", ""))
