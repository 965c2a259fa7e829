"""A fake libvirt with one domain, whose settings are attributes of the hypervisor."""

from __future__ import annotations

from typing import Any

from tests.fakes.domains import UUID, Definition
from tests.fakes.libvirt import FakeHypervisor


def _of_its_domain(name: str) -> Any:
    return property(lambda fake: getattr(fake.domain, name), lambda fake, value: setattr(fake.domain, name, value))


class FakeLibvirt(FakeHypervisor):
    """A hypervisor with one domain, whose settings are its own attributes: ``fake.run_state = SHUT_OFF``.

    A command is answered in every state of the domain. ``channel_state`` may be None for a state that libvirt does not
    know; without ``has_channel`` there is no channel.
    """

    checks_states = False
    closed = property(lambda fake: fake.has_closed)
    closes = property(lambda fake: len(fake.closed_connections))
    commands = property(lambda fake: [command for _domain, command in fake.asked])
    name, run_state, answer, starts, catchup, metadata, macs, replies = map(
        _of_its_domain, ("name", "state", "agent", "starts", "catchup", "metadata", "macs", "replies")
    )
    has_channel = property(
        fset=lambda fake, value: setattr(fake.domain, "channel_state", "connected" if value else None)
    )
    channel_state = property(fset=lambda fake, value: setattr(fake.domain, "channel_state", value or ""))

    def __init__(self, **switches: Any) -> None:
        self.domain = Definition("web1", UUID, metadata="<resync/>")
        super().__init__([self.domain])
        for name, value in switches.items():
            setattr(self, name, value)
