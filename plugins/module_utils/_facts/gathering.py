# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gathering facts as a piece of work that is done to a guest."""

from __future__ import annotations

from typing import Iterable

from .._agent import GuestAgent
from .._fleet.results import Outcome, Work
from .subsets import gather, select

GATHERED = "gathered"


def gathering(gather_subset: Iterable[str]) -> Work:
    """
    :raises InvalidOptionError: there is no subset of such a name
    """
    subsets = select(gather_subset)

    async def work(agent: GuestAgent) -> Outcome:
        return Outcome(await gather(agent, subsets), GATHERED)

    return work
