# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text for people: strings that cannot deceive a reader, durations in familiar units, and times."""

from __future__ import annotations

from bisect import bisect_right
from datetime import datetime, timedelta, timezone
from typing import Iterable, Mapping, Sequence

from ...module_utils._clock.figures import in_two_units

UNKNOWN = "\u2013"  # a dash
MINUS = "\u2212"  # as wide as a plus sign, which a hyphen is not

SECOND_NS = 1_000_000_000

_ELLIPSIS = "…"
_SHORT_ESCAPES: Mapping[str, str] = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Rounded to three digits, this is the first duration that would read 60.0 s.
_MINUTE_NS = 59_950_000_000
# Below a minute: the limit of the row, its unit, the nanoseconds that the last digit stands for, and the decimals.
# Rounded to three digits in this row's unit, the first duration of the next row would have four.
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
_DAY_NS = 86400 * SECOND_NS
# From here on, hours do not matter. Rounded to an hour, this is the first duration that would read 100 d 00 h.
_DAYS_NS = 100 * _DAY_NS - 1800 * SECOND_NS
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def printable(value: object, limit: int) -> str:
    """Return the text with escapes in place of characters that do not print (control characters, bidirectional marks,
    lone surrogates), cut at its end to ``limit`` characters. A value that is not a text, or is empty, is unknown.
    """
    if not isinstance(value, str) or not value:
        return UNKNOWN
    # Ansible has types of its own below str; the unbound method returns a plain one, whatever they override.
    head = str.__getitem__(value, slice(0, limit + 1))
    if head.isprintable() and len(head) <= limit:
        return head
    pieces = _pieces(head)
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    return "".join(_fitting(pieces, limit - 1)) + _ELLIPSIS


def printable_name(value: object, limit: int) -> str:
    """Return the same, but cut in the middle: names and paths differ at either end."""
    if not isinstance(value, str) or not value:
        return UNKNOWN
    text = str.__str__(value)
    if len(text) <= limit and text.isprintable():
        return text
    if len(text) <= 2 * limit:
        head = tail = _pieces(text)
        if sum(map(len, head)) <= limit:
            return "".join(head)
    else:
        head, tail = _pieces(text[:limit]), _pieces(text[-limit:])
    first = "".join(_fitting(head, (limit - 1) // 2))
    last = list(_fitting(reversed(tail), limit - 1 - len(first)))
    return first + _ELLIPSIS + "".join(reversed(last))


def _pieces(text: str) -> list[str]:
    return [character if character.isprintable() else _escape(character) for character in text]


def _escape(character: str) -> str:
    point = ord(character)
    return _SHORT_ESCAPES.get(character) or (f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}")


def _fitting(pieces: Iterable[str], room: int) -> Iterable[str]:
    """Yield pieces until one does not fit: an escape is shown whole or not at all."""
    for piece in pieces:
        room -= len(piece)
        if room < 0:
            return
        yield piece


def duration(ns: int) -> str:
    """Return a duration without a sign: three digits and a unit, two units from one minute, days from 100 days."""
    if ns < _MINUTE_NS:
        _limit, name, worth, decimals = _DIGITS[bisect_right(_LIMITS, ns)]
        # Integer arithmetic, so that 999.96 µs carries into 1.00 ms.
        digits = str((ns + worth // 2) // worth)
        return f"{digits[:-decimals]}.{digits[-decimals:]} {name}" if decimals else f"{digits} {name}"
    return in_two_units(ns) if ns < _DAYS_NS else f"{(ns + _DAY_NS // 2) // _DAY_NS:,} d"


def signed(ns: int) -> str:
    """Return an offset: minus if the clock is behind, plus if it is ahead."""
    sign = MINUS if ns < 0 else "+" if ns else ""
    return sign + duration(abs(ns))


def counted(number: int, one: str, many: str = "") -> str:
    """Return the number with its noun: ``1 guest``, ``10,000 guests``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def utc(ns: int, separator: str = " ", zone: str = " UTC") -> str:
    """Return the time that is ``ns`` nanoseconds after 1970 in UTC, to the second."""
    try:
        return f"{_EPOCH + timedelta(seconds=ns // SECOND_NS):%Y-%m-%d{separator}%H:%M:%S}{zone}"
    except OverflowError:
        return UNKNOWN
