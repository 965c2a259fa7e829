# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measuring the offset of a guest's clock by a series of readings."""

from __future__ import annotations

from dataclasses import replace
from typing import Awaitable, Callable, Mapping

from .._agent import GuestAgent
from .._event_loop.tasks import pause
from .._linux.timex import SLEW_PPM
from .._protocol.errors import RemoteProtocolError
from .._protocol.numbers import Whole, expect_whole
from .intervals import (
    EXTENDED_RESOLUTION_NS,
    MINUTE_NS,
    STOCK_RESOLUTION_NS,
    Interval,
    Measurement,
    Reading,
    Slew,
    evaluate,
    intersection,
    narrowed,
)

# Readings that contradict each other are discarded and taken again this often before the clock counts as coarse. The
# cause may be a step, which is over by then.
_FRESH_STARTS = 2

# Readings are taken as long as one of the last few has narrowed the interval by at least this much.
_READINGS_IN_VAIN = 3
_WORTHWHILE_PERCENT = 10
# An interval this narrow is sufficient: it is a fifth of the residual that a step may leave (resync.py). At least three
# readings are taken, since two may not show that a clock stands still.
_NARROW_ENOUGH_NS = 100_000
_FEWEST_READINGS = 3
# Number of additional readings before the interval is computed again.
_CLOSER_READINGS = 4

# A clock with this resolution, or one that stands still between two readings, may tick less often than a few quick
# readings show: Windows ticks every 15.625 ms. Its readings must spread over a few ticks to prove anything.
_COARSE_NS = 1_000_000
_SPREAD_NS = 50_000_000
_SPREAD_PAUSE_SECONDS = 0.001
_MOST_SPREAD = 64


Read = Callable[[], Awaitable[Reading]]  # one exchange
Suffices = Callable[[Interval], bool]  # decides by the interval that all readings agree on


def never(_agreed: Interval) -> bool:
    return False


async def measure(
    read: Read,
    most: int,
    least: int = 1,
    longest_ns: int = MINUTE_NS,
    suffices: Suffices = never,
    is_open: Suffices = never,
    closer: int = 0,
) -> Measurement:
    """Take between ``least`` and ``most`` readings, until more no longer narrow the interval; and evaluate them.

    The series ends early if the interval ``suffices``. If it leaves a question open (``is_open``), up to ``closer``
    more readings are taken.

    Readings that contradict each other are taken again a few times, because the clock may have been stepped, or a
    coarse clock may have ticked in between. A coarse clock is read for longer, to see its ticks.

    No reading begins after ``longest_ns``, because a guest may be slow on purpose.

    :raises RemoteProtocolError: an exchange contradicts itself in every attempt
    """
    budget = _Budget(read, longest_ns)
    for _start in range(1 + _FRESH_STARTS):
        readings = await _until_it_stops_narrowing(budget, most, least, suffices)
        measurement = await _look_closer(budget, readings, is_open, closer)
        if not measurement.coarse or budget.is_spent:
            break
    if (measurement.coarse or measurement.resolution_ns >= _COARSE_NS) and not budget.is_spent:
        readings = await _spread(budget, most)
        measurement = evaluate(readings)
        if is_open(measurement.interval) and not budget.is_spent:
            readings += await _spread(budget, closer)
            measurement = evaluate(readings)
    if any(reading.is_impossible for reading in readings):
        raise RemoteProtocolError("the agent reports a processing time longer than the exchange")
    return replace(measurement, is_cut_short=budget.is_spent)


class _Budget:
    """Takes readings until the time for them is used up."""

    def __init__(self, read: Read, longest_ns: int) -> None:
        self._read = read
        self._longest_ns = longest_ns
        self._until_ns: int | None = None
        self.is_spent = False

    async def read(self) -> Reading:
        reading = await self._read()
        if self._until_ns is None:
            self._until_ns = reading.sent_ns + self._longest_ns
        self.is_spent = reading.received_ns >= self._until_ns
        return reading


