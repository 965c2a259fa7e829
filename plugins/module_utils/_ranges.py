# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ranges of numeric options."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Mapping, NamedTuple

from ._errors import InvalidOptionError


class Range(NamedTuple):
    """The allowed values of an option; ``unit`` is for messages."""

    lowest: float
    highest: float
    unit: str = ""


_DAY = 86400.0

RANGES: Mapping[str, Range] = MappingProxyType(
    {
        "timeout": Range(0.05, _DAY, " s"),
        "wait_timeout": Range(0.0, _DAY, " s"),
        "tolerance": Range(0.0, 366 * _DAY, " s"),
        "deadline": Range(0.05, 7 * _DAY, " s"),
        "concurrency": Range(1, 1000),
        "utc_offset": Range(-2 * _DAY, 2 * _DAY, " s"),
        "attempts": Range(1, 100),
        "samples": Range(1, 1000),
    }
)


def check_numbers(params: Mapping[str, Any], ranges: Mapping[str, Range] = RANGES) -> None:
    """Check that numeric options are in their ranges; those of the modules by default.

    :raises InvalidOptionError: an option is out of its range
    """
    for option, allowed in ranges.items():
        value = params.get(option)
        # Written so that NaN, for which all comparisons are false, is refused as well.
        if value is not None and not allowed.lowest <= value <= allowed.highest:
            raise InvalidOptionError(
                f"{option} is {value}{allowed.unit}",
                f"Choose between {allowed.lowest:.10g} and {allowed.highest:.10g}{allowed.unit}.",
            )
