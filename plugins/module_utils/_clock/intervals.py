# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From exchanges to an interval that holds the offset of a guest's clock. No I/O.

Whatever delays an exchange met, the guest read its clock after the request was sent and before the reply was received.
That bounds the offset on both sides, and the bounds of several exchanges can be intersected (Marzullo's idea, with
every source telling the truth). All values are integer nanoseconds. Offsets here are against the host's monotonic
clock; ``reference.py`` says what the guest should have shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Sequence

from .reference import MAX_SLEW_PPM

MINUTE_NS = 60_000_000_000

# guest-get-time cuts its reading to microseconds (g_get_real_time in qga/commands.c, QEMU 10.0.13).
STOCK_RESOLUTION_NS = 1_000

EXTENDED_RESOLUTION_NS = 1

# Steps that clocks are known to be read in: powers of ten, and an agent that knows whole minutes only.
_RESOLUTIONS_NS: tuple[int, ...] = (MINUTE_NS, *tuple(10**digits for digits in range(9, 2, -1)))

# How much of a round trip the way there is: it has to wake a guest that sleeps, and on the way back the host is awake.
# Against a witness in emulated guests it was 79 to 84 % with the stock agent, and 74 to 82 % with the extended one.
_WAY_THERE_PERCENT = 77


class Interval(NamedTuple):
    """Both ends belong to it. Empty if ``low`` is above ``high``."""

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
        """Rounded up, so that the middle and it never promise too much."""
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
    """A guest's kernel on slewing: what is left to be added to the clock (negative: taken away; 0: no slew is under
    way), and whether a slew would be begun. No time service disciplines the clock then.
    """

    left_ns: int
    is_possible: bool


@dataclass(frozen=True)
class Reading:
    """One exchange that read the guest's clock: the host's monotonic stamps around the guest's own.

    ``guest_received_ns`` and ``guest_transmitted_ns`` are the same where the agent gives one reading only.
    ``resolution_ns``: the true time was up to this much later than the reading, since agents cut and never round up.
    ``rounded_ns``: the number was written this coarsely on top of it, either way (:class:`numbers.Whole`).
    ``slew``: None, if the agent does not slew clocks.
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
        """The most by which the two clocks drift apart. One that the kernel slews at the full rate has its own error
        on top, and the host's clock may be slewed as well.
        """
        return 2 * MAX_SLEW_PPM if self.slew is not None and self.slew.left_ns else MAX_SLEW_PPM

    @property
    def interval(self) -> Interval:
        """Guest clock minus host clock, as far as this exchange alone proves it."""
        return Interval(
            self.guest_transmitted_ns - self.rounded_ns - self.received_ns,
            self.guest_received_ns + self.rounded_ns + self.resolution_ns - self.sent_ns,
        )

    @property
    def round_trip_ns(self) -> int:
        """Time on the way, both ways, without what the agent says it spent; never negative."""
        return max(0, self.elapsed_ns - (self.guest_transmitted_ns - self.guest_received_ns))

    @property
    def is_impossible(self) -> bool:
        """The agent claims to have worked for longer than the exchange took."""
        claimed_ns = self.guest_transmitted_ns - self.guest_received_ns
        most_ns = self.elapsed_ns + _drift(self.elapsed_ns, self.drift_ppm)
        return claimed_ns > most_ns + self.resolution_ns + 2 * self.rounded_ns

    @property
    def elapsed_ns(self) -> int:
        return self.received_ns - self.sent_ns


@dataclass(frozen=True)
class Measurement:
    """The proof of several readings together.

    ``interval`` holds the offset of the guest's clock against the host's monotonic clock, and that is proven.
    ``likely_ns`` is where in it the offset most likely is; it is a guess, good enough to step by but not to report.
    ``one_way_ns`` is the median time from sending a request to the agent's reading the clock, as the guess has it.
    ``coarse``: the guest's clock ticks in steps, or is being slewed, and the interval was widened by what was seen of
    that. ``is_cut_short``: its time was over before it had taken all readings that it was to take. ``slew`` is that of
    the last reading.
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
    """The interval that all readings agree on, as of the last one; empty if they contradict each other.

    An older reading proves less: meanwhile the two clocks may have drifted apart, and a time service may have slewed
    either.
    """
    now_ns = max(reading.received_ns for reading in readings)
    ppm = max(reading.drift_ppm for reading in readings)
    aged = [reading.interval.widened(_drift(now_ns - reading.sent_ns, ppm)) for reading in readings]
    return Interval(max(each.low for each in aged), min(each.high for each in aged))


