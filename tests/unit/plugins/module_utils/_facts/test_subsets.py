from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.figures import with_twins
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
    REPLIES,
    SECOND,
    STOCK_COMMANDS,
    SimulatedGuest,
    TimeLine,
    disabled,
    failed,
    fails,
    full_guest,
    not_found,
    says,
)
from tests.support.blocking import blocking

gather = blocking(module.gather)


def facts_of(guest: SimulatedGuest, *names: str) -> dict[str, Any]:
    return gather(GuestAgent(guest, 5.0), select(names or ("all",)))


EVERYTHING = {subset.name for subset in SUBSETS}


class TestSubsets:
    def test_one_guest_returns_all_of_them(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-get-load"]["enabled"] = False
        facts = facts_of(guest)
        assert set(facts) == EVERYTHING | {"errors"}
        commands = {each["name"]: (each["enabled"], each["success_response"]) for each in facts.pop("commands")}
        assert list(commands.items()) == [(name, (name != "guest-get-load", True)) for name in sorted(guest.commands)]
        assert facts.pop("errors") == {}
        del facts["time"]
        (user,) = facts["users"]
        assert user.pop("logged_in_at") == "2026-11-23T04:05:54.500000000Z"
        assert facts == {
            **{name: fact for name, (_command, _reply, fact) in REPLIES.items()},
            "agent": {"version": "10.0.13", "kind": "stock", "command_count": len(guest.commands)},
            "memory": {"block_size": 134217728, "blocks": 3, "online_blocks": 1},
        }

    def test_only_the_commands_of_selected_subsets_are_sent(self, line: TimeLine) -> None:
        guest = full_guest(line)
        assert facts_of(guest, "load") == {"load": REPLIES["load"][2], "errors": {}}
        assert guest.requests == [("guest-get-load", {})]

    def test_an_interface_without_addresses_has_an_empty_list(self, line: TimeLine) -> None:
        guest = full_guest(line)
        says(guest, "guest-network-get-interfaces", [{"name": "eth1"}])
        assert facts_of(guest, "network")["network"] == [{"name": "eth1", "ip_addresses": []}]

    @pytest.mark.parametrize(
        ("login_time", "logged_in_at"),
        [
            (1795543571.482126, "2026-11-24T18:06:11.482126000Z"),
            (1795543571, "2026-11-24T18:06:11.000000000Z"),
            (0.9999999, "1970-01-01T00:00:01.000000000Z"),
            (1e300, f"{int(1e300)}.000000000"),
        ],
    )
    def test_a_users_login_has_a_time_for_people(self, line: TimeLine, login_time: float, logged_in_at: str) -> None:
        guest = full_guest(line)
        says(guest, "guest-get-users", [{"user": "root", "login-time": login_time}, {"user": "alice"}])
        root = {"user": "root", "login_time": login_time, "logged_in_at": logged_in_at}
        assert facts_of(guest, "users")["users"] == [root, {"user": "alice"}]

    def test_names_and_versions_are_made_printable(self, line: TimeLine) -> None:
        guest = full_guest(line)
        says(guest, "guest-info", {"version": "\x1b[2J", "supported_commands": [{"name": "guest-\u202eping\0"}]})
        facts = facts_of(guest, "agent", "commands")
        assert facts["agent"]["version"] == r"\x1b[2J"
        assert [command["name"] for command in facts["commands"]] == [r"guest-\u202eping\x00"]

    @pytest.mark.parametrize("is_extended", [False, True])
    def test_the_time_from_each_agent(self, line: TimeLine, is_extended: bool) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS if is_extended else STOCK_COMMANDS)
        facts = facts_of(guest, "agent", "time")
        assert facts["agent"]["kind"] == ("extended" if is_extended else "stock")
        time = facts["time"]
        assert abs(time["offset_ns"] + 20 * SECOND) <= time["uncertainty_ns"] < MILLISECOND
        assert abs(time["guest_time_ns"] - guest.clock.true_ns()) < MILLISECOND
        figures = {name: time[name] for name in ("guest_time_ns", "offset_ns", "uncertainty_ns", "round_trip_ns")}
        if is_extended:
            figures.update(synchronized=False, max_error_ns=16 * SECOND, source="none", slewing_ns=0, slewable=True)
        assert time == with_twins({**figures, "resolution_ns": 1 if is_extended else 1_000})


