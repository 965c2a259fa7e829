# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner: does the same work on each of many guests, whether they are all known at first or come over time.

Theory of operation
-------------------
One guest never holds up or hides the others. Its work is begun anew when its connection to the hypervisor is lost; all
work can be, since a resync measures first. A round of the work ends in one of these (``Runner.run``):

==========================================  =========================================================================
end of a round                              action
==========================================  =========================================================================
a result                                    return it; a break that the work survived keeps the guest a suspect
an error that is not about the hypervisor   raise it
the guest is guilty (``suspects.py``)       remember that, and raise the verdict
the connection broke during an exchange     begin anew at once, in the suspect's next way
there is no connection                      begin anew after a pause, for as long as a restart of the daemon takes
                                            since the last break; then raise the error
==========================================  =========================================================================

After a restart of its daemon, a hypervisor has no agent connected for a while. Until that has settled, each agent is
waited for, or it would be taken for one that does not run.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Awaitable, Callable, NamedTuple, Sequence, TypeVar

from .._agent import GuestAgent
from .._channels.base import Channel
from .._errors import DeadlineError, HypervisorUnavailableError
from .._event_loop.tasks import Deadline, pause
from .._protocol.errors import QgaError
from .opt_out import require_allowed
from .results import GuestResult, Work, failure
from .suspects import SHARED, USUAL, SuspectTurns, Suspicion, Timings, WatchedChannel

# Suspects are remembered for as long as there are no more of them.
MOST_REMEMBERED = 1000

T = TypeVar("T")
OpenChannel = Callable[[], Channel]


@dataclass(frozen=True)
class Guest:
    """One guest of many, and how to open the channel to its agent.

    ``open_apart`` opens one whose connection carries no other guest's call; None: there is no such way.
    ``is_optional``: if it cannot be used, it is skipped instead of failing. ``problem``: that is known already.
    ``vm_name``: as in ``GuestResult``.
    """

    name: str
    open: OpenChannel
    uuid: str | None = None
    is_optional: bool = False
    problem: QgaError | None = None
    open_apart: OpenChannel | None = None
    vm_name: str | None = None


class RunOptions(NamedTuple):
    """``timeout`` is in seconds for each exchange, ``wait_timeout`` for an agent to answer at all. ``touches_clock``: a
    mark in the guest's definition may forbid the work.
    """

    timeout: float
    wait_timeout: float = 0.0
    touches_clock: bool = False


async def with_agent(open_channel: OpenChannel, work: Callable[[GuestAgent], Awaitable[T]], options: RunOptions) -> T:
    """Return what ``work`` returns for the agent of one guest.

    :raises QgaError: nothing was done to it
    """
    async with open_channel() as channel:
        if options.touches_clock:
            await require_allowed(channel, options.timeout)
        agent = GuestAgent(channel, options.timeout)
        if options.wait_timeout > 0:
            await agent.wait(options.wait_timeout)
        return await work(agent)


class Runner:
    """Works through guests, and remembers suspects. There is one for a run, or for a hypervisor of a service."""

    def __init__(self, timings: Timings = USUAL, most_remembered: int = MOST_REMEMBERED) -> None:
        self._timings = timings
        self._most_remembered = most_remembered
        self._turns = SuspectTurns(timings)
        self._suspects: dict[str, Suspicion] = {}  # as they were left, by UUID, in the order of their last run
        self._was_away_at = -math.inf

    async def run(self, guest: Guest, work: Callable[[GuestAgent], Awaitable[T]], options: RunOptions) -> T:
        """Do the work on one guest, as :func:`with_agent` does, by the table above.

        :raises HypervisorUnavailableError: ``in_call``, the guest is guilty; otherwise the connection could not be made
            again for a while, and that is not the guest's doing
        :raises QgaError: nothing was done to it
        """
        known = self._suspects.get(guest.uuid or "")
        suspicion = Suspicion(SHARED if known is None else known.way, guest.open_apart is not None)
        patience: Deadline | None = None
        while True:
            breaks = suspicion.breaks
            try:
                result = await with_agent(lambda: self._open(guest, suspicion), work, self._patient(options))
            except HypervisorUnavailableError as error:
                # As it is kept while the daemon is waited for: without what its frames hold.
                lost = HypervisorUnavailableError(error.message, error.hint, error.in_call)
            else:
                # Work that survives a break returns a result all the same. If its guest were no suspect the next time,
                # it could never be found out.
                self._remember(guest, suspicion, is_suspect=breaks != suspicion.breaks)
                return result
            guilty = suspicion.verdict()
            if guilty is not None:
                self._remember(guest, suspicion, is_suspect=True)
                raise guilty
            self._was_away_at = time.monotonic()
            if patience is None or breaks != suspicion.breaks:
                patience = Deadline(self._timings.restart)
            if patience.expired():
                raise HypervisorUnavailableError(lost.message, lost.hint)
            await pause(self._timings.suspect_retry if lost.in_call else self._timings.retry)

    def verdict(self, guest: Guest) -> HypervisorUnavailableError | None:
        """The error of a guest that was found guilty in its last run."""
        known = self._suspects.get(guest.uuid or "")
        return None if known is None else known.verdict()

    def _remember(self, guest: Guest, suspicion: Suspicion, is_suspect: bool) -> None:
        uuid = guest.uuid or ""
        self._suspects.pop(uuid, None)
        if uuid and is_suspect:
            self._suspects[uuid] = suspicion
            if len(self._suspects) > self._most_remembered:
                del self._suspects[next(iter(self._suspects))]

    def _patient(self, options: RunOptions) -> RunOptions:
        if time.monotonic() - self._was_away_at > self._timings.settling:
            return options
        return options._replace(wait_timeout=max(options.wait_timeout, self._timings.restart))

    def _open(self, guest: Guest, suspicion: Suspicion) -> Channel:
        open_channel = guest.open if suspicion.way == SHARED else guest.open_apart or guest.open
        return WatchedChannel(open_channel(), suspicion, self._turns)


def run_all(
    guests: Sequence[Guest],
    work: Work,
    options: RunOptions,
    concurrency: int,
    deadline: Deadline,
    timings: Timings = USUAL,
) -> tuple[GuestResult, ...]:
    """Do the work on all guests; return the result of each, in their order.

    ``concurrency`` is how many are worked on at the same time. Those that are not done at the ``deadline`` have failed.
    """
    from .._event_loop.multiplexer import Multiplexer  # one guest does without

    runner = Runner(timings)
    results: dict[int, GuestResult] = {}

    def late(before: str) -> DeadlineError:
        return DeadlineError(f"the deadline of {deadline.seconds:g} s passed before {before}")

    async def run_one(guest: Guest) -> GuestResult:
        if guest.problem is not None:
            return failure(guest.problem, guest.is_optional)
        try:
            return await runner.run(guest, work, options)
        except Exception as error:  # pylint: disable=broad-exception-caught  # met with one guest, it is not all's
            return failure(error, guest.is_optional)

    def result_of(number: int, guest: Guest) -> GuestResult:
        if number in results:
            return results[number]
        problem = guest.problem or late("it came to an end" if number < begun else "it was begun")
        return failure(problem, guest.is_optional)

    multiplexer: Multiplexer[GuestResult] = Multiplexer(concurrency, results.__setitem__)
    begun = multiplexer.run(map(run_one, guests), deadline.at, lambda: late("it was done"))
    return tuple(
        result_of(number, guest).of(guest.name, guest.uuid, guest.vm_name) for number, guest in enumerate(guests)
    )
