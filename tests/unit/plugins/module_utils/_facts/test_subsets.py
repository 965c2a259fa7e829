from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandDisabledError,
    DeadlineError,
    ExchangeTimeoutError,
    InvalidOptionError,
    NotConnectedError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import subsets as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import (
    GATHERED,
    SUBSET_NAMES,
    SUBSETS,
    gathering,
    select,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.guest import (
    EXTENDED_COMMANDS,
    MILLISECOND,
    SECOND,
    STOCK_COMMANDS,
    SimulatedGuest,
    TimeLine,
    disabled,
    failed,
    not_found,
)
from tests.support.blocking import blocking
from tests.support.telling_guest import REPLIES, fails, full_guest, says

gather = blocking(module.gather)


def facts_of(guest: SimulatedGuest, *names: str) -> dict[str, Any]:
    return gather(GuestAgent(guest, 5.0), select(names or ("all",)))


class TestSubsets:
    def test_all_of_them_from_one_guest(self, line: TimeLine) -> None:
        facts = facts_of(full_guest(line))
        assert set(facts) == {subset.name for subset in SUBSETS} | {"errors"}
        assert facts["errors"] == {}

    @pytest.mark.parametrize("name", REPLIES)
    def test_a_plausible_reply(self, line: TimeLine, name: str) -> None:
        assert facts_of(full_guest(line), name) == {name: REPLIES[name][2], "errors": {}}

    def test_only_what_is_asked_for_is_asked(self, line: TimeLine) -> None:
        guest = full_guest(line)
        facts_of(guest, "os")
        assert guest.requests == [("guest-get-osinfo", {})]

    @pytest.mark.parametrize(("commands", "kind"), [(STOCK_COMMANDS, "stock"), (EXTENDED_COMMANDS, "extended")])
    def test_the_agent(self, line: TimeLine, commands: tuple[str, ...], kind: str) -> None:
        guest = full_guest(line, commands)
        assert facts_of(guest, "agent")["agent"] == {
            "version": "10.0.13",
            "kind": kind,
            "command_count": len(guest.commands),
        }

    def test_names_and_versions_can_be_shown_whatever_is_in_them(self, line: TimeLine) -> None:
        guest = full_guest(line)
        says(guest, "guest-info", {"version": "\x1b[2J", "supported_commands": [{"name": "guest-\u202eping\0"}]})
        facts = facts_of(guest, "agent", "commands")
        assert facts["agent"]["version"] == r"\x1b[2J"
        assert [command["name"] for command in facts["commands"]] == [r"guest-\u202eping\x00"]

    def test_the_commands_by_name(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-get-load"]["enabled"] = False
        commands = facts_of(guest, "commands")["commands"]
        assert [command["name"] for command in commands] == sorted(guest.commands)
        assert {"name": "guest-get-load", "enabled": False, "success_response": True} in commands

    def test_memory_is_counted(self, line: TimeLine) -> None:
        memory = facts_of(full_guest(line), "memory")["memory"]
        assert memory == {"block_size": 134217728, "blocks": 3, "online_blocks": 1}

    def test_time_by_the_stock_agent(self, line: TimeLine) -> None:
        guest = full_guest(line)
        facts = facts_of(guest, "time")["time"]
        assert set(facts) == {"guest_time_ns", "offset_ns", "uncertainty_ns", "round_trip_ns", "resolution_ns"}
        assert abs(facts["offset_ns"] + 20 * SECOND) <= facts["uncertainty_ns"] < MILLISECOND
        assert abs(facts["guest_time_ns"] - guest.clock.true_ns()) <= facts["uncertainty_ns"]
        assert facts["resolution_ns"] == 1_000

    def test_time_by_the_extended_agent(self, line: TimeLine) -> None:
        facts = facts_of(full_guest(line, EXTENDED_COMMANDS), "time")["time"]
        assert (facts["synchronized"], facts["max_error"], facts["source"]) == (False, 16 * SECOND, "none")
        assert (facts["slewing"], facts["slewable"]) == (0, True)
        assert abs(facts["offset_ns"] + 20 * SECOND) <= facts["uncertainty_ns"]


class TestTrouble:
    """One subset's trouble is an entry in errors, and does not cost the others."""

    @pytest.mark.parametrize("name", [*REPLIES, "memory", "time"])
    @pytest.mark.parametrize("code", ["command_not_found", "command_disabled", "command_failed", "timeout"])
    def test_of_one_command_alone(self, line: TimeLine, name: str, code: str) -> None:
        guest = full_guest(line)
        command = {"memory": "guest-get-memory-blocks", "time": "guest-get-time"}.get(name) or REPLIES[name][0]
        replies = {
            "command_not_found": not_found(command),
            "command_disabled": disabled(command),
            "command_failed": failed("it went wrong"),
        }
        if code in replies:
            guest.handlers[command] = lambda _arguments: replies[code]
        else:
            fails(guest, command, ExchangeTimeoutError("a dead NFS server"))
        facts = facts_of(guest)
        assert set(facts) == {subset.name for subset in SUBSETS} - {name} | {"errors"}
        assert set(facts["errors"]) == {name}
        assert facts["errors"][name]["code"] == code
        assert set(facts["errors"][name]) == {"code", "message", "hint"}

    def test_a_frozen_guest(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.handlers["guest-get-osinfo"] = lambda _arguments: disabled("guest-get-osinfo")
        says(guest, "guest-fsfreeze-status", "frozen")
        facts = facts_of(guest, "os", "freeze")
        assert facts["errors"]["os"]["code"] == "frozen"
        assert facts["freeze"] == "frozen"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(
                (name, value)
                for name, (_command, good, _fact) in REPLIES.items()
                for value in (None, 1, True, "text", {"a": []}, [1], [{}, "x"], [[]])
                if value.__class__ is not good.__class__ or isinstance(value, list)
                if value is not None or not isinstance(good, list)  # an empty one
            ),
            ("hostname", {"a": []}),
            ("hostname", {"host-name": 7}),
        ],
    )
    def test_an_ill_shaped_reply(self, line: TimeLine, name: str, value: Any) -> None:
        command = REPLIES[name][0]
        guest = full_guest(line)
        says(guest, command, value)
        facts = facts_of(guest)
        assert set(facts["errors"]) == {name}
        assert facts["errors"][name]["code"] == "protocol_error"
        assert command in facts["errors"][name]["message"]

    def test_ten_megabytes_of_text_are_cut(self, line: TimeLine) -> None:
        guest = full_guest(line)
        says(guest, "guest-get-host-name", {"host-name": "x" * 10_000_000})
        assert len(facts_of(guest, "hostname")["hostname"]) < 5000

    def test_what_goes_beyond_a_guests_share_is_left_out_and_the_rest_is_there(self, line: TimeLine) -> None:
        guest = full_guest(line)
        says(guest, "guest-get-disks", [{"name": "/dev/vda", "alias": "x" * 4000}] * 600)
        facts = facts_of(guest)
        assert set(facts["errors"]) == {"disks"}
        assert facts["errors"]["disks"]["code"] == "protocol_error"
        assert facts["disk_stats"] == REPLIES["disk_stats"][2]

    @pytest.mark.parametrize("name", ["vcpus", "users", "routes"])
    def test_so_do_many_small_values(self, line: TimeLine, name: str) -> None:
        guest = full_guest(line)
        says(guest, REPLIES[name][0], [{}] * 33_000)
        facts = facts_of(guest)
        assert set(facts["errors"]) == {name}
        assert facts["disk_stats"] == REPLIES["disk_stats"][2]

    def test_an_agent_that_refuses_to_be_synced_with_tells_nothing(
        self, line: TimeLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def call(_request: Request, _timeout: float) -> Exchange:
            raise CommandDisabledError("it refuses guest-sync-delimited and guest-sync")

        guest = SimulatedGuest(line)
        monkeypatch.setattr(guest, "call", call)
        with pytest.raises(CommandDisabledError, match="guest-sync"):
            gather(GuestAgent(guest, 5.0), select(["min"]))

    def test_a_refusal_in_ten_megabytes_of_escape_sequences_is_one_short_line(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.handlers["guest-get-osinfo"] = lambda _arguments: failed("\x1b[2J\u202e\n" * 2_500_000)
        message = facts_of(guest, "os")["errors"]["os"]["message"]
        assert message.isprintable()
        assert len(message) < 1500

    @pytest.mark.parametrize("error", [UnresponsiveError("gone"), NotConnectedError("gone")])
    def test_an_agent_that_cannot_be_reached_is_an_exception(self, line: TimeLine, error: QgaError) -> None:
        guest = full_guest(line)
        fails(guest, "guest-info", error)
        with pytest.raises(type(error)):
            facts_of(guest)

    def test_an_agent_that_goes_on_the_way_costs_what_is_left_and_is_asked_no_more(self, line: TimeLine) -> None:
        guest = full_guest(line)
        fails(guest, "guest-get-osinfo", UnresponsiveError("gone"))
        facts = facts_of(guest, "agent", "hostname", "os", "timezone", "load")
        assert (facts["hostname"], facts["agent"]["kind"]) == ("web1", "stock")
        assert {name: error["code"] for name, error in facts["errors"].items()} == dict.fromkeys(
            ("os", "timezone", "load"), "unresponsive"
        )
        assert guest.requests[-1][0] == "guest-get-osinfo"

    def test_when_the_time_for_all_is_over_nothing_is_told_in_part(self, line: TimeLine) -> None:
        guest = full_guest(line)
        fails(guest, "guest-get-osinfo", DeadlineError("the deadline of 5 s passed"))
        with pytest.raises(DeadlineError):
            facts_of(guest, "hostname", "os", "timezone")


def test_the_work_on_a_guest_returns_its_facts(line: TimeLine) -> None:
    result = blocking(gathering(["hostname"]))(GuestAgent(full_guest(line), 5.0))
    assert (result.status, result.error) == (GATHERED, None)
    assert set(result.entry) == {"hostname", "errors"}


def test_an_unknown_subset_is_refused_before_a_guest_is_asked() -> None:
    with pytest.raises(InvalidOptionError):
        gathering(["nosuch"])


class TestSelecting:
    ALL = tuple(subset.name for subset in SUBSETS)

    MIN = ("agent", "hostname", "os", "timezone")

    @pytest.mark.parametrize(
        ("asked", "names"),
        [
            (["all"], ALL),
            (["min"], MIN),
            (["os"], ("os",)),
            (["load", "agent", "load"], ("agent", "load")),
            (["min", "load"], (*MIN, "load")),
            (["min", "!os"], ("agent", "hostname", "timezone")),
            (["!os", "os"], ()),
            (["!time"], tuple(name for name in ALL if name != "time")),
            (["!min"], tuple(name for name in ALL if name not in ("agent", "hostname", "os", "timezone"))),
            (["!all"], ()),
            (["!all", "os"], ()),
            ([], ALL),
        ],
    )
    def test_what_is_meant(self, asked: list[str], names: tuple[str, ...]) -> None:
        assert tuple(subset.name for subset in select(asked)) == names

    @pytest.mark.parametrize("asked", [["nonsense"], ["!nonsense"], ["!!os"], [""], ["!"], ["OS"], ["os", " load"]])
    def test_unknown_names(self, asked: list[str]) -> None:
        with pytest.raises(InvalidOptionError, match="unknown names") as caught:
            select(asked)
        assert asked[-1] in caught.value.message
        assert all(name in caught.value.hint for name in SUBSET_NAMES)
