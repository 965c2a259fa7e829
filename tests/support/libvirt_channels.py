"""Blocking channels through a fake libvirt."""

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.threads import Job
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import Lane
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.support.blocking import Blocking

URI = "qemu:///system"
PING = Request("guest-ping")
GET_TIME = Request("guest-get-time")
SHORT = 0.05  # seconds; the timeouts are tested with real threads
# With silent agents, the fake gives up at once, where libvirt takes seconds.
AT_ONCE = Timings(at_once=0.0)


def channel_to(domain: str, uri: str = URI, line: Line | None = None, timings: Timings = AT_ONCE) -> Blocking:
    return Blocking(LibvirtChannel(domain, uri, line, timings=timings))


def error_of(channel: Blocking, request: Request = PING, timeout: float = 5.0) -> QgaError:
    with pytest.raises(QgaError) as caught:
        channel.call(request, timeout)
    assert "\n" not in caught.value.message
    return caught.value


class Shared:
    """A line of five threads, and the lanes in which jobs were submitted."""

    def __init__(self) -> None:
        self.line = Line(URI, 5)
        self.lanes: list[Lane] = []
        submit = self.line.submit

        def noted(lane: Lane, job: Job, held: float = 0.0) -> None:
            self.lanes.append(lane)
            submit(lane, job, held)

        self.line.submit = noted  # type: ignore[method-assign]

    def channel(self, timings: Timings = AT_ONCE) -> Blocking:
        return channel_to("web1", URI, self.line, timings)
