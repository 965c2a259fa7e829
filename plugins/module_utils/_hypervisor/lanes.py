# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lanes: which guests' calls get one of libvirt's threads, and when.

libvirt's calls block, and no guest can be made to give a thread back. So each kind of guest waits in a lane of its own,
by how its agent has answered so far. *New*, *proven*, *slow* and *held back* guests are defined here.

========= ====================================================== ======================= ========================
lane      its guests                                             threads that it spares  the reserve does its jobs
========= ====================================================== ======================= ========================
proven    have answered in time                                  0                       yes
new       have not been asked; they are asked for a second first 1                       yes
slow      have answered late, but each time only a little        1                       yes
held back have not answered, or once very late                   2                       no
========= ====================================================== ======================= ========================

A line's free threads take from the lanes in this order, and leave as many threads free as the lane spares: a call of a
guest that is held back never takes one of a line's last threads, and a call of a slow guest never the last one. In each
lane the guest goes first that has held threads for the shortest time. On a busy host, or over a long way, all guests
may be slow.

How a guest changes its lane (it does not on a line of its own, where it holds up no other):

====================================================== =============================================================
what happened                                          its lane from then on
====================================================== =============================================================
its probe began                                        held back, until the probe is answered
libvirt took nothing for its agent                     as before: no thread was held up by it
its agent did not answer in time                       held back
it answered; none of its calls, nor all, took long     proven
it answered; its calls have taken long together only   slow
it answered; one of its calls has taken long           held back for good: it would hold up others again
====================================================== =============================================================
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple


class Lane(NamedTuple):
    """Jobs of one kind. ``spared`` threads of a line are never taken by them, if it has that many and one more."""

    name: str
    spared: int


PROVEN = Lane("of guests whose agent has answered", 0)
NEW = Lane("of guests that have not been asked before", 1)
SLOW = Lane("of guests whose answers have taken long together", 1)
HELD_BACK = Lane("of guests that others must be kept from", 2)

# In the order in which free threads take from them.
LANES = (PROVEN, NEW, SLOW, HELD_BACK)
LANES_OF_RESERVE = (PROVEN, NEW, SLOW)

# The stock agent answers when its hwclock has ended: after half a second to a second (QEMU 7.2 and 10.0), or two.
_USUAL_SECONDS: Mapping[str, float] = {"guest-set-time": 2.0}


class Pace:
    """How fast one guest's agent has answered so far, and so the lane of its calls.

    ``held`` is for how many seconds its calls have held threads in all, apart from what is usual. Calls are long from
    ``most_held`` seconds on, and very long from ``probe`` on, which is how long a new guest is asked for.
    """

    def __init__(self, is_shared: bool, probe: float, most_held: float) -> None:
        self._is_shared = is_shared
        self._probe = probe
        self._most_held = most_held
        self.lane = NEW if is_shared else PROVEN
        self.held = 0.0
        self._longest = 0.0  # of one call
        self._is_silent = False  # it did not answer what it was asked last

    def took(self, command: str, seconds: float) -> None:
        """Count the time of a call, which may have failed."""
        held = seconds - _USUAL_SECONDS.get(command, 0.0)
        self.held += max(0.0, held)
        self._longest = max(self._longest, held)

    def answered(self) -> None:
        self._is_silent = False
        self.lane = PROVEN
        if self._is_shared and self.held > self._most_held:
            self.lane = HELD_BACK if self._longest > self._most_held else SLOW

    def silent(self) -> None:
        self._is_silent = True
        if self._is_shared:
            self.lane = HELD_BACK

    def unreached(self) -> None:
        """Its probe was not carried to its agent."""
        self.lane = NEW

    def given_up_at(self, held_back_until: float) -> float:
        """The instant at which its call is given up: ``held_back_until``, if it is held back since it was silent or
        took as long as a probe may.
        """
        is_hopeless = self.lane is HELD_BACK and (self._is_silent or self._longest >= self._probe)
        return held_back_until if is_hopeless else math.inf
