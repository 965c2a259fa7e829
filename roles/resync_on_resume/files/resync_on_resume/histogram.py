# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counting values by how large they are."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import Iterator, Sequence


class Histogram:
    """``bounds`` are the largest values of each bucket, ascending; one more takes what is above.

    In the sum, what is above the last of them counts as that one: a guest claims what it likes, and one that claims
    centuries would be all that is seen of the sum and of averages. How many there were is in the last bucket.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += min(value, self._bounds[-1])

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """For each bound, as a text, how many values there were up to it."""
        return zip((*(f"{bound:.10g}" for bound in self._bounds), "+Inf"), accumulate(self._counts))
