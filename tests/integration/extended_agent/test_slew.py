"""A clock that glides back: the host's code and the in-guest agent as they are, with a clock that is an object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


@pytest.fixture(scope="module")
def stock() -> Iterator[StockAgent]:
    with StockAgent(permits_time=True) as running:
        yield running


@contextmanager
def agent_of(stock: StockAgent, **clock: Any) -> Iterator[ExtendedAgent]:
    with ExtendedAgent(stock.socket, clock={"offset_ns": AHEAD_NS, **clock}) as agent:
        ask(agent, "guest-get-timezone")  # by then the agent knows the stock one's permissions
        yield agent


def ask(agent: ExtendedAgent, command: str, **arguments: Any) -> Any:
    """The agent serves one client at a time."""
    with Client(agent.socket) as client:
        client.sync(1)
        return client.execute(command, **arguments)


def corrected(agent: ExtendedAgent, **options: Any) -> ResyncReport:
    with Blocking(StreamChannel(UnixAddress(agent.socket))) as channel:
        report: ResyncReport = resync(BlockingAgent(channel, 5.0), HostReference(), ResyncOptions(**options))
        return report


def left_ns(agent: ExtendedAgent) -> int:
    slewing: int = ask(agent, "guest-get-clock")["return"]["slewing"]
    return slewing


def test_a_clock_that_is_ahead_glides_back_once_and_a_step_ends_that(stock: StockAgent) -> None:
    with agent_of(stock) as agent:
        foretold = corrected(agent, backward="slew", dry_run=True)
        assert (foretold.changed, left_ns(agent)) == (True, 0)

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
        assert left_ns(agent) == 0


def test_the_clock_goes_on_all_the_time(stock: StockAgent) -> None:
    with agent_of(stock) as agent, Client(agent.socket) as client:
        readings = [client.execute("guest-get-clock")["return"]["transmitted"]]
        for seconds, nanoseconds in ((-1, 500_000_000), (0, 0), (-1, 999_000_000), (0, 500_000_000)):
            returned = client.execute(
                "guest-update-time", seconds=seconds, nanoseconds=nanoseconds, relative=True, slew=True
            )["return"]
            assert returned["duration"] == abs(seconds * 10**9 + nanoseconds) * 2000
            readings += [returned["before"], returned["after"]]
            readings += [client.execute("guest-get-clock")["return"]["transmitted"] for _reading in range(20)]
        assert readings == sorted(readings)


@pytest.mark.parametrize(
    "arguments", [{"seconds": 1, "relative": True}, {"seconds": 1_795_406_754}, {"seconds": 0, "relative": True}]
)
def test_every_step_ends_a_slew(stock: StockAgent, arguments: dict[str, Any]) -> None:
    with agent_of(stock) as agent:
        ask(agent, "guest-update-time", seconds=0, nanoseconds=500_000_000, relative=True, slew=True)
        assert left_ns(agent) > 0
        assert "return" in ask(agent, "guest-update-time", **arguments)
        assert left_ns(agent) == 0


def test_a_time_service_keeps_the_clock_as_it_is(stock: StockAgent) -> None:
    with agent_of(stock, disciplined=True) as agent:
        report = corrected(agent, backward="slew")
        assert (report.changed, report.error) == (False, None)
        assert "a time service in the guest" in report.warnings[0]
        assert left_ns(agent) == 0


def test_an_agent_that_may_not_is_an_error(stock: StockAgent) -> None:
    with agent_of(stock, denied=True) as agent:
        report = corrected(agent, backward="slew", attempts=1)
        assert report.error is not None
        assert report.error.code == "command_failed"
        assert "CAP_SYS_TIME" in report.error.message
        assert report.changed is False


def test_without_the_permission_to_set_the_time_there_is_no_slew() -> None:
    with StockAgent() as forbidding, agent_of(forbidding) as agent:
        request = {"seconds": 0, "nanoseconds": 1, "relative": True, "slew": True}
        assert ask(agent, "guest-update-time", **request)["error"]["class"] == "CommandNotFound"
        report = corrected(agent, backward="slew")
        assert (report.changed, report.error) == (False, None)
        assert "its agent does not slew clocks" in report.warnings[0]
