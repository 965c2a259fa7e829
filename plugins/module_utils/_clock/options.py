# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a resync as typed values: the clock to compare with, and how to step."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Mapping, NamedTuple

from .._errors import HostClockUnsynchronizedError, InvalidOptionError
from .methods import ResyncOptions
from .reference import HostClock, HostReference, Reference, StatedReference, host_clock
from .timestamps import SECOND_NS, parse_instant


def nanoseconds(seconds: float) -> int:
    return math.floor(seconds * SECOND_NS + 0.5)


class ChosenReference(NamedTuple):
    """The reference, and a warning about it."""

    reference: Reference
    warning: str | None = None


def reference_of(params: Mapping[str, Any], read_host_clock: Callable[[], HostClock] = host_clock) -> ChosenReference:
    """Return the clock that the options compare the guest's with.

    :raises InvalidOptionError: ``time`` is not a time
    :raises HostClockUnsynchronizedError: ``require_synchronized_host``, and it is not
    """
    utc_offset_ns = nanoseconds(params.get("utc_offset") or 0.0)
    stated = params.get("time")
    if stated is not None:
        return ChosenReference(StatedReference(parse_instant(stated) + utc_offset_ns, time.monotonic_ns()))
    reference = HostReference(utc_offset_ns)
    state, unsynchronized = read_host_clock(), "the host's own clock is not synchronized"
    if params.get("require_synchronized_host") and not state.synchronized:
        unknown = "the host's kernel does not report whether its clock is synchronized"
        raise HostClockUnsynchronizedError(unknown if state.synchronized is None else unsynchronized)
    warning = f"{unsynchronized}; guests are compared with it anyway"
    return ChosenReference(reference, warning if state.synchronized is False else None)


def require_consistent(params: Mapping[str, Any]) -> None:
    """
    :raises InvalidOptionError: the options contradict each other
    """
    if params["method"] == "rtc" and params["backward"] != "step":
        raise InvalidOptionError(
            f"method rtc cannot be combined with backward={params['backward']}: "
            "the time of a hardware clock is not known in advance",
            "Choose another method, or backward=step.",
        )


def resync_options(params: Mapping[str, Any], dry_run: bool) -> ResyncOptions:
    return ResyncOptions(
        tolerance_ns=nanoseconds(params["tolerance"]),
        method=params["method"],
        attempts=params["attempts"],
        samples=params["samples"],
        backward=params["backward"],
        update_rtc=params["update_rtc"],
        dry_run=dry_run,
    )
