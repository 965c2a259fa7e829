"""The witness verifies the collection's figures, so its own must be correct."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vm.errors import VmError
from tests.vm.witness import Exchange, reading_of

DELAYS_NS = st.integers(min_value=0, max_value=2_000_000_000)


@given(
    offset=st.integers(min_value=-(10**18), max_value=10**18),
    delays=st.lists(st.tuples(DELAYS_NS, DELAYS_NS, DELAYS_NS), min_size=1, max_size=20),
)
def test_the_interval_contains_the_true_offset_for_all_delays(offset: int, delays: list[tuple[int, int, int]]) -> None:
    now = 1_700_000_000_000_000_000
    exchanges = []
    for there, inside, back in delays:
        sent = now
        received = sent + there + offset
        now = sent + there + inside + back
        exchanges.append(Exchange(sent, received, received + inside, now))
    reading = reading_of(exchanges)
    assert abs(reading.offset_ns - offset) <= reading.uncertainty_ns


def test_the_narrowest_bounds_of_several_exchanges_are_combined() -> None:
    assert reading_of([Exchange(1000, 5200, 5300, 1500)]) == (4000, 200, 400)
    assert reading_of([Exchange(0, 10, 10, 500), Exchange(1000, 1400, 1400, 1410)])[:2] == (0, 10)


def test_a_step_between_exchanges_is_an_error() -> None:
    with pytest.raises(VmError, match="stepped"):
        reading_of([Exchange(0, 10, 10, 20), Exchange(100, 5_000_110, 5_000_110, 120)])
