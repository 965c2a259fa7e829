# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from traceback import walk_tb
from types import ModuleType
from typing import Any

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import libvirt as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.libvirt import LibvirtChannel
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    CommandNotFoundError,
    ExchangeTimeoutError,
    FrozenError,
    GuestReplacedError,
    HypervisorUnavailableError,
    MissingLibraryError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    NotSupportedError,
    PermissionDeniedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop.threads import Job
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections, domains
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import (
    NEW,
    PROVEN,
    SLOW,
    SUSPECT,
    Lane,
    Line,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import Limits

from tests.support.blocking import Blocking, BlockingAgent
from tests.support.fake_libvirt import (
    PAUSED,
    SHUT_OFF,
    UUID,
    FakeDomain,
    FakeLibvirt,
    LibvirtError,
    agent_says,
    fails,
    hangs,
)

URI = "qemu:///system"
PING = Request("guest-ping")
GET_TIME = Request("guest-get-time")
SHORT = 0.05  # s; the bounds are tested with real threads


def channel_to(domain: str, uri: str = URI, line: Line | None = None) -> Blocking:
    return Blocking(LibvirtChannel(domain, uri, line))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeLibvirt:
    fake = FakeLibvirt()
    monkeypatch.setattr(connections, "import_libvirt", lambda: (fake, fake))
    # For silent agents the stand-in gives up without the seconds that it takes libvirt.
    monkeypatch.setattr(module, "_AT_ONCE_NS", 0)
    return fake


@pytest.fixture
def channel(fake: FakeLibvirt) -> Iterator[Blocking]:  # noqa: ARG001  # in place before the channel
    with channel_to("web1") as channel:
        yield channel


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Lets go of what hangs when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def error_of(channel: Blocking, request: Request = PING, timeout: float = 5.0) -> QgaError:
    with pytest.raises(QgaError) as caught:
        channel.call(request, timeout)
    assert "\n" not in caught.value.message
    return caught.value


class TestOneGuestOnly:
    """What was measured of one guest is not to be done to another."""

    def test_a_pinned_guest_is_the_same_as_long_as_it_runs(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        channel.require_same(5.0)
        fake.break_connections()
        channel.call(PING, 5.0)
        channel.require_same(5.0)

    def test_one_that_was_started_anew_is_another(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        fake.starts += 1
        with pytest.raises(GuestReplacedError, match="started anew"):
            channel.require_same(5.0)
        assert error_of(channel).__class__ is GuestReplacedError

    def test_behind_a_daemon_that_was_restarted_too(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        channel.pin()
        fake.starts += 1
        fake.break_connections()
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

    def test_arguments(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(Request("guest-file-close", {"handle": 7}), 5.0)
        assert json.loads(fake.sent[0][0]) == {"execute": "guest-file-close", "arguments": {"handle": 7}}

    def test_arguments_that_are_made_at_the_last_moment(self, fake: FakeLibvirt, channel: Blocking) -> None:
        exchange = channel.call(Request("guest-set-time", lambda now_ns: {"time": now_ns}), 5.0)
        assert json.loads(fake.sent[0][0])["arguments"] == {"time": exchange.sent_ns}

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

    def test_a_connection_that_broke_is_closed_quietly(self, fake: FakeLibvirt) -> None:
        fake.close_error = LibvirtError(38)
        with channel_to("web1") as channel:
            channel.call(PING, 5.0)
        assert fake.closed.wait(5)


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

    @pytest.mark.parametrize("code", [1, 38, 55, 68, 86])
    def test_a_state_that_libvirt_does_not_tell_is_its_own_error(
        self, fake: FakeLibvirt, channel: Blocking, code: int
    ) -> None:
        fake.state_error = LibvirtError(code, "nichts zu machen")
        error = error_of(channel)
        assert isinstance(error, HypervisorUnavailableError)
        assert "nichts zu machen" in error.message

    @pytest.mark.parametrize("code", [1, 38, 55, 68, 86])
    def test_nor_after_an_agent_command_that_a_stopped_guest_does_not_take(
        self, fake: FakeLibvirt, channel: Blocking, code: int
    ) -> None:
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
        [
            (38, 13, PermissionDeniedError),  # EACCES
            (38, 1, PermissionDeniedError),  # EPERM
            (38, 2, HypervisorUnavailableError),  # ENOENT
            (38, 111, HypervisorUnavailableError),  # ECONNREFUSED
            (45, 0, PermissionDeniedError),
            (79, 0, PermissionDeniedError),
            (94, 0, PermissionDeniedError),
            (88, 0, PermissionDeniedError),
            (5, 0, HypervisorUnavailableError),  # no driver for this URI
            (1, 0, HypervisorUnavailableError),
        ],
    )
    @pytest.mark.parametrize("where", ["open_error", "lookup_error"])
    def test_what_can_go_wrong(
        self, fake: FakeLibvirt, channel: Blocking, code: int, int1: int, kind: type[QgaError], where: str
    ) -> None:
        setattr(fake, where, LibvirtError(code, "Verbindung fehlgeschlagen", int1))
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

    def test_the_python_library_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "libvirt", None)
        with pytest.raises(MissingLibraryError, match="libvirt-python cannot be imported") as caught:
            LibvirtChannel("web1", URI)
        assert "python3-libvirt" in caught.value.hint


class TestWhatAnErrorMeans:
    """libvirt's number, whether the agent has answered before, and the channel's state make one of our codes."""

    @pytest.mark.parametrize(
        ("code", "answered", "state", "kind"),
        [
            # Old libvirt has 86 for all of these, told apart by the rest.
            (86, False, "disconnected", NotConnectedError),
            (86, True, "disconnected", NotConnectedError),
            (86, False, "connected", UnresponsiveError),
            (86, True, "connected", ExchangeTimeoutError),
            (86, False, None, UnresponsiveError),
            (97, False, "connected", UnresponsiveError),
            (97, True, "connected", UnresponsiveError),
            # 11.2 and later tell a command's timeout apart.
            (112, False, "connected", ExchangeTimeoutError),
            (112, True, "connected", ExchangeTimeoutError),
            (112, True, "disconnected", NotConnectedError),
            (74, False, None, NotConfiguredError),
            (42, True, "connected", NotFoundError),
            (68, False, "connected", UnresponsiveError),
            (88, False, "connected", PermissionDeniedError),
            (55, False, "connected", NotRunningError),
            (3, False, "connected", NotConfiguredError),
            (8, False, "connected", NotConfiguredError),
            (9, False, "connected", NotConfiguredError),
            (29, False, "connected", NotConfiguredError),
            (84, False, "connected", NotConfiguredError),
            # A driver has no other functions once an agent has answered through it.
            (84, True, "connected", HypervisorUnavailableError),
            (1, False, "connected", RemoteProtocolError),
            (38, False, "connected", RemoteProtocolError),
        ],
    )
    def test_table(
        self,
        fake: FakeLibvirt,
        channel: Blocking,
        code: int,
        answered: bool,
        state: str | None,
        kind: type[QgaError],
    ) -> None:
        if answered:
            channel.call(PING, 5.0)
        fake.channel_state = state
        fake.replies["guest-ping"] = fails(code, "in einer anderen Sprache")
        error = error_of(channel)
        assert error.__class__ is kind
        assert "web1" in error.message or URI in error.message
        assert error.hint

    def test_a_connection_for_reading_only_may_not_ask_an_agent(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(29, "verboten: nur lesen, nicht virDomainQemuAgentCommand")
        error = error_of(channel)
        assert error.__class__ is PermissionDeniedError
        assert "for reading only" in error.message

    @pytest.mark.parametrize("code", [1, 2, 38, 39, 74])
    def test_a_domain_without_a_channel_is_not_configured_whatever_the_number(
        self, fake: FakeLibvirt, channel: Blocking, code: int
    ) -> None:
        fake.has_channel = False
        fake.replies["guest-ping"] = fails(code, "Cannot find program 536903815 version 1")
        assert error_of(channel).__class__ is NotConfiguredError

    @pytest.mark.parametrize(("state", "words"), [(PAUSED, "paused"), (SHUT_OFF, "shut off")])
    def test_a_domain_that_stopped_meanwhile(
        self, fake: FakeLibvirt, channel: Blocking, state: int, words: str
    ) -> None:
        channel.call(PING, 5.0)
        fake.run_state = state
        fake.replies["guest-ping"] = fails(55)
        error = error_of(channel)
        assert isinstance(error, NotRunningError)
        assert words in error.message

    def test_a_domain_that_is_gone_meanwhile(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.state_error = LibvirtError(42)
        assert isinstance(error_of(channel), NotFoundError)

    def test_a_daemon_that_is_gone_meanwhile(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        fake.replies["guest-ping"] = fails(86)
        fake.xml_error = LibvirtError(38)
        assert isinstance(error_of(channel), ExchangeTimeoutError)

    def test_who_holds_the_agent_gets_a_hint_of_its_own(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(68, "cannot acquire state change lock (held by agent=other)")
        error = error_of(channel)
        assert "another client" in error.message
        assert "Wait until" in error.hint


NOT_REACHED = "Guest agent is not responding: QEMU guest agent is not connected"


class TestADaemonThatHasNotReachedTheAgentYet:
    """It was started anew under the guest: by its record the agent is connected, and it refuses at once."""

    @pytest.fixture(autouse=True)
    def at_once(self, fake: FakeLibvirt, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_AT_ONCE_NS", 10**9)
        monkeypatch.setattr(module, "_REACH_PAUSE_SECONDS", 0.001)
        self.refuse(fake, 3)

    @staticmethod
    def refuse(fake: FakeLibvirt, times: int) -> None:
        """What it is asked for the first times."""
        refusals = iter([fails(86, NOT_REACHED)] * times)

        def refuse_or_reply(request: dict[str, Any]) -> str:
            reply = next(refusals, agent_says({}))
            return reply(request)

        fake.replies = dict.fromkeys(("guest-ping", "guest-info", "guest-exec"), refuse_or_reply)

    @pytest.mark.parametrize("command", ["guest-ping", "guest-info"])
    def test_what_a_conversation_begins_with_waits_for_it(
        self, fake: FakeLibvirt, channel: Blocking, command: str
    ) -> None:
        assert channel.call(Request(command), 20.0).value == {}
        assert fake.commands == [command] * 4

    def test_in_a_fleet_it_does_not_count_as_silent(self, fake: FakeLibvirt, shared: Shared) -> None:
        with shared.channel() as channel:
            assert channel.call(Request("guest-info"), 20.0).value == {}
            channel.call(GET_TIME, 20.0)
        assert fake.commands == ["guest-info"] * 4 + ["guest-get-time"]
        assert shared.lanes == [NEW] * 4 + [PROVEN]

    def test_nor_with_too_little_time_for_a_probe(self, fake: FakeLibvirt, shared: Shared) -> None:
        with shared.channel() as channel:
            channel.call(Request("guest-info"), 2.0)
        assert fake.commands == ["guest-info"] * 4
        assert shared.lanes == [NEW] * 4

    def test_what_may_have_an_effect_is_not_sent_twice(self, fake: FakeLibvirt, channel: Blocking) -> None:
        assert isinstance(error_of(channel, Request("guest-exec"), 20.0), UnresponsiveError)
        assert fake.commands == ["guest-exec"]

    @pytest.mark.parametrize(("timeout", "patience"), [(0.5, 5.0), (1.0 + SHORT, 5.0), (20.0, SHORT)])
    def test_a_daemon_that_has_given_up_the_agent_is_not_waited_for_longer_than_that(
        self, fake: FakeLibvirt, channel: Blocking, monkeypatch: pytest.MonkeyPatch, timeout: float, patience: float
    ) -> None:
        monkeypatch.setattr(module, "_REACH_SECONDS", patience)
        self.refuse(fake, 100_000)
        began = time.monotonic()
        error = error_of(channel, PING, timeout)
        assert time.monotonic() - began < SHORT + 3.0
        assert error.code == "unresponsive"
        assert "though it is connected" in error.message
        assert "Restart the agent's service" in error.hint

    def test_one_that_takes_as_long_as_an_agent_is_waited_for_has_asked_it(
        self, fake: FakeLibvirt, channel: Blocking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_AT_ONCE_NS", 0)
        assert "does not answer" in error_of(channel, PING, 20.0).message
        assert fake.commands == ["guest-ping"]

    def test_an_agent_that_has_answered_was_reached(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 20.0)
        self.refuse(fake, 1)
        assert isinstance(error_of(channel, PING, 20.0), ExchangeTimeoutError)


MISSING = "The command guest-get-load has not been found"
BLOCKED = "Command guest-get-load has been disabled: the command is not allowed"
BLOCKED_BEFORE_8 = "The command guest-get-load has been disabled for this instance"
# What libvirt writes for an agent's class without words.
DISABLED_BY_CLASS = "The command has been disabled for this instance"
MISSING_BY_CLASS = "The command has not been found"
FROZEN = "Command guest-get-load has been disabled: the agent is in frozen state"
UNSUPPORTED = "this feature or command is not currently supported"


class TestTheAgentsOwnErrors:
    @pytest.mark.parametrize(
        ("description", "kind"),
        [
            (MISSING, "CommandNotFound"),
            (BLOCKED, "CommandNotFound"),
            (BLOCKED_BEFORE_8, "CommandNotFound"),
            (DISABLED_BY_CLASS, "CommandNotFound"),
            (MISSING_BY_CLASS, "CommandNotFound"),
            (FROZEN, "CommandNotFound"),
            (UNSUPPORTED, "GenericError"),
            ("failed to open /proc/loadavg: No such file", "GenericError"),
            ("'guest-x': two: colons", "GenericError"),
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
    def test_of_old_and_new_libvirt_in_any_language(
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
    def test_113_is_a_refusal_whatever_is_said(self, fake: FakeLibvirt, channel: Blocking, message: str) -> None:
        fake.replies["guest-ping"] = fails(113, message)
        assert channel.call(PING, 5.0).reply == Refused("GenericError", message)

    @pytest.mark.parametrize("message", ["internal error: client socket is closed", "", None])
    def test_1_is_not(self, fake: FakeLibvirt, channel: Blocking, message: Any) -> None:
        fake.replies["guest-ping"] = fails(1, message)
        assert isinstance(error_of(channel), RemoteProtocolError)

    def test_1_of_a_connection_that_broke_is_the_hypervisors(self, fake: FakeLibvirt, channel: Blocking) -> None:
        def breaks(request: dict[str, Any]) -> str:
            fake.break_connections()
            return fails(1, "internal error: client socket is closed")(request)

        fake.replies["guest-ping"] = breaks
        error = error_of(channel)
        assert isinstance(error, HypervisorUnavailableError)
        assert error.in_call

    def test_a_refusal_in_no_words_is_one(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(1, "internal error: unable to execute QEMU agent command 'guest-ping': ")
        assert channel.call(PING, 5.0).reply == Refused("GenericError", "")

    @pytest.mark.parametrize(
        ("description", "kind"),
        [
            (MISSING, CommandNotFoundError),
            (MISSING_BY_CLASS, CommandNotFoundError),
            (BLOCKED, CommandDisabledError),
            (BLOCKED_BEFORE_8, CommandDisabledError),
            (DISABLED_BY_CLASS, CommandDisabledError),
            (FROZEN, FrozenError),
            (UNSUPPORTED, NotSupportedError),
        ],
    )
    def test_what_they_mean_is_told_by_their_words(
        self, fake: FakeLibvirt, channel: Blocking, description: str, kind: type[QgaError]
    ) -> None:
        fake.replies["guest-get-load"] = fails(113, f"guest agent command failed: 'guest-get-load': {description}")
        with pytest.raises(kind):
            BlockingAgent(channel, 5.0).call("guest-get-load")

    def test_a_refusal_is_an_answer(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-get-load"] = fails(113, f"'guest-get-load': {BLOCKED}")
        channel.call(Request("guest-get-load"), 5.0)
        fake.replies["guest-ping"] = fails(86)
        assert isinstance(error_of(channel), ExchangeTimeoutError)


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


class Text(str):
    """A text that can be looked for after it was let go of."""


def _held(value: Any) -> list[Text]:
    """All of it that an error can be followed to: its cause, its context, and what the frames of its traceback hold."""
    found: list[Text] = []
    seen: set[int] = set()
    wanted = [value]
    while wanted:
        each = wanted.pop()
        if id(each) in seen or isinstance(each, ModuleType):
            continue
        seen.add(id(each))
        if isinstance(each, Text):
            found.append(each)
        if isinstance(each, BaseException):
            wanted += [each.__cause__, each.__context__, *each.args, vars(each), getattr(each, "object", None)]
            wanted += [frame.f_locals for frame, _line in walk_tb(each.__traceback__)]
        elif isinstance(each, dict):
            wanted += each.values()
        elif isinstance(each, (list, tuple)):
            wanted += each
        elif isinstance(each, bytes) and len(each) > 100_000:
            found.append(Text("bytes"))
    return found


def _fails_with(text: Text) -> LibvirtError:
    error = LibvirtError(1, text)
    error.err = (*error.err[:4], "%s", text, *error.err[6:])
    return error


class TestWhatIsTooLong:
    """Of what an agent answered, an error holds what it says itself."""

    LONG = 1_000_000

    @pytest.mark.parametrize(
        "outcome",
        [
            lambda: Text("x" * TestWhatIsTooLong.LONG),
            lambda: _fails_with(Text("cannot parse json " + "x" * TestWhatIsTooLong.LONG)),
            lambda: UnicodeDecodeError("utf-8", b"x" * TestWhatIsTooLong.LONG, 0, 1, "invalid start byte"),
        ],
        ids=["a reply", "an error", "no UTF-8"],
    )
    @pytest.mark.parametrize("lane", ["own", "shared"])
    def test_an_error_holds_nothing_of_it(self, fake: FakeLibvirt, outcome: Any, lane: str) -> None:
        def answer(_request: dict[str, Any]) -> str:
            made: Any = outcome()
            if isinstance(made, BaseException):
                raise made
            text: str = made
            return text

        fake.replies["guest-ping"] = answer
        line = Line(URI, 1 if lane == "own" else 5)
        with Blocking(LibvirtChannel("web1", URI, line, Limits(size=500, nesting=16))) as channel:
            error = error_of(channel)
        line.close()
        assert isinstance(error, RemoteProtocolError)
        assert _held(error) == []

    def test_nor_does_an_error_of_setting_the_time(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = True
        fake.set_time_error = _fails_with(Text("x" * self.LONG))
        error = error_of(channel, Request("guest-set-time", {"time": 1}))
        assert _held(error) == []
        assert len(str(error)) < 1000

    def test_a_refusal_that_is_too_long_is_none(self, fake: FakeLibvirt) -> None:
        fake.replies["guest-ping"] = fails(113, "guest agent command failed: 'guest-ping': " + "x" * 500)
        with Blocking(LibvirtChannel("web1", URI, limits=Limits(size=500, nesting=16))) as channel:
            error = error_of(channel)
        assert isinstance(error, RemoteProtocolError)
        assert "characters" in error.message

    def test_a_refusal_is_cut(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.replies["guest-ping"] = fails(1, "internal error: unable to execute 'guest-ping': " + "x" * self.LONG)
        reply = channel.call(PING, 5.0).reply
        assert isinstance(reply, Refused)
        assert len(reply.description) < 5000


class TestAConnectionThatBroke:
    def test_the_next_call_opens_another_and_looks_the_domain_up_on_it(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        channel.call(PING, 5.0)
        fake.break_connections()
        assert channel.call(PING, 5.0).value == {}
        assert fake.uris == [URI, URI]
        assert fake.lookups == [("name", "web1")] * 2

    @pytest.mark.parametrize("code", [1, 38, 55, 86, 112, 113])
    def test_breaking_in_a_call_is_the_hypervisors_fault_whatever_the_number(
        self, fake: FakeLibvirt, channel: Blocking, code: int
    ) -> None:
        def breaks(_request: dict[str, Any]) -> str:
            fake.break_connections()
            raise LibvirtError(code, "'guest-ping': Cannot recv data: Connection reset by peer")

        fake.replies["guest-ping"] = breaks
        error = error_of(channel)
        assert error.__class__ is HypervisorUnavailableError
        assert f"the connection to libvirt at {URI} broke at guest-ping" in error.message
        assert "Connection reset by peer" in error.message
        del fake.replies["guest-ping"]
        assert channel.call(PING, 5.0).value == {}

    def test_whether_it_lives_may_be_an_error_as_well(self, fake: FakeLibvirt, channel: Blocking) -> None:
        channel.call(PING, 5.0)
        fake.connections[0].alive_error = LibvirtError(1)
        channel.call(PING, 5.0)
        assert fake.uris == [URI, URI]

    def test_a_daemon_that_is_still_away_is_told_and_back_by_the_next_call(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        channel.call(PING, 5.0)
        fake.break_connections()
        fake.open_error = LibvirtError(38, "Failed to connect socket", 111)
        assert isinstance(error_of(channel), HypervisorUnavailableError)
        fake.open_error = None
        assert channel.call(PING, 5.0).value == {}

    def test_a_domain_that_is_not_found_at_once_on_the_new_one_is_looked_up_again(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        channel.call(PING, 5.0)
        fake.break_connections()
        fake.name = "not loaded yet"
        assert isinstance(error_of(channel), NotFoundError)
        fake.name = "web1"
        assert channel.call(PING, 5.0).value == {}

    def test_setting_the_time_on_it_is_no_refusal(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.catchup = True
        channel.call(Request("guest-set-time", {"time": 1}), 5.0)

        def breaks(_request: dict[str, Any]) -> str:
            fake.break_connections()
            return '{"return": {}}'

        fake.replies["guest-ping"] = breaks
        error = error_of(channel, Request("guest-set-time", {"time": 1}))
        assert error.__class__ is HypervisorUnavailableError
        assert "broke at guest-set-time" in error.message


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


class TestMetadata:
    NAMESPACE = "urn:qemu.guest_agent:resync"

    def test_the_element_is_given_as_it_is(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.metadata = '<resync xmlns="urn:qemu.guest_agent:resync" enabled="no"/>'
        assert channel.metadata(self.NAMESPACE, 5.0) == fake.metadata
        assert fake.asked_metadata == [(libvirt.VIR_DOMAIN_METADATA_ELEMENT, self.NAMESPACE)]
        assert fake.sent == [], "the guest is not asked"

    def test_none(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.metadata_error = LibvirtError(80, "metadata not found: Requested metadata element is not present")
        assert channel.metadata(self.NAMESPACE, 5.0) is None

    @pytest.mark.parametrize(
        ("code", "kind"), [(38, HypervisorUnavailableError), (42, NotFoundError), (88, PermissionDeniedError)]
    )
    def test_what_can_go_wrong(self, fake: FakeLibvirt, channel: Blocking, code: int, kind: type[QgaError]) -> None:
        fake.metadata_error = LibvirtError(code)
        with pytest.raises(QgaError) as caught:
            channel.metadata(self.NAMESPACE, 5.0)
        assert caught.value.__class__ is kind

    def test_a_hypervisor_that_hangs_is_given_up(
        self, fake: FakeLibvirt, channel: Blocking, released: threading.Event
    ) -> None:
        fake.open_waits_for = released
        with pytest.raises(HypervisorUnavailableError, match=r"did not answer within 0\.05 s"):
            channel.metadata(self.NAMESPACE, SHORT)


class TestMacs:
    def test_they_are_those_of_the_definition_in_its_order(self, fake: FakeLibvirt, channel: Blocking) -> None:
        fake.macs = ("52:54:00:00:00:02", "52:54:00:00:00:01")
        assert channel.macs(5.0) == fake.macs
        assert fake.sent == [], "the guest is not asked"

    def test_a_domain_without_a_network_has_none(self, channel: Blocking) -> None:
        assert channel.macs(5.0) == ()

    @pytest.mark.parametrize("code", [3, 38, 42, 88])
    def test_a_definition_that_is_not_shown_has_none(self, fake: FakeLibvirt, channel: Blocking, code: int) -> None:
        fake.xml_error = LibvirtError(code)
        assert channel.macs(5.0) == ()

    def test_a_connection_that_broke_is_an_error(
        self, fake: FakeLibvirt, channel: Blocking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def break_off(_domain: FakeDomain, _flags: int) -> str:
            fake.break_connections()
            raise LibvirtError(1, "internal error: client socket is closed")

        monkeypatch.setattr(FakeDomain, "XMLDesc", break_off)
        with pytest.raises(HypervisorUnavailableError, match="broke at virDomainGetXMLDesc") as caught:
            channel.macs(5.0)
        assert not caught.value.in_call  # no agent was asked

    @pytest.mark.parametrize("backend", ["", "<backend type='passt'/>"])
    def test_one_on_a_user_mode_network_is_the_last(self, backend: str) -> None:
        """Nobody else reaches the guest by its address there."""
        user = f"<interface type='user'>{backend}<mac address='52:54:00:00:00:01'/></interface>"
        others = [
            f"<interface type='bridge'><mac address='52:54:00:00:00:0{number}'/></interface>" for number in (3, 2)
        ]
        found = domains.macs_of(f"<domain><devices>{user}{''.join(others)}</devices></domain>")
        assert [mac[-1] for mac in found] == ["3", "2", "1"]

    def test_other_elements_are_none(self) -> None:
        interface = "<interface type='direct'><source dev='eth0'/><mac address='52:54:00:00:00:01'/></interface>"
        hostdev = "<hostdev type='pci'/><interface type='user'/>"
        channel = "<channel><mac address='52:54:00:00:00:03'/></channel>"
        xml = f"<domain><devices>{interface}{hostdev}{channel}</devices></domain>"
        assert domains.macs_of(xml) == ("52:54:00:00:00:01",)


class Shared:
    """A line of five threads, and the lanes in which jobs were given to it."""

    def __init__(self) -> None:
        self.line = Line(URI, 5)
        self.lanes: list[Lane] = []
        submit = self.line.submit

        def noted(lane: Lane, job: Job, held: float = 0.0) -> None:
            self.lanes.append(lane)
            submit(lane, job, held)

        self.line.submit = noted  # type: ignore[method-assign]

    def channel(self) -> Blocking:
        return channel_to("web1", URI, self.line)


@pytest.fixture
def shared(fake: FakeLibvirt) -> Iterator[Shared]:  # noqa: ARG001  # in place before the line
    made = Shared()
    yield made
    made.line.close()


class TestSharingALine:
    """Whether an agent answers is found out quickly, and silent ones have to wait for the others."""

    def test_an_agent_that_answers_is_proven_by_a_ping_and_has_all_of_its_time(
        self, fake: FakeLibvirt, shared: Shared
    ) -> None:
        with shared.channel() as channel:
            channel.call(GET_TIME, 5.0)
            channel.call(GET_TIME, 5.0)
        assert fake.sent == [
            ('{"execute": "guest-ping"}', 1, 0),
            ('{"execute": "guest-get-time"}', 5, 0),
            ('{"execute": "guest-get-time"}', 5, 0),
        ]
        assert shared.lanes == [NEW, PROVEN, PROVEN]

    @pytest.mark.parametrize("command", ["guest-ping", "guest-info"])
    def test_what_a_conversation_begins_with_is_its_own_probe(
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
    def test_a_silent_one_is_probed_for_a_second_and_its_exchange_has_the_rest(
        self, fake: FakeLibvirt, shared: Shared, code: int
    ) -> None:
        fake.replies["guest-ping"] = fake.replies["guest-get-time"] = fails(code)
        with shared.channel() as channel:
            assert error_of(channel, GET_TIME, 5.0).code in ("unresponsive", "timeout")
            assert shared.lanes == [NEW, SUSPECT]
            assert [limit for _text, limit, _flags in fake.sent] == [1, 4]
            error_of(channel, GET_TIME, 5.0)
        assert shared.lanes == [NEW, SUSPECT, SUSPECT], "it is not probed again"
        assert fake.sent[-1][1] == 5

    def test_a_silent_one_is_given_up_at_the_instant_that_all_such_have(
        self, fake: FakeLibvirt, shared: Shared, released: threading.Event
    ) -> None:
        fake.replies["guest-ping"] = fails(86)
        fake.replies["guest-get-time"] = hangs(released)
        shared.line.suspects_until = time.monotonic() + SHORT
        started = time.monotonic()
        with shared.channel() as channel:
            error = error_of(channel, GET_TIME, 60.0)
        assert time.monotonic() - started < 30.0
        assert error.code == "unresponsive"
        assert "all silent guests" in error.message

    def test_libvirt_is_not_given_more_time_for_it_than_is_left(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.replies["guest-ping"] = fails(86)
        shared.line.suspects_until = time.monotonic() + 20.0
        with shared.channel() as channel:
            channel.call(GET_TIME, 60.0)
        assert fake.sent[-1][1] <= 20

    def test_who_answers_is_not_given_up(self, fake: FakeLibvirt, shared: Shared) -> None:
        shared.line.suspects_until = time.monotonic()
        with shared.channel() as channel:
            channel.call(GET_TIME, 5.0)
            channel.call(GET_TIME, 5.0)
        assert fake.commands == ["guest-ping", "guest-get-time", "guest-get-time"]

    def test_a_slow_one_that_answers_in_the_end_is_proven(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.replies["guest-ping"] = fails(86)
        with shared.channel() as channel:
            channel.call(GET_TIME, 5.0)
            channel.call(GET_TIME, 5.0)
        assert shared.lanes == [NEW, SUSPECT, PROVEN]

    def test_a_proven_one_that_turns_silent_is_suspect(self, fake: FakeLibvirt, shared: Shared) -> None:
        with shared.channel() as channel:
            channel.call(GET_TIME, 5.0)
            fake.replies["guest-get-time"] = fails(86)
            error_of(channel, GET_TIME, 5.0)
            error_of(channel, GET_TIME, 5.0)
        assert shared.lanes == [NEW, PROVEN, PROVEN, SUSPECT]

    @pytest.mark.slow
    def test_a_proven_one_that_answers_later_than_a_probe_would_is_suspect_for_good(
        self, fake: FakeLibvirt, shared: Shared
    ) -> None:
        def late(_request: dict[str, Any]) -> str:
            time.sleep(1.05)
            return '{"return": 1}'

        with shared.channel() as channel:
            channel.call(PING, 5.0)
            fake.replies["guest-get-time"] = late
            channel.call(GET_TIME, 5.0)
            fake.replies["guest-get-time"] = agent_says(1)
            channel.call(GET_TIME, 5.0)
            channel.call(GET_TIME, 5.0)
            assert shared.lanes == [NEW, PROVEN, SUSPECT, SUSPECT]
            # And it is given up with those that do not answer at all.
            shared.line.suspects_until = time.monotonic()
            assert "all silent guests" in error_of(channel, GET_TIME, 5.0).message

    @pytest.mark.parametrize(
        ("most", "each", "lanes"),
        [
            pytest.param(0.4, 0.21, [PROVEN, PROVEN, SLOW, SLOW, SLOW], id="only together", marks=pytest.mark.slow),
            pytest.param(SHORT, 2 * SHORT, [PROVEN, SUSPECT, SUSPECT], id="a single one"),
        ],
    )
    def test_one_whose_answers_take_long_has_to_wait_and_is_not_given_up(
        self,
        fake: FakeLibvirt,
        shared: Shared,
        monkeypatch: pytest.MonkeyPatch,
        most: float,
        each: float,
        lanes: list[Lane],
    ) -> None:
        monkeypatch.setattr(module, "_MOST_HELD_SECONDS", most)

        def late(_request: dict[str, Any]) -> str:
            time.sleep(each)
            return '{"return": 1}'

        fake.replies["guest-get-time"] = late
        shared.line.suspects_until = time.monotonic()
        with shared.channel() as channel:
            for _lane in lanes:
                channel.call(GET_TIME, 5.0)
        assert shared.lanes == [NEW, *lanes]

    def test_one_that_sets_its_hardware_clock_as_usual_is_none(
        self, fake: FakeLibvirt, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_MOST_HELD_SECONDS", SHORT)

        def hwclock(_request: dict[str, Any]) -> str:
            time.sleep(3 * SHORT)
            return '{"return": {}}'

        fake.replies["guest-set-time"] = hwclock
        with shared.channel() as channel:
            channel.call(Request("guest-set-time", {"time": 1}), 5.0)
            channel.call(GET_TIME, 5.0)
        assert shared.lanes == [NEW, PROVEN, PROVEN]

    def test_one_that_was_asked_when_the_connection_broke_is_asked_over_another_from_then_on(
        self, fake: FakeLibvirt
    ) -> None:
        found = connections.Hypervisor(URI)
        with channel_to("web1", URI, found.lines[0]) as channel:
            channel.call(PING, 5.0)

            def breaks(_request: dict[str, Any]) -> str:
                fake.break_connections()
                raise LibvirtError(38, "End of file while reading data")

            fake.replies["guest-get-time"] = breaks
            broken = error_of(channel, GET_TIME)
            assert isinstance(broken, HypervisorUnavailableError)
            assert broken.in_call
            assert channel._line is found.reserve
            channel.call(PING, 5.0)
        found.close()

    def test_a_connection_that_breaks_at_something_else_was_not_broken_by_it(
        self, fake: FakeLibvirt, channel: Blocking
    ) -> None:
        channel.call(PING, 5.0)
        fake.metadata_error = LibvirtError(38, "End of file while reading data")
        fake.connections[-1].alive_error = LibvirtError(38)
        with pytest.raises(HypervisorUnavailableError) as caught:
            channel.metadata("urn:x", 5.0)
        assert not caught.value.in_call

    def test_a_refusal_proves_it_too(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.replies["guest-ping"] = fails(113, "'guest-ping': Command guest-ping has been disabled")
        with shared.channel() as channel:
            channel.call(GET_TIME, 5.0)
        assert shared.lanes == [NEW, PROVEN]

    @pytest.mark.parametrize("timeout", [0.5, 2.0])
    def test_little_time_is_not_spent_on_a_probe(self, fake: FakeLibvirt, shared: Shared, timeout: float) -> None:
        with shared.channel() as channel:
            channel.call(GET_TIME, timeout)
            channel.call(GET_TIME, timeout)
        assert fake.commands == ["guest-get-time"] * 2
        assert shared.lanes == [NEW, PROVEN]  # it holds a thread no longer than a probe and its second try would

    def test_what_is_no_silence_is_told_at_once(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.channel_state = "disconnected"
        fake.replies["guest-ping"] = fails(86)
        with shared.channel() as channel:
            assert isinstance(error_of(channel, GET_TIME), NotConnectedError)
        assert fake.commands == ["guest-ping"]

    def test_a_libvirt_that_cannot_be_connected_to_is_told_at_once(self, fake: FakeLibvirt, shared: Shared) -> None:
        fake.open_error = LibvirtError(38, "Failed to connect socket", 111)
        with shared.channel() as channel:
            assert isinstance(error_of(channel, GET_TIME), HypervisorUnavailableError)
        assert len(fake.uris) == 1

    def test_a_libvirt_that_takes_longer_to_connect_to_than_a_probe_is_waited_for(
        self, fake: FakeLibvirt, shared: Shared, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_PROBE_SECONDS", SHORT)
        fake.open_waits_for = threading.Event()
        threading.Timer(3 * SHORT, fake.open_waits_for.set).start()
        with shared.channel() as channel:
            assert channel.call(GET_TIME, 5.0).value == {}

    def test_a_call_that_hangs_has_no_more_than_its_time_for_both(
        self, fake: FakeLibvirt, shared: Shared, released: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_PROBE_SECONDS", SHORT)
        fake.replies["guest-ping"] = fake.replies["guest-get-time"] = hangs(released)
        began = time.monotonic()
        with shared.channel() as channel:
            assert isinstance(error_of(channel, GET_TIME, 6 * SHORT), UnresponsiveError)
        assert 6 * SHORT <= time.monotonic() - began < 6 * SHORT + 4.0
        assert fake.commands == ["guest-ping", "guest-get-time"]

    def test_several_channels_share_one_connection_which_outlives_them(self, fake: FakeLibvirt, shared: Shared) -> None:
        for _channel in range(3):
            with shared.channel() as channel:
                channel.call(GET_TIME, 5.0)
        assert fake.uris == [URI]
        assert not fake.closed.is_set()
        shared.line.close()
        assert fake.closed.wait(5)

    def test_a_connection_that_broke_is_opened_anew_once_for_all_of_them(
        self, fake: FakeLibvirt, shared: Shared
    ) -> None:
        with shared.channel() as one, shared.channel() as other:
            one.call(GET_TIME, 5.0)
            other.call(GET_TIME, 5.0)
            fake.break_connections()
            one.call(GET_TIME, 5.0)
            other.call(GET_TIME, 5.0)
        assert fake.uris == [URI, URI]

    def test_a_line_of_its_own_is_neither_probed_on_nor_suspected(self, fake: FakeLibvirt) -> None:
        fake.replies["guest-get-time"] = fails(86)
        with channel_to("web1") as channel:
            error_of(channel, GET_TIME)
            error_of(channel, GET_TIME)
            assert channel._lane is PROVEN
        assert fake.commands == ["guest-get-time"] * 2


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
        said = f"internal error: unable to execute QEMU agent command 'guest-set-time': {UNSUPPORTED}"
        fake.set_time_error = LibvirtError(1, said)
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


class TestTheRealLibrary:
    """With libvirt's own test driver, which has a domain but no agents."""

    def test_a_driver_without_agents(self) -> None:
        with channel_to("test", "test:///default") as channel:
            error = error_of(channel)
        assert isinstance(error, NotConfiguredError)
        assert error.message.startswith("libvirt's driver for test:///default has no guest agents: ")
        assert "not supported by the connection driver" in error.message
        assert "qemu:///system" in error.hint

    def test_a_domain_that_is_paused_there(self) -> None:
        domain = libvirt.open("test:///default").lookupByName("test")
        domain.suspend()
        try:
            with channel_to("test", "test:///default") as channel:
                error = error_of(channel)
        finally:
            domain.resume()
        assert isinstance(error, NotRunningError)
        assert error.hint.startswith("Run `virsh -c test:///default resume test` first;")

    def test_the_addresses_of_a_domains_devices(self) -> None:
        with channel_to("test", "test:///default") as channel:
            assert channel.macs(5.0) == ("aa:bb:cc:dd:ee:ff",)

    @pytest.mark.parametrize("named", ["nosuch", UUID])
    def test_no_such_domain(self, named: str) -> None:
        with channel_to(named, "test:///default") as channel:
            assert isinstance(error_of(channel), NotFoundError)

    @pytest.mark.parametrize("hyphens", [True, False])
    def test_a_domain_by_its_uuid(self, hyphens: bool) -> None:
        text = "6695eb01-f6a4-8304-79aa-97f2502e193f"
        with channel_to(text if hyphens else text.replace("-", ""), "test:///default") as channel:
            assert isinstance(error_of(channel), NotConfiguredError)

    def test_no_such_driver(self) -> None:
        with channel_to("test", "nonsense:///system") as channel:
            error = error_of(channel)
        assert isinstance(error, HypervisorUnavailableError)
        assert "nonsense:///system" in error.message
