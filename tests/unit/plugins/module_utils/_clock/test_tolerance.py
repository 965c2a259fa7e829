"""The tolerance rule at its limits."""

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import Interval, Measurement, Slew
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import Offset
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.tolerance import Criteria, within

from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND

TOLERANCE = 100 * MILLISECOND
# The part of a slew that the kernel may still have to do: one second at 500 ppm, and a fraction of a microsecond.
GRAIN = 500 * MICROSECOND + MICROSECOND


def offset(low: int, high: int, left_to_slew_ns: int = 0) -> Offset:
    interval = Interval(low, high)
    slew = Slew(left_to_slew_ns, is_possible=True)
    return Offset(interval, interval.middle, Measurement(interval, interval.middle, 0, 0, 0, 1, False, slew=slew))


@pytest.mark.parametrize(
    ("low", "high", "proven"),
    [
        (-TOLERANCE, TOLERANCE, True),
        (TOLERANCE, TOLERANCE, True),
        (-TOLERANCE - 1, TOLERANCE, None),
        (-TOLERANCE, TOLERANCE + 1, None),
        (TOLERANCE, TOLERANCE + 1, None),
        (-SECOND, SECOND, None),
        (TOLERANCE + 1, SECOND, False),
        (-SECOND, -TOLERANCE - 1, False),
    ],
)
def test_an_offset_is_within_tolerance_only_if_both_ends_of_its_interval_are(
    low: int, high: int, proven: bool | None
) -> None:
    assert within(Interval(low, high), TOLERANCE) is proven


@pytest.mark.parametrize("backward", ["step", "slew", "leave"])
@pytest.mark.parametrize(("low", "high"), [(-SECOND, -1), (-SECOND, 0), (-SECOND, 1), (1, SECOND)])
def test_a_step_may_go_back_as_soon_as_the_clock_may_be_ahead(backward: str, low: int, high: int) -> None:
    may_go_back = Criteria(TOLERANCE, backward).may_go_back(offset(low, high))
    assert may_go_back is (backward != "step" and high > 0)


@pytest.mark.parametrize(
    ("low", "high", "left_ns", "slews_off"),
    [
        (0, 0, 0, False),
        (0, 0, TOLERANCE + GRAIN, False),
        (0, 0, TOLERANCE + GRAIN + 1, True),
        (0, 0, -TOLERANCE - GRAIN - 1, True),
        # Part of the interval may stay within.
        (-1, 0, TOLERANCE + GRAIN + 1, False),
        # It was not within before.
        (TOLERANCE, TOLERANCE + 1, SECOND, False),
    ],
)
def test_a_slew_leads_out_of_tolerance_if_the_whole_interval_will_be_beyond(
    low: int, high: int, left_ns: int, slews_off: bool
) -> None:
    assert Criteria(TOLERANCE, "slew").slews_off(offset(low, high, left_ns)) is slews_off


@pytest.mark.parametrize(
    ("low", "high", "is_settled"),
    [
        (-TOLERANCE, TOLERANCE, True),
        (-2 * TOLERANCE, TOLERANCE, True),
        (-SECOND, SECOND, True),
        (1, 2 * TOLERANCE + 1, False),
        (TOLERANCE + 1, SECOND, False),
        # An interval of minutes proves nothing.
        (-121 * SECOND, 121 * SECOND, False),
    ],
)
def test_a_residual_below_its_uncertainty_is_not_stepped_again(low: int, high: int, is_settled: bool) -> None:
    assert Criteria(TOLERANCE, "step").is_settled(offset(low, high)) is is_settled
