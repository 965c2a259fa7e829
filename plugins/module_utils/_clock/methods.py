# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to step or slew a guest's clock, and the options of a resync."""

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

# The stock agent runs hwclock inside of guest-set-time, which waits for an edge of the RTC's second: about one second,
# two on a busy guest (qga/commands-posix.c, QEMU 10.0.13). It has this many seconds on top of an exchange's own limit.
_HWCLOCK_SECONDS = 5.0

# What a step should leave at most. Tolerance is what is left alone, and wider: a clock that has to be stepped is set as
# well as can be. The first step after a restore may miss it, on an emulated CPU that translates the agent's code anew.
_FINE_NS = 500_000

# guest-set-time does more than guest-get-time before it acts: it reads a number and looks at the local time zone. On
# emulated guests with qemu-ga 7.2 that was a fifth of the way there. Where the way is short, so is the error.
_SETTING_PERCENT = 120

_TURN_SECONDS = 0.1


class Timings(NamedTuple):
    """How long something is waited for, in seconds: a ``daemon`` of the hypervisor that is restarted, until it has
    found the agents again; an ``agent`` that is restarted; and one that still sits in ``hwclock`` after its timeout.
    """

    daemon: float = 15.0
    agent: float = 5.0
    hwclock: float = _HWCLOCK_SECONDS


_USUAL = Timings()


@dataclass(frozen=True)
class ResyncOptions:
    """How to resync. ``samples`` is the most exchanges for one measurement.

    ``method``: "auto", "extended" (a delta, applied by the extended agent), "set_time" (an absolute time) or "rtc" (the
    guest takes its hardware clock's). ``attempts`` bounds the steps, ``dry_run`` forbids them. ``backward``: with all
    but "step", only a guest that is certainly late is stepped; one that is ahead is left so ("leave"), or its kernel
    slews its clock if that is possible ("slew"). ``turns`` are for all guests that are resynced with these options at
    the same time, on one thread.
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
    """The extended agent adds the delta in its kernel, so however long the request takes, no error is added."""
    rtc = {"rtc": True} if options.update_rtc else {}
    returned = await agent.call("guest-update-time", {**_delta(offset), **rtc})
    rtc_error = returned.get("rtc-error") if isinstance(returned, dict) else None
    return f"the guest's hardware clock was not updated: {visible(rtc_error)}" if isinstance(rtc_error, str) else None


async def _slew_by_delta(
    agent: GuestAgent, _reference: Reference, offset: Offset, options: ResyncOptions
) -> str | None:
    """The extended agent has its kernel add the delta little by little, in place of what is left of another slew."""
    await agent.call("guest-update-time", {**_delta(offset), "slew": True})
    return "the guest's hardware clock was not updated: a slew takes its time" if options.update_rtc else None


async def _step_to_time(agent: GuestAgent, reference: Reference, offset: Offset, options: ResyncOptions) -> str | None:
    """The stock agent sets an absolute time; it is stamped as it leaves, and leads by the usual way to the agent."""
    base_ns = reference.base_ns()
    lead_ns = offset.measurement.one_way_ns * _SETTING_PERCENT // 100

    timeout = agent.timeout + options.timings.hwclock
    await agent.call("guest-set-time", lambda now_ns: {"time": now_ns + base_ns + lead_ns}, timeout)
    return None


async def _step_from_rtc(
    agent: GuestAgent, _reference: Reference, _offset: Offset, options: ResyncOptions
) -> str | None:
    """Without a time, the stock agent takes the guest's hardware clock's (``hwclock -s``)."""
    await agent.call("guest-set-time", timeout=agent.timeout + options.timings.hwclock)
    return None


class Method(NamedTuple):
    """``fine_ns``: what a step may leave without another attempt to come nearer. ``hint``: for a clock left wrong.
    ``carries_time``: it is wrong by as long as it takes to get there. ``is_gradual``: the clock gets there later.
    """

    command: str
    step: _Step
    fine_ns: Callable[[Offset], float]
    hint: str | None = None
    carries_time: bool = False
    is_gradual: bool = False


METHODS: Mapping[str, Method] = {
    "extended": Method("guest-update-time", _step_by_delta, fine_ns=lambda _offset: _FINE_NS),
    # Each attempt costs a second: what is less than the uncertainty is not worth one.
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

# How a clock that is ahead may come back.
BACKWARD = ("step", "slew", "leave")
