# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is known of one hypervisor's guests, and which of their clocks may be stale. Without I/O, threads or a clock.

One thing that happens to a guest is several events: a restore says that it was started, that it was resumed, and that
its agent is connected. They are put together here, and nothing is kept of them but the guest's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, NamedTuple

from . import causes
from .news import News, NotNeeded, Stale, WatchedGuest, Withdrawn

SECOND_NS = 1_000_000_000

# Events that belong to one thing that happened come within this time, unless the guest was paused between them.
_BURST_NS = 2 * SECOND_NS
# From a start to the resumption that follows it. A guest of many GiB that is reverted took less.
_TO_BE_RESUMED_NS = 10 * SECOND_NS

# A hypervisor that is watched all the while may still not have taken another connection.
_UNREACHED_NS = 10 * SECOND_NS

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
    """What is to be told. At ``told_by_ns`` it is, even if the guest or its agent is still not there."""

    cause: str
    since_ns: int
    is_running: bool
    told_by_ns: int


@dataclass
class _State:
    """``is_connected``: None, if libvirt has not said. ``quiet_until_ns``: until then, what was told is not told again.

    ``is_busy``: somebody works on what was told.
    """

    guest: WatchedGuest
    is_connected: bool | None = None
    pending: _Pending | None = None
    is_busy: bool = False
    is_gone: bool = False
    quiet_until_ns: int = 0
    reset_until_ns: int = 0


class Ledger:
    """The guests of ``uri``. Instants are on any one clock that is monotonic, in nanoseconds.

    ``patience_ns`` is how long an agent that is not connected is waited for.
    """

    def __init__(self, uri: str, patience_ns: int) -> None:
        self._uri = uri
        self._patience_ns = patience_ns
        self._states: dict[str, _State] = {}
        self._pending: dict[str, _State] = {}
        # The last of each kind for each guest: it may be long until somebody asks.
        self._said: dict[tuple[str, type], News] = {}

    def __len__(self) -> int:
        """How many guests something is known of."""
        return len(self._states)

    # ------------------------------------------------------------------------------------------------ what libvirt says

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
        """A reset is told of several times, by each part of the machine that is reset."""
        state = self._state(uuid, name)
        if now_ns >= state.reset_until_ns:
            state.reset_until_ns = now_ns + _BURST_NS
            self._said[uuid, NotNeeded] = NotNeeded(state.guest, causes.RESET)

    def on_pass(self, seen: Iterable[SeenGuest], cause: str, now_ns: int) -> None:
        """All running guests that have a port for an agent. What is known of others is forgotten."""
        found = {each.uuid: each for each in seen}
        for uuid in [uuid for uuid in self._states if uuid not in found]:
            self._on_ended(uuid, _STOPPED)
        for each in found.values():
            state = self._state(each.uuid, each.name)
            state.is_connected = each.is_connected
            if state.pending is None:
                self._expect(state, _Pending(cause, now_ns, is_running=True, told_by_ns=now_ns + self._patience_ns))
            else:
                state.pending.is_running = True

    def _on_starting(self, uuid: str, name: str, cause: str, now_ns: int) -> None:
        state = self._state(uuid, name)
        # In whatever order a libvirt tells it: what runs already is not waited for to run.
        if state.pending is not None and state.pending.is_running:
            state.pending.cause = cause
        elif now_ns >= state.quiet_until_ns:
            told_by_ns = now_ns + _TO_BE_RESUMED_NS
            self._expect(state, _Pending(cause, now_ns, is_running=False, told_by_ns=told_by_ns))

    def _on_running(self, uuid: str, name: str, cause: str, now_ns: int) -> None:
        state = self._state(uuid, name)
        if state.pending is not None:
            # The start said better why. The clock is of use from now on.
            cause = cause if state.pending.is_running else state.pending.cause
        elif now_ns < state.quiet_until_ns:
            return
        self._expect(state, _Pending(cause, now_ns, is_running=True, told_by_ns=now_ns + self._patience_ns))

    def _on_booted(self, uuid: str, name: str, now_ns: int) -> None:
        """Its clock comes from its hardware clock. That it runs is told as a resumption, mostly just before."""
        state = self._state(uuid, name)
        state.quiet_until_ns = now_ns + _BURST_NS
        if state.pending is not None:
            self._forget_pending(state)

    def _on_ended(self, uuid: str, became: str) -> None:
        state = self._states.get(uuid)
        if state is None:
            return
        if state.pending is not None:
            self._said[uuid, Withdrawn] = Withdrawn(state.guest, state.pending.cause, became)
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

    # --------------------------------------------------------------------------------------------- what is to be told

    def take(self, now_ns: int) -> list[News]:
        """What is to be told now. A guest that is told to be stale is not told of again before it is :meth:`done`."""
        news = list(self._said.values())
        self._said.clear()
        for state in list(self._pending.values()):
            if state.pending is None or state.is_busy or not _is_due(state, state.pending, now_ns):
                continue
            news.append(Stale(state.guest, state.pending.cause, state.pending.since_ns))
            self._forget_pending(state)
            state.is_busy = True
            state.quiet_until_ns = now_ns + _BURST_NS
        return news

    def next_ns(self) -> int | None:
        """When something is to be told without anything having happened before. None: never."""
        waiting = [state.pending for state in self._pending.values() if not state.is_busy]
        return min((pending.told_by_ns for pending in waiting if pending is not None), default=None)

    def put_back(self, stale: Stale, now_ns: int) -> None:
        """What was told of the guest came to nothing, since its hypervisor could not be reached: it is told again after
        a while, or after the next pass, which shows that it can be.
        """
        state = self._states.get(stale.guest.uuid)
        if state is not None and not state.is_gone and state.pending is None:
            told_by_ns = now_ns + _UNREACHED_NS
            self._expect(state, _Pending(stale.cause, stale.since_ns, is_running=False, told_by_ns=told_by_ns))
        self.done(stale.guest.uuid)

    def done(self, uuid: str) -> None:
        """What was told of the guest has been worked on; if more has happened since, that is told next."""
        state = self._states.get(uuid)
        if state is not None:
            state.is_busy = False
            self._forget_if_over(state)


def _is_due(state: _State, pending: _Pending, now_ns: int) -> bool:
    is_there = pending.is_running and state.is_connected is not False
    return is_there or now_ns >= pending.told_by_ns
