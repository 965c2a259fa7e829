"""A fake libvirt with one domain, whose switches are its own."""

from __future__ import annotations

import threading
from typing import Any

from tests.fakes.domains import UUID, Definition
from tests.fakes.libvirt import Connection, FakeHypervisor

_OF_ITS_DOMAIN = {
    "name": "name",
    "run_state": "state",
    **{name: name for name in ("starts", "catchup", "metadata", "macs", "replies")},
    "answer": "agent",
}


class FakeLibvirt(FakeHypervisor):
    """A hypervisor with one domain, whose switches are its own: ``fake.run_state = SHUT_OFF``.

    A command is answered whatever the domain's state is. ``channel_state`` may be None, for one that libvirt does not
    know; without ``has_channel`` there is none.
    """

    looks_at_states = False
    has_channel = True
    channel_state: str | None = "connected"

    def __init__(self, **switches: Any) -> None:
        self.domain = Definition("web1", UUID, metadata="<resync/>")
        super().__init__([self.domain])
        self._has_closed = threading.Event()
        for name, value in switches.items():
            setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_ITS_DOMAIN:
            raise AttributeError(name)
        return getattr(self.domain, _OF_ITS_DOMAIN[name])

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OF_ITS_DOMAIN:
            setattr(self.domain, _OF_ITS_DOMAIN[name], value)
            return
        super().__setattr__(name, value)
        if name in ("has_channel", "channel_state"):
            self.domain.channel_state = (self.channel_state or "") if self.has_channel else None

    @property
    def commands(self) -> list[str]:
        return [command for _domain, command in self.asked]

    @property
    def closed(self) -> threading.Event:
        return self._has_closed

    @property
    def closes(self) -> int:
        return len(self.closed_connections)

    def note_closed(self, connection: Connection) -> None:
        self._has_closed.set()
        super().note_closed(connection)
