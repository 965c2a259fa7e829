"""Moments of a module's run at which something can be done to it, whatever its channel: no guessing by time.

The channels stay the collection's own; their methods are wrapped for as long as a test needs it.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import libvirt, stream
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections, domains

# What is no agent command, and can be waited for as well.
LISTING = "list the domains"
CONNECTION = "connection to libvirt"
DEFINITION = "the domain's definition"
IDENTITY = "whether it is still the same domain"
CLOSING = "close the channel"

# Whichever agent command does it.
READING = "read the clock"
STEPPING = "step the clock"
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    READING: ("guest-get-time", "guest-get-clock"),
    STEPPING: ("guest-set-time", "guest-update-time"),
}


class Moment(NamedTuple):
    """Before or after the ``nth`` time (from 0) that ``what`` is done: an agent command, or one of the names above.

    ``behind``: counted from when that was done for the first time.
    """

    what: str
    nth: int = 0
    is_after: bool = False
    behind: str = ""


Action = Callable[[], None]


class _Clapper:
    """Counts what is done, and does what a test wants to be done then. Channels work on several threads."""

    def __init__(self, actions: Mapping[Moment, Action]) -> None:
        self._actions = dict(actions)
        self._lock = threading.Lock()
        self._done: list[str] = []

    def comes(self, what: str, is_after: bool) -> None:
        with self._lock:
            if not is_after:
                self._done.append(what)
            due = [moment for moment in self._actions if moment.is_after == is_after and self._is_now(moment, what)]
            actions = [self._actions.pop(moment) for moment in due]
        for action in actions:
            action()

    def _is_now(self, moment: Moment, what: str) -> bool:
        if what not in _meant(moment.what):
            return False
        done = self._done
        if moment.behind:
            first = next((number for number, each in enumerate(done) if each in _meant(moment.behind)), None)
            if first is None:
                return False
            done = done[first + 1 :]
        return sum(each in _meant(moment.what) for each in done) == moment.nth + 1


def _meant(what: str) -> tuple[str, ...]:
    return _COMMANDS.get(what, (what,))


@contextlib.contextmanager
def at(actions: Mapping[Moment, Action]) -> Iterator[None]:
    """Each action is carried out once, at its moment, by whoever gets there."""
    clapper = _Clapper(actions)
    with contextlib.ExitStack() as wrapped:
        for kind in (stream.StreamChannel, libvirt.LibvirtChannel):
            wrapped.enter_context(_replaced(kind, "call", _call(kind, clapper)))
            wrapped.enter_context(_replaced(kind, "close", _around_async(kind.close, CLOSING, clapper)))
        for name, what in (("metadata", DEFINITION), ("require_same", IDENTITY)):
            function = getattr(libvirt.LibvirtChannel, name)
            wrapped.enter_context(_replaced(libvirt.LibvirtChannel, name, _around_async(function, what, clapper)))
        wrapped.enter_context(_replaced(domains, "list_domains", _around_async(domains.list_domains, LISTING, clapper)))
        wrapped.enter_context(
            _replaced(connections.Line, "connection", _around(connections.Line.connection, CONNECTION, clapper))
        )
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _call(kind: type[Channel], clapper: _Clapper) -> Callable[..., Any]:
    original = kind.call

    async def call(channel: Channel, request: Request, timeout: float) -> Exchange:
        clapper.comes(request.execute, is_after=False)
        exchange = await original(channel, request, timeout)
        clapper.comes(request.execute, is_after=True)
        return exchange

    return call


def _around_async(function: Callable[..., Any], what: str, clapper: _Clapper) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapped(*arguments: Any, **options: Any) -> Any:
        clapper.comes(what, is_after=False)
        value = await function(*arguments, **options)
        clapper.comes(what, is_after=True)
        return value

    return wrapped


def _around(function: Callable[..., Any], what: str, clapper: _Clapper) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        clapper.comes(what, is_after=False)
        value = function(*arguments, **options)
        clapper.comes(what, is_after=True)
        return value

    return wrapped