class TestErrors:
    """An error in one subset becomes an entry in ``errors`` and does not affect the other subsets."""

    @pytest.mark.parametrize("name", [*REPLIES, "memory", "time"])
    @pytest.mark.parametrize("code", ["command_not_found", "command_disabled", "command_failed", "timeout"])
    def test_of_one_command_affects_only_its_subset(self, line: TimeLine, name: str, code: str) -> None:
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
        assert set(facts) == EVERYTHING - {name} | {"errors"}
        assert facts["errors"] == {name: {"code": code, "message": ANY, "hint": ANY}}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, 1) for name in REPLIES),
            ("hostname", {"a": []}),
            ("hostname", {"host-name": 7}),
            # Larger than the limit of one guest.
            ("disks", [{"name": "/dev/vda", "alias": "x" * 4000}] * 600),
            *((name, [{}] * 33_000) for name in ("vcpus", "users", "routes")),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_an_ill_formed_or_large_reply_is_a_protocol_error(self, line: TimeLine, name: str, value: Any) -> None:
        guest = full_guest(line)
        says(guest, REPLIES[name][0], value)
        facts = facts_of(guest)
        assert set(facts) == EVERYTHING - {name} | {"errors"}
        assert facts["errors"] == {name: {"code": "protocol_error", "message": ANY, "hint": ANY}}

    def test_a_message_of_ten_megabytes_of_escape_sequences_becomes_one_short_line(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.handlers["guest-get-osinfo"] = lambda _arguments: failed("\x1b[2J\u202e\n" * 2_500_000)
        message = facts_of(guest, "os")["errors"]["os"]["message"]
        assert message.isprintable()
        assert len(message) < 1500

    @pytest.mark.parametrize(
        ("command", "error"),
        [
            ("guest-info", UnresponsiveError("gone")),
            ("guest-info", NotConnectedError("gone")),
            ("guest-info", CommandDisabledError("it refuses guest-sync-delimited and guest-sync")),
            ("guest-get-osinfo", DeadlineError("the deadline of 5 s passed")),
        ],
    )
    def test_an_agent_that_does_not_answer_at_all_or_in_time_is_an_exception(
        self, line: TimeLine, command: str, error: QgaError
    ) -> None:
        guest = full_guest(line)
        fails(guest, command, error)
        with pytest.raises(type(error)):
            facts_of(guest)

    def test_an_agent_that_goes_away_midway_is_not_asked_for_the_remaining_subsets(self, line: TimeLine) -> None:
        guest = full_guest(line)
        fails(guest, "guest-get-osinfo", UnresponsiveError("gone"))
        facts = facts_of(guest, "agent", "hostname", "os", "timezone", "load")
        assert (facts["hostname"], facts["agent"]["kind"]) == ("web1", "stock")
        codes = {name: error["code"] for name, error in facts["errors"].items()}
        assert codes == dict.fromkeys(("os", "timezone", "load"), "unresponsive")
        assert guest.requests[-1][0] == "guest-get-osinfo"


def test_gathering_returns_the_facts_of_a_guest(line: TimeLine) -> None:
    result = blocking(gathering(["hostname"]))(GuestAgent(full_guest(line), 5.0))
    assert (result.status, result.error) == (GATHERED, None)
    assert result.entry == {"hostname": "web1", "errors": {}}


ALL = tuple(subset.name for subset in SUBSETS)
MIN = ("agent", "hostname", "os", "timezone")


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["all"], ALL),
        (["min"], MIN),
        (["load", "agent", "load"], ("agent", "load")),
        (["min", "!os"], ("agent", "hostname", "timezone")),
        (["!os", "os"], ()),
        (["!min"], tuple(name for name in ALL if name not in MIN)),
        (["!all"], ()),
        ([], ALL),
    ],
)
def test_subsets_are_selected_by_name_group_and_exclusion(asked: list[str], names: tuple[str, ...]) -> None:
    assert tuple(subset.name for subset in select(asked)) == names


@pytest.mark.parametrize("asked", [["nonsense"], ["!nonsense"], ["!!os"], [""], ["!"], ["OS"], ["os", " load"]])
def test_unknown_names_are_rejected_before_a_guest_is_contacted(asked: list[str]) -> None:
    with pytest.raises(InvalidOptionError, match="unknown names") as caught:
        gathering(asked)
    assert f"'{asked[-1]}'" in caught.value.message
    assert all(name in caught.value.hint for name in SUBSET_NAMES)
