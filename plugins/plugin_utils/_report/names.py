# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Short names for guests that are addressed by the path of a socket."""

from __future__ import annotations

from collections import Counter
from typing import Sequence

_PATH_MAX = 4096  # bytes, on Linux
_MOST_PARTS = 8  # of an end that is not the whole path


def short_names(names: Sequence[str]) -> list[str]:
    """Return a short name for each of a hypervisor's guests, in the same order.

    A path becomes the stem of its file: ``/var/run/qemu-server/100.qga`` becomes ``100``. Where stems collide, each
    becomes the shortest end of its path that is unique: ``a/qga.sock`` and ``b/qga.sock``. Other names are unchanged.
    """
    ends = [_ends(name) for name in names]
    levels = [0] * len(names)
    while True:
        short = [each[level] for each, level in zip(ends, levels)]
        count = Counter(short)
        collide = [
            number for number, name in enumerate(short) if count[name] > 1 and levels[number] + 1 < len(ends[number])
        ]
        if not collide:
            return short
        for number in collide:
            levels[number] += 1


def _ends(name: str) -> list[str]:
    """Return the stem, and then the ends of the path, from the shortest to the whole."""
    if not name.startswith("/") or len(name) > _PATH_MAX:
        return [name]
    parts = name.split("/")
    stem, _dot, _suffix = parts[-1].rpartition(".")
    ends = ["/".join(parts[-number:]) for number in range(1, min(len(parts), _MOST_PARTS))]
    shortest = stem or parts[-1]
    return [shortest, *ends, name] if shortest else [name]
