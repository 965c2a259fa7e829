# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches one hypervisor: reconnects whenever the connection is lost, and passes on its guests' events."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, Callable, NamedTuple, Protocol, Sequence

from ..._errors import HypervisorUnavailableError
from ..._hypervisor import events
from ..._hypervisor.connections import Line
from ..._hypervisor.domains import channel_state, with_states
from ..._hypervisor.numbers import is_running
from ..._protocol.errors import QgaError
from ..states import SeenGuest

# virDomainEventID (include/libvirt/libvirt-domain.h, libvirt 11.3.0), as numbers since old bindings lack the names.
_LIFECYCLE = 0
_REBOOT = 1
_AGENT_LIFECYCLE = 18

_AGENT_CONNECTED = 1  # virConnectDomainEventAgentLifecycleState

# Interval in seconds, and number of probes, until a dead connection to a remote daemon is detected.
_KEEPALIVE = (5, 3)


class Listener(Protocol):
    """Takes the events, on threads of libvirt and of the source. Must not block or raise."""

    def on_lifecycle(self, uuid: str, name: str, event: int, detail: int) -> None:
        """Take a virDomainEventType and its detail."""

    def on_agent(self, uuid: str, name: str, is_connected: bool) -> None:
        """Take whether a process in the guest has opened the agent's port."""

    def on_reboot(self, uuid: str, name: str) -> None:
        """Take a reboot, whether the guest or the host requested it."""

    def on_connected(self, running: int, seen: Sequence[SeenGuest]) -> None:
        """Take the number of running domains, and those that have an agent channel."""

    def on_lost(self, error: QgaError) -> None:
        """Take the reason why the daemon cannot be reached."""


class Retries(NamedTuple):
    """The pause before the next connection attempt, in seconds. It doubles each time, up to ``longest``."""

    first: float = 0.25
    longest: float = 30.0


DEFAULT_RETRIES = Retries()


class Source:
    """Watches one hypervisor on its own thread until it is closed."""

    def __init__(self, uri: str, listener: Listener, retries: Retries = DEFAULT_RETRIES) -> None:
        self._uri = uri
        self._line = Line(uri)
        self._libvirt = self._line.libvirt
        self._listener = listener
        self._retries = retries
        self._closing = threading.Event()
        self._lost = threading.Event()  # or closing
        events.start(self._libvirt)
        threading.Thread(target=self._watch, name=f"libvirt watch {uri}", daemon=True).start()

    def close(self) -> None:
        """Stop passing on events, without waiting."""
        self._closing.set()
        self._lost.set()

    def _watch(self) -> None:
        retry_seconds = self._retries.first
        while not self._closing.is_set():
            self._lost.clear()
            try:
                with self._connected() as connection:
                    self._scan(connection)
                    retry_seconds = self._retries.first
                    self._lost.wait()
                error: QgaError = HypervisorUnavailableError(f"the connection to libvirt at {self._uri} was lost")
            except QgaError as failure:
                error = failure
            self._notify(self._listener.on_lost, error)
            self._closing.wait(retry_seconds)
            retry_seconds = min(2 * retry_seconds, self._retries.longest)

    def _scan(self, connection: Any) -> None:
        running = self._libvirt_call(self._running, connection)
        seen = [found for domain in running if (found := self._inspect(connection, domain)) is not None]
        self._notify(self._listener.on_connected, len(running), seen)

    @contextlib.contextmanager
    def _connected(self) -> Any:
        """
        :raises QgaError: connecting failed
        """
        connection = self._line.connection()
        registered: list[int] = []
        try:
            with contextlib.suppress(self._libvirt.libvirtError):  # some drivers do not support it
                connection.setKeepAlive(*_KEEPALIVE)
            connection.registerCloseCallback(self._on_closed, None)
            for event, callback in (
                (_LIFECYCLE, self._on_lifecycle),
                (_AGENT_LIFECYCLE, self._on_agent),
                (_REBOOT, self._on_reboot),
            ):
                registered.append(self._libvirt_call(connection.domainEventRegisterAny, None, event, callback, None))
            yield connection
        finally:
            for number in registered:
                with contextlib.suppress(self._libvirt.libvirtError):
                    connection.domainEventDeregisterAny(number)
            with contextlib.suppress(self._libvirt.libvirtError):
                connection.unregisterCloseCallback()
            self._line.disconnect()

    def _libvirt_call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._libvirt.libvirtError as error:
            raise self._line.connection_error(error) from error

    def _running(self, connection: Any) -> list[Any]:
        return [domain for domain, state in with_states(self._line, connection) if is_running(state)]

    def _inspect(self, connection: Any, domain: Any) -> SeenGuest | None:
        """Return None if the guest has no agent channel, or is gone.

        :raises QgaError: the connection was lost
        """
        try:
            state = channel_state(domain.XMLDesc(0))
        except self._libvirt.libvirtError as error:
            if not self._line.is_alive(connection):
                raise self._line.connection_error(error) from error
            return None
        return SeenGuest(domain.UUIDString(), domain.name(), state.connected) if state.configured else None

    def _notify(self, callback: Callable[..., None], *arguments: Any) -> None:
        if not self._closing.is_set():
            callback(*arguments)

    # These run on the thread of libvirt's event loop, where libvirt must not be called.

    def _on_closed(self, _connection: Any, _reason: int, _opaque: object) -> None:
        self._lost.set()

    def _on_lifecycle(self, _connection: Any, domain: Any, event: int, detail: int, _opaque: object) -> None:
        self._notify(self._listener.on_lifecycle, domain.UUIDString(), domain.name(), event, detail)

    def _on_agent(self, _connection: Any, domain: Any, state: int, _reason: int, _opaque: object) -> None:
        self._notify(self._listener.on_agent, domain.UUIDString(), domain.name(), state == _AGENT_CONNECTED)

    def _on_reboot(self, _connection: Any, domain: Any, _opaque: object) -> None:
        self._notify(self._listener.on_reboot, domain.UUIDString(), domain.name())
