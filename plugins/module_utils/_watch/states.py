# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The states of one hypervisor's guests, and which of their clocks may be stale. No I/O, no threads, no clock.

Theory of operation
-------------------
One thing that happens to a guest is several events: after a restore, the guest was started, was resumed, and has its
agent connected. They are put together here, and nothing is kept of them but the guest's state: the *pending* notice
that its clock may be stale, if there is one. While it is *quiet*, events that belong to what was noticed just before
change nothing.

===========================  ====================  ==================================  =================================
event                        nothing pending       pending, the guest does not run     pending, the guest runs
===========================  ====================  ==================================  =================================
started, and to be resumed   unless quiet,         unless quiet, pending anew with     the cause becomes the event's
(restored, reverted,         pending: it does not  the event's cause
migrated)                    run yet
resumed, or woken up         unless quiet,         it runs, from now on; the cause     pending anew with the event's
                             pending: it runs      stays: the start knew it better     cause
listed (a pass over all)     pending: it runs      it runs                             nothing
booted                       quiet                 nothing pending, quiet              nothing pending, quiet
paused or stopped            not quiet             withdrawn, not quiet                withdrawn, not quiet
noticed (``take``)           -                     busy and quiet, when it is due      busy and quiet, when its agent is
                                                                                       connected, or when it is due
===========================  ====================  ==================================  =================================

A busy guest is worked on: its next notice waits until it is :meth:`~GuestStates.done`. One that could not be worked on
is :meth:`~GuestStates.put_back`: pending, as one that does not run, unless it is pending already. A stopped guest is
forgotten, a busy one after the work. A reset from within changes nothing: it is noticed as not needed, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, NamedTuple

from . import causes
from .notices import Notice, NotNeeded, Stale, WatchedGuest, Withdrawn

SECOND_NS = 1_000_000_000


class Timings(NamedTuple):
    """In nanoseconds.

    ``burst``: events that belong to one thing that happened come within this time, unless the guest was paused between
    them. ``to_be_resumed``: from a start to the resumption that follows it; a guest of many GiB that is reverted took
    less. ``unreached``: a hypervisor that is watched all the while may still not have taken another connection.
    """

    burst: int = 2 * SECOND_NS
    to_be_resumed: int = 10 * SECOND_NS
    unreached: int = 10 * SECOND_NS


USUAL = Timings()

_PAUSED = "paused"
_STOPPED = "stopped"
_ENDED = {
    causes.EVENT_SUSPENDED: _PAUSED,
    causes.EVENT_PMSUSPENDED: _PAUSED,
    causes.EVENT_STOPPED: _STOPPED,
    causes.EVENT_CRASHED: _STOPPED,
}


class SeenGuest(NamedTuple):
    """A running guest in a pass. ``is_connected``: whether something in it has opened the agent's port."""

    uuid: str
    name: str
    is_connected: bool | None  # None: libvirt does not say


@dataclass
class _Pending:
    """A notice to come. At ``due_ns`` it is given even if the guest does not run or its agent is not connected."""

    cause: str
    since_ns: int
    is_running: bool
    due_ns: int


@dataclass
class _State:
    """``is_connected``: None, if libvirt has not said. ``is_busy``: the guest is worked on because of a notice."""

    guest: WatchedGuest
    is_connected: bool | None = None
    pending: _Pending | None = None
    is_busy: bool = False
    is_gone: bool = False
    quiet_until_ns: int = 0
    reset_until_ns: int = 0


