# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lanes: which guests' calls get one of the threads for libvirt, and when.

libvirt's calls block, and a thread that waits for a guest cannot be taken back. So guests wait in different lanes,
depending on how their agents have answered so far. *New*, *proven*, *slow* and *held back* guests are defined here.

========= ====================================================== ======================= ==========================
lane      its guests                                             threads that it spares  the reserve runs its jobs
========= ====================================================== ======================= ==========================
proven    have answered in time                                  0                       yes
new       have not been asked; the first try is a short probe    1                       yes
slow      have answered late, but each time only a little        1                       yes
held back have not answered, or once very late                   2                       no
========= ====================================================== ======================= ==========================

A line's free threads take jobs from the lanes in this order, and leave as many threads free as the lane spares: a call
of a guest that is held back never takes one of a line's last two threads, and a call of a new or slow guest never takes
the last one. Within a lane, the guest that has held threads for the shortest time goes first. On a busy host, or over a
slow network, all guests may be slow.

How a guest changes its lane (on a line of its own, it does not: it holds up no other guest):

====================================================== =============================================================
event                                                  its lane from then on
====================================================== =============================================================
its probe began                                        held back, until the probe is answered
libvirt refused the command without asking its agent   as before: it held up no thread
its agent did not answer in time                       held back
it answered; its calls were short, also in total       proven
it answered; its calls were long only in total         slow
it answered; one of its calls was long                 held back permanently: it would delay others again
====================================================== =============================================================
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple


class Lane(NamedTuple):
    """A lane for jobs. They leave ``spared`` threads of a line free, if it has more threads than that."""

    name: str
    spared: int


PROVEN = Lane("guests whose agent has answered", 0)
NEW = Lane("guests that have not been asked before", 1)
SLOW = Lane("guests whose answers have taken long in total", 1)
HELD_BACK = Lane("guests that must not hold up others", 2)

# In the order in which free threads take jobs from them.
LANES = (PROVEN, NEW, SLOW, HELD_BACK)
LANES_OF_RESERVE = (PROVEN, NEW, SLOW)

# The stock agent answers when hwclock has ended: after half a second to two seconds (QEMU 7.2 and 10.0).
_USUAL_SECONDS: Mapping[str, float] = {"guest-set-time": 2.0}


class Pace:
    """The speed of one guest's agent so far, which decides the lane of its calls.

    ``held`` is the total number of seconds for which its calls have held threads, less the usual duration of commands
    that are known to be slow. A call is long after ``most_held`` seconds, and very long after ``probe`` seconds, the
    time limit for the first call of a new guest.
    """

    def __init__(self, is_shared: bool, probe: float, most_held: float) -> None:
        self._is_shared = is_shared
        self._probe = probe
        self._most_held = most_held
        self.lane = NEW if is_shared else PROVEN
        self.held = 0.0
        self._longest = 0.0  # the longest call
        self._is_silent = False  # it did not answer its latest request

    def took(self, command: str, seconds: float) -> None:
        """Record the duration of a call, also if it failed."""
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
        """Record that its probe did not reach its agent."""
        self.lane = NEW

    def given_up_at(self, held_back_until: float) -> float:
        """Return the instant at which its call is given up: ``held_back_until``, if it is held back because it was
        silent or took longer than a probe may.
        """
        is_hopeless = self.lane is HELD_BACK and (self._is_silent or self._longest >= self._probe)
        return held_back_until if is_hopeless else math.inf
