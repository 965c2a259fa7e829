# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner: does the same work on each of many guests, whether all are known in advance or arrive over time.

Theory of operation
-------------------
One guest never delays or hides the others. If its connection to the hypervisor is lost, its work is restarted. Any work
can be restarted, since a resync measures first. An attempt ends in one of these ways (``Runner.run``):

==========================================  =========================================================================
end of an attempt                           action
==========================================  =========================================================================
a result                                    return it; a break that the work survived keeps the guest a suspect
an error that is not about the hypervisor   raise it
the guest is guilty (``suspects.py``)       remember that, and raise the verdict
the connection broke during an exchange     retry at once, in the suspect's next mode
there is no connection                      retry after a pause, until the time that a restart of the daemon takes
                                            has passed since the last break; then raise the error
==========================================  =========================================================================

After a restart of its daemon, a hypervisor has no agents connected for a while. During this time, each agent is waited
for; otherwise its guest would count as one without a running agent.
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

# If there are more suspects, the oldest is forgotten.
MOST_REMEMBERED = 1000

T = TypeVar("T")
OpenChannel = Callable[[], Channel]


@dataclass(frozen=True)
class Guest:
    """One guest of many, and how to open the channel to its agent.

    ``open_apart`` opens one whose connection carries no other guest's call; None: this is not possible.
    ``is_optional``: if it cannot be used, it is skipped and does not fail. ``problem``: an error that is known already.
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
    """``timeout`` is the seconds for each exchange, ``wait_timeout`` those for the agent to answer for the first time.
    ``touches_clock``: a mark in the guest's definition may forbid the work.
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
    """Works through guests, and remembers suspects. There is one for each run, or for each hypervisor of a service."""

    def __init__(self, timings: Timings = USUAL, most_remembered: int = MOST_REMEMBERED) -> None:
        self._timings = timings
        self._most_remembered = most_remembered
        self._turns = SuspectTurns(timings)
        self._suspects: dict[str, Suspicion] = {}  # by UUID, in the order of their last run
        self._was_away_at = -math.inf

    async def run(self, guest: Guest, work: Callable[[GuestAgent], Awaitable[T]], options: RunOptions) -> T:
        """Do the work on one guest, as :func:`with_agent` does, by the table above.

        :raises HypervisorUnavailableError: with ``in_call``, the guest is guilty; otherwise, the connection could not
        be
            restored for a while, which is not the guest's fault
        :raises QgaError: nothing was done to it
        """
        known = self._suspects.get(guest.uuid or "")
        suspicion = Suspicion(SHARED if known is None else known.mode, guest.open_apart is not None)
        patience: Deadline | None = None
        while True:
            breaks = suspicion.breaks
            try:
                result = await with_agent(lambda: self._open(guest, suspicion), work, self._patient(options))
            except HypervisorUnavailableError as error:
                # It is kept during the wait for the daemon, so it must not hold the frames of its traceback.
                lost = HypervisorUnavailableError(error.message, error.hint, error.in_call)
            else:
                # Work can survive a break and return a result. Its guest stays a suspect; otherwise it could break the
                # shared connection in every run without being found guilty.
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
        """Return the error of a guest that was found guilty in its last run."""
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
        open_channel = guest.open if suspicion.mode == SHARED else guest.open_apart or guest.open
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

    ``concurrency`` is the number of guests that are worked on at the same time. Guests that are not done at the
    ``deadline`` have failed.
    """
    from .._event_loop.multiplexer import Multiplexer  # not needed for one guest

    runner = Runner(timings)
    results: dict[int, GuestResult] = {}

    def late(before: str) -> DeadlineError:
        return DeadlineError(f"the deadline of {deadline.seconds:g} s passed before {before}")

    async def run_one(guest: Guest) -> GuestResult:
        if guest.problem is not None:
            return failure(guest.problem, guest.is_optional)
        try:
            return await runner.run(guest, work, options)
        except Exception as error:  # pylint: disable=broad-exception-caught  # it must not affect other guests
            return failure(error, guest.is_optional)

    def result_of(number: int, guest: Guest) -> GuestResult:
        if number in results:
            return results[number]
        problem = guest.problem or late("work on the guest ended" if number < begun else "work on the guest began")
        return failure(problem, guest.is_optional)

    multiplexer: Multiplexer[GuestResult] = Multiplexer(concurrency, results.__setitem__)
    begun = multiplexer.run(map(run_one, guests), deadline.at, lambda: late("work on the guest ended"))
    return tuple(
        result_of(number, guest).of(guest.name, guest.uuid, guest.vm_name) for number, guest in enumerate(guests)
    )
