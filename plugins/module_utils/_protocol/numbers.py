# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole numbers as peers write them: as integers, or as doubles that may lack digits."""

from __future__ import annotations

import math
from typing import NamedTuple

from .errors import RemoteProtocolError
from .values import WholeFloat


class Whole(NamedTuple):
    """A whole number as a peer wrote it. The original may differ from ``value`` by up to ``rounded``, either way."""

    value: int
    rounded: int = 0


# The range of QAPI's integers (int64 and uint64); the upper end is exclusive.
_LOWEST, _HIGHEST = -(2**63), 2**64

# No agent writes longer numbers, and this bounds the cost of reading the digits.
_LONGEST_NUMBER = 64

_DOUBLE_BITS = 53


def whole(value: object) -> Whole | None:
    """Return the whole number that a peer wrote, as an integer or as a double such as ``5.0`` or ``1.8e+18``.

    Agents that keep numbers as doubles write them with 15 or 17 digits (cJSON). The number is uncertain because a
    double holds 53 bits, and because digits may be missing. None: it is not a number, not whole, minus zero, or out of
    QAPI's range.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Whole(value)
    if not isinstance(value, float) or not value.is_integer() or not _LOWEST <= value < _HIGHEST:
        return None
    text = value.text if isinstance(value, WholeFloat) else repr(float(value))
    unit = _last_digits_unit(text)
    if unit is None:
        return None
    bits = math.frexp(value)[1] - _DOUBLE_BITS
    return Whole(int(value), unit // 2 + (2**bits if bits > 0 else 0))


def _last_digits_unit(text: str) -> int | None:
    """Return the value of a unit in the last digit that is not zero. None: it is a fraction, or the number minus zero.

    Only for numbers whose double is whole and in range: the exponents of others may be too large to compute with.
    """
    mantissa, _e, exponent = text.lower().partition("e")
    integer, _point, fraction = mantissa.partition(".")
    digits = integer + fraction
    significant = digits.rstrip("0")
    if significant in ("", "-"):
        return None if significant else 1
    if len(text) > _LONGEST_NUMBER:
        return None
    power = int(exponent or "0") - len(fraction) + len(digits) - len(significant)
    return 10**power if power >= 0 else None


def expect_whole(value: object, what: str) -> Whole:
    """Return ``value`` if it is a whole number (:func:`whole`); a bool is not.

    :raises RemoteProtocolError: it is not a whole number
    """
    found = whole(value)
    if found is None:
        kind = "float" if isinstance(value, float) else type(value).__name__
        raise RemoteProtocolError(f"the agent returned {what} as {kind}, not as an integer")
    return found


def expect_integer(value: object, what: str) -> int:
    """As :func:`expect_whole`, for numbers whose rounding does not matter."""
    return expect_whole(value, what).value
