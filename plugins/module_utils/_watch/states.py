# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The states of one hypervisor's guests, and whose clocks may be stale. No I/O, no threads, no clock.

Theory of operation
-------------------
One action on a guest causes several events: after a restore, the guest is started, is resumed, and its agent connects.
They are combined here. Only the guest's state is kept: the *pending* notice that its clock may be stale, if there is
one. While the guest is *quiet*, events that belong to the previous notice change nothing.

===========================  ====================  ==================================  =================================
event                        nothing pending       pending, the guest does not run     pending, the guest runs
===========================  ====================  ==================================  =================================
started, to be resumed soon  unless quiet,         unless quiet, pending again with    takes the event's cause
(restored, reverted,         pending: it does not  the event's cause
migrated)                    run yet
resumed, or woken up         unless quiet,         it runs; the cause stays: that of   pending again with the event's
                             pending: it runs      the start is more precise           cause
found running by a scan      pending: it runs      it runs                             nothing
booted                       quiet                 nothing pending, quiet              nothing pending, quiet
paused or stopped            not quiet             withdrawn, not quiet                withdrawn, not quiet
noticed (``take``)           -                     busy and quiet, when it is due      busy and quiet, when its agent is
                                                                                       connected, or when it is due
===========================  ====================  ==================================  =================================

A *busy* guest is being resynced: its next notice waits for :meth:`~GuestStates.done`. If its hypervisor could not be
reached, :meth:`~GuestStates.retry_later` makes it pending, as a guest that does not run, unless it is pending already.
A stopped guest is forgotten; if it is busy, after its resync. A reset changes nothing: there is one notice that no
resync is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, NamedTuple

from . import causes
from .notices import Notice, NotNeeded, Stale, WatchedGuest, Withdrawn

SECOND_NS = 1_000_000_000


class Timings(NamedTuple):
    """In nanoseconds.

    ``burst``: events of one action arrive within this time, unless the guest is paused between them.
    ``until_resumed``: the longest time from a start to the resumption that follows it; reverting a guest of many GiB
    took less. ``unreached``: the pause before a retry when a hypervisor that is being watched refused a connection.
    """

    burst: int = 2 * SECOND_NS
    until_resumed: int = 10 * SECOND_NS
    unreached: int = 10 * SECOND_NS


DEFAULT_TIMINGS = Timings()

_PAUSED = "paused"
_STOPPED = "stopped"
_ENDED = {
    causes.EVENT_SUSPENDED: _PAUSED,
    causes.EVENT_PMSUSPENDED: _PAUSED,
    causes.EVENT_STOPPED: _STOPPED,
    causes.EVENT_CRASHED: _STOPPED,
}


class SeenGuest(NamedTuple):
    """A running guest in a scan. ``is_connected``: whether a process in it has opened the agent's port."""

    uuid: str
    name: str
    is_connected: bool | None  # None: libvirt does not report it


@dataclass
class _Pending:
    """A future notice. It is due at ``due_ns`` even if the guest does not run or its agent is not connected."""

    cause: str
    since_ns: int
    is_running: bool
    due_ns: int


@dataclass
class _State:
    """``is_connected``: None if libvirt has not reported it. ``is_busy``: the guest is being resynced."""

    guest: WatchedGuest
    is_connected: bool | None = None
    pending: _Pending | None = None
    is_busy: bool = False
    is_gone: bool = False
    quiet_until_ns: int = 0
    reset_until_ns: int = 0


