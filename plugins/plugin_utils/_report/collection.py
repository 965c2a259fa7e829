# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The version of this collection, from the file that an installation or a clone has of it."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

_ROOT = Path(__file__).parents[3]
# An installed collection has a manifest, a clone has the file that the manifest is made of. Neither is needed to run.
_FILES = (
    ("MANIFEST.json", re.compile(r'^ *"version": "([0-9A-Za-z.+-]+)"', re.MULTILINE)),
    ("galaxy.yml", re.compile(r"^version: ([0-9A-Za-z.+-]+)$", re.MULTILINE)),
)


@lru_cache(maxsize=1)
def version(root: Path = _ROOT) -> str:
    """Return the version; empty if it is unknown."""
    for name, pattern in _FILES:
        try:
            found = pattern.search((root / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if found:
            return found[1]
    return ""
