"""Moments of a module's run at which tests can intervene, with any channel and without guessing times.

The channels are the collection's own; their methods are wrapped while a test needs it.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import libvirt, stream
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections, domains

# Operations that are not agent commands.
LISTING = "list the domains"
CONNECTION = "connection to libvirt"
DEFINITION = "the domain's definition"
IDENTITY = "whether it is still the same domain"
CLOSING = "close the channel"

# With either agent's command.
READING = "read the clock"
STEPPING = "step the clock"
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    READING: ("guest-get-time", "guest-get-clock"),
    STEPPING: ("guest-set-time", "guest-update-time"),
}


class Moment(NamedTuple):
    """Before or after the ``nth`` time (from 0) of ``what``: an agent command, or one of the names above.

    ``since``: count only after the first time of this.
    """

    what: str
    nth: int = 0
    is_after: bool = False
    since: str = ""


Action = Callable[[], None]


class _Clapper:
    """Counts events, and performs a test's actions at their moments. Channels run on several threads."""

    def __init__(self, actions: Mapping[Moment, Action]) -> None:
        self._actions = dict(actions)
        self._lock = threading.Lock()
        self._done: list[str] = []

    @contextlib.contextmanager
    def around(self, what: str) -> Iterator[None]:
        with self._lock:
            self._done.append(what)
        self._act(what, is_after=False)
        yield
        self._act(what, is_after=True)

    def _act(self, what: str, is_after: bool) -> None:
        with self._lock:
            due = [moment for moment in self._actions if moment.is_after == is_after and self._is_now(moment, what)]
            actions = [self._actions.pop(moment) for moment in due]
        for action in actions:
            action()

    def _is_now(self, moment: Moment, what: str) -> bool:
        wanted, done = _wanted(moment.what), self._done
        if moment.since:
            first = next((number for number, each in enumerate(done) if each in _wanted(moment.since)), len(done))
            done = done[first + 1 :]
        return what in wanted and sum(each in wanted for each in done) == moment.nth + 1


def _wanted(what: str) -> tuple[str, ...]:
    return _COMMANDS.get(what, (what,))


@contextlib.contextmanager
def at(actions: Mapping[Moment, Action]) -> Iterator[None]:
    """Perform each action once, at its moment, on the thread that reaches it first."""
    clapper = _Clapper(actions)
    wrapped: list[tuple[Any, str, str]] = [
        *((kind, "call", "") for kind in (stream.StreamChannel, libvirt.LibvirtChannel)),
        *((kind, "close", CLOSING) for kind in (stream.StreamChannel, libvirt.LibvirtChannel)),
        (libvirt.LibvirtChannel, "metadata", DEFINITION),
        (libvirt.LibvirtChannel, "require_same", IDENTITY),
        (domains, "list_domains", LISTING),
        (connections.Line, "connection", CONNECTION),
    ]
    with contextlib.ExitStack() as patches:
        for owner, name, what in wrapped:
            patches.enter_context(mock.patch.object(owner, name, _within(clapper, getattr(owner, name), what)))
        yield


def _within(clapper: _Clapper, function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Wrap a function. ``what`` is empty for an exchange, which is named by its request."""

    def around(arguments: tuple[Any, ...]) -> contextlib.AbstractContextManager[None]:
        return clapper.around(what or arguments[1].execute)

    @functools.wraps(function)
    async def wrapped_async(*arguments: Any, **options: Any) -> Any:
        with around(arguments):
            return await function(*arguments, **options)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        with around(arguments):
            return function(*arguments, **options)

    return wrapped_async if inspect.iscoroutinefunction(function) else wrapped
