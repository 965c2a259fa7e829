# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measuring one guest against the reference: at first, after a step, and again for proof.

A measurement has the timeout of one exchange. If replies are slow, the result may be undecided. Then it is repeated:

- up to four times, unless two in a row do not improve on the best so far;
- after a random pause, whose maximum doubles each time, because other guests may be the reason for slow replies;
- for one guest of a task at a time, for the same reason.
"""

from __future__ import annotations

import random
import time
from typing import Callable, NamedTuple

from .._agent import GuestAgent
from .._errors import HypervisorUnavailableError, NotConnectedError
from .._event_loop.tasks import pause
from .figures import length, signed
from .intervals import Interval, Measurement
from .measuring import Suffices, measure, never, reader, stock_reader
from .methods import ResyncOptions
from .reference import JumpWatch, Reference
from .report import Offset
from .timestamps import SECOND_NS
from .tolerance import Criteria, is_certainly_beyond, within

# The minimum time for a measurement, which a coarse clock needs.
_MEASURING_SECONDS = 1.0

# Up to this many times ``samples`` are added if the interval lies across the tolerance.
_CLOSER = 4

# Another run that measured the same guest at the same time may have added the same delta. After a wrong step, the
# random pause is up to this many times as long as the last measurement. Otherwise two runs in step would swing the
# clock forever.
_APART = 10
_APART_SECONDS = 3.0

# See above. If a measurement for proof takes longer than its turn of ``ResyncOptions.turns``, the next guest does not
# wait.
_MOST_FOR_PROOF = 4
_MOST_IN_VAIN = 2
_NARROWER_PERCENT = 90


class Given(NamedTuple):
    """The arguments of a resync. ``warn`` takes a sentence for the user."""

    agent: GuestAgent
    reference: Reference
    options: ResyncOptions
    criteria: Criteria
    warn: Callable[[str], object]


class Gauge:
    """Measures one guest's offset."""

    def __init__(self, given: Given) -> None:
        self._agent, self._reference, self._options, self._criteria, self._warn = given
        self._read = stock_reader(given.agent)
        self._jumps = JumpWatch(given.reference)
        self._longest_seconds = max(_MEASURING_SECONDS, given.agent.timeout)
        self._took_ns = 0
        self._left_for_proof = _MOST_FOR_PROOF

    async def learn_to_read(self) -> None:
        """Choose the command that reads the clock best. Method set_time needs the one with the transit time of
        guest-set-time, which is corrected by it.
        """
        if self._options.method != "set_time":
            self._read = await reader(self._agent)

    async def measure(self, suffices: Suffices = never) -> Offset:
        """Measure, with more exchanges if the tolerance lies within the interval."""
        began_ns = time.monotonic_ns()
        samples, longest_ns = self._options.samples, round(self._longest_seconds * SECOND_NS)
        measurement = await measure(self._read, samples, 1, longest_ns, suffices, self._is_open, samples * _CLOSER)
        self._took_ns = time.monotonic_ns() - began_ns
        return self.against_reference(measurement)

    async def measure_for_proof(self, offset: Offset) -> Offset:
        """Measure again, as long as proof is missing because the last measurement ran out of time."""
        narrow_ns, in_vain = offset.uncertainty_ns * _NARROWER_PERCENT // 100, 0
        while (
            self._criteria.lacks_proof(offset)
            and offset.measurement.is_cut_short
            and self._left_for_proof
            and in_vain < _MOST_IN_VAIN
        ):
            longest = _APART_SECONDS * 2 ** (_MOST_FOR_PROOF - self._left_for_proof)
            self._left_for_proof -= 1
            self._longest_seconds = _MEASURING_SECONDS
            await pause(random.uniform(0, longest))  # noqa: S311  # no secret
            async with self._options.turns.turn():
                offset = await self.measure_after_step()
            in_vain = 0 if offset.uncertainty_ns <= narrow_ns else in_vain + 1
            narrow_ns = min(narrow_ns, offset.uncertainty_ns * _NARROWER_PERCENT // 100)
        return offset

    async def measure_after_step(self) -> Offset:
        """Measure the same guest. The effect of the step is not known yet, so a restart of the daemon is waited for."""
        try:
            return await self._measure_same()
        except HypervisorUnavailableError:
            await self._agent.wait(self._options.timings.daemon)
        except NotConnectedError:
            await self._agent.wait(self._options.timings.agent)
        return await self._measure_same()

    async def measure_apart(self) -> Offset:
        """Measure after a random pause, so that two runs on the same guest fall out of step."""
        longest = min(_APART_SECONDS, _APART * self._took_ns / SECOND_NS)
        await pause(random.uniform(0, longest))  # noqa: S311  # no secret
        return await self.measure_after_step()

    async def _measure_same(self) -> Offset:
        offset = await self.measure()
        await self._agent.require_same()
        return offset

    def is_off(self, against_monotonic: Interval) -> bool:
        """Return whether the clock is certainly off. Then it is stepped at once, since only the measurement after the
        step has to be precise.
        """
        offset = against_monotonic.shifted(-self._reference.base_ns())
        if self._options.backward == "slew" and offset.high > 0:
            return False  # no step follows, and a slew is too slow to be corrected by a second one
        return is_certainly_beyond(offset, self._options.tolerance_ns)

    def _is_open(self, against_monotonic: Interval) -> bool:
        offset = against_monotonic.shifted(-self._reference.base_ns())
        return within(offset, self._options.tolerance_ns) is None

    def against_reference(self, measurement: Measurement) -> Offset:
        """Return the offset from the reference as it is now; it may have been stepped since the measurement."""
        jump_ns = self._jumps.jump_ns()
        if jump_ns:
            self._warn(f"the host's clock was stepped by {signed(jump_ns)} during the run; its new time counts")
        if measurement.coarse:
            self._warn(
                "the guest's clock is coarse or being slewed: "
                f"its readings differ by {length(measurement.resolution_ns)}"
            )
        base_ns = self._reference.base_ns()
        return Offset(measurement.interval.shifted(-base_ns), measurement.likely_ns - base_ns, measurement)