class GuestStates:
    """The guests of ``uri``. Times are in nanoseconds on one monotonic clock.

    ``patience_ns`` is the longest time to wait for an agent to connect.
    """

    def __init__(self, uri: str, patience_ns: int, timings: Timings = DEFAULT_TIMINGS) -> None:
        self._uri = uri
        self._timings = timings
        self._patience_ns = patience_ns
        self._states: dict[str, _State] = {}
        self._pending: dict[str, _State] = {}
        # Only the last of each type for each guest: it may be long until the next take().
        self._notices: dict[tuple[str, type], Notice] = {}

    # --------------------------------------------------------------------------------------------------------- events

    def on_lifecycle(self, uuid: str, name: str, event: int, detail: int, now_ns: int) -> None:
        """``event`` is a virDomainEventType, and ``detail`` is specific to the event."""
        if event in _ENDED:
            self._on_ended(uuid, _ENDED[event])
        elif event == causes.EVENT_RESUMED:
            self._on_running(uuid, name, causes.CAUSE_BY_RESUMED_DETAIL.get(detail, causes.RESUMED), now_ns)
        elif event == causes.EVENT_STARTED and detail == causes.STARTED_BY_WAKEUP:
            self._on_running(uuid, name, causes.WOKE_UP, now_ns)
        elif event == causes.EVENT_STARTED and detail == causes.STARTED_BY_BOOT:
            self._on_booted(uuid, name, now_ns)
        elif event == causes.EVENT_STARTED and detail in causes.CAUSE_BY_STARTED_DETAIL:
            self._on_starting(uuid, name, causes.CAUSE_BY_STARTED_DETAIL[detail], now_ns)

    def on_agent(self, uuid: str, name: str, is_connected: bool) -> None:
        self._state(uuid, name).is_connected = is_connected

    def on_reboot(self, uuid: str, name: str, now_ns: int) -> None:
        """libvirt reports one reset several times, once for each part of the machine."""
        state = self._state(uuid, name)
        if now_ns >= state.reset_until_ns:
            state.reset_until_ns = now_ns + self._timings.burst
            self._notices[uuid, NotNeeded] = NotNeeded(state.guest, causes.RESET)

    def on_scan(self, seen: Iterable[SeenGuest], cause: str, now_ns: int) -> None:
        """Take the result of a scan: all running guests that have an agent channel. Others are forgotten."""
        found = {each.uuid: each for each in seen}
        for uuid in [uuid for uuid in self._states if uuid not in found]:
            self._on_ended(uuid, _STOPPED)
        for each in found.values():
            state = self._state(each.uuid, each.name)
            state.is_connected = each.is_connected
            if state.pending is None:
                self._set_pending(state, _Pending(cause, now_ns, is_running=True, due_ns=now_ns + self._patience_ns))
            else:
                state.pending.is_running = True

    def _on_starting(self, uuid: str, name: str, cause: str, now_ns: int) -> None:
        state = self._state(uuid, name)
        # libvirt may report the resumption first: do not wait for it again.
        if state.pending is not None and state.pending.is_running:
            state.pending.cause = cause
        elif now_ns >= state.quiet_until_ns:
            due_ns = now_ns + self._timings.until_resumed
            self._set_pending(state, _Pending(cause, now_ns, is_running=False, due_ns=due_ns))

    def _on_running(self, uuid: str, name: str, cause: str, now_ns: int) -> None:
        state = self._state(uuid, name)
        if state.pending is not None:
            # The clock can be set from now on.
            cause = cause if state.pending.is_running else state.pending.cause
        elif now_ns < state.quiet_until_ns:
            return
        self._set_pending(state, _Pending(cause, now_ns, is_running=True, due_ns=now_ns + self._patience_ns))

    def _on_booted(self, uuid: str, name: str, now_ns: int) -> None:
        """A booting guest reads its hardware clock. libvirt also reports a resumption, usually just before."""
        state = self._state(uuid, name)
        state.quiet_until_ns = now_ns + self._timings.burst
        if state.pending is not None:
            self._clear_pending(state)

    def _on_ended(self, uuid: str, became: str) -> None:
        state = self._states.get(uuid)
        if state is None:
            return
        if state.pending is not None:
            self._notices[uuid, Withdrawn] = Withdrawn(state.guest, state.pending.cause, became)
            self._clear_pending(state)
        state.quiet_until_ns = 0
        if became == _STOPPED:
            state.is_gone = True
            self._forget_if_gone(state)

    def _state(self, uuid: str, name: str) -> _State:
        state = self._states.get(uuid)
        guest = WatchedGuest(self._uri, uuid, name)
        if state is None:
            state = self._states[uuid] = _State(guest)
        state.guest = guest
        state.is_gone = False
        return state

    def _set_pending(self, state: _State, pending: _Pending) -> None:
        state.pending = pending
        self._pending[state.guest.uuid] = state

    def _clear_pending(self, state: _State) -> None:
        state.pending = None
        del self._pending[state.guest.uuid]

    def _forget_if_gone(self, state: _State) -> None:
        if state.is_gone and not state.is_busy:
            del self._states[state.guest.uuid]

    # -------------------------------------------------------------------------------------------------------- notices

    def take(self, now_ns: int) -> list[Notice]:
        """Return the notices that are due. A stale guest gets no other notice before :meth:`done`."""
        notices = list(self._notices.values())
        self._notices.clear()
        for state in list(self._pending.values()):
            if state.pending is None or state.is_busy or not _is_due(state, state.pending, now_ns):
                continue
            notices.append(Stale(state.guest, state.pending.cause, state.pending.since_ns))
            self._clear_pending(state)
            state.is_busy = True
            state.quiet_until_ns = now_ns + self._timings.burst
        return notices

    def next_ns(self) -> int | None:
        """Return when the next notice is due if no event arrives; None if there is none."""
        waiting = [state.pending for state in self._pending.values() if not state.is_busy]
        return min((pending.due_ns for pending in waiting if pending is not None), default=None)

    def retry_later(self, stale: Stale, now_ns: int) -> None:
        """End a resync whose hypervisor could not be reached. There is another notice after a pause, or after the next
        scan, which proves that the hypervisor can be reached.
        """
        state = self._states.get(stale.guest.uuid)
        if state is not None and not state.is_gone and state.pending is None:
            due_ns = now_ns + self._timings.unreached
            self._set_pending(state, _Pending(stale.cause, stale.since_ns, is_running=False, due_ns=due_ns))
        self.done(stale.guest.uuid)

    def done(self, uuid: str) -> None:
        """End the resync of a guest. If more has happened since, the next notice is due."""
        state = self._states.get(uuid)
        if state is not None:
            state.is_busy = False
            self._forget_if_gone(state)


def _is_due(state: _State, pending: _Pending, now_ns: int) -> bool:
    is_there = pending.is_running and state.is_connected is not False
    return is_there or now_ns >= pending.due_ns
