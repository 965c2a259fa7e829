"""The meaning of libvirt's errors, and the length of their texts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused

from tests.fakes.domains import PAUSED
from tests.fakes.libvirt_replies import LibvirtError, fails
from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.libvirt_channels import PING, URI, error_of


class TestMeaning:
    """libvirt's number, whether the agent has answered before, and the channel's state decide the error code."""

    @pytest.mark.parametrize(
        ("code", "answered", "state", "kind"),
        [
            # Old libvirt has 86 for all of these; the other facts decide.
            (86, False, "disconnected", "not_connected"),
            (86, True, "disconnected", "not_connected"),
            (86, False, "connected", "unresponsive"),
            (86, True, "connected", "timeout"),
            (86, False, None, "unresponsive"),
            (97, False, "connected", "unresponsive"),
            (97, True, "connected", "unresponsive"),
            # libvirt 11.2 and later have a number for a command's timeout.
            (112, False, "connected", "timeout"),
            (112, True, "connected", "timeout"),
            (112, True, "disconnected", "not_connected"),
            (74, False, None, "not_configured"),
            (42, True, "connected", "not_found"),
            (68, False, "connected", "unresponsive"),
            (88, False, "connected", "permission_denied"),
            (55, False, "connected", "not_running"),
            *((code, False, "connected", "not_configured") for code in (3, 8, 9, 29, 84)),
            # An agent has answered through this driver, so the driver has agent commands.
            (84, True, "connected", "hypervisor_unavailable"),
            *((code, False, "connected", "protocol_error") for code in (1, 38, 39)),
        ],
    )
    def test_the_code_depends_on_all_three(
        self, fake: FakeLibvirt, channel: Blocking, code: int, answered: bool, state: str | None, kind: str
    ) -> None:
        if answered:
            channel.call(PING, 5.0)
        fake.channel_state = state
        fake.replies["guest-ping"] = fails(code, "in einer anderen Sprache")
        error = error_of(channel)
        assert error.code == kind
        assert "web1" in error.message or URI in error.message
        assert error.hint

    def test_a_read_only_connection_has_no_permission_for_agent_commands(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        fake.replies["guest-ping"] = fails(29, "verboten: nur lesen, nicht virDomainQemuAgentCommand")
        error = error_of(channel)
        assert error.code == "permission_denied"
        assert "is read-only" in error.message

    @pytest.mark.parametrize("code", [1, 2, 38, 39, 74])
    def test_a_domain_without_a_channel_is_not_configured_whatever_the_number(
        self, fake: FakeLibvirt, channel: Blocking, code: int
    ) -> None:
        fake.has_channel = False
        fake.replies["guest-ping"] = fails(code, "Cannot find program 536903815 version 1")
        assert error_of(channel).code == "not_configured"

    def test_a_domain_that_was_paused_meanwhile_is_not_running(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        fake.run_state = PAUSED
        fake.replies["guest-ping"] = fails(55)
        error = error_of(channel)
        assert error.code == "not_running"
        assert "paused" in error.message

    def test_silence_is_a_timeout_if_the_channels_state_cannot_be_read(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        channel.call(PING, 5.0)
        fake.replies["guest-ping"] = fails(86)
        fake.xml_error = LibvirtError(38)
        assert error_of(channel).code == "timeout"


BLOCKED = "Command guest-get-load has been disabled: the command is not allowed"


class TestTheAgentsOwnErrors:
    @pytest.mark.parametrize(
        ("description", "kind"),
        [
            (BLOCKED, "CommandNotFound"),
            ("'guest-x': two: colons", "GenericError"),
            ("", "GenericError"),
        ],
    )
    @pytest.mark.parametrize(
        "sentence",
        [
            "guest agent command failed: unable to execute QEMU agent command 'guest-get-load': %s",
            "internal error: unable to execute QEMU agent command 'guest-get-load': %s",
            "interner Fehler: QEMU-Agent-Befehl 'guest-get-load' konnte nicht ausgef\u00fchrt werden: %s",
            "erreur interne\u00a0: impossible d'ex\u00e9cuter \u00ab\u00a0guest-get-load\u00a0\u00bb\u00a0: %s",
            "\u5185\u90e8\u30a8\u30e9\u30fc\uff1a'guest-get-load' \u3092\u5b9f\u884c\u4e0d\u53ef\uff1a%s",
        ],
    )
    @pytest.mark.parametrize("code", [1, 113])
    def test_they_are_read_from_old_and_new_libvirt_in_any_language(
        self, fake: FakeLibvirt, channel: Blocking, code: int, sentence: str, description: str, kind: str
    ) -> None:
        fake.replies["guest-get-load"] = fails(code, sentence % description)
        exchange = channel.call(Request("guest-get-load"), 5.0)
        assert exchange.reply == Refused(kind, description)

    @pytest.mark.parametrize(
        "message",
        [
            "unable to execute QEMU agent command 'guest-ping'",
            "in an order of words that we do not know",
            "",
        ],
    )
    def test_113_is_a_refusal_whatever_its_words(self, fake: FakeLibvirt, channel: Blocking, message: str) -> None:
        fake.replies["guest-ping"] = fails(113, message)
        assert channel.call(PING, 5.0).reply == Refused("GenericError", message)

    def test_a_refusal_counts_as_an_answer(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-get-load"] = fails(113, f"'guest-get-load': {BLOCKED}")
        channel.call(Request("guest-get-load"), 5.0)
        fake.replies["guest-ping"] = fails(86)
        assert error_of(channel).code == "timeout"


class TestLongTexts:
    LONG = "x" * 1_000_000

    @pytest.mark.parametrize("calls", [1, 5], ids=["own line", "shared line"])
    @pytest.mark.parametrize(
        ("answer", "length"),
        [
            (lambda _request: "x" * 501, 501),
            (fails(113, "guest agent command failed: 'guest-ping': " + "x" * 500), 542),
        ],
        ids=["a reply", "a refusal"],
    )
    def test_a_reply_over_the_limit_is_a_protocol_error(
        self, fake: FakeLibvirt, answer: Any, length: int, calls: int
    ) -> None:
        fake.replies["guest-ping"] = answer
        line = Line(URI, calls)
        with Blocking(LibvirtChannel("web1", URI, line, Limits(size=500, nesting=16))) as channel:
            error = error_of(channel)
        line.close()
        assert error.code == "protocol_error"
        assert error.message == f"the agent of domain 'web1' at {URI} answered guest-ping with {length} characters"

    @pytest.mark.parametrize("command", ["guest-ping", "guest-set-time"])
    def test_the_guests_text_in_libvirts_error_becomes_one_short_line(
        self, fake: FakeLibvirt, channel: Blocking, command: str
    ) -> None:
        fake.catchup = command == "guest-set-time"
        fake.set_time_error = LibvirtError(38, "\x1b[2J\n" + self.LONG)
        fake.replies = {} if fake.catchup else {"guest-ping": fails(38, "\x1b[2J\n" + self.LONG)}
        message = error_of(channel, Request(command)).message
        assert message.isprintable()
        assert len(message) < 400

    def test_a_refusal_is_truncated(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(1, "internal error: unable to execute 'guest-ping': " + self.LONG)
        reply = channel.call(PING, 5.0).reply
        assert isinstance(reply, Refused)
        assert len(reply.description) < 5000


class TestABrokenConnection:
    @pytest.mark.parametrize("code", [1, 38, 55, 86, 112, 113])
    def test_breaking_in_a_call_is_hypervisor_unavailable_whatever_the_number(
        self, fake: FakeLibvirt, channel: Blocking, code: int
    ) -> None:
        def breaks(_request: dict[str, Any]) -> str:
            fake.break_connections()
            raise LibvirtError(code, "'guest-ping': Cannot recv data: Connection reset by peer")

        fake.replies["guest-ping"] = breaks
        error = error_of(channel)
        assert error.code == "hypervisor_unavailable"
        assert f"the connection to libvirt at {URI} broke during guest-ping" in error.message
        assert "Connection reset by peer" in error.message
        assert error.in_call
        del fake.replies["guest-ping"]
        assert channel.call(PING, 5.0).value == {}

    def test_a_domain_that_is_missing_on_the_new_connection_is_looked_up_again(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        channel.call(PING, 5.0)
        fake.break_connections()
        fake.name = "not loaded yet"
        assert error_of(channel).code == "not_found"
        fake.name = "web1"
        assert channel.call(PING, 5.0).value == {}

    def test_setting_the_time_on_it_is_not_taken_for_a_refusal(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = True
        channel.call(Request("guest-set-time", {"time": 1}), 5.0)

        def breaks(_request: dict[str, Any]) -> str:
            fake.break_connections()
            return '{"return": {}}'

        fake.replies["guest-ping"] = breaks
        error = error_of(channel, Request("guest-set-time", {"time": 1}))
        assert error.code == "hypervisor_unavailable"
        assert "broke during guest-set-time" in error.message