def _drift(elapsed_ns: int, ppm: int) -> int:
    """How far two clocks can have drifted apart meanwhile; rounded up."""
    return elapsed_ns * ppm // 1_000_000 + 1


def _seen_resolution(readings: Sequence[Reading]) -> int:
    """The coarsest known step that all of the guest's readings are multiples of, or what the readings claim."""
    claimed = max(reading.resolution_ns for reading in readings)
    for step in _RESOLUTIONS_NS:
        if step > claimed and all(
            reading.guest_received_ns % step == 0 and reading.guest_transmitted_ns % step == 0 for reading in readings
        ):
            return step
    return claimed


def _likely_offset(agreed: Interval, resolution_ns: int) -> int:
    """Where in the interval the offset most likely is.

    The interval is as wide as the quickest way there and the quickest way back together. How it divides into the two
    cannot be told from it, but is much the same for all guests.
    """
    if resolution_ns > agreed.width:
        return agreed.middle  # what varies is where in its ticks the clock was read
    return agreed.high - agreed.width * _WAY_THERE_PERCENT // 100


def _stands_still(readings: Sequence[Reading], resolution_ns: int) -> bool:
    """Return whether the guest's clock showed the same twice although it should have gone on meanwhile."""
    return any(
        later.guest_received_ns == earlier.guest_received_ns and later.sent_ns - earlier.received_ns > resolution_ns
        for earlier, later in zip(readings, readings[1:])
    )


def evaluate(readings: Sequence[Reading]) -> Measurement:
    """The measurement that the readings prove, contradictions bridged."""
    # An agent writes all its numbers with as many digits; those that happen to be zeros at the end are not seen.
    finest_ns = min(each.rounded_ns for each in readings)
    readings = [replace(each, rounded_ns=finest_ns) for each in readings]
    span_ns = 2 * finest_ns
    resolution_ns = _seen_resolution(readings)
    agreed = _agreed_at(resolution_ns, readings)
    coarse = agreed.is_empty or _stands_still(readings, resolution_ns + span_ns)
    if coarse:
        # By one tick or more, if the clock was seen to tick.
        growths = (
            later.guest_received_ns - earlier.guest_received_ns for earlier, later in zip(readings, readings[1:])
        )
        resolution_ns += max((0, *growths))
        agreed = _agreed_at(resolution_ns, readings)
    gap_ns = max(0, agreed.low - agreed.high)
    # Of readings that contradict each other even if the clock ticks, since it was stepped or slewed: from what the one
    # say to as far on the other side of what the others say.
    interval = Interval(agreed.low - gap_ns, agreed.low + gap_ns) if gap_ns else agreed
    likely_ns = _likely_offset(interval, resolution_ns + span_ns)
    # Half of the resolution: that much was cut from a reading on average.
    # No way is longer than its exchange, whatever the guest says.
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
    """The interval that was agreed on as of the last reading, less what this one rules out."""
    ppm = max(last.drift_ppm, reading.drift_ppm)
    aged = agreed.widened(_drift(reading.received_ns - last.received_ns, ppm))
    own = reading.interval.widened(_drift(reading.received_ns - reading.sent_ns, ppm))
    return Interval(max(aged.low, own.low), min(aged.high, own.high))
