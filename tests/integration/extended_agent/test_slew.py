"""A clock that glides back: the host's code and the in-guest agent as they are, with a clock that is an object."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.addresses import UnixAddress
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.stream import StreamChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import resync as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.reference import HostReference
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.report import ResyncReport

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.blocking import Blocking, BlockingAgent, blocking
from tests.support.extended_agent import ExtendedAgent

AHEAD_NS = 200_000_000
NEAR_NS = 20_000_000
resync = blocking(module.resync)


def corrected(agent: ExtendedAgent, **options: Any) -> ResyncReport:
    with Blocking(StreamChannel(UnixAddress(agent.socket))) as channel:
        report: ResyncReport = resync(BlockingAgent(channel, 5.0), HostReference(), ResyncOptions(**options))
        return report


def ask(agent: ExtendedAgent, command: str) -> Any:
    """The agent serves one client at a time."""
    with Client(agent.socket) as client:
        client.sync(1)
        return client.execute(command)["return"]


def test_a_clock_that_is_ahead_glides_back_once_and_a_step_ends_that() -> None:
    with (
        StockAgent(permits_time=True) as stock,
        ExtendedAgent(stock.socket, clock={"offset_ns": AHEAD_NS}) as agent,
    ):
        ask(agent, "guest-get-timezone")  # by then the agent knows the stock one's permissions
        foretold = corrected(agent, backward="slew", dry_run=True)
        assert (foretold.changed, ask(agent, "guest-get-clock")["slewing"]) == (True, 0)

        first = corrected(agent, backward="slew")
        assert (first.changed, first.within_tolerance, first.error, first.attempts) == (True, False, None, 1)
        assert first.slewing_ns == pytest.approx(-AHEAD_NS, abs=NEAR_NS)
        assert first.after is not None
        assert first.after.ns == pytest.approx(AHEAD_NS, abs=NEAR_NS)

        second = corrected(agent, backward="slew")
        assert (second.changed, second.error, second.attempts) == (False, None, 0)
        assert first.slewing_ns < second.slewing_ns < 0

        stepped = corrected(agent)
        assert (stepped.changed, stepped.within_tolerance, stepped.slewing_ns) == (True, True, 0)
        assert ask(agent, "guest-get-clock")["slewing"] == 0


@pytest.mark.parametrize(
    ("permits_time", "is_disciplined", "warning"),
    [(True, True, "a time service in the guest"), (False, False, "its agent does not slew clocks")],
)
def test_a_clock_that_may_not_be_slewed_stays_as_it_is(permits_time: bool, is_disciplined: bool, warning: str) -> None:
    clock = {"offset_ns": AHEAD_NS, "disciplined": is_disciplined}
    with StockAgent(permits_time=permits_time) as stock, ExtendedAgent(stock.socket, clock=clock) as agent:
        ask(agent, "guest-get-timezone")
        report = corrected(agent, backward="slew")
        assert (report.changed, report.error) == (False, None)
        assert warning in report.warnings[0]
        assert ask(agent, "guest-get-clock")["slewing"] == 0