async def _until_it_stops_narrowing(budget: _Budget, most: int, least: int, suffices: Suffices) -> list[Reading]:
    readings = [await budget.read()]
    agreed = intersection(readings)
    narrowest = agreed.width
    in_vain = 0
    while not budget.is_spent and len(readings) < most:
        if len(readings) >= max(least, _FEWEST_READINGS) and (
            in_vain >= _READINGS_IN_VAIN or agreed.width <= _NARROW_ENOUGH_NS or suffices(agreed)
        ):
            break
        readings.append(await budget.read())
        agreed = narrowed(agreed, readings[-2], readings[-1])
        if agreed.is_empty:
            break
        if agreed.width <= narrowest * (100 - _WORTHWHILE_PERCENT) // 100:
            narrowest, in_vain = agreed.width, 0
        else:
            in_vain += 1
    return readings


async def _look_closer(budget: _Budget, readings: list[Reading], is_open: Suffices, closer: int) -> Measurement:
    """Add up to ``closer`` readings, as long as their interval leaves the question open."""
    measurement = evaluate(readings)
    most = len(readings) + closer
    while is_open(measurement.interval) and not (measurement.coarse or budget.is_spent or len(readings) >= most):
        for _reading in range(min(_CLOSER_READINGS, most - len(readings))):
            readings.append(await budget.read())
            if budget.is_spent:
                break
        measurement = evaluate(readings)
    return measurement


async def _spread(budget: _Budget, exchanges: int) -> list[Reading]:
    readings = [await budget.read()]
    while not budget.is_spent and (
        len(readings) < exchanges
        or (readings[-1].received_ns - readings[0].sent_ns < _SPREAD_NS and len(readings) < _MOST_SPREAD)
    ):
        await pause(_SPREAD_PAUSE_SECONDS)
        readings.append(await budget.read())
    return readings


async def reader(agent: GuestAgent) -> Read:
    """Return the function that reads this guest's clock, by the extended agent's command if the agent has it."""
    return (lambda: _read_extended(agent)) if await agent.knows("guest-get-clock") else stock_reader(agent)


def stock_reader(agent: GuestAgent) -> Read:
    """Return the function that reads this guest's clock by the stock agent's command, which both agents have."""
    return lambda: _read_stock(agent)


# Years 1970 to 2261, the range of nanoseconds in an int64. A reading outside of it is rejected.
_LATEST_NS = 2**63 - 1
# The duration of a slew must fit as well.
_MOST_LEFT_NS = _LATEST_NS * SLEW_PPM // 1_000_000


def _guest_time(value: object, what: str) -> Whole:
    found = expect_whole(value, what)
    if not 0 <= found.value <= _LATEST_NS:
        raise RemoteProtocolError(f"the agent returned {what} outside of the years 1970 to 2261")
    return found


async def _read_stock(agent: GuestAgent) -> Reading:
    exchange = await agent.exchange("guest-get-time")
    guest_ns, rounded_ns = _guest_time(exchange.value, "the guest's time")
    return Reading(exchange.sent_ns, exchange.received_ns, guest_ns, guest_ns, STOCK_RESOLUTION_NS, rounded_ns)


async def _read_extended(agent: GuestAgent) -> Reading:
    exchange = await agent.exchange("guest-get-clock")
    value = exchange.value
    if not isinstance(value, dict):
        raise RemoteProtocolError("the agent returned a guest-get-clock that is not an object")
    received_ns, received_rounded_ns = _guest_time(value.get("received"), "received")
    transmitted_ns, transmitted_rounded_ns = _guest_time(value.get("transmitted"), "transmitted")
    if transmitted_ns < received_ns:
        raise RemoteProtocolError(
            "the agent returned a reply to guest-get-clock whose transmitted is before its received"
        )
    return Reading(
        exchange.sent_ns,
        exchange.received_ns,
        received_ns,
        transmitted_ns,
        EXTENDED_RESOLUTION_NS,
        max(received_rounded_ns, transmitted_rounded_ns),
        _slew(value),
    )


def _slew(value: Mapping[str, object]) -> Slew | None:
    """Return the slew in the reply; None if the agent does not slew clocks. A null counts as absent."""
    left = value.get("slewing")
    if left is None:
        return None
    left_ns = expect_whole(left, "slewing").value
    if abs(left_ns) > _MOST_LEFT_NS:
        raise RemoteProtocolError("the agent returned slewing that would take more than 292 years")
    is_possible = value.get("slewable")
    if is_possible is not None and not isinstance(is_possible, bool):
        raise RemoteProtocolError("the agent returned slewable that is not a boolean")
    return Slew(left_ns, bool(is_possible))
