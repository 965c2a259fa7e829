# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Conversion between times and text, to the nanosecond (``datetime`` has microseconds, a float fewer digits)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

from .._errors import InvalidOptionError

SECOND_NS = 1_000_000_000
LATEST_NS = 2**63 - 1  # in the year 2262; QAPI's integers end there

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FRACTION = re.compile(r"(?<=[Tt ]\d\d:\d\d:\d\d)[.,](\d+)")
_HINT = "Write it as 2026-11-23T04:05:06.789+01:00, with a time zone (Z for UTC), or as seconds since 1970."


def format_instant(epoch_ns: int) -> str:
    """Return the time as ISO 8601 in UTC with nine decimals; outside of the calendar, as a number of seconds."""
    seconds, nanoseconds = divmod(epoch_ns, SECOND_NS)
    try:
        instant = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds}.{nanoseconds:09d}"
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


def parse_instant(text: str) -> int:
    """Return nanoseconds since 1970, from ISO 8601 with a time zone or from seconds since 1970.

    :raises InvalidOptionError: the text is neither, or is outside of the years 1970 to 2261
    """
    epoch_ns = _from_seconds(text.strip())
    if epoch_ns is None:
        epoch_ns = _from_iso(text.strip())
    if not 0 <= epoch_ns <= LATEST_NS:
        raise InvalidOptionError(f"time '{text}' is outside of the years 1970 to 2261", _HINT)
    return epoch_ns


def _from_seconds(text: str) -> int | None:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        return None
    # The bound is checked first, and by comparison only: 1e9999999 overflows in any arithmetic, including abs().
    if not seconds.is_finite() or not -LATEST_NS <= seconds <= LATEST_NS:
        raise InvalidOptionError(f"time '{text}' is outside of the years 1970 to 2261", _HINT)
    return int(seconds * SECOND_NS)


def _from_iso(text: str) -> int:
    fraction = _FRACTION.search(text)
    # Python 3.8 accepts neither Z nor fractions other than three or six digits.
    whole = _FRACTION.sub("", text, count=1)
    if whole[-1:] in ("Z", "z"):
        whole = whole[:-1] + "+00:00"
    try:
        instant = datetime.fromisoformat(whole)
    except ValueError:
        raise InvalidOptionError(f"time '{text}' is not a time", _HINT) from None
    if instant.tzinfo is None:
        raise InvalidOptionError(f"time '{text}' has no time zone", _HINT)
    since = instant - _EPOCH
    nanoseconds = int(fraction.group(1)[:9].ljust(9, "0")) if fraction else 0
    # Later Pythons accept fractions in places that are not handled above, such as a time zone.
    nanoseconds += since.microseconds * 1000
    return (since.days * 86400 + since.seconds) * SECOND_NS + nanoseconds
