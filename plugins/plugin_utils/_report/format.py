# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person reads: strings that cannot deceive, and durations in units that one can picture."""

from __future__ import annotations

from typing import Mapping

UNKNOWN = "\u2013"  # a dash
MINUS = "\u2212"  # as wide as a plus sign, which a hyphen is not

SECOND_NS = 1_000_000_000

_ELLIPSIS = "…"
_SHORT_ESCAPES: Mapping[str, str] = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# The name of a unit, and how many nanoseconds it has.
_FRACTIONS = (("ns", 1), ("µs", 1_000), ("ms", 1_000_000), ("s", SECOND_NS))
# From a minute on: two units, how many seconds they have, and where the next pair takes over.
_PAIRS = (("min", 60, "s", 1, 3600), ("h", 3600, "min", 60, 86400), ("d", 86400, "h", 3600, 100 * 86400))
_DAY_NS = 86400 * SECOND_NS
# Rounded to three digits, this is the first duration that would read 60.0 s.
_MINUTE_NS = 59_950_000_000


def visible(value: object, limit: int) -> str:
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
        shown += character if character.isprintable() else _escape(character)
        if len(shown) > limit:
            return cut + _ELLIPSIS
        if len(shown) < limit:
            # An escape is shown whole or not at all.
            cut = shown
    return shown


def _escape(character: str) -> str:
    point = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}")


def duration(ns: int) -> str:
    """A length of time without sign: three digits and a unit, or two units from a minute on."""
    if ns < _MINUTE_NS:
        return _with_three_digits(ns)
    for name, seconds, smaller_name, smaller_seconds, end in _PAIRS:
        smaller_ns = smaller_seconds * SECOND_NS
        # Rounded before it is split: 59 min 59.9 s is an hour.
        count = (ns + smaller_ns // 2) // smaller_ns
        if count * smaller_seconds < end:
            whole, rest = divmod(count, seconds // smaller_seconds)
            return f"{whole} {name} {rest:02d} {smaller_name}"
    return f"{(ns + _DAY_NS // 2) // _DAY_NS:,} d"


def _with_three_digits(ns: int) -> str:
    for name, unit_ns in _FRACTIONS:
        for decimals in (2, 1, 0):
            # Whole arithmetic, so that 999.96 µs carries into 1.00 ms.
            digits = (ns * 10**decimals + unit_ns // 2) // unit_ns
            if digits < 1000:
                return f"{ns} ns" if unit_ns == 1 else f"{_point(digits, decimals)} {name}"
    raise ValueError(f"{ns} ns is a minute or more")


def _point(digits: int, decimals: int) -> str:
    whole, fraction = divmod(digits, 10**decimals)
    return f"{whole}.{fraction:0{decimals}d}" if decimals else str(whole)


def signed(ns: int) -> str:
    """An offset: minus is behind, plus is ahead."""
    sign = MINUS if ns < 0 else "+" if ns else ""
    return sign + duration(abs(ns))


def with_uncertainty(ns: int, uncertainty_ns: int | None) -> tuple[str, str]:
    """An offset, and what follows it."""
    return signed(ns), f"±{UNKNOWN if uncertainty_ns is None else duration(uncertainty_ns)}"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 guest``, ``10,000 guests``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
