"""Channels that share the threads for libvirt, and a daemon that has not reached its agents yet."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import Timings
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.lanes import (
    HELD_BACK,
    NEW,
    PROVEN,
)

from tests.fakes.libvirt_replies import LibvirtError, agent_returns, fails, hangs
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.libvirt_channels import AT_ONCE, GET_TIME, PING, SHORT, URI, Shared, channel_to, error_of

NOT_REACHED = "Guest agent is not responding: QEMU guest agent is not connected"


class TestADaemonThatHasNotReachedTheAgentYet:
    """The daemon was restarted under the guest: it reports the agent as connected, but refuses commands at once."""

    TIMINGS = Timings(at_once=1.0, reach_pause=0.001)

    @pytest.fixture(autouse=True)
    def at_first(self, fake: FakeLibvirt) -> None:
        self.refuse(fake, 3)

    @pytest.fixture
    def channel(self, fake: FakeLibvirt) -> Iterator[Blocking]:  # noqa: ARG002  # installed before the channel
        with channel_to("web1", timings=self.TIMINGS) as channel:
            yield channel

    @staticmethod
    def refuse(fake: FakeLibvirt, times: int) -> None:
        """Have the daemon refuse the first requests."""
        refusals = iter([fails(86, NOT_REACHED)] * times)

        def refuse_or_reply(request: dict[str, Any]) -> str:
            return next(refusals, agent_returns({}))(request)

        fake.replies = dict.fromkeys(("guest-ping", "guest-info", "guest-exec"), refuse_or_reply)

    @pytest.mark.parametrize("command", ["guest-ping", "guest-info"])
    def test_the_first_request_of_a_task_waits_for_it(self, fake: FakeLibvirt, channel: Blocking, command: str) -> None:
        assert channel.call(Request(command), 20.0).value == {}
        assert fake.commands == [command] * 4

    def test_in_a_fleet_its_guest_does_not_count_as_silent(self, fake: FakeLibvirt, shared: Shared) -> None:
        with shared.channel(self.TIMINGS) as channel:
            assert channel.call(Request("guest-info"), 20.0).value == {}
            channel.call(GET_TIME, 20.0)
        assert fake.commands == ["guest-info"] * 4 + ["guest-get-time"]
        assert shared.lanes == [NEW] * 4 + [PROVEN]

    def test_its_guest_does_not_count_as_silent_without_time_for_a_probe(self, shared: Shared) -> None:
        with shared.channel(self.TIMINGS) as channel:
            channel.call(Request("guest-info"), 2.0)
        assert shared.lanes == [NEW] * 4

    def test_a_request_with_effects_is_not_sent_twice(self, fake: FakeLibvirt, channel: Blocking) -> None:
        assert error_of(channel, Request("guest-exec"), 20.0).code == "unresponsive"
        assert fake.commands == ["guest-exec"]

    @pytest.mark.parametrize(("timeout", "patience"), [(0.5, 5.0), (1.0 + SHORT, 5.0), (20.0, SHORT)])
    def test_waiting_for_a_daemon_that_has_given_up_the_agent_is_bounded(
        self, fake: FakeLibvirt, timeout: float, patience: float
    ) -> None:
        self.refuse(fake, 100_000)
        began = time.monotonic()
        with channel_to("web1", timings=self.TIMINGS._replace(reach=patience)) as channel:
            error = error_of(channel, PING, timeout)
        assert time.monotonic() - began < SHORT + 3.0
        assert error.code == "unresponsive"
        assert "though it is connected" in error.message
        assert "Restart the agent's service" in error.hint

    def test_a_failure_after_as_long_as_libvirt_waits_means_that_the_agent_was_asked(self, fake: FakeLibvirt) -> None:
        with channel_to("web1", timings=self.TIMINGS._replace(at_once=0.0)) as channel:
            assert "does not answer" in error_of(channel, PING, 20.0).message
        assert fake.commands == ["guest-ping"]

    def test_an_agent_that_has_answered_was_reached(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 20.0)
        self.refuse(fake, 1)
        assert error_of(channel, PING, 20.0).code == "timeout"


class TestSharingALine:
    """A probe finds out quickly whether an agent answers, and silent ones have to wait for the others."""

    def test_an_agent_that_answers_is_proven_by_a_ping_until_it_turns_silent(
        self, fake: FakeLibvirt, shared: Shared
    ) -> None:
        shared.line.held_back_until = time.monotonic()  # it does not apply to this guest
        with shared.channel() as channel:
            channel.call(GET_TIME, 5.0)
            channel.call(GET_TIME, 5.0)
            shared.line.held_back_until = math.inf
            fake.replies["guest-get-time"] = fails(86)
            error_of(channel, GET_TIME, 5.0)
            error_of(channel, GET_TIME, 5.0)
        assert fake.sent == [
            ('{"execute": "guest-ping"}', 1, 0),
            *[('{"execute": "guest-get-time"}', 5, 0)] * 4,
        ]
        assert shared.lanes == [NEW, PROVEN, PROVEN, PROVEN, HELD_BACK]

    @pytest.mark.parametrize("command", ["guest-ping", "guest-info"])
    def test_the_first_request_of_a_task_is_its_own_probe(
        self, fake: FakeLibvirt, shared: Shared, command: str
    ) -> None:
        with shared.channel() as channel:
            assert channel.call(Request(command), 5.0).value == {}
            channel.call(PING, 5.0)
        assert [(text, limit) for text, limit, _flags in fake.sent] == [
            (f'{{"execute": "{command}"}}', 1),
            ('{"execute": "guest-ping"}', 5),
        ]
        assert shared.lanes == [NEW, PROVEN]

    @pytest.mark.parametrize("code", [86, 97, 112])
    def test_a_silent_guest_is_probed_for_a_second_and_its_exchange_has_the_rest(
        self, fake: FakeLibvirt, shared: Shared, code: int
    ) -> None:
        fake.replies["guest-ping"] = fake.replies["guest-get-time"] = fails(code)
        with shared.channel() as channel:
            assert error_of(channel, GET_TIME, 5.0).code in ("unresponsive", "timeout")
            assert shared.lanes == [NEW, HELD_BACK]
            assert [limit for _text, limit, _flags in fake.sent] == [1, 4]
            error_of(channel, GET_TIME, 5.0)
        assert shared.lanes == [NEW, HELD_BACK, HELD_BACK], "it is not probed again"
        assert fake.sent[-1][1] == 5

    def test_a_silent_guest_is_given_up_at_the_instant_for_all_of_them(
        self, fake: FakeLibvirt, shared: Shared, released: threading.Event
    ) -> None:
        fake.replies["guest-ping"] = fails(86)
        fake.replies["guest-get-time"] = hangs(released)
        shared.line.held_back_until = time.monotonic() + SHORT
        started = time.monotonic()
        with shared.channel() as channel:
            error = error_of(channel, GET_TIME, 60.0)
        assert time.monotonic() - started < 30.0
        assert error.code == "unresponsive"
        assert "all silent guests" in error.message
        assert fake.sent[-1][1] == 1, "libvirt gets more than the remaining time"

    def test_a_guest_with_slow_answers_has_to_wait_and_is_not_given_up(self, fake: FakeLibvirt, shared: Shared) -> None:
        def late(_request: dict[str, Any]) -> str:
            time.sleep(2 * SHORT)
            return '{"return": 1}'

        fake.replies["guest-get-time"] = late
        shared.line.held_back_until = time.monotonic()
        with shared.channel(AT_ONCE._replace(most_held=SHORT)) as channel:
            for _call in range(3):
                channel.call(GET_TIME, 5.0)
        assert shared.lanes == [NEW, PROVEN, HELD_BACK, HELD_BACK]

    def test_a_guest_whose_call_broke_the_connection_is_moved_to_the_reserve(self, fake: FakeLibvirt) -> None:
        def breaks(_request: dict[str, Any]) -> str:
            fake.break_connections()
            raise LibvirtError(38, "End of file while reading data")

        found = connections.Hypervisor(URI)
        with channel_to("web1", URI, found.lines[0]) as channel:
            channel.call(PING, 5.0)
            fake.replies["guest-get-time"] = breaks
            assert error_of(channel, GET_TIME).code == "hypervisor_unavailable"
            assert channel._line is found.reserve
            channel.call(PING, 5.0)
        found.close()

    @pytest.mark.parametrize("timeout", [0.5, 2.0])
    def test_little_time_is_not_spent_on_a_probe(self, fake: FakeLibvirt, shared: Shared, timeout: float) -> None:
        with shared.channel() as channel:
            channel.call(GET_TIME, timeout)
            channel.call(GET_TIME, timeout)
        assert fake.commands == ["guest-get-time"] * 2
        assert shared.lanes == [NEW, PROVEN]  # it holds a thread no longer than a probe and the call after it would

    def test_errors_other_than_silence_are_raised_at_once(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.channel_state = "disconnected"
        fake.replies["guest-ping"] = fails(86)
        with shared.channel() as channel:
            assert error_of(channel, GET_TIME).code == "not_connected"
            fake.break_connections()
            fake.open_error = LibvirtError(38, "Failed to connect socket", 111)
            assert error_of(channel, GET_TIME).code == "hypervisor_unavailable"
        assert fake.commands == ["guest-ping"]

    def test_connecting_to_libvirt_may_take_longer_than_a_probe(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.open_waits_for = threading.Event()
        threading.Timer(3 * SHORT, fake.open_waits_for.set).start()
        with shared.channel(AT_ONCE._replace(probe=SHORT)) as channel:
            assert channel.call(GET_TIME, 5.0).value == {}

    def test_a_probe_and_a_call_that_hang_share_one_timeout(
        self, fake: FakeLibvirt, shared: Shared, released: threading.Event
    ) -> None:
        fake.replies["guest-ping"] = fake.replies["guest-get-time"] = hangs(released)
        began = time.monotonic()
        with shared.channel(AT_ONCE._replace(probe=SHORT)) as channel:
            assert error_of(channel, GET_TIME, 6 * SHORT).code == "unresponsive"
        assert 6 * SHORT <= time.monotonic() - began < 6 * SHORT + 4.0
        assert fake.commands == ["guest-ping", "guest-get-time"]

    def test_channels_share_one_connection_which_outlives_them_and_is_reopened_once_for_all(
        self, fake: FakeLibvirt, shared: Shared
    ) -> None:
        with shared.channel() as one, shared.channel() as other:
            for _connection in range(2):
                one.call(GET_TIME, 5.0)
                other.call(GET_TIME, 5.0)
                fake.break_connections()
        assert fake.uris == [URI, URI]
        assert not fake.closed.is_set()
        shared.line.close()
        assert fake.closed.wait(5)
