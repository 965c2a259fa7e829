# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of a stand-in for libvirt-python: its event loop, and what connections are told on that loop's thread.

As with libvirt, a process has one loop for all connections, and whoever runs it once runs it for all that come later.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from tests.fakes.one_domain import INTERNAL_ERROR, LibvirtError

# virDomainEventID, and virConnectCloseReason (include/libvirt/libvirt-domain.h and libvirt-host.h, libvirt 11.3.0).
LIFECYCLE = 0
REBOOT = 1
AGENT_LIFECYCLE = 18
END_OF_FILE = 1

AGENT_CONNECTED = 1
AGENT_DISCONNECTED = 2
BY_CHANNEL = 2  # the reason of an agent's event: its port was opened or closed in the guest


class _Loop:
    def __init__(self) -> None:
        self.is_registered = False
        self._due: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # The collection's code may be here twice, in place and assembled, and each runs the loop on a thread.
        self._running = threading.Lock()

    def run_once(self) -> None:
        with self._running:
            self._due.get()()

    def post(self, due: Callable[[], None]) -> None:
        self._due.put(due)


_loop = _Loop()


def settle(seconds: float = 5.0) -> None:
    """Wait until all that was fired has been told, on the loop's thread."""
    told = threading.Event()
    _loop.post(told.set)
    assert told.wait(seconds), "nobody runs the event loop"


class ConnectionEvents:
    """A connection's part in it."""

    is_broken: bool
    is_closed: bool

    def __init__(self) -> None:
        self._has_loop = _loop.is_registered
        self._lock = threading.Lock()
        self._numbers = 0
        self._registered: dict[int, tuple[int, Callable[..., None], object]] = {}
        self._on_closed: tuple[Callable[..., None], object] | None = None

    @property
    def registered_events(self) -> list[int]:
        with self._lock:
            return sorted(event for event, _callback, _opaque in self._registered.values())

    # libvirt

    def setKeepAlive(self, _interval: int, _count: int) -> int:  # noqa: N802  # libvirt's name
        self._require_loop()
        return 0

    def registerCloseCallback(self, callback: Callable[..., None], opaque: object) -> int:  # noqa: N802
        self._on_closed = (callback, opaque)
        return 0

    def unregisterCloseCallback(self) -> int:  # noqa: N802
        self._on_closed = None
        return 0

    def domainEventRegisterAny(  # noqa: N802
        self, domain: object, event: int, callback: Callable[..., None], opaque: object
    ) -> int:
        assert domain is None, "this stand-in tells of all domains only"
        self._require_loop()
        with self._lock:
            self._numbers += 1
            self._registered[self._numbers] = (event, callback, opaque)
            return self._numbers

    def domainEventDeregisterAny(self, number: int) -> int:  # noqa: N802
        with self._lock:
            if self.is_broken or self._registered.pop(number, None) is None:
                raise LibvirtError(INTERNAL_ERROR, "internal error: client socket is closed")
        return 0

    def _require_loop(self) -> None:
        if self.is_broken:
            raise LibvirtError(INTERNAL_ERROR, "internal error: client socket is closed")
        if not self._has_loop:
            raise LibvirtError(INTERNAL_ERROR, "the event loop was not registered before this connection was opened")

    # For the hypervisor behind it.

    def tell(self, event: int, domain: object, *what: object) -> None:
        _loop.post(lambda: self._deliver(event, domain, what))

    def tell_closed(self) -> None:
        _loop.post(self._deliver_closed)

    def _deliver(self, event: int, domain: object, what: tuple[object, ...]) -> None:
        if self.is_broken or self.is_closed:
            return
        with self._lock:
            wanted = [(callback, opaque) for each, callback, opaque in self._registered.values() if each == event]
        for callback, opaque in wanted:
            callback(self, domain, *what, opaque)

    def _deliver_closed(self) -> None:
        if self._on_closed is not None and not self.is_closed:
            callback, opaque = self._on_closed
            callback(self, END_OF_FILE, opaque)


class HypervisorEvents:
    """A hypervisor's part in it: libvirt's loop, and what a test has happen."""

    connections: list[Any]

    def domain_of(self, connection: Any, name: str) -> object:
        """The domain as that connection sees it, even if it is gone by now."""
        raise NotImplementedError

    # libvirt

    def virEventRegisterDefaultImpl(self) -> int:  # noqa: N802  # libvirt's name
        _loop.is_registered = True
        return 0

    def virEventRunDefaultImpl(self) -> int:  # noqa: N802
        _loop.run_once()
        return 0

    # A test. Nothing else happens: a domain's state is the test's business, too.

    def fire_lifecycle(self, name: str, event: int, detail: int) -> None:
        self._fire(LIFECYCLE, name, event, detail)

    def fire_agent(self, name: str, state: int, reason: int = BY_CHANNEL) -> None:
        self._fire(AGENT_LIFECYCLE, name, state, reason)

    def fire_reboot(self, name: str) -> None:
        self._fire(REBOOT, name)

    def _fire(self, event: int, name: str, *what: object) -> None:
        for connection in list(self.connections):
            connection.tell(event, self.domain_of(connection, name), *what)
