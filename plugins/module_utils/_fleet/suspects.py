# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Suspects: finding the guest whose reply breaks a shared connection.

Theory of operation
-------------------
Guests share connections to libvirt, and libvirt's daemon parses an agent's reply before this code does. Some replies
make the daemon close the connection, or crash. Then all calls in progress on the connection fail, and no error names
the guest that caused it. Each guest with such a call is a *suspect*, and the work on it is restarted in another mode:

=======  =====================================================  =====================================================
mode     connections                                            next mode if the connection breaks during an exchange
=======  =====================================================  =====================================================
shared   shared with other guests                               apart; alone, if the guest cannot be reached apart
apart    from the reserve, without any other guest's call       alone: another guest's reply may crash the daemon
alone    as apart, and one suspect's exchange at a time         guilty, if no other guest's connection broke during
                                                                the exchange, or at the third break; else alone again
=======  =====================================================  =====================================================

A guilty guest has failed. During one run, a guest never returns to an earlier mode. If the last attempt of a run broke
a connection, the next run of the same guest begins in the same mode; if it returned a result, the guest is no longer a
suspect. A run that ends with another error proves nothing: the next run begins in the same mode as this one.

A turn of suspects that are asked alone lasts one exchange. The suspect with the shortest turns so far is next, so that
a slow guest delays others by one exchange and not by all of its work.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from .._channels.base import Channel, Exchange, ForwardingChannel, Request
from .._errors import HypervisorUnavailableError
from .._event_loop.tasks import pause

# A daemon that crashes breaks all connections, so one break proves nothing. Another guest can be the cause twice at
# most, since it is asked alone from then on.
MOST_BREAKS_ALONE = 3

_GUILTY_HINT = (
    "The connection broke at this guest's reply, and again when the guest was tried separately: "
    "check the guest's agent and the daemon's log."
)

SHARED, APART, ALONE = "shared", "apart", "alone"


class Timings(NamedTuple):
    """Durations in seconds.

    ``restart``: until a daemon that restarts is available and has found the agents. ``retry``: between two attempts to
    connect. ``suspect_retry``: the same if the daemon is probably still running. ``turn``: between two checks for a
    suspect's turn. ``settling``: the time after a restart in which agents may still be missing.
    """

    restart: float = 10.0
    retry: float = 0.5
    suspect_retry: float = 0.02
    turn: float = 0.01
    settling: float = 60.0


USUAL = Timings()


class Suspicion:
    """The state of one guest during its work. ``had`` is the total duration of its turns in seconds."""

    def __init__(self, mode: str, can_be_apart: bool) -> None:
        self.mode = mode
        self.had = 0.0
        self.breaks = 0  # of this guest's connection
        self.guilt: str | None = None  # the message of the error that proved it
        self._breaks_alone = 0
        self._after_shared = APART if can_be_apart else ALONE

    def on_break(self, error: HypervisorUnavailableError, others_broke: bool) -> None:
        """Go to the next mode, by the table above."""
        self.breaks += 1
        if self.mode == SHARED:
            self.mode = self._after_shared
        elif self.mode == APART:
            self.mode = ALONE
        else:
            self._breaks_alone += 1
            if not others_broke or self._breaks_alone == MOST_BREAKS_ALONE:
                self.guilt = error.message

    def verdict(self) -> HypervisorUnavailableError | None:
        return None if self.guilt is None else HypervisorUnavailableError(self.guilt, _GUILTY_HINT, in_call=True)


class SuspectTurns:
    """The state that the channels of a run share: the number of broken connections, and the turns of suspects."""

    def __init__(self, timings: Timings) -> None:
        self.timings = timings
        self.breaks = 0  # of all guests' connections
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
    """A guest's channel, whose exchanges take place in the guest's mode."""

    def __init__(self, channel: Channel, suspicion: Suspicion, turns: SuspectTurns) -> None:
        super().__init__(channel)
        self._suspicion = suspicion
        self._turns = turns

    async def call(self, request: Request, timeout: float) -> Exchange:
        guilty = self._suspicion.verdict()
        if guilty is not None:
            raise guilty
        if self._suspicion.mode != ALONE:
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
            if self._suspicion.mode == ALONE:
                await pause(
                    self._turns.timings.suspect_retry
                )  # other guests see their connections break during it, too
            self._suspicion.on_break(error, others_broke=self._turns.breaks != breaks + 1)
            raise
