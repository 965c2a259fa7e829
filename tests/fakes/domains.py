"""Domains of a fake libvirt: their definitions, and ``virDomain``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.fakes.libvirt_replies import NO_DOMAIN_METADATA, Answer, LibvirtError, agent_returns

if TYPE_CHECKING:
    from tests.fakes.libvirt import Connection

UUID = "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b"
RUNNING, BLOCKED, PAUSED, SHUT_OFF = 1, 2, 3, 5


def uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


@dataclass
class Definition:
    """A domain and its agent's behavior. ``is_silent``: every command uses up its timeout.

    ``channel_state``: "connected", "disconnected", "" for a state that libvirt does not know, or None without a channel
    for an agent. ``agent`` answers what ``replies`` do not. ``macs`` are the addresses of its network devices.
    ``takes`` returns the seconds that a request takes, and ``breaks`` whether the daemon hangs up on its client at the
    answer. ``starts`` counts its starts. ``catchup``: its hardware clock catches up, so libvirt may set the time.
    """

    name: str
    uuid: str = ""
    state: int = RUNNING
    channel_state: str | None = "connected"
    metadata: str | None = None
    macs: tuple[str, ...] = ()
    starts: int = 1
    catchup: bool = False
    is_silent: bool = False
    replies: dict[str, Answer] = field(default_factory=dict)
    agent: Answer = field(default_factory=lambda: agent_returns({}))
    takes: Callable[[dict[str, Any]], float] = lambda _request: 0.0
    breaks: Callable[[dict[str, Any]], bool] = lambda _request: False

    def __post_init__(self) -> None:
        self.uuid = self.uuid or uuid_of(self.name)

    @property
    def xml(self) -> str:
        clock = "<clock><timer name='rtc' tickpolicy='catchup'/></clock>" if self.catchup else "<clock offset='utc'/>"
        state = f" state='{self.channel_state}'" if self.channel_state else ""
        target = f"<target type='virtio' name='org.qemu.guest_agent.0'{state}/>"
        channel = "" if self.channel_state is None else f"<channel type='unix'>{target}</channel>"
        devices = "".join(f"<interface type='network'><mac address='{mac}'/></interface>" for mac in self.macs)
        return f"<domain>{clock}<devices>{devices}{channel}</devices></domain>"


class Domain:
    """``virDomain``. Its name, UUID and ID are known here; everything else is a call to the daemon."""

    def __init__(self, connection: Connection, definition: Definition) -> None:
        self.connection = connection
        self.definition = definition
        self._number = definition.starts

    def name(self) -> str:
        return self.definition.name

    def UUIDString(self) -> str:  # noqa: N802
        return self.definition.uuid

    def ID(self) -> int:  # noqa: N802
        return self._number

    def state(self) -> list[int]:
        with self.connection.call("state"):
            return [self.definition.state, 0]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        with self.connection.call("XMLDesc"):
            return self.definition.xml

    def metadata(self, kind: int, namespace: str, _flags: int) -> str:
        self.connection.hypervisor.asked_metadata.append((kind, namespace))
        with self.connection.call("metadata"):
            if self.definition.metadata is None or namespace not in self.definition.metadata:
                raise LibvirtError(NO_DOMAIN_METADATA, "Requested metadata element is not present")
            return self.definition.metadata

    def setTime(self, value: dict[str, int], flags: int) -> None:  # noqa: N802
        self.connection.hypervisor.log.append("setTime")
        self.connection.hypervisor.set_times.append((value, flags))
        with self.connection.call("setTime"):
            pass
