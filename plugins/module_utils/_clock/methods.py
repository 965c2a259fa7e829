# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The methods to step or slew a guest's clock, and the options of a resync."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Awaitable, Callable, Mapping, NamedTuple, Optional

from .._agent import GuestAgent
from .._event_loop.tasks import Turns
from .._untrusted import visible
from .reference import Reference
from .report import Offset
from .timestamps import SECOND_NS

# The stock agent runs hwclock during guest-set-time, which waits for the next full second of the RTC: about one second,
# two on a busy guest (qga/commands-posix.c, QEMU 10.0.13). This is added to the timeout of the exchange.
_HWCLOCK_SECONDS = 5.0

# The target for the residual of a step. It is smaller than the tolerance, since a clock that is stepped is set as
# accurately as possible. The first step after a restore may miss it on an emulated CPU, which has to translate the
# agent's code again.
_FINE_NS = 500_000

# guest-set-time does more work than guest-get-time before it sets the clock: it parses a number and reads the local
# time zone. On emulated guests with qemu-ga 7.2, this added a fifth to the transit time. On a fast guest, the error is
# small.
_SETTING_PERCENT = 120

_TURN_SECONDS = 0.1


class Timings(NamedTuple):
    """Maximum waits in seconds: for a restart of the hypervisor's ``daemon``, until it has found the agents; for a
    restart of the ``agent``; and for an agent that still runs ``hwclock`` after its timeout.
    """

    daemon: float = 15.0
    agent: float = 5.0
    hwclock: float = _HWCLOCK_SECONDS


_USUAL = Timings()


@dataclass(frozen=True)
class ResyncOptions:
    """The options of a resync. ``samples`` is the maximum number of exchanges for one measurement.

    ``method``: "auto", "extended" (a delta, added by the extended agent), "set_time" (an absolute time) or "rtc" (the
    time of the guest's hardware clock). ``attempts`` limits the number of steps, ``dry_run`` forbids them.
    ``backward``: "step", or "leave" a clock that may be ahead alone, or have the guest's kernel "slew" it if possible.
    ``turns`` are shared by all guests that are resynced with these options at the same time, on one thread.
    """

    tolerance_ns: int = SECOND_NS // 10
    method: str = "auto"
    attempts: int = 3
    samples: int = 16
    backward: str = "step"
    update_rtc: bool = False
    dry_run: bool = False
    timings: Timings = _USUAL
    turns: Turns = field(default_factory=lambda: Turns(_TURN_SECONDS), compare=False, repr=False)


_Step = Callable[[GuestAgent, Reference, Offset, ResyncOptions], Awaitable[Optional[str]]]


def _delta(offset: Offset) -> dict[str, object]:
    seconds, nanoseconds = divmod(-offset.likely_ns, SECOND_NS)
    return {"seconds": seconds, "nanoseconds": nanoseconds, "relative": True}


async def _step_by_delta(
    agent: GuestAgent, _reference: Reference, offset: Offset, options: ResyncOptions
) -> str | None:
    """Have the extended agent add the delta in the kernel. The transit time of the request adds no error."""
    rtc = {"rtc": True} if options.update_rtc else {}
    returned = await agent.call("guest-update-time", {**_delta(offset), **rtc})
    rtc_error = returned.get("rtc-error") if isinstance(returned, dict) else None
    return f"the guest's hardware clock was not updated: {visible(rtc_error)}" if isinstance(rtc_error, str) else None


async def _slew_by_delta(
    agent: GuestAgent, _reference: Reference, offset: Offset, options: ResyncOptions
) -> str | None:
    """Have the extended agent's kernel add the delta gradually. This replaces what is left of another slew."""
    await agent.call("guest-update-time", {**_delta(offset), "slew": True})
    return "the guest's hardware clock was not updated: a slew is gradual" if options.update_rtc else None


async def _step_to_time(agent: GuestAgent, reference: Reference, offset: Offset, options: ResyncOptions) -> str | None:
    """Have the stock agent set an absolute time: that of sending the request, plus the expected transit time."""
    base_ns = reference.base_ns()
    lead_ns = offset.measurement.one_way_ns * _SETTING_PERCENT // 100

    timeout = agent.timeout + options.timings.hwclock
    await agent.call("guest-set-time", lambda now_ns: {"time": now_ns + base_ns + lead_ns}, timeout)
    return None


async def _step_from_rtc(
    agent: GuestAgent, _reference: Reference, _offset: Offset, options: ResyncOptions
) -> str | None:
    """Have the stock agent read the guest's hardware clock (``hwclock -s``), which it does without a time."""
    await agent.call("guest-set-time", timeout=agent.timeout + options.timings.hwclock)
    return None


class Method(NamedTuple):
    """``fine_ns``: a residual up to this is not worth another step. ``hint``: for a clock that stays wrong.
    ``carries_time``: the request has a time, which the transit makes wrong. ``is_gradual``: the clock changes slowly.
    """

    command: str
    step: _Step
    fine_ns: Callable[[Offset], float]
    hint: str | None = None
    carries_time: bool = False
    is_gradual: bool = False


METHODS: Mapping[str, Method] = {
    "extended": Method("guest-update-time", _step_by_delta, fine_ns=lambda _offset: _FINE_NS),
    # Each attempt costs a second, and a residual below the uncertainty is not worth it.
    "set_time": Method(
        "guest-set-time",
        _step_to_time,
        fine_ns=lambda offset: max(_FINE_NS, offset.uncertainty_ns),
        carries_time=True,
    ),
    "rtc": Method(
        "guest-set-time",
        _step_from_rtc,
        fine_ns=lambda _offset: math.inf,
        hint="A hardware clock is read in whole seconds: raise tolerance to 1 or more, or use method set_time.",
    ),
}

METHOD_CHOICES = ("auto", *METHODS)

SLEW = Method("guest-update-time", _slew_by_delta, fine_ns=lambda _offset: math.inf, is_gradual=True)

# How a clock that is ahead may be set back.
BACKWARD = ("step", "slew", "leave")
