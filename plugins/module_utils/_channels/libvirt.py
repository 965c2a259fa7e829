# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The channel through libvirt, which owns the agent's socket of every domain it manages.

Theory of operation. A call goes through these steps. Steps with "yes" block a thread. They run on the threads of a line
(``_hypervisor/connections.py``), which many guests share. So the :class:`Pace` of a guest decides in which lane it
waits for a thread, and a guest that has not been asked before is probed first.

==== ================================ ====== ==========================================================================
step action                           thread time
==== ================================ ====== ==========================================================================
1    probe a new guest                yes    ``Timings.probe``, if the call has twice that; a request that may be
                                             repeated is its own probe, and ends here if it is answered
2    wait for a thread in its lane    no     not counted, unless all threads hang; a guest that is held back because it
                                             was silent, or about as slow, is given up at ``Line.held_back_until``
3    open the connection, find the    yes    ``left``: the call's timeout less the time of failed attempts
     domain; it must be running, and
     be the pinned one
4    check that there is still time   yes    a call that was given up must not be made later
5    send, wait, read (libvirt_calls) yes    ``left``, in libvirt's whole seconds: up to a second more
6    count how long 5 took            yes    it decides the lane of the next call
7    give up waiting for the thread   no     at the end of ``left``; the thread continues by itself
8    repeat, if libvirt has not       no     ``Timings.reach``; ``SHORTEST_AGENT_TIMEOUT`` is kept for the last attempt
     reached the agent yet
9    change to the reserve, if the    no     at once; the caller handles the error
     connection broke at its reply
