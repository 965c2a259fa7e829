# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner: does one thing to each of many guests, whether they are all known at first or come over time.

Guests share connections to libvirt, and libvirt's daemon parses an agent's answer before anything here does: at some
answers it hangs up, or ends. Then all calls that are under way fail, and none of them says whose answer it was. Each
guest that was being asked just then is a suspect, and what is done to it is begun anew:

=======  ===================================================  ===================================================
way      connections                                          when the connection breaks at its answer
=======  ===================================================  ===================================================
shared   shared with other guests                             it is a suspect: apart, or alone without such a way
apart    of the reserve: no other guest's call is on them     the daemon may have ended at another's answer: alone
alone    as apart; no other such suspect is asked meanwhile   it failed; at the third time, if others' broke as well
=======  ===================================================  ===================================================

A turn of those that are asked alone lasts one exchange, and goes to the one whose turns have been the shortest so far:
a guest that answers slowly holds up others once, and not for as long as its work takes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Awaitable, Callable, NamedTuple, TypeVar

from .._agent import GuestAgent
from .._channels.base import Channel, Exchange, ForwardingChannel, Request
from .._errors import HypervisorUnavailableError
from .._event_loop.tasks import Deadline, pause
from .._protocol.errors import QgaError
from .opt_out import require_allowed

# A daemon that is restarted is back within seconds, and has found the agents again some seconds later. What is done
# with a guest can be begun anew: a resync measures first.
_RESTART_SECONDS = 10.0
_RETRY_SECONDS = 0.5
# The daemon is still there, most likely.
_SUSPECT_RETRY_SECONDS = 0.02
_TURN_SECONDS = 0.01
# A daemon that ends breaks all connections, and then a suspect's turn proves nothing. But not so often: any other guest
# may have done it twice, and is asked alone from then on.
_MOST_BREAKS_ALONE = 3
# For how long agents may still have to be found again.
_SETTLING_SECONDS = 60.0

# They are remembered for as long as there are no more of them.
_MOST_REMEMBERED = 1000

_AT_ITS_REPLY_HINT = (
    "The connection broke at this guest's answer, and again when it was tried apart from the others: "
    "look at the guest's agent and at the daemon's log."
)

Result = TypeVar("Result")
OpenChannel = Callable[[], Channel]


@dataclass(frozen=True)
class Guest:
    """One guest of many, and how to open the channel to its agent.

    ``open_apart`` opens one whose connection carries no other guest's call; None: there is no such way.
    ``is_optional``: if it cannot be used, it is left out instead of failing. ``problem``: that is known already.
    """

    name: str
    open: OpenChannel
    uuid: str | None = None
    is_optional: bool = False
    problem: QgaError | None = None
    open_apart: OpenChannel | None = None


class Attendance(NamedTuple):
    """How each guest is attended to. ``timeout`` is in seconds for each exchange, ``wait_timeout`` for an agent to
    answer at all. ``touches_clock``: a mark in the guest's definition may forbid it.
    """

    timeout: float
    wait_timeout: float = 0.0
    touches_clock: bool = False


async def converse(
    open_channel: OpenChannel, work: Callable[[GuestAgent], Awaitable[Result]], attendance: Attendance
) -> Result:
    """Do it to one guest; what ``work`` returns.

    :raises QgaError: nothing was done to it
    """
    async with open_channel() as channel:
        if attendance.touches_clock:
            await require_allowed(channel, attendance.timeout)
        agent = GuestAgent(channel, attendance.timeout)
        if attendance.wait_timeout > 0:
            await agent.wait(attendance.wait_timeout)
        return await work(agent)


_SHARED, _APART, _ALONE = "shared", "apart", "alone"


class _Standing:
    """What a guest is taken for while something is done to it. ``had`` is for how many seconds it has had turns."""

    def __init__(self, way: str, has_way_apart: bool) -> None:
        self.way = way
        self.had = 0.0
        self.breaks = 0  # that it has seen
        self.breaks_alone = 0
        self.broke: str | None = None  # what is to be said of it, once it was found out
        self._after_shared = _APART if has_way_apart else _ALONE

    def suspect(self) -> None:
        self.way = self._after_shared if self.way == _SHARED else _ALONE


