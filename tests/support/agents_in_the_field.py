"""Agents as they exist in the field, through a real socket or a fake libvirt.

The true offsets of the fakes' clocks are known, so every reported offset is compared with the truth.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import TcpAddress, UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import resync as resync_module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import Offset
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import subsets
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections

from tests.fakes.agent import FakeAgent
from tests.fakes.clock import Clock
from tests.fakes.kinds import MINUTE_NS, SECOND_NS, Kind
from tests.fakes.libvirt_replies import answers_by
from tests.fakes.one_domain import FakeLibvirt
from tests.processes.socket_server import listen_tcp, listen_unix
from tests.support.blocking import Blocking, BlockingAgent, blocking

gather = blocking(subsets.gather)
resync = blocking(resync_module.resync)

# The true offset takes two readings of this machine's clocks, which may be slewed (500 ppm at most).
READING_NS = 5_000
SLEW_PPM = 500

BEHIND_NS = -90 * SECOND_NS
# The largest offset after a correction. It is usually smaller, depending on the machine's load; see the benchmarks.
NEAR_NS = ResyncOptions().tolerance_ns


@contextmanager
def guest(directory: Path, timeout: float = 5.0) -> Iterator[BlockingAgent]:
    with Blocking(StreamChannel(UnixAddress(str(directory / "agent.sock")))) as channel:
        yield BlockingAgent(channel, timeout)


def assert_honest(offset: Offset, true_ns: int, age_ns: int) -> None:
    """Assert that the true offset lies within the reported interval, extended by the drift since then."""
    allowed_ns = offset.uncertainty_ns + READING_NS + age_ns * SLEW_PPM // 1_000_000
    assert abs(offset.ns - true_ns) <= allowed_ns, (offset, true_ns)


def mid_minute() -> HostReference:
    """Return a reference 30 s past a full minute, so that times cut to minutes are certainly far off."""
    return HostReference(utc_offset_ns=30 * SECOND_NS - time.time_ns() % MINUTE_NS)


@contextmanager
def guest_through(way: str, directory: Path, kind: Kind, **what: Any) -> Iterator[tuple[FakeAgent, BlockingAgent]]:
    path = directory / "agent.sock"
    with listen_tcp() if way == "tcp" else listen_unix(path) as listener, pytest.MonkeyPatch.context() as patch:
        clock = Clock(BEHIND_NS, what.pop("rate_ppm", 0) * 1_000, tick_ns=kind.tick_ns)
        agent = FakeAgent(listener, kind, clock, **what)
        patch.setattr(connections, "import_libvirt", FakeLibvirt(answer=answers_by(agent)).modules)
        channels = {
            "unix": lambda: StreamChannel(UnixAddress(str(path))),
            "tcp": lambda: StreamChannel(TcpAddress("127.0.0.1", listener.getsockname()[1])),
            "libvirt": lambda: LibvirtChannel("web1", "qemu:///system"),
        }
        with agent, Blocking(channels[way]()) as channel:
            yield agent, BlockingAgent(channel, 5.0)
