from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.figures import (
    direction,
    length,
    signed,
    with_twins,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.guest import MICROSECOND, MILLISECOND, SECOND

MINUTE, HOUR, DAY = 60 * SECOND, 3_600 * SECOND, 86_400 * SECOND


def test_durations_have_twins_in_seconds_and_times_in_iso_8601() -> None:
    figures = {"status": "corrected", "offset_ns": -1_500_000_000, "left_ns": None, "guest_time_ns": 5, "attempts": 1}
    assert with_twins(figures) == {
        **figures,
        "offset": -1.5,
        "left": None,
        "guest_time": "1970-01-01T00:00:00.000000005Z",
    }


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (MICROSECOND, "1 µs"),
        (99_499, "99 µs"),
        (99_500, "0.1 ms"),
        (1_098_438, "1.1 ms"),
        (999_949_999, "999.9 ms"),
        (999_950_000, "1.000 s"),
        (8_797_322_720, "8.797 s"),
        (MINUTE - MILLISECOND, "59.999 s"),
        (MINUTE - 1, "1 min 00 s"),
        (HOUR - SECOND, "59 min 59 s"),
        (HOUR - 1, "1 h 00 min"),
        (DAY - MINUTE, "23 h 59 min"),
        (DAY - 1, "1 d 00 h"),
        (2**63 - 1, "106,752 d 00 h"),
    ],
)
def test_a_length_carries_into_the_next_unit(ns: int, text: str) -> None:
    assert (length(ns), length(-ns)) == (text, text)


@given(st.integers(-(2**63), 2**63))
def test_a_length_of_any_size_is_short_and_rounded_up_to_no_60(ns: int) -> None:
    assert len(length(ns)) < 20
    assert not any(part in length(ns) for part in ("60 s", "60 min", "24 h", "1000.0 ms"))


def test_minus_is_behind() -> None:
    assert (signed(-8 * SECOND), signed(MILLISECOND)) == ("-8.000 s", "+1.0 ms")
    assert (direction(-8 * SECOND), direction(MILLISECOND)) == ("8.000 s behind", "1.0 ms ahead")
