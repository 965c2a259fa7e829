# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole numbers as peers write them: as integers, or as doubles with fewer digits than they mean."""

from __future__ import annotations

import math
from typing import NamedTuple

from .errors import RemoteProtocolError
from .values import WholeFloat


class Whole(NamedTuple):
    """A whole number as a peer wrote it; the one that it meant may be ``rounded`` away from it, either way."""

    value: int
    rounded: int = 0


# What QAPI's integers may be (int64 and uint64), and one more at the upper end, which no double is.
_LOWEST, _HIGHEST = -(2**63), 2**64

# No agent writes a number longer; and it bounds what reading the digits costs.
_LONGEST_NUMBER = 64

_DOUBLE_BITS = 53


def whole(value: object) -> Whole | None:
    """Return the whole number that a peer wrote, as an integer or as a double such as ``5.0`` or ``1.8e+18``.

    Agents that keep numbers as doubles write them with 15 or 17 digits (cJSON). A double holds 53 bits, and the digits
    that were not written are not known either. None: it is no number, not whole, minus zero, or out of QAPI's range.
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
    """Return what the last digit counts that is written and not zero. None: it is a fraction, or the number minus zero.

    Only for numbers of which the double is whole and in range: any exponent of others may be too large to compute.
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
    """``value`` if it is a whole number (:func:`whole`); a peer's bool is none.

    :raises RemoteProtocolError: it is not
    """
    found = whole(value)
    if found is None:
        kind = "float" if isinstance(value, float) else type(value).__name__
        raise RemoteProtocolError(f"the agent returned {what} as {kind}, not as an integer")
    return found


def expect_integer(value: object, what: str) -> int:
    """As :func:`expect_whole`, where it does not matter how finely the number is written."""
    return expect_whole(value, what).value
