# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nanoseconds for people: twins of results in seconds and ISO 8601, and lengths of time in sentences."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

from .timestamps import SECOND_NS, format_instant

_SUFFIX = "_ns"

_MINUTE_NS = 60 * SECOND_NS
# Lengths of time that round to less than this; the unit; its nanoseconds; and the number of decimals.
_UNITS: Sequence[tuple[int, str, int, int]] = (
    (1_000, "ns", 1, 0),
    (99_500, "µs", 1_000, 0),
    (999_950_000, "ms", 1_000_000, 1),
    (_MINUTE_NS - 500_000, "s", SECOND_NS, 3),
)
# From a minute on: lengths that round to less than the next row's first unit; two units, and the seconds in each.
_PAIRS: Sequence[tuple[float, str, int, str, int]] = (
    (3_600 * SECOND_NS - SECOND_NS // 2, "min", 60, "s", 1),
    (86_400 * SECOND_NS - 30 * SECOND_NS, "h", 3_600, "min", 60),
    (math.inf, "d", 86_400, "h", 3_600),
)


def with_twins(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures, and before each ``X_ns`` a twin ``X``: seconds as a float, or ISO 8601 for a ``*time*``.

    A duration's name never has "time" in it. None stays None.
    """
    twins: dict[str, Any] = {}
    for name, value in figures.items():
        if name.endswith(_SUFFIX):
            twins[name[: -len(_SUFFIX)]] = _twin(name, value)
        twins[name] = value
    return twins


def _twin(name: str, ns: int | None) -> float | str | None:
    if ns is None:
        return None
    return format_instant(ns) if "time" in name else ns / SECOND_NS


def length(ns: int) -> str:
    """Return a length of time without its sign, such as ``1.1 ms``, ``8.797 s`` or ``2 min 05 s``."""
    ns = abs(ns)
    for limit_ns, unit, unit_ns, decimals in _UNITS:
        if ns < limit_ns:
            return f"{ns / unit_ns:.{decimals}f} {unit}"
    return in_two_units(ns)


def in_two_units(ns: int) -> str:
    """Return a length of time from about a minute on, such as ``2 min 05 s``. It is not negative."""
    unit, seconds, small_unit, small_seconds = next(row[1:] for row in _PAIRS if ns < row[0])
    small_ns = small_seconds * SECOND_NS
    whole, rest = divmod((ns + small_ns // 2) // small_ns, seconds // small_seconds)
    return f"{whole:,} {unit} {rest:02d} {small_unit}"


def signed(ns: int) -> str:
    """Return an offset with its sign: minus is behind."""
    return f"{'-' if ns < 0 else '+'}{length(ns)}"


def direction(ns: int) -> str:
    """Return an offset in words: ``8.797 s behind``, ``1.1 ms ahead``."""
    return f"{length(ns)} {'behind' if ns < 0 else 'ahead'}"