class Runner:
    """Works through guests, and knows which are suspects. There is one for a run, or for a hypervisor of a service."""

    def __init__(self) -> None:
        self._turns = _Turns()
        self._breaks = 0  # that all of them have seen
        self._suspects: dict[str, _Standing] = {}  # as they were left, by UUID, in the order of their last run
        self._was_away_at = -math.inf

    async def run(
        self, guest: Guest, work: Callable[[GuestAgent], Awaitable[Result]], attendance: Attendance
    ) -> Result:
        """Do it to one guest, as :func:`converse` does, and begin it anew when its connection is lost.

        :raises HypervisorUnavailableError: ``in_call``, the connection broke at its answer, and at nobody else's;
            otherwise it could not be made again for a while, and that is not the guest's doing
        :raises QgaError: nothing was done to it
        """
        known = self._suspects.get(guest.uuid or "")
        standing = _Standing(_SHARED if known is None else known.way, guest.open_apart is not None)
        patience: Deadline | None = None
        while True:
            breaks = standing.breaks
            try:
                result = await converse(lambda: self._open(guest, standing), work, self._patient(attendance))
            except HypervisorUnavailableError as error:
                # As it is kept while the daemon is waited for: without what its frames hold.
                lost = HypervisorUnavailableError(error.message, error.hint, error.in_call)
            else:
                self._remember(guest, standing, is_suspect=breaks != standing.breaks)
                return result
            if standing.broke is not None:
                self._remember(guest, standing, is_suspect=True)
                raise _verdict(standing.broke)
            self._was_away_at = time.monotonic()
            patience = Deadline(_RESTART_SECONDS) if patience is None or breaks != standing.breaks else patience
            if patience.expired():
                raise HypervisorUnavailableError(lost.message, lost.hint)
            await pause(_SUSPECT_RETRY_SECONDS if lost.in_call else _RETRY_SECONDS)

    def verdict(self, guest: Guest) -> HypervisorUnavailableError | None:
        """What is to be said of a guest at whose last answer the connection broke, at nobody else's."""
        known = self._suspects.get(guest.uuid or "")
        return None if known is None or known.broke is None else _verdict(known.broke)

    def _remember(self, guest: Guest, standing: _Standing, is_suspect: bool) -> None:
        """It might break the others' connection again whenever something is done to it.

        Work that goes on after such a break returns a result all the same. If its guest were no suspect the next time,
        it could never be found out.
        """
        uuid = guest.uuid or ""
        self._suspects.pop(uuid, None)
        if uuid and is_suspect:
            self._suspects[uuid] = standing
            if len(self._suspects) > _MOST_REMEMBERED:
                del self._suspects[next(iter(self._suspects))]

    def _patient(self, attendance: Attendance) -> Attendance:
        """After a restart of the daemon, guests would be taken for such without an agent."""
        if time.monotonic() - self._was_away_at > _SETTLING_SECONDS:
            return attendance
        return attendance._replace(wait_timeout=max(attendance.wait_timeout, _RESTART_SECONDS))

    def _open(self, guest: Guest, standing: _Standing) -> Channel:
        open_apart = guest.open_apart or guest.open
        return _GuardedChannel(guest.open() if standing.way == _SHARED else open_apart(), standing, self)

    async def exchange(self, channel: Channel, standing: _Standing, request: Request, timeout: float) -> Exchange:
        """Have the exchange in the way that the guest's standing asks for, which may be another one afterwards."""
        if standing.broke is not None:
            raise _verdict(standing.broke)
        if standing.way != _ALONE:
            return await self._watched(channel, standing, request, timeout)
        await self._turns.take(standing)
        began_at = time.monotonic()
        try:
            return await self._watched(channel, standing, request, timeout)
        finally:
            standing.had += time.monotonic() - began_at
            self._turns.give_back()

    async def _watched(self, channel: Channel, standing: _Standing, request: Request, timeout: float) -> Exchange:
        breaks = self._breaks
        try:
            return await channel.call(request, timeout)
        except HypervisorUnavailableError as error:
            if not error.in_call:
                raise
            self._breaks += 1
            standing.breaks += 1
            if standing.way == _ALONE:
                await pause(_SUSPECT_RETRY_SECONDS)
                standing.breaks_alone += 1
                if self._breaks == breaks + 1 or standing.breaks_alone == _MOST_BREAKS_ALONE:
                    standing.broke = error.message
            standing.suspect()
            raise


def _verdict(broke: str) -> HypervisorUnavailableError:
    return HypervisorUnavailableError(broke, _AT_ITS_REPLY_HINT, in_call=True)


class _Turns:
    """Only one exchange at a time; the guest that has had the least of them goes next."""

    def __init__(self) -> None:
        self._waiting: list[_Standing] = []
        self._is_taken = False

    async def take(self, standing: _Standing) -> None:
        self._waiting.append(standing)
        try:
            while self._is_taken or min(self._waiting, key=lambda each: each.had) is not standing:
                await pause(_TURN_SECONDS)
        finally:
            self._waiting.remove(standing)
        self._is_taken = True

    def give_back(self) -> None:
        self._is_taken = False


class _GuardedChannel(ForwardingChannel):
    """A guest's channel. Its exchanges are made by the runner."""

    def __init__(self, channel: Channel, standing: _Standing, runner: Runner) -> None:
        super().__init__(channel)
        self._standing = standing
        self._runner = runner

    async def call(self, request: Request, timeout: float) -> Exchange:
        return await self._runner.exchange(self._channel, self._standing, request, timeout)


__all__ = ["Attendance", "Guest", "Runner", "converse"]
