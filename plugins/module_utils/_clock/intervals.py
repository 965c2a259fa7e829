# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Computing an interval that contains the offset of a guest's clock from exchanges. No I/O.

Whatever the delays of an exchange, the guest read its clock after the request was sent and before the reply was
received. This bounds the offset on both sides, and the bounds of several exchanges can be intersected (Marzullo's
algorithm without false sources). All values are integer nanoseconds. Offsets here are relative to the host's monotonic
clock; ``reference.py`` has the time that the guest should have shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Sequence

from .reference import MAX_SLEW_PPM

MINUTE_NS = 60_000_000_000

# guest-get-time truncates to microseconds (g_get_real_time in qga/commands.c, QEMU 10.0.13).
STOCK_RESOLUTION_NS = 1_000

EXTENDED_RESOLUTION_NS = 1

# Known resolutions of agents: powers of ten, and one agent that has whole minutes only.
_RESOLUTIONS_NS: tuple[int, ...] = (MINUTE_NS, *tuple(10**digits for digits in range(9, 2, -1)))

# The request's share of a round trip. It is larger than the reply's, since the request has to wake an idle guest. With
# a witness in emulated guests, it was 79 to 84 % with the stock agent, and 74 to 82 % with the extended agent.
_WAY_THERE_PERCENT = 77


class Interval(NamedTuple):
    """An interval that includes both ends. It is empty if ``low`` exceeds ``high``."""

    low: int
    high: int

    @property
    def middle(self) -> int:
        return (self.low + self.high) // 2

    @property
    def width(self) -> int:
        return self.high - self.low

    @property
    def half_width(self) -> int:
        """Half of the width, rounded up so that ``middle`` ± ``half_width`` covers the interval."""
        return (self.width + 1) // 2

    @property
    def is_empty(self) -> bool:
        return self.low > self.high

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    def shifted(self, by: int) -> Interval:
        return Interval(self.low + by, self.high + by)

    def widened(self, by: int) -> Interval:
        return Interval(self.low - by, self.high + by)


class Slew(NamedTuple):
    """The state of slewing in a guest's kernel: the amount left to add to the clock (negative: to subtract; 0: no
    slew), and whether a slew is possible, because no time service disciplines the clock.
    """

    left_ns: int
    is_possible: bool


@dataclass(frozen=True)
class Reading:
    """One exchange that read the guest's clock: the host's monotonic stamps around the guest's stamps.

    ``guest_received_ns`` and ``guest_transmitted_ns`` are equal if the agent returns one reading only.
    ``resolution_ns``: the true time was later than the reading by up to this much, since agents truncate.
    ``rounded_ns``: the error of the number's text form, in either direction (:class:`numbers.Whole`).
    ``slew``: None if the agent does not slew clocks.
    """

    sent_ns: int
    received_ns: int
    guest_received_ns: int
    guest_transmitted_ns: int
    resolution_ns: int = EXTENDED_RESOLUTION_NS
    rounded_ns: int = 0
    slew: Slew | None = None

    @property
    def drift_ppm(self) -> int:
        """The maximum drift between the two clocks. A slew at the full rate adds to the guest clock's own error, and
        the host's clock may be slewed as well.
        """
        return 2 * MAX_SLEW_PPM if self.slew is not None and self.slew.left_ns else MAX_SLEW_PPM

    @property
    def interval(self) -> Interval:
        """The interval that this exchange alone proves for guest clock minus host clock."""
        return Interval(
            self.guest_transmitted_ns - self.rounded_ns - self.received_ns,
            self.guest_received_ns + self.rounded_ns + self.resolution_ns - self.sent_ns,
        )

    @property
    def round_trip_ns(self) -> int:
        """The transit time of request and reply, without the processing time that the agent reports; never negative."""
        return max(0, self.elapsed_ns - (self.guest_transmitted_ns - self.guest_received_ns))

    @property
    def is_impossible(self) -> bool:
        """Return whether the agent reports a processing time longer than the exchange."""
        claimed_ns = self.guest_transmitted_ns - self.guest_received_ns
        most_ns = self.elapsed_ns + _drift(self.elapsed_ns, self.drift_ppm)
        return claimed_ns > most_ns + self.resolution_ns + 2 * self.rounded_ns

    @property
    def elapsed_ns(self) -> int:
        return self.received_ns - self.sent_ns


@dataclass(frozen=True)
class Measurement:
    """The combined result of several readings.

    ``interval`` is proven to contain the offset of the guest's clock from the host's monotonic clock. ``likely_ns`` is
    the estimated offset within it, good enough to step by but not to report. ``one_way_ns`` is the estimated median
    time from sending a request to the agent's reading of the clock. ``coarse``: the guest's clock ticks visibly or is
    being slewed, and the interval was widened accordingly. ``is_cut_short``: its time was used up before all readings
    were taken. ``slew`` is from the last reading.
    """

    interval: Interval
    likely_ns: int
    round_trip_ns: int
    one_way_ns: int
    resolution_ns: int
    exchanges: int
    coarse: bool
    is_cut_short: bool = False
    slew: Slew | None = None


