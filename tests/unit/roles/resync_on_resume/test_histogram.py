# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counting values by how large they are."""

from __future__ import annotations

import math

import pytest
from ansible_collections.qemu.guest_agent.tests.support.resync_service import module

Histogram = module("histogram").Histogram


def test_a_value_counts_for_its_bound_and_all_above() -> None:
    counted = Histogram((0.00001, 0.1, 1, 2592000))
    for value in (0.0, 0.1, 0.5, 5.0, 1e9):
        counted.observe(value)
    assert list(counted.cumulative()) == [("1e-05", 1), ("0.1", 2), ("1", 3), ("2592000", 4), ("+Inf", 5)]
    assert counted.count == 5


@pytest.mark.parametrize("claimed", [2592001.0, 1e9, 1e300, math.inf])
def test_in_the_sum_a_value_above_all_bounds_counts_as_the_last_bound(claimed: float) -> None:
    counted = Histogram((0.1, 1, 2592000))
    counted.observe(0.5)
    counted.observe(claimed)
    assert counted.sum == 2592000.5
    assert list(counted.cumulative()) == [("0.1", 0), ("1", 1), ("2592000", 1), ("+Inf", 2)]


def test_without_values_all_are_zero() -> None:
    assert list(Histogram((1,)).cumulative()) == [("1", 0), ("+Inf", 0)]
