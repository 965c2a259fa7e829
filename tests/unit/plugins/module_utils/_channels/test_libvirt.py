"""A channel through libvirt, with a stand-in for libvirt-python."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    ExchangeTimeoutError,
    FrozenError,
    GuestReplacedError,
    HypervisorUnavailableError,
    NotFoundError,
    NotRunningError,
    NotSupportedError,
    PermissionDeniedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Returned

from tests.fakes.domains import PAUSED, SHUT_OFF, UUID
from tests.fakes.libvirt_replies import LibvirtError, agent_says, fails, hangs
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking, BlockingAgent
from tests.support.libvirt_channels import PING, SHORT, URI, channel_to, error_of


class TestOneGuestOnly:
    """What was measured of one guest is not to be done to another."""

    def test_a_pinned_guest_is_the_same_as_long_as_it_runs(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        channel.require_same(5.0)
        fake.break_connections()
        channel.call(PING, 5.0)
        channel.require_same(5.0)

    @pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart of the daemon"])
    def test_one_that_was_started_anew_is_another(self, fake: FakeLibvirt, channel: Blocking, restarted: bool) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        fake.starts += 1
        if restarted:
            fake.break_connections()
        else:
            with pytest.raises(GuestReplacedError, match="started anew"):
                channel.require_same(5.0)
        assert error_of(channel).__class__ is GuestReplacedError

    def test_before_it_is_pinned_it_may_be_started(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        fake.starts += 1
        channel.require_same(5.0)

    def test_one_that_is_gone_is_not_found(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        fake.name = "another"
        with pytest.raises(NotFoundError):
            channel.require_same(5.0)


class TestAnExchange:
    def test_a_reply(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-get-osinfo"] = agent_says({"name": "Debian \u00fc"})
        before_ns = time.monotonic_ns()
        exchange = channel.call(Request("guest-get-osinfo"), 5.0)
        assert exchange.reply == Returned({"name": "Debian \u00fc"})
        assert before_ns <= exchange.sent_ns <= exchange.received_ns <= time.monotonic_ns()
        assert fake.uris == [URI]

    @pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), SystemError()])
    def test_text_that_libvirt_python_cannot_decode_breaks_the_protocol(
        self, fake: FakeLibvirt, channel: Blocking, error: Exception
    ) -> None:
        def undecodable(_request: dict[str, Any]) -> str:
            raise error

        fake.replies["guest-ping"] = undecodable
        assert error_of(channel).message == (
            "the agent of domain web1 at qemu:///system answered guest-ping with text that is not UTF-8"
        )

    def test_undecodable_text_behind_the_setting_of_a_clock_too(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = True
        fake.set_time_error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")  # type: ignore[assignment]
        error = error_of(channel, Request("guest-set-time", {"time": 1}))
        assert error.__class__ is RemoteProtocolError

    @pytest.mark.parametrize("value", ["x" * 1000, 0], ids=["too long", "too deep"])
    def test_the_limits_are_on_what_libvirt_lets_pass(self, fake: FakeLibvirt, value: Any) -> None:
        for _level in range(20 if value == 0 else 0):
            value = [value]
        fake.replies["guest-ping"] = agent_says(value)
        with Blocking(LibvirtChannel("web1", URI, limits=Limits(size=500, nesting=16))) as channel:
            assert error_of(channel).__class__ is RemoteProtocolError

    def test_more_than_libvirt_carries_is_the_guests_doing(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(39, "Unable to encode message payload")
        assert error_of(channel).__class__ is RemoteProtocolError

    def test_the_guests_words_in_libvirts_error_are_one_short_line(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(38, "\x1b[2J\n" + "x" * 10_000_000)
        message = error_of(channel).message
        assert message.isprintable()
        assert len(message) < 400

    def test_arguments_may_be_made_at_the_last_moment(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(Request("guest-file-close", {"handle": 7}), 5.0)
        exchange = channel.call(Request("guest-set-time", lambda now_ns: {"time": now_ns}), 5.0)
        assert [json.loads(text)["arguments"] for text, *_rest in fake.sent] == [
            {"handle": 7},
            {"time": exchange.sent_ns},
        ]

    @pytest.mark.parametrize(("timeout", "limit"), [(0.05, 1), (0.9, 1), (4.5, 5), (60.0, 60)])
    def test_libvirt_gets_whole_seconds_and_at_least_one(
        self, fake: FakeLibvirt, channel: Blocking, timeout: float, limit: int
    ) -> None:
        channel.call(PING, timeout)
        assert fake.sent == [('{"execute": "guest-ping"}', limit, 0)]

    def test_one_connection_serves_many_exchanges(self, fake: FakeLibvirt, channel: Blocking) -> None:
        for _exchange in range(3):
            channel.call(PING, 5.0)
        assert fake.uris == [URI]
        assert len(fake.lookups) == 1

    def test_neither_a_delimiter_nor_a_sync_goes_through_libvirt(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = True
        channel.call(PING, 5.0)
        channel.call(Request("guest-set-time", {"time": 1}), 5.0)
        channel.call(Request("guest-suspend-ram", expects_reply=False), 5.0)
        channel.call(Request("guest-file-write", {"buf-b64": "\u00ff\xff"}), 5.0)
        assert fake.sent
        for text, _limit, _flags in fake.sent:
            assert text.isascii()
            assert "sync" not in text

    @pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"return": 1, "error": {}}', '{"return": "\ud800"}'])
    def test_what_is_no_reply(self, fake: FakeLibvirt, channel: Blocking, text: str) -> None:
        fake.replies["guest-ping"] = lambda _request: text
        assert isinstance(error_of(channel), RemoteProtocolError)

    def test_closing_closes_the_connection_once_and_may_be_repeated(self, fake: FakeLibvirt) -> None:
        channel = channel_to("web1")
        channel.call(PING, 5.0)
        channel.close()
        assert fake.closed.wait(5)
        channel.close()
        assert fake.closes == 1


class TestLookingUp:
    @pytest.mark.parametrize(
        ("named", "lookups"),
        [
            ("web1", ["name"]),
            (UUID, ["uuid"]),
            (UUID.upper(), ["uuid"]),
            (UUID.replace("-", ""), ["uuid"]),
        ],
    )
    def test_by_name_or_by_uuid(self, fake: FakeLibvirt, named: str, lookups: list[str]) -> None:
        with channel_to(named) as channel:
            channel.call(PING, 5.0)
        assert [kind for kind, _value in fake.lookups] == lookups

    def test_a_name_that_looks_like_a_uuid(self, fake: FakeLibvirt) -> None:
        fake.name = "0" * 32
        with channel_to(fake.name) as channel:
            channel.call(PING, 5.0)
        assert [kind for kind, _value in fake.lookups] == ["uuid", "name"]

    @pytest.mark.usefixtures("fake")
    @pytest.mark.parametrize("named", ["nosuch", "0" * 32])
    def test_none(self, named: str) -> None:
        with channel_to(named) as channel:
            error = error_of(channel)
        assert isinstance(error, NotFoundError)
        assert error.message == f"there is no domain {named} at {URI}"

    @pytest.mark.parametrize(
        ("state", "words", "command"),
        [
            (0, "in no known state", "`virsh domstate --reason web1`"),
            (PAUSED, "paused", "`virsh resume web1`"),
            (4, "shutting down", "Wait"),
            (SHUT_OFF, "shut off", "`virsh start web1`"),
            (6, "crashed", "`virsh reset web1`"),
            (7, "suspended by its power management", "`virsh dompmwakeup web1`"),
            (99, "not running", "`virsh domstate --reason web1`"),
        ],
    )
    def test_a_domain_that_does_not_run(
        self, fake: FakeLibvirt, channel: Blocking, state: int, words: str, command: str
    ) -> None:
        fake.run_state = state
        error = error_of(channel)
        assert isinstance(error, NotRunningError)
        assert words in error.message
        assert command in error.hint
        assert fake.sent == []

    @pytest.mark.parametrize("state", [1, 2])
    def test_a_domain_that_is_blocked_runs(self, fake: FakeLibvirt, channel: Blocking, state: int) -> None:
        fake.run_state = state
        assert channel.call(PING, 5.0).value == {}

    @pytest.mark.parametrize("asked_before", [False, True], ids=["at first", "after a command that it does not take"])
    @pytest.mark.parametrize("code", [1, 38, 55, 68, 86])
    def test_a_state_that_libvirt_does_not_report_is_its_own_error(
        self, fake: FakeLibvirt, channel: Blocking, code: int, asked_before: bool
    ) -> None:
        if asked_before:
            channel.call(PING, 5.0)
            fake.replies["guest-ping"] = fails(55)
        fake.state_error = LibvirtError(code, "nichts zu machen")
        error = error_of(channel)
        assert isinstance(error, HypervisorUnavailableError)
        assert "nichts zu machen" in error.message

    def test_the_hint_for_one_that_is_not_there_names_the_uri(self) -> None:
        with channel_to("nosuch", "test:///default") as channel:
            assert "`virsh -c test:///default list --all`" in error_of(channel).hint


class TestConnecting:
    @pytest.mark.parametrize(
        ("code", "int1", "kind"),
        [(38, 13, PermissionDeniedError), (38, 111, HypervisorUnavailableError), (1, 0, HypervisorUnavailableError)],
    )
    def test_a_lookup_fails_as_a_connection_does(
        self, fake: FakeLibvirt, channel: Blocking, code: int, int1: int, kind: type[QgaError]
    ) -> None:
        fake.lookup_error = LibvirtError(code, "Verbindung fehlgeschlagen", int1)
        error = error_of(channel)
        assert error.__class__ is kind
        assert URI in error.message
        assert "Verbindung fehlgeschlagen" in error.message

    def test_a_hypervisor_that_hangs_is_given_up(
        self, fake: FakeLibvirt, channel: Blocking, released: threading.Event
    ) -> None:
        fake.open_waits_for = released
        began = time.monotonic()
        error = error_of(channel, timeout=SHORT)
        assert error.__class__ is HypervisorUnavailableError
        assert error.message == f"libvirt at {URI} did not answer within 0.05 s"
        channel.close()
        assert time.monotonic() - began < 10

    def test_what_was_given_up_while_connecting_is_not_sent_later(
        self, fake: FakeLibvirt, channel: Blocking, released: threading.Event
    ) -> None:
        fake.open_waits_for = released
        error_of(channel, Request("guest-update-time", {"seconds": 20, "relative": True}), SHORT)
        released.set()
        channel.call(PING, 5.0)
        assert fake.commands == ["guest-ping"]


class TestHanging:
    @pytest.mark.parametrize(("answered", "kind"), [(False, UnresponsiveError), (True, ExchangeTimeoutError)])
    def test_a_call_is_given_up_and_closing_does_not_wait_for_it(
        self, fake: FakeLibvirt, released: threading.Event, answered: bool, kind: type[QgaError]
    ) -> None:
        channel = channel_to("web1")
        if answered:
            channel.call(PING, 5.0)
        fake.replies["guest-get-time"] = hangs(released)
        began = time.monotonic()
        error = error_of(channel, Request("guest-get-time"), SHORT)
        assert error.__class__ is kind
        assert error.message == f"the agent of domain web1 at {URI} did not answer guest-get-time within 0.05 s"
        channel.close()
        assert time.monotonic() - began < 10
        assert not fake.closed.is_set()
        released.set()
        assert fake.closed.wait(5), "the connection is closed as soon as the call lets go of it"

    def test_the_call_after_it_has_its_own_limit(
        self, fake: FakeLibvirt, channel: Blocking, released: threading.Event
    ) -> None:
        fake.replies["guest-get-time"] = hangs(released)
        error_of(channel, Request("guest-get-time"), SHORT)
        error_of(channel, PING, SHORT)
        released.set()
        assert channel.call(PING, 5.0).value == {}


class TestAFrozenGuest:
    @pytest.mark.parametrize(
        ("name", "uri", "command"),
        [
            ("web1", URI, "virsh domfsthaw web1"),
            ("my web", "qemu:///session", "virsh -c qemu:///session domfsthaw 'my web'"),
            ("7", URI, f"virsh domfsthaw {UUID}"),
        ],
    )
    def test_the_hint_has_the_command_that_thaws_it(self, fake: FakeLibvirt, name: str, uri: str, command: str) -> None:
        fake.name = name
        disabled = "Command guest-get-time has been disabled: the agent is in frozen state"
        fake.replies["guest-get-time"] = fails(113, f"unable to execute 'guest-get-time': {disabled}")
        fake.replies["guest-fsfreeze-status"] = agent_says("frozen")
        with channel_to(name, uri) as channel, pytest.raises(FrozenError) as caught:
            BlockingAgent(channel, 5.0).call("guest-get-time")
        assert f"`{command}`" in caught.value.hint


class TestWithoutAReply:
    SUSPEND = Request("guest-suspend-ram", expects_reply=False)

    @pytest.mark.parametrize("code", [86, 112])
    def test_silence_is_success(self, fake: FakeLibvirt, channel: Blocking, code: int) -> None:
        fake.replies["guest-suspend-ram"] = fails(code)
        assert channel.call(self.SUSPEND, 30.0).value == {}
        assert fake.commands == ["guest-ping", "guest-suspend-ram"]
        assert fake.sent[1][1] == 1, "no longer than need be"

    def test_a_dead_agent_is_found_out_before_it(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(86)
        assert isinstance(error_of(channel, self.SUSPEND), UnresponsiveError)
        assert fake.commands == ["guest-ping"]

    def test_a_refusal_is_told(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-suspend-ram"] = fails(113, "'guest-suspend-ram': the guest does not support it")
        assert channel.call(self.SUSPEND, 5.0).reply == Refused("GenericError", "the guest does not support it")

    def test_another_error_is_one(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-suspend-ram"] = fails(55)
        assert isinstance(error_of(channel, self.SUSPEND), NotRunningError)


class TestSettingTheTimeOfAGuestThatCatchesUp:
    @pytest.fixture(autouse=True)
    def _catchup(self, fake: FakeLibvirt) -> None:
        fake.catchup = True

    @pytest.mark.parametrize(
        ("time_ns", "seconds", "nseconds"),
        [(1_795_406_706_123_456_789, 1_795_406_706, 123_456_789), (999_999_999, 0, 999_999_999), (10**9, 1, 0)],
    )
    def test_libvirt_sets_it_behind_a_ping(
        self, fake: FakeLibvirt, channel: Blocking, time_ns: int, seconds: int, nseconds: int
    ) -> None:
        exchange = channel.call(Request("guest-set-time", {"time": time_ns}), 5.0)
        assert exchange.reply == Returned({})
        assert fake.log == ["guest-ping", "setTime"]
        assert fake.set_times == [({"seconds": seconds, "nseconds": nseconds}, 0)]

    def test_it_is_stamped_behind_the_ping(self, fake: FakeLibvirt, channel: Blocking) -> None:
        pinged: list[int] = []

        def ping(_request: dict[str, Any]) -> str:
            pinged.append(time.monotonic_ns())
            return '{"return": {}}'

        fake.replies["guest-ping"] = ping
        exchange = channel.call(Request("guest-set-time", lambda now_ns: {"time": now_ns}), 5.0)
        ((value, _flags),) = fake.set_times
        assert value["seconds"] * 10**9 + value["nseconds"] == exchange.sent_ns >= pinged[0]

    def test_without_a_time_the_guest_takes_its_hardware_clocks(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(Request("guest-set-time"), 5.0)
        assert fake.set_times == [({"seconds": 0, "nseconds": 0}, fake.VIR_DOMAIN_TIME_SYNC)]

    def test_a_dead_agent_is_found_out_before_it(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(86)
        assert isinstance(error_of(channel, Request("guest-set-time", {"time": 1})), UnresponsiveError)
        assert fake.set_times == []

    def test_the_agents_refusal(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.set_time_error = LibvirtError(1, "internal error: 'guest-set-time': hwclock failed")
        reply = channel.call(Request("guest-set-time", {"time": 1}), 5.0).reply
        assert reply == Refused("GenericError", "hwclock failed")

    def test_that_the_guest_does_not_support_it(self, fake: FakeLibvirt, channel: Blocking) -> None:
        unsupported = "this feature or command is not currently supported"
        fake.set_time_error = LibvirtError(1, f"internal error: unable to execute 'guest-set-time': {unsupported}")
        with pytest.raises(NotSupportedError) as caught:
            BlockingAgent(channel, 5.0).call("guest-set-time", {"time": 1})
        assert "util-linux-extra" in caught.value.hint

    def test_libvirts_own_error(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.set_time_error = LibvirtError(84, "cannot set time: qemu doesn't support rtc-reset-reinjection command")
        error = error_of(channel, Request("guest-set-time", {"time": 1}))
        assert isinstance(error, HypervisorUnavailableError)
        assert "rtc-reset-reinjection" in error.message

    def test_other_guests_get_the_agents_own_command(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = False
        channel.call(Request("guest-set-time", {"time": 1}), 5.0)
        assert fake.log == ["guest-set-time"]

    def test_the_domains_xml_is_read_once(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(Request("guest-set-time", {"time": 1}), 5.0)
        fake.xml_error = LibvirtError(38)
        channel.call(Request("guest-set-time", {"time": 1}), 5.0)
        assert len(fake.set_times) == 2

    def test_xml_that_cannot_be_read_is_an_error(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.xml_error = LibvirtError(38, "connection lost")
        assert isinstance(error_of(channel, Request("guest-set-time", {"time": 1})), HypervisorUnavailableError)