def intersection(readings: Sequence[Reading]) -> Interval:
    """Return the interval that all readings agree on at the time of the last; empty if they contradict each other.

    An older reading proves less, since the clocks drift, and a time service may slew either of them.
    """
    now_ns = max(reading.received_ns for reading in readings)
    ppm = max(reading.drift_ppm for reading in readings)
    aged = [reading.interval.widened(_drift(now_ns - reading.sent_ns, ppm)) for reading in readings]
    return Interval(max(each.low for each in aged), min(each.high for each in aged))


def _drift(elapsed_ns: int, ppm: int) -> int:
    """Return the maximum drift between two clocks in that time, rounded up."""
    return elapsed_ns * ppm // 1_000_000 + 1


def _seen_resolution(readings: Sequence[Reading]) -> int:
    """Return the coarsest known resolution of which all readings are multiples, or the readings' nominal resolution."""
    claimed = max(reading.resolution_ns for reading in readings)
    for step in _RESOLUTIONS_NS:
        if step > claimed and all(
            reading.guest_received_ns % step == 0 and reading.guest_transmitted_ns % step == 0 for reading in readings
        ):
            return step
    return claimed


def _likely_offset(agreed: Interval, resolution_ns: int) -> int:
    """Return the estimated offset within the interval.

    The interval is as wide as the fastest request and the fastest reply together. The readings do not show each one's
    share, but it is about the same for all guests.
    """
    if resolution_ns > agreed.width:
        return agreed.middle  # the position within a tick dominates
    return agreed.high - agreed.width * _WAY_THERE_PERCENT // 100


def _stands_still(readings: Sequence[Reading], resolution_ns: int) -> bool:
    """Return whether the guest's clock showed the same time twice although enough time had passed."""
    return any(
        later.guest_received_ns == earlier.guest_received_ns and later.sent_ns - earlier.received_ns > resolution_ns
        for earlier, later in zip(readings, readings[1:])
    )


def evaluate(readings: Sequence[Reading]) -> Measurement:
    """Combine the readings into a measurement, and resolve contradictions by widening its interval."""
    # An agent writes all numbers with the same precision, which trailing zeros can hide.
    finest_ns = min(each.rounded_ns for each in readings)
    readings = [replace(each, rounded_ns=finest_ns) for each in readings]
    span_ns = 2 * finest_ns
    resolution_ns = _seen_resolution(readings)
    agreed = _agreed_at(resolution_ns, readings)
    coarse = agreed.is_empty or _stands_still(readings, resolution_ns + span_ns)
    if coarse:
        # The largest tick that was seen.
        growths = (
            later.guest_received_ns - earlier.guest_received_ns for earlier, later in zip(readings, readings[1:])
        )
        resolution_ns += max((0, *growths))
        agreed = _agreed_at(resolution_ns, readings)
    gap_ns = max(0, agreed.low - agreed.high)
    # The readings contradict each other even for a clock that ticks: it was stepped or slewed. The interval covers both
    # sides of the contradiction.
    interval = Interval(agreed.low - gap_ns, agreed.low + gap_ns) if gap_ns else agreed
    likely_ns = _likely_offset(interval, resolution_ns + span_ns)
    # On average, truncation removes half of the resolution. No transit is longer than its exchange, whatever the guest
    # reports.
    ways_ns = sorted(
        min(each.elapsed_ns, each.guest_received_ns + resolution_ns // 2 - each.sent_ns - likely_ns)
        for each in readings
    )
    one_way_ns = ways_ns[(len(ways_ns) - 1) // 2]
    return Measurement(
        interval=interval,
        likely_ns=likely_ns,
        round_trip_ns=min(each.round_trip_ns for each in readings),
        one_way_ns=max(0, one_way_ns),
        resolution_ns=max(resolution_ns + span_ns, gap_ns),
        exchanges=len(readings),
        coarse=coarse,
        slew=readings[-1].slew,
    )


def _agreed_at(resolution_ns: int, readings: Sequence[Reading]) -> Interval:
    return intersection([replace(each, resolution_ns=resolution_ns) for each in readings])


def narrowed(agreed: Interval, last: Reading, reading: Reading) -> Interval:
    """Return the interval agreed on at the last reading, narrowed by this one."""
    ppm = max(last.drift_ppm, reading.drift_ppm)
    aged = agreed.widened(_drift(reading.received_ns - last.received_ns, ppm))
    own = reading.interval.widened(_drift(reading.received_ns - reading.sent_ns, ppm))
    return Interval(max(aged.low, own.low), min(aged.high, own.high))
