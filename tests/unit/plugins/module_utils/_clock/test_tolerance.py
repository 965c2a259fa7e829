from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import Interval
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.tolerance import within


@pytest.mark.parametrize(
    ("low", "high", "is_within"),
    [(-10, 10, True), (-11, 10, None), (-10, 11, None), (11, 20, False), (-20, -11, False), (10, 20, None)],
)
def test_an_interval_proves_one_of_three_things(low: int, high: int, is_within: bool | None) -> None:
    assert within(Interval(low, high), 10) is is_within
