# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plays that a test composes, and the playbook that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Task = dict[str, Any]
Play = dict[str, Any]


def play(hosts: str, *tasks: Task) -> Play:
    """Return a play whose tasks run on the controller."""
    return {"hosts": hosts, "gather_facts": False, "connection": "local", "tasks": list(tasks)}


def write_play(path: Path, *plays: Play) -> Path:
    """Write the plays to a playbook and return its path."""
    path.write_text(yaml.safe_dump(list(plays), width=1000), encoding="utf-8")
    return path
