# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for libvirt-python: a hypervisor with one domain, that fails with the numbers it is told to."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.agent_client import Client

UUID = "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b"

RUNNING, BLOCKED, PAUSED, SHUT_OFF = 1, 2, 3, 5

NO_DOMAIN = 42
INTERNAL_ERROR = 1


class LibvirtError(Exception):
    """As libvirt.libvirtError: a number, a text in the daemon's language, and an errno in int1."""

    def __init__(self, code: int, message: str = "said in whatever language", int1: int = 0) -> None:
        super().__init__(message)
        self.err: tuple[Any, ...] = (code, 0, message, 2, None, None, None, int1, 0)

    def get_error_code(self) -> int:
        return int(self.err[0])

    def get_error_message(self) -> str:
        return str(self.err[2])

    def get_int1(self) -> int:
        return int(self.err[7])


def agent_says(value: Any) -> Callable[[dict[str, Any]], str]:
    return lambda _request: json.dumps({"return": value})


def fails(code: int, message: str = "said in whatever language") -> Callable[[dict[str, Any]], str]:
    def fail(_request: dict[str, Any]) -> str:
        raise LibvirtError(code, message)

    return fail


# ---------------------------------------------------------------------------------------------- as long as texts may be

_MOST_BYTES = 4 * 1024 * 1024  # REMOTE_STRING_MAX, src/remote/remote_protocol.x
# One character of this kind has all others of a Python text take four bytes each.
_WIDE = "\U0001f600".encode()


@functools.lru_cache(maxsize=1)  # one that tests need, and not all that there are
def _at_length(head: bytes, tail: bytes = b"") -> bytes:
    return head + b"a" * (_MOST_BYTES - len(head) - len(_WIDE) - len(tail)) + _WIDE + tail


def _replies_at_length(tail: bytes) -> Callable[[dict[str, Any]], str]:
    return lambda _request: str(_at_length(b'{"return": "', tail), "utf-8")  # libvirt-python makes a new one each time


def _fails_at_length(reason: bytes) -> Callable[[dict[str, Any]], str]:
    def fail(_request: dict[str, Any]) -> str:
        text = _at_length(b"internal error: " + reason)
        error = LibvirtError(INTERNAL_ERROR)
        error.err = (*error.err[:2], text, error.err[3], "%s", text, *error.err[6:])  # as virRaiseErrorFull() has it
        raise error

    return fail


# What becomes of an agent's words on their way through libvirt and libvirt-python: 16 MiB each, or several times that.
# An error's are still bytes; :func:`as_texts` is libvirt-python's part.
AT_LENGTH: Mapping[str, Callable[[dict[str, Any]], str]] = {
    "a reply": _replies_at_length(b'"}'),
    "a reply that is not UTF-8": _replies_at_length(b'\xff"}'),
    "no JSON": _fails_at_length(b"cannot parse json "),
    "a refusal": _fails_at_length(b"unable to execute QEMU agent command 'guest-info': "),
}


