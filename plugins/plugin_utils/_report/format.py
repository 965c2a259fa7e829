# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts for people: strings that cannot deceive, and durations in units that one can picture."""

from __future__ import annotations

from bisect import bisect_right
from typing import Mapping, Sequence

UNKNOWN = "\u2013"  # a dash
MINUS = "\u2212"  # as wide as a plus sign, which a hyphen is not

SECOND_NS = 1_000_000_000

_ELLIPSIS = "…"
_SHORT_ESCAPES: Mapping[str, str] = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Rounded to three digits, this is the first duration that would read 60.0 s.
_MINUTE_NS = 59_950_000_000
# Below a minute: up to which duration, the unit, what its last digit is worth in nanoseconds, and how many decimals.
# Rounded to three digits, the next row's first duration would have four.
_DIGITS: Sequence[tuple[int, str, int, int]] = (
    (1_000, "ns", 1, 0),
    (9_995, "µs", 10, 2),
    (99_950, "µs", 100, 1),
    (999_500, "µs", 1_000, 0),
    (9_995_000, "ms", 10_000, 2),
    (99_950_000, "ms", 100_000, 1),
    (999_500_000, "ms", 1_000_000, 0),
    (9_995_000_000, "s", 10_000_000, 2),
    (_MINUTE_NS, "s", 100_000_000, 1),
)
_LIMITS = [limit for limit, *_digits in _DIGITS]
# From a minute on: two units, how many seconds they have, and where the next pair takes over.
_PAIRS = (("min", 60, "s", 1, 3600), ("h", 3600, "min", 60, 86400), ("d", 86400, "h", 3600, 100 * 86400))
_DAY_NS = 86400 * SECOND_NS


def printable(value: object, limit: int) -> str:
    """The text with escapes in place of what does not print (control characters, marks that turn the direction of
    writing, halves of surrogate pairs), and cut to ``limit`` characters. What is no text, or empty, is unknown.
    """
    if not isinstance(value, str) or not value:
        return UNKNOWN
    # Ansible has types of its own below str; the unbound method gives a plain one, whatever they override.
    head = str.__getitem__(value, slice(0, limit + 1))
    if head.isprintable():
        return head if len(head) <= limit else head[: limit - 1] + _ELLIPSIS
    return _escaped(head, limit)


def _escaped(text: str, limit: int) -> str:
    shown = cut = ""
    for character in text:
        point = ord(character)
        escape = _SHORT_ESCAPES.get(character) or (f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}")
        shown += character if character.isprintable() else escape
        if len(shown) > limit:
            return cut + _ELLIPSIS
        if len(shown) < limit:
            # An escape is shown whole or not at all.
            cut = shown
    return shown


def duration(ns: int) -> str:
    """Return a length of time without sign: three digits and a unit, or two units from a minute on."""
    if ns < _MINUTE_NS:
        _limit, name, worth, decimals = _DIGITS[bisect_right(_LIMITS, ns)]
        # Whole arithmetic, so that 999.96 µs carries into 1.00 ms.
        digits = str((ns + worth // 2) // worth)
        return f"{digits[:-decimals]}.{digits[-decimals:]} {name}" if decimals else f"{digits} {name}"
    for name, seconds, smaller_name, smaller_seconds, end in _PAIRS:
        smaller_ns = smaller_seconds * SECOND_NS
        # Rounded before it is split: 59 min 59.9 s is an hour.
        count = (ns + smaller_ns // 2) // smaller_ns
        if count * smaller_seconds < end:
            whole, rest = divmod(count, seconds // smaller_seconds)
            return f"{whole} {name} {rest:02d} {smaller_name}"
    return f"{(ns + _DAY_NS // 2) // _DAY_NS:,} d"


def signed(ns: int) -> str:
    """Return an offset: minus is behind, plus is ahead."""
    sign = MINUS if ns < 0 else "+" if ns else ""
    return sign + duration(abs(ns))


def counted(number: int, one: str, many: str = "") -> str:
    """``1 guest``, ``10,000 guests``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
