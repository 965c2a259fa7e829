# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Suspects: finding out at which guest's answer a shared connection breaks.

Theory of operation
-------------------
Guests share connections to libvirt, and libvirt's daemon parses an agent's answer before anything here does: at some
answers it hangs up, or ends. Then all calls that are under way on the connection fail, and none of the errors says
whose answer it was. Each guest with such a call is a *suspect*, and the work on it is begun anew in another way:

=======  =====================================================  =====================================================
way      connections                                            when the connection breaks during an exchange
=======  =====================================================  =====================================================
shared   shared with other guests                               apart; alone, if the guest has no way apart
apart    of the reserve: no other guest's call is on them       alone: the daemon may have ended at another's answer
alone    as apart, and one suspect's exchange at a time         guilty, if no other guest's connection broke during
                                                                it, or at the third such break; else alone again
=======  =====================================================  =====================================================

A guilty guest has failed. A way never goes back during one run. If the last attempt of a run broke a connection, the
next run of the same guest begins in the same way; if it returned a result, the guest is not a suspect any more. A run
that ends with another error proves nothing: the next one begins as this one did.

A turn of the suspects that are asked alone lasts one exchange, and goes to the one whose turns have been the shortest
so far: a guest that answers slowly holds up others once, and not for as long as its work takes.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from .._channels.base import Channel, Exchange, ForwardingChannel, Request
from .._errors import HypervisorUnavailableError
from .._event_loop.tasks import pause

# A daemon that ends breaks all connections, and then a suspect's turn proves nothing. But not so often: any other guest
# may have done it twice, and is asked alone from then on.
MOST_BREAKS_ALONE = 3

_GUILTY_HINT = (
    "The connection broke at this guest's answer, and again when it was tried apart from the others: "
    "look at the guest's agent and at the daemon's log."
)

SHARED, APART, ALONE = "shared", "apart", "alone"


class Timings(NamedTuple):
    """In seconds.

    ``restart``: a daemon that is restarted is back by then, and has found the agents again. ``retry``: before it is
    tried again. ``suspect_retry``: the same where the daemon is still there, most likely. ``turn``: between two looks
    whether it is a suspect's turn. ``settling``: for how long after a restart agents may still have to be found again.
    """

    restart: float = 10.0
    retry: float = 0.5
    suspect_retry: float = 0.02
    turn: float = 0.01
    settling: float = 60.0


USUAL = Timings()


class Suspicion:
    """The state of one guest during its work. ``had`` is for how many seconds it has had turns."""

    def __init__(self, way: str, has_way_apart: bool) -> None:
        self.way = way
        self.had = 0.0
        self.breaks = 0  # of this guest's connection
        self.guilt: str | None = None  # the error at which it was found guilty
        self._breaks_alone = 0
        self._after_shared = APART if has_way_apart else ALONE

    def on_break(self, error: HypervisorUnavailableError, others_broke: bool) -> None:
        """Go to the next way, by the table above."""
        self.breaks += 1
        if self.way == SHARED:
            self.way = self._after_shared
        elif self.way == APART:
            self.way = ALONE
        else:
            self._breaks_alone += 1
            if not others_broke or self._breaks_alone == MOST_BREAKS_ALONE:
                self.guilt = error.message

    def verdict(self) -> HypervisorUnavailableError | None:
        return None if self.guilt is None else HypervisorUnavailableError(self.guilt, _GUILTY_HINT, in_call=True)


class SuspectTurns:
    """What the channels of a run share: how many connections broke, and whose turn it is among those asked alone."""

    def __init__(self, timings: Timings) -> None:
        self.timings = timings
        self.breaks = 0  # that all guests have seen
        self.is_taken = False
        self._waiting: list[Suspicion] = []

    async def take(self, suspicion: Suspicion) -> None:
        self._waiting.append(suspicion)
        try:
            while self.is_taken or min(self._waiting, key=lambda each: each.had) is not suspicion:
                await pause(self.timings.turn)
        finally:
            self._waiting.remove(suspicion)
        self.is_taken = True


class WatchedChannel(ForwardingChannel):
    """A guest's channel, whose exchanges are made in the guest's way."""

    def __init__(self, channel: Channel, suspicion: Suspicion, turns: SuspectTurns) -> None:
        super().__init__(channel)
        self._suspicion = suspicion
        self._turns = turns

    async def call(self, request: Request, timeout: float) -> Exchange:
        guilty = self._suspicion.verdict()
        if guilty is not None:
            raise guilty
        if self._suspicion.way != ALONE:
            return await self._watched(request, timeout)
        await self._turns.take(self._suspicion)
        began_at = time.monotonic()
        try:
            return await self._watched(request, timeout)
        finally:
            self._suspicion.had += time.monotonic() - began_at
            self._turns.is_taken = False

    async def _watched(self, request: Request, timeout: float) -> Exchange:
        breaks = self._turns.breaks
        try:
            return await self._channel.call(request, timeout)
        except HypervisorUnavailableError as error:
            if not error.in_call:
                raise
            self._turns.breaks += 1
            if self._suspicion.way == ALONE:
                await pause(self._turns.timings.suspect_retry)  # in which others see their connections break, too
            self._suspicion.on_break(error, others_broke=self._turns.breaks != breaks + 1)
            raise