def as_texts(raw: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parts of an error, as libvirt-python makes them anew for everybody who asks for them."""
    return tuple(str(part, "utf-8") if isinstance(part, bytes) else part for part in raw)


def hangs(until: threading.Event) -> Callable[[dict[str, Any]], str]:
    def hang(_request: dict[str, Any]) -> str:
        until.wait(10)
        return '{"return": {}}'

    return hang


def answers_by(path: Path) -> Callable[[dict[str, Any]], str]:
    """What the agent on a socket answers, with its errors in libvirt's words (``qemuAgentCheckError``)."""

    def ask(request: dict[str, Any]) -> str:
        with Client(str(path)) as client:
            client.send(json.dumps(request).encode())
            text = client.line().decode()
        reply = json.loads(text)
        if "error" in reply:
            said = f"unable to execute QEMU agent command '{request['execute']}': {reply['error']['desc']}"
            raise LibvirtError(INTERNAL_ERROR, f"internal error: {said}")
        return text

    return ask


class FakeConnection:
    """``virConnect``. ``is_broken`` makes it one whose daemon has gone: every call on it or on its domains fails."""

    def __init__(self, hypervisor: FakeLibvirt) -> None:
        self.hypervisor = hypervisor
        self.is_broken = False
        self.alive_error: LibvirtError | None = None

    def require_alive(self) -> None:
        if self.is_broken:
            raise LibvirtError(INTERNAL_ERROR, "internal error: client socket is closed")

    def isAlive(self) -> int:  # noqa: N802  # libvirt's name
        if self.alive_error is not None:
            raise self.alive_error
        return int(not self.is_broken)

    def lookupByName(self, name: str) -> FakeDomain:  # noqa: N802
        self.hypervisor.lookups.append(("name", name))
        return self._found(name == self.hypervisor.name)

    def lookupByUUIDString(self, text: str) -> FakeDomain:  # noqa: N802
        self.hypervisor.lookups.append(("uuid", text))
        return self._found(text.replace("-", "").lower() == UUID.replace("-", ""))

    def close(self) -> None:
        self.hypervisor.closes += 1
        self.hypervisor.closed.set()
        if self.hypervisor.close_waits_for is not None:
            self.hypervisor.close_waits_for.wait(10)
        if self.hypervisor.close_error is not None:
            raise self.hypervisor.close_error

    def _found(self, found: bool) -> FakeDomain:
        self.require_alive()
        if self.hypervisor.lookup_error is not None:
            raise self.hypervisor.lookup_error
        if not found:
            raise LibvirtError(NO_DOMAIN, "Domain not found")
        return FakeDomain(self)


class FakeDomain:
    """``virDomain``."""

    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection
        self._hypervisor = connection.hypervisor
        self.number = connection.hypervisor.starts

    def ID(self) -> int:  # noqa: N802  # libvirt's name
        return self.number

    def UUIDString(self) -> str:  # noqa: N802
        return UUID

    def state(self) -> list[int]:
        self.connection.require_alive()
        if self._hypervisor.state_error is not None:
            raise self._hypervisor.state_error
        return [self._hypervisor.run_state, 0]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        self.connection.require_alive()
        if self._hypervisor.xml_error is not None:
            raise self._hypervisor.xml_error
        return self._hypervisor.xml

    def metadata(self, kind: int, namespace: str, _flags: int) -> str:
        self.connection.require_alive()
        self._hypervisor.asked_metadata.append((kind, namespace))
        if self._hypervisor.metadata_error is not None:
            raise self._hypervisor.metadata_error
        return self._hypervisor.metadata

    def setTime(self, value: dict[str, int], flags: int) -> None:  # noqa: N802
        self.connection.require_alive()
        self._hypervisor.log.append("setTime")
        self._hypervisor.set_times.append((value, flags))
        if self._hypervisor.set_time_error is not None:
            raise self._hypervisor.set_time_error


@dataclass
class FakeLibvirt:
    """``libvirt`` and ``libvirt_qemu`` in one, and the hypervisor behind them, which has one domain."""

    name: str = "web1"
    run_state: int = RUNNING
    starts: int = 1  # of the domain
    channel_state: str | None = "connected"
    has_channel: bool = True
    catchup: bool = False
    metadata: str = "<resync/>"
    macs: tuple[str, ...] = ()
    replies: dict[str, Callable[[dict[str, Any]], str]] = field(default_factory=dict)
    answer: Callable[[dict[str, Any]], str] = field(default_factory=lambda: agent_says({}))  # to all others
    open_error: LibvirtError | None = None
    lookup_error: LibvirtError | None = None
    state_error: LibvirtError | None = None
    xml_error: LibvirtError | None = None
    metadata_error: LibvirtError | None = None
    set_time_error: LibvirtError | None = None
    close_error: LibvirtError | None = None
    open_waits_for: threading.Event | None = None
    close_waits_for: threading.Event | None = None

    libvirtError = LibvirtError  # noqa: N815  # libvirt's name
    VIR_DOMAIN_TIME_SYNC = 1

    def __post_init__(self) -> None:
        self.uris: list[str] = []
        self.connections: list[FakeConnection] = []
        self.lookups: list[tuple[str, str]] = []
        self.sent: list[tuple[str, int, int]] = []  # text, timeout, flags
        self.set_times: list[tuple[dict[str, int], int]] = []
        self.asked_metadata: list[tuple[int, str]] = []
        self.log: list[str] = []
        self.closes = 0
        self.closed = threading.Event()

    @property
    def commands(self) -> list[str]:
        return [json.loads(text)["execute"] for text, _timeout, _flags in self.sent]

    @property
    def xml(self) -> str:
        clock = "<clock><timer name='rtc' tickpolicy='catchup'/></clock>" if self.catchup else "<clock offset='utc'/>"
        state = "" if self.channel_state is None else f" state='{self.channel_state}'"
        target = f"<target type='virtio' name='org.qemu.guest_agent.0'{state}/>"
        devices = "".join(f"<interface type='network'><mac address='{mac}'/></interface>" for mac in self.macs)
        channel = f"<channel type='unix'>{target}</channel>" if self.has_channel else ""
        return f"<domain>{clock}<devices>{devices}{channel}</devices></domain>"

    def break_connections(self) -> None:
        """The daemon ends, and is there again at once: what was connected to it is not."""
        for connection in self.connections:
            connection.is_broken = True

    # libvirt

    def open(self, uri: str) -> FakeConnection:
        self.uris.append(uri)
        if self.open_waits_for is not None:
            self.open_waits_for.wait(10)
        if self.open_error is not None:
            raise self.open_error
        self.connections.append(FakeConnection(self))
        return self.connections[-1]

    # libvirt_qemu

    def qemuAgentCommand(self, domain: FakeDomain, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        domain.connection.require_alive()
        self.sent.append((text, timeout, flags))
        request = json.loads(text)
        self.log.append(request["execute"])
        return self.replies.get(request["execute"], self.answer)(request)
