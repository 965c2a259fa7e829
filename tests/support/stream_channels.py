"""Blocking stream channels to fake agents."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import addresses
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import TIMINGS, StreamChannel, Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import messages
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.agent import FakeAgent
from tests.processes.socket_server import listen_unix
from tests.support.blocking import Blocking

PING = Request("guest-ping")
GET_TIME = Request("guest-get-time")
PONG = messages.Returned({})
SYNC = "guest-sync-delimited"

# seconds; a busy machine may exceed a timeout by this much, and an exchange that is not abandoned takes even longer
SLACK = 3.0

# seconds; the timeout of calls that should time out
TIMEOUT = 0.3


def channel_to(address: addresses.Address, timings: Timings = TIMINGS) -> Blocking:
    return Blocking(StreamChannel(address, timings=timings))


@contextmanager
def agent_and_channel(directory: Path, timings: Timings = TIMINGS, **what: Any) -> Iterator[tuple[FakeAgent, Blocking]]:
    path = directory / "agent.sock"
    with FakeAgent(listen_unix(path), **what) as agent, channel_to(UnixAddress(str(path)), timings) as channel:
        yield agent, channel


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds + SLACK


def fault_of(kind: type[QgaError] | tuple[type[QgaError], ...], call: Callable[[], Any]) -> QgaError:
    """Return the error that the call raises. It must have exactly this class, or one of these, and a clear sentence."""
    with pytest.raises(QgaError) as caught:
        call()
    error = caught.value
    assert error.__class__ in (kind if isinstance(kind, tuple) else (kind,)), error
    assert error.message
    assert "\n" not in error.message
    assert "Traceback" not in error.message
    assert not re.search(r"\[Errno|<class|None", error.message)
    return error
