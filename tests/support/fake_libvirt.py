# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for libvirt-python: a hypervisor with one domain, that fails with the numbers it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

UUID = "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b"

RUNNING, PAUSED, SHUT_OFF = 1, 3, 5

NO_DOMAIN = 42


class LibvirtError(Exception):
    """As libvirt.libvirtError: a number, a text in the daemon's language, and an errno in int1."""

    def __init__(self, code: int, message: str = "said in whatever language", int1: int = 0) -> None:
        super().__init__(message)
        self.err = (code, 0, message, 2, None, None, None, int1, 0)

    def get_error_code(self) -> int:
        return self.err[0]

    def get_error_message(self) -> str:
        return self.err[2]

    def get_int1(self) -> int:
        return self.err[7]


def agent_says(value: Any) -> Callable[[dict[str, Any]], str]:
    return lambda _request: json.dumps({"return": value})


def fails(code: int, message: str = "said in whatever language") -> Callable[[dict[str, Any]], str]:
    def fail(_request: dict[str, Any]) -> str:
        raise LibvirtError(code, message)

    return fail


def hangs(until: threading.Event) -> Callable[[dict[str, Any]], str]:
    def hang(_request: dict[str, Any]) -> str:
        until.wait(10)
        return '{"return": {}}'

    return hang


@dataclass
class FakeLibvirt:
    """``libvirt`` and ``libvirt_qemu`` in one, and the hypervisor, connection and domain behind them."""

    name: str = "web1"
    run_state: int = RUNNING
    channel_state: str | None = "connected"
    catchup: bool = False
    replies: dict[str, Callable[[dict[str, Any]], str]] = field(default_factory=dict)
    open_error: LibvirtError | None = None
    lookup_error: LibvirtError | None = None
    state_error: LibvirtError | None = None
    xml_error: LibvirtError | None = None
    set_time_error: LibvirtError | None = None
    close_error: LibvirtError | None = None
    open_waits_for: threading.Event | None = None

    libvirtError = LibvirtError  # noqa: N815  # libvirt's name
    VIR_DOMAIN_TIME_SYNC = 1

    def __post_init__(self) -> None:
        self.uris: list[str] = []
        self.lookups: list[tuple[str, str]] = []
        self.sent: list[tuple[str, int, int]] = []  # text, timeout, flags
        self.set_times: list[tuple[dict[str, int], int]] = []
        self.log: list[str] = []
        self.closed = threading.Event()

    @property
    def commands(self) -> list[str]:
        return [json.loads(text)["execute"] for text, _timeout, _flags in self.sent]

    # libvirt

    def open(self, uri: str) -> FakeLibvirt:
        self.uris.append(uri)
        if self.open_waits_for is not None:
            self.open_waits_for.wait(10)
        if self.open_error is not None:
            raise self.open_error
        return self

    # libvirt_qemu

    def qemuAgentCommand(self, _domain: object, text: str, timeout: int, flags: int) -> str:  # noqa: N802
        self.sent.append((text, timeout, flags))
        request = json.loads(text)
        self.log.append(request["execute"])
        return self.replies.get(request["execute"], agent_says({}))(request)

    # virConnect

    def lookupByName(self, name: str) -> FakeLibvirt:  # noqa: N802
        self.lookups.append(("name", name))
        return self._found(name == self.name)

    def lookupByUUIDString(self, text: str) -> FakeLibvirt:  # noqa: N802
        self.lookups.append(("uuid", text))
        return self._found(text.replace("-", "").lower() == UUID.replace("-", ""))

    def close(self) -> None:
        self.closed.set()
        if self.close_error is not None:
            raise self.close_error

    # virDomain

    def state(self) -> list[int]:
        if self.state_error is not None:
            raise self.state_error
        return [self.run_state, 0]

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        if self.xml_error is not None:
            raise self.xml_error
        clock = "<clock><timer name='rtc' tickpolicy='catchup'/></clock>" if self.catchup else "<clock offset='utc'/>"
        state = "" if self.channel_state is None else f" state='{self.channel_state}'"
        target = f"<target type='virtio' name='org.qemu.guest_agent.0'{state}/>"
        return f"<domain>{clock}<devices><channel type='unix'>{target}</channel></devices></domain>"

    def setTime(self, value: dict[str, int], flags: int) -> None:  # noqa: N802
        self.log.append("setTime")
        self.set_times.append((value, flags))
        if self.set_time_error is not None:
            raise self.set_time_error

    def _found(self, found: bool) -> FakeLibvirt:
        if self.lookup_error is not None:
            raise self.lookup_error
        if not found:
            raise LibvirtError(NO_DOMAIN, "Domain not found")
        return self
