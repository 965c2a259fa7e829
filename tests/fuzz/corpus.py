# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs that are kept: by their targets, under names that say what they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIRECTORY = Path(__file__).with_name("corpus")


def inputs(target: str) -> dict[str, bytes]:
    """The kept inputs of a target, by name."""
    directory = DIRECTORY / target
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())} if directory.is_dir() else {}


def keep(target: str, data: bytes) -> Path:
    """Keep what has found a defect. It deserves a better name."""
    path = DIRECTORY / target / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