class GuestStates:
    """The guests of ``uri``. Instants are on any one clock that is monotonic, in nanoseconds.

    ``patience_ns`` is how long an agent that is not connected is waited for.
    """

    def __init__(self, uri: str, patience_ns: int, timings: Timings = USUAL) -> None:
        self._uri = uri
        self._timings = timings
        self._patience_ns = patience_ns
        self._states: dict[str, _State] = {}
        self._pending: dict[str, _State] = {}
        # The last of each kind for each guest: it may be long until somebody asks.
        self._notices: dict[tuple[str, type], Notice] = {}

    # --------------------------------------------------------------------------------------------------------- events

    def on_lifecycle(self, uuid: str, name: str, event: int, detail: int, now_ns: int) -> None:
        """``event`` is a virDomainEventType, ``detail`` that one's own."""
        if event in _ENDED:
            self._on_ended(uuid, _ENDED[event])
        elif event == causes.EVENT_RESUMED:
            self._on_running(uuid, name, causes.OF_RESUMED.get(detail, causes.RESUMED), now_ns)
        elif event == causes.EVENT_STARTED and detail == causes.STARTED_BY_WAKEUP:
            self._on_running(uuid, name, causes.WOKE_UP, now_ns)
        elif event == causes.EVENT_STARTED and detail == causes.STARTED_BY_BOOT:
            self._on_booted(uuid, name, now_ns)
        elif event == causes.EVENT_STARTED and detail in causes.OF_STARTED:
            self._on_starting(uuid, name, causes.OF_STARTED[detail], now_ns)

    def on_agent(self, uuid: str, name: str, is_connected: bool) -> None:
        self._state(uuid, name).is_connected = is_connected

    def on_reboot(self, uuid: str, name: str, now_ns: int) -> None:
        """A reset is reported several times, by each part of the machine that is reset."""
        state = self._state(uuid, name)
        if now_ns >= state.reset_until_ns:
            state.reset_until_ns = now_ns + self._timings.burst
            self._notices[uuid, NotNeeded] = NotNeeded(state.guest, causes.RESET)

    def on_pass(self, seen: Iterable[SeenGuest], cause: str, now_ns: int) -> None:
        """All running guests that have a port for an agent. What is known of others is forgotten."""
        found = {each.uuid: each for each in seen}
        for uuid in [uuid for uuid in self._states if uuid not in found]:
            self._on_ended(uuid, _STOPPED)
        for each in found.values():
            state = self._state(each.uuid, each.name)
            state.is_connected = each.is_connected
            if state.pending is None:
                self._expect(state, _Pending(cause, now_ns, is_running=True, due_ns=now_ns + self._patience_ns))
            else:
                state.pending.is_running = True

    def _on_starting(self, uuid: str, name: str, cause: str, now_ns: int) -> None:
        state = self._state(uuid, name)
        # In whatever order a libvirt reports it: what runs already is not waited for to run.
        if state.pending is not None and state.pending.is_running:
            state.pending.cause = cause
        elif now_ns >= state.quiet_until_ns:
            due_ns = now_ns + self._timings.to_be_resumed
            self._expect(state, _Pending(cause, now_ns, is_running=False, due_ns=due_ns))

    def _on_running(self, uuid: str, name: str, cause: str, now_ns: int) -> None:
        state = self._state(uuid, name)
        if state.pending is not None:
            # The clock is of use from now on.
            cause = cause if state.pending.is_running else state.pending.cause
        elif now_ns < state.quiet_until_ns:
            return
        self._expect(state, _Pending(cause, now_ns, is_running=True, due_ns=now_ns + self._patience_ns))

    def _on_booted(self, uuid: str, name: str, now_ns: int) -> None:
        """Its clock comes from its hardware clock. That it runs is reported as a resumption, mostly just before."""
        state = self._state(uuid, name)
        state.quiet_until_ns = now_ns + self._timings.burst
        if state.pending is not None:
            self._forget_pending(state)

    def _on_ended(self, uuid: str, became: str) -> None:
        state = self._states.get(uuid)
        if state is None:
            return
        if state.pending is not None:
            self._notices[uuid, Withdrawn] = Withdrawn(state.guest, state.pending.cause, became)
            self._forget_pending(state)
        state.quiet_until_ns = 0
        if became == _STOPPED:
            state.is_gone = True
            self._forget_if_over(state)

    def _state(self, uuid: str, name: str) -> _State:
        state = self._states.get(uuid)
        guest = WatchedGuest(self._uri, uuid, name)
        if state is None:
            state = self._states[uuid] = _State(guest)
        state.guest = guest
        state.is_gone = False
        return state

    def _expect(self, state: _State, pending: _Pending) -> None:
        state.pending = pending
        self._pending[state.guest.uuid] = state

    def _forget_pending(self, state: _State) -> None:
        state.pending = None
        del self._pending[state.guest.uuid]

    def _forget_if_over(self, state: _State) -> None:
        if state.is_gone and not state.is_busy:
            del self._states[state.guest.uuid]

    # -------------------------------------------------------------------------------------------------------- notices

    def take(self, now_ns: int) -> list[Notice]:
        """The notices of now. A guest that is noticed to be stale is not noticed again before it is :meth:`done`."""
        notices = list(self._notices.values())
        self._notices.clear()
        for state in list(self._pending.values()):
            if state.pending is None or state.is_busy or not _is_due(state, state.pending, now_ns):
                continue
            notices.append(Stale(state.guest, state.pending.cause, state.pending.since_ns))
            self._forget_pending(state)
            state.is_busy = True
            state.quiet_until_ns = now_ns + self._timings.burst
        return notices

    def next_ns(self) -> int | None:
        """When the next notice is due even if nothing happens. None: never."""
        waiting = [state.pending for state in self._pending.values() if not state.is_busy]
        return min((pending.due_ns for pending in waiting if pending is not None), default=None)

    def put_back(self, stale: Stale, now_ns: int) -> None:
        """The guest could not be worked on, since its hypervisor could not be reached. It is noticed again after a
        while, or after the next pass, which shows that it can be.
        """
        state = self._states.get(stale.guest.uuid)
        if state is not None and not state.is_gone and state.pending is None:
            due_ns = now_ns + self._timings.unreached
            self._expect(state, _Pending(stale.cause, stale.since_ns, is_running=False, due_ns=due_ns))
        self.done(stale.guest.uuid)

    def done(self, uuid: str) -> None:
        """The guest was worked on; if more has happened since, that is noticed next."""
        state = self._states.get(uuid)
        if state is not None:
            state.is_busy = False
            self._forget_if_over(state)


def _is_due(state: _State, pending: _Pending, now_ns: int) -> bool:
    is_there = pending.is_running and state.is_connected is not False
    return is_there or now_ns >= pending.due_ns