==== ================================ ====== ==========================================================================
"""

from __future__ import annotations

import math
import time
from typing import Callable, NamedTuple, TypeVar

from .._errors import ExchangeTimeoutError, HypervisorUnavailableError, UnresponsiveError
from .._event_loop.tasks import Deadline, pause
from .._event_loop.threads import BoundedCaller, StillBusyError
from .._hypervisor.connections import Line
from .._hypervisor.lanes import NEW, PROVEN, Lane, Pace
from .._hypervisor.virsh import unmistakable, virsh
from .._protocol.limits import USUAL_LIMITS, Limits
from .base import Channel, Exchange, Request
from .libvirt_calls import PING, SHORTEST_AGENT_TIMEOUT, DomainCalls
from .libvirt_errors import UnreachedError

Result = TypeVar("Result")

# A task begins with one of these, and running them twice does no harm.
_REPEATABLE = ("guest-ping", "guest-info")


class Timings(NamedTuple):
    """The times in seconds that a channel waits for libvirt and for its agent.

    ``probe``: in a fleet, a guest that does not answer within this time has to wait for those that do. ``most_held``:
    so does a guest with one answer that took longer than this. A guest whose answers took longer only in total waits
    for all others except those. On a busy host, the sixty or so exchanges of a resync take less.

    ``reach``: a daemon that restarts under its guests reconnects to their agents one by one: in about 20 ms for one
    guest, longer for many or on a busy host. Until then it reports an agent as connected, but refuses every command for
    it. ``at_once``: a failure within this time means that the agent was not asked, since libvirt waits at least a whole
    second for an agent.
    """

    probe: float = 1.0
    most_held: float = 0.25
    reach: float = 5.0
    reach_pause: float = 0.1
    at_once: float = 0.9


TIMINGS = Timings()


class LibvirtChannel(Channel):
    """The agent of one domain, by name or UUID, on the hypervisor at a libvirt URI.

    ``line`` is a connection shared with other domains; without it, the channel opens its own. libvirt accepts replies
    of up to 10 MiB (``QEMU_AGENT_MAX_RESPONSE``); ``limits`` apply to decoding them here.
    """

    is_shared = True

    def __init__(
        self,
        domain: str,
        uri: str,
        line: Line | None = None,
        limits: Limits = USUAL_LIMITS,
        timings: Timings = TIMINGS,
    ) -> None:
        self._uri = uri
        self._line = Line(uri) if line is None else line
        self._owns_line = line is None
        self._timings = timings
        self._caller = BoundedCaller()
        self._calls = DomainCalls(domain, self._line, limits, timings.at_once)
        self._pace = Pace(self._line.is_shared, timings.probe, timings.most_held)

    def __str__(self) -> str:
        return str(self._calls)

    async def call(self, request: Request, timeout: float) -> Exchange:
        deadline = Deadline(timeout)
        # Leave enough time for the last attempt.
        patience = Deadline(min(timeout - SHORTEST_AGENT_TIMEOUT, self._timings.reach))
        while True:
            try:
                return await self._attempt(request, deadline.remaining(), timeout)
            except UnreachedError:
                if request.execute not in _REPEATABLE or patience.remaining() <= self._timings.reach_pause:
                    raise
            except HypervisorUnavailableError as broken:
                if broken.in_call:  # maybe by this agent's reply: from now on, its connection is shared with no guest
                    self._line = self._line.reserve or self._line
                raise
            await pause(self._timings.reach_pause)  # without a thread: those are for guests that can be asked

    async def _attempt(self, request: Request, left: float, timeout: float) -> Exchange:
        """Make one attempt within the ``left`` seconds of ``timeout``."""
        probe = self._timings.probe
        if self._pace.lane is NEW and left > 2 * probe:  # a shorter call takes no longer than a probe
            asked = request if request.execute in _REPEATABLE else PING
            answered = await self._probe(asked)
            if answered is None:
                left -= probe
            elif asked is request:
                return answered
        lane, until = self._pace.lane, self._pace.given_up_at(self._line.held_back_until)
        try:
            exchange = await self._on_thread(
                lambda: self._perform(request, left, until), request.execute, left, timeout, lane, until
            )
        except UnreachedError:
            raise  # it held up no thread
        except (UnresponsiveError, ExchangeTimeoutError):
            self._pace.silent()
            raise
        self._pace.answered()
        return exchange

    async def _probe(self, request: Request) -> Exchange | None:
        """Find out quickly whether the agent answers: a silent one must not hold up others. None: it did not answer."""
        self._pace.silent()
        probe, workers = self._timings.probe, self._line.workers(NEW)
        try:
            # Not by _on_thread(): it is not an error yet if connecting to libvirt takes longer.
            exchange = await self._caller.run(lambda: self._perform(request, probe), probe, workers)
        except UnreachedError:
            self._pace.unreached()
            raise
        except (StillBusyError, UnresponsiveError, ExchangeTimeoutError):
            return None
        self._pace.answered()
        return exchange

    def _perform(self, request: Request, left: float, until: float = math.inf) -> Exchange:
        """Do steps 3 to 6, on a thread of the line."""
        deadline = Deadline(min(left, until - time.monotonic()))
        self._calls.open()
        if deadline.expired():
            raise StillBusyError
        began_at = time.monotonic()
        try:
            return self._calls.exchange(request, deadline)
        finally:
            self._pace.took(request.execute, time.monotonic() - began_at)

    async def _on_thread(
        self,
        function: Callable[[], Result],
        what: str,
        left: float,
        timeout: float,
        lane: Lane = PROVEN,
        until: float = math.inf,
    ) -> Result:
        try:
            return await self._caller.run(function, left, self._line.workers(lane, self._pace.held), until)
        except StillBusyError:
            if time.monotonic() >= until:
                raise UnresponsiveError(
                    f"the agent of {self} did not answer within {self._timings.probe:g} s, "
                    "nor within the remaining time for all silent guests"
                ) from None
            within = f"within {timeout:g} s"
            if self._calls.domain is None:
                raise HypervisorUnavailableError(f"libvirt at {self._uri} did not answer {within}") from None
            kind = ExchangeTimeoutError if self._calls.has_answered else UnresponsiveError
            raise kind(f"the agent of {self} did not answer {what} {within}") from None

    @property
    def guest_name(self) -> str | None:
        domain = self._calls.domain
        name: str | None = None if domain is None else domain.name()
        return name

    @property
    def thaw_hint(self) -> str:
        name, domain = self._calls.name, self._calls.domain
        named = name if domain is None else unmistakable(name, domain.UUIDString())
        return f"Run {virsh(self._uri, 'domfsthaw', named)}, then run the task again."

    def pin(self) -> None:
        self._calls.is_pinned = True

    async def require_same(self, timeout: float) -> None:
        # A libvirt domain object stands for the UUID, even after a restart of the domain.
        await self._on_thread(self._calls.look_up_again, "virDomainLookupByName", timeout, timeout)

    async def metadata(self, namespace: str, timeout: float) -> str | None:
        return await self._on_thread(lambda: self._calls.metadata(namespace), "virDomainGetMetadata", timeout, timeout)

    async def macs(self, timeout: float) -> tuple[str, ...]:
        return await self._on_thread(self._calls.macs, "virDomainGetXMLDesc", timeout, timeout)

    async def close(self) -> None:
        self._calls.forget()
        self._caller.close()
        if self._owns_line:
            self._line.close()
