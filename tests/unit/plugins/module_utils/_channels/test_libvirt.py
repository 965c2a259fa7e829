"""A channel through libvirt, with a fake libvirt-python and with the real one."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    FrozenError,
    GuestReplacedError,
    HypervisorUnavailableError,
    NotSupportedError,
    PermissionDeniedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Returned

from tests.fakes.domains import PAUSED, SHUT_OFF, UUID, Domain
from tests.fakes.libvirt_replies import LibvirtError, agent_returns, fails, hangs
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking, BlockingAgent
from tests.support.libvirt_channels import PING, SHORT, URI, channel_to, error_of

SET_TIME = Request("guest-set-time", {"time": 1_795_406_706_123_456_789})
REAL = "test:///default"
REAL_UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


class TestPinning:
    """A measurement of one guest must not be used to correct another one."""

    def test_a_pinned_guest_is_the_same_as_long_as_it_runs(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        fake.starts += 1
        channel.require_same(5.0)  # it may be restarted before it is pinned
        channel.pin()
        channel.require_same(5.0)
        fake.break_connections()
        channel.call(PING, 5.0)
        channel.require_same(5.0)

    @pytest.mark.parametrize("restarted", [False, True], ids=["", "after a restart of the daemon"])
    def test_a_guest_that_was_restarted_is_another_one(
        self, fake: FakeLibvirt, channel: Blocking, restarted: bool
    ) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        fake.starts += 1
        if restarted:
            fake.break_connections()
        else:
            with pytest.raises(GuestReplacedError, match="restarted"):
                channel.require_same(5.0)
        assert error_of(channel).code == "replaced"


class TestAnExchange:
    def test_a_reply(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-get-osinfo"] = agent_returns({"name": "Debian \u00fc"})
        before_ns = time.monotonic_ns()
        exchange = channel.call(Request("guest-get-osinfo"), 5.0)
        assert exchange.reply == Returned({"name": "Debian \u00fc"})
        assert before_ns <= exchange.sent_ns <= exchange.received_ns <= time.monotonic_ns()

    @pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), SystemError()])
    @pytest.mark.parametrize("request_", [PING, SET_TIME], ids=lambda request: request.execute)
    def test_text_that_libvirt_python_cannot_decode_is_a_protocol_error(
        self, fake: FakeLibvirt, channel: Blocking, request_: Request, error: Any
    ) -> None:
        def undecodable(_request: dict[str, Any]) -> str:
            raise error

        fake.catchup = request_ is SET_TIME
        fake.set_time_error = error
        fake.replies = {} if request_ is SET_TIME else {"guest-ping": undecodable}
        found = error_of(channel, request_)
        assert found.code == "protocol_error"
        message = f"the agent of domain 'web1' at {URI} answered {request_.execute} with text that is not UTF-8"
        assert found.message == message

    def test_arguments_may_be_computed_right_before_sending(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(Request("guest-file-close", {"handle": 7}), 5.0)
        exchange = channel.call(Request("guest-set-time", lambda now_ns: {"time": now_ns}), 5.0)
        sent = [json.loads(text)["arguments"] for text, *_rest in fake.sent]
        assert sent == [{"handle": 7}, {"time": exchange.sent_ns}]
        assert (fake.uris, len(fake.lookups)) == ([URI], 1), "one connection serves many exchanges"

    @pytest.mark.parametrize(("timeout", "limit"), [(0.05, 1), (0.9, 1), (4.5, 5), (60.0, 60)])
    def test_the_timeout_for_libvirt_is_whole_seconds_and_at_least_one(
        self, fake: FakeLibvirt, channel: Blocking, timeout: float, limit: int
    ) -> None:
        channel.call(PING, timeout)
        assert fake.sent == [('{"execute": "guest-ping"}', limit, 0)]

    def test_neither_a_delimiter_nor_a_sync_is_sent_through_libvirt(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = True
        channel.call(SET_TIME, 5.0)
        channel.call(Request("guest-suspend-ram", expects_reply=False), 5.0)
        channel.call(Request("guest-file-write", {"buf-b64": "\u00ff\xff"}), 5.0)
        assert fake.sent
        for text, _limit, _flags in fake.sent:
            assert text.isascii()
            assert "sync" not in text

    @pytest.mark.parametrize("text", ["", "nonsense", "[" * 513, '{"return": 1, "error": {}}', '"\ud800"'], ids=len)
    def test_text_that_is_not_a_reply_is_a_protocol_error(
        self, fake: FakeLibvirt, channel: Blocking, text: str
    ) -> None:
        fake.replies["guest-ping"] = lambda _request: text
        assert error_of(channel).code == "protocol_error"


class TestLookingUp:
    @pytest.mark.parametrize(
        ("called", "named", "lookups"),
        [
            ("web1", "web1", ["name"]),
            ("web1", UUID, ["uuid"]),
            ("web1", UUID.upper(), ["uuid"]),
            ("web1", UUID.replace("-", ""), ["uuid"]),
            ("0" * 32, "0" * 32, ["uuid", "name"]),
        ],
    )
    def test_a_domain_is_found_by_name_or_uuid(
        self, fake: FakeLibvirt, called: str, named: str, lookups: list[str]
    ) -> None:
        fake.name = called
        with channel_to(named) as channel:
            assert channel.guest_name is None
            channel.call(PING, 5.0)
            assert channel.guest_name == called
        assert [kind for kind, _value in fake.lookups] == lookups

    @pytest.mark.parametrize(("state", "words"), [(PAUSED, "paused"), (SHUT_OFF, "shut off"), (99, "not running")])
    def test_a_domain_that_is_not_running_is_not_asked(
        self, fake: FakeLibvirt, channel: Blocking, state: int, words: str
    ) -> None:
        fake.run_state = state
        error = error_of(channel)
        assert error.code == "not_running"
        assert words in error.message
        assert fake.sent == []

    @pytest.mark.parametrize("asked_before", [False, True], ids=["at first", "after a command that it refuses"])
    @pytest.mark.parametrize("code", [1, 38, 55, 68, 86])
    def test_failing_to_read_the_state_is_an_error_of_the_hypervisor(
        self, fake: FakeLibvirt, channel: Blocking, code: int, asked_before: bool
    ) -> None:
        if asked_before:
            channel.call(PING, 5.0)
            fake.replies["guest-ping"] = fails(55)
        fake.state_error = LibvirtError(code, "nichts zu machen")
        error = error_of(channel)
        assert error.code == "hypervisor_unavailable"
        assert "nichts zu machen" in error.message


class TestConnecting:
    def test_a_lookup_has_the_same_errors_as_a_connection(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.lookup_error = LibvirtError(38, "Verbindung fehlgeschlagen", 13)
        error = error_of(channel)
        assert error.code == "permission_denied"
        assert error.message == f"libvirt at {URI} refused the connection: Verbindung fehlgeschlagen"

    def test_a_hanging_hypervisor_times_out_and_the_request_is_not_sent_later(
        self, fake: FakeLibvirt, channel: Blocking, released: threading.Event
    ) -> None:
        fake.open_waits_for = released
        error = error_of(channel, Request("guest-update-time", {"seconds": 20, "relative": True}), SHORT)
        assert error.code == "hypervisor_unavailable"
        assert error.message == f"libvirt at {URI} did not answer within 0.05 s"
        released.set()
        channel.call(PING, 5.0)
        assert fake.commands == ["guest-ping"]


@pytest.mark.parametrize(("answered", "kind"), [(False, "unresponsive"), (True, "timeout")])
def test_a_hanging_call_times_out_and_closing_does_not_wait_for_it(
    fake: FakeLibvirt, released: threading.Event, answered: bool, kind: str
) -> None:
    channel = channel_to("web1")
    if answered:
        channel.call(PING, 5.0)
    fake.replies["guest-get-time"] = hangs(released)
    began = time.monotonic()
    error = error_of(channel, Request("guest-get-time"), SHORT)
    assert error.code == kind
    assert error.message == f"the agent of domain 'web1' at {URI} did not answer guest-get-time within 0.05 s"
    channel.close()
    assert time.monotonic() - began < 10
    assert not fake.closed.is_set()
    released.set()
    assert fake.closed.wait(5), "the connection is not closed when the call has ended"


def test_the_hint_for_a_frozen_guest_has_the_command_that_thaws_it(fake: FakeLibvirt) -> None:
    fake.name = "7"  # virsh would read it as a domain's ID
    disabled = "Command guest-get-time has been disabled: the agent is in frozen state"
    fake.replies["guest-get-time"] = fails(113, f"unable to execute 'guest-get-time': {disabled}")
    fake.replies["guest-fsfreeze-status"] = agent_returns("frozen")
    with channel_to("7", "qemu+ssh://hv1/system") as channel, pytest.raises(FrozenError) as caught:
        BlockingAgent(channel, 5.0).call("guest-get-time")
    assert f"`virsh -c qemu+ssh://hv1/system domfsthaw {UUID}`" in caught.value.hint


class TestWithoutAReply:
    SUSPEND = Request("guest-suspend-ram", expects_reply=False)

    @pytest.mark.parametrize("code", [86, 112])
    def test_silence_is_success(self, fake: FakeLibvirt, channel: Blocking, code: int) -> None:
        fake.replies["guest-suspend-ram"] = fails(code)
        assert channel.call(self.SUSPEND, 30.0).value == {}
        assert fake.commands == ["guest-ping", "guest-suspend-ram"]
        assert fake.sent[1][1] == 1, "it waits longer than necessary"

    def test_a_refusal_is_returned_and_other_errors_are_raised(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-suspend-ram"] = fails(113, "'guest-suspend-ram': the guest does not support it")
        assert channel.call(self.SUSPEND, 5.0).reply == Refused("GenericError", "the guest does not support it")
        fake.replies["guest-suspend-ram"] = fails(55)
        assert error_of(channel, self.SUSPEND).code == "not_running"


@pytest.mark.parametrize("request_", [TestWithoutAReply.SUSPEND, SET_TIME], ids=lambda request: request.execute)
def test_a_dead_agent_is_noticed_before_a_request_without_a_reply_is_sent(
    fake: FakeLibvirt, channel: Blocking, request_: Request
) -> None:
    fake.catchup = True
    fake.replies["guest-ping"] = fails(86)
    assert error_of(channel, request_).code == "unresponsive"
    assert fake.log == ["guest-ping"]


class TestSettingTheTimeOfAGuestThatCatchesUp:
    @pytest.fixture(autouse=True)
    def _catchup(self, fake: FakeLibvirt) -> None:
        fake.catchup = True

    @pytest.mark.parametrize(
        ("arguments", "seconds", "nseconds", "flags"),
        [
            (SET_TIME.arguments, 1_795_406_706, 123_456_789, 0),
            ({"time": 999_999_999}, 0, 999_999_999, 0),
            ({}, 0, 0, libvirt.VIR_DOMAIN_TIME_SYNC),  # the guest reads its hardware clock
        ],
    )
    def test_libvirt_sets_it_after_a_ping(
        self, fake: FakeLibvirt, channel: Blocking, arguments: Any, seconds: int, nseconds: int, flags: int
    ) -> None:
        assert channel.call(Request("guest-set-time", arguments), 5.0).reply == Returned({})
        assert fake.log == ["guest-ping", "setTime"]
        fake.xml_error = LibvirtError(38)  # the XML is not read again
        channel.call(Request("guest-set-time", arguments), 5.0)
        assert fake.set_times == [({"seconds": seconds, "nseconds": nseconds}, flags)] * 2

    def test_it_is_stamped_after_the_ping(self, fake: FakeLibvirt, channel: Blocking) -> None:
        pinged: list[int] = []

        def ping(_request: dict[str, Any]) -> str:
            pinged.append(time.monotonic_ns())
            return '{"return": {}}'

        fake.replies["guest-ping"] = ping
        exchange = channel.call(Request("guest-set-time", lambda now_ns: {"time": now_ns}), 5.0)
        ((value, _flags),) = fake.set_times
        assert value["seconds"] * 10**9 + value["nseconds"] == exchange.sent_ns >= pinged[0]

    def test_the_agents_refusal_is_a_reply(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.set_time_error = LibvirtError(1, "internal error: 'guest-set-time': hwclock failed")
        assert channel.call(SET_TIME, 5.0).reply == Refused("GenericError", "hwclock failed")
        unsupported = "this feature or command is not currently supported"
        fake.set_time_error = LibvirtError(1, f"internal error: unable to execute 'guest-set-time': {unsupported}")
        with pytest.raises(NotSupportedError) as caught:
            BlockingAgent(channel, 5.0).call("guest-set-time", {"time": 1})
        assert "util-linux-extra" in caught.value.hint

    @pytest.mark.parametrize(("at", "code"), [("set_time_error", 84), ("xml_error", 38)])
    def test_an_error_of_libvirt_is_raised(self, fake: FakeLibvirt, channel: Blocking, at: str, code: int) -> None:
        setattr(fake, at, LibvirtError(code, "qemu doesn't support rtc-reset-reinjection command"))
        error = error_of(channel, SET_TIME)
        assert error.code == "hypervisor_unavailable"
        assert "rtc-reset-reinjection" in error.message


class TestADefinition:
    NAMESPACE = "urn:qemu.guest_agent:resync"

    def test_its_metadata_is_returned_unchanged_without_asking_the_guest(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        fake.metadata = '<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>'
        assert channel.metadata(self.NAMESPACE, 5.0) == fake.metadata
        assert fake.asked_metadata == [(libvirt.VIR_DOMAIN_METADATA_ELEMENT, self.NAMESPACE)]
        assert fake.sent == []

    def test_missing_metadata_is_none_and_unreadable_metadata_is_an_error(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        fake.metadata_error = LibvirtError(80, "metadata not found: Requested metadata element is not present")
        assert channel.metadata(self.NAMESPACE, 5.0) is None
        fake.metadata_error = LibvirtError(88)
        with pytest.raises(PermissionDeniedError):
            channel.metadata(self.NAMESPACE, 5.0)

    def test_its_macs_are_returned_in_its_order_if_it_is_readable_without_asking_the_guest(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        assert channel.macs(5.0) == ()
        fake.macs = ("52:54:00:00:00:02", "52:54:00:00:00:01")
        assert channel.macs(5.0) == fake.macs
        fake.xml_error = LibvirtError(88)
        assert channel.macs(5.0) == ()
        assert fake.sent == []

    def test_a_broken_connection_is_an_error(
        self, fake: FakeLibvirt, channel: Blocking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_off(_domain: Domain, _flags: int) -> str:
            fake.break_connections()
            raise LibvirtError(1, "internal error: client socket is closed")

        monkeypatch.setattr(Domain, "XMLDesc", break_off)
        with pytest.raises(HypervisorUnavailableError, match="broke during virDomainGetXMLDesc") as caught:
            channel.macs(5.0)
        assert not caught.value.in_call  # no agent was asked


class TestTheRealLibrary:
    """With libvirt's own test driver, which has a domain but no agents."""

    @pytest.mark.parametrize("named", ["test", REAL_UUID, REAL_UUID.replace("-", "")])
    def test_its_domain_has_macs_but_no_agent(self, named: str) -> None:
        with channel_to(named, REAL) as channel:
            assert error_of(channel).code == "not_configured"
            assert channel.macs(5.0) == ("aa:bb:cc:dd:ee:ff",)

    @pytest.mark.parametrize("named", ["nosuch", UUID])
    def test_an_unknown_domain_is_not_found(self, named: str) -> None:
        with channel_to(named, REAL) as channel:
            error = error_of(channel)
        assert error.code == "not_found"
        assert error.message == f"there is no domain '{named}' at {REAL}"
        assert f"`virsh -c {REAL} list --all`" in error.hint

    def test_an_unknown_driver_is_hypervisor_unavailable(self) -> None:
        with channel_to("test", "nonsense:///system") as channel:
            error = error_of(channel)
        assert error.code == "hypervisor_unavailable"
        assert "nonsense:///system" in error.message
