from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
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
    def test_all_of_them_from_one_guest(self, line: TimeLine) -> None:
        guest = full_guest(line)
        guest.commands["guest-get-load"]["enabled"] = False
        facts = facts_of(guest)
        assert set(facts) == EVERYTHING | {"errors"}
        commands = {each["name"]: (each["enabled"], each["success_response"]) for each in facts.pop("commands")}
        assert list(commands.items()) == [(name, (name != "guest-get-load", True)) for name in sorted(guest.commands)]
        assert facts.pop("errors") == {}
        del facts["time"]
        assert facts == {
            **{name: fact for name, (_command, _reply, fact) in REPLIES.items()},
            "agent": {"version": "10.0.13", "kind": "stock", "command_count": len(guest.commands)},
            "memory": {"block_size": 134217728, "blocks": 3, "online_blocks": 1},
        }

    def test_only_what_is_asked_for_is_asked(self, line: TimeLine) -> None:
        guest = full_guest(line)
        assert facts_of(guest, "load") == {"load": REPLIES["load"][2], "errors": {}}
        assert guest.requests == [("guest-get-load", {})]

    def test_names_and_versions_can_be_shown_whatever_is_in_them(self, line: TimeLine) -> None:
        guest = full_guest(line)
        says(guest, "guest-info", {"version": "\x1b[2J", "supported_commands": [{"name": "guest-\u202eping\0"}]})
        facts = facts_of(guest, "agent", "commands")
        assert facts["agent"]["version"] == r"\x1b[2J"
        assert [command["name"] for command in facts["commands"]] == [r"guest-\u202eping\x00"]

    @pytest.mark.parametrize("is_extended", [False, True])
    def test_the_time_by_each_agent(self, line: TimeLine, is_extended: bool) -> None:
        guest = full_guest(line, EXTENDED_COMMANDS if is_extended else STOCK_COMMANDS)
        facts = facts_of(guest, "agent", "time")
        assert facts["agent"]["kind"] == ("extended" if is_extended else "stock")
        time = facts["time"]
        assert abs(time["offset_ns"] + 20 * SECOND) <= time["uncertainty_ns"] < MILLISECOND
        assert abs(time["guest_time_ns"] - guest.clock.true_ns()) < MILLISECOND
        figures = dict.fromkeys(("guest_time_ns", "offset_ns", "uncertainty_ns", "round_trip_ns"), ANY)
        more = {"synchronized": False, "max_error": 16 * SECOND, "source": "none", "slewing": 0, "slewable": True}
        resolution_ns = 1 if is_extended else 1_000
        assert time == {**figures, "resolution_ns": resolution_ns, **(more if is_extended else {})}


class TestTrouble:
    """An error while a subset is gathered is an entry in errors, and does not cost the others."""

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
        assert set(facts) == EVERYTHING - {name} | {"errors"}
        assert facts["errors"] == {name: {"code": code, "message": ANY, "hint": ANY}}

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *((name, 1) for name in REPLIES),
            ("hostname", {"a": []}),
            ("hostname", {"host-name": 7}),
            # More than a guest's share.
            ("disks", [{"name": "/dev/vda", "alias": "x" * 4000}] * 600),
            *((name, [{}] * 33_000) for name in ("vcpus", "users", "routes")),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_an_ill_shaped_or_large_reply(self, line: TimeLine, name: str, value: Any) -> None:
        guest = full_guest(line)
        says(guest, REPLIES[name][0], value)
        facts = facts_of(guest)
        assert set(facts) == EVERYTHING - {name} | {"errors"}
        assert facts["errors"] == {name: {"code": "protocol_error", "message": ANY, "hint": ANY}}

    def test_a_refusal_in_ten_megabytes_of_escape_sequences_is_one_short_line(self, line: TimeLine) -> None:
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
    def test_an_agent_that_answers_nothing_or_not_in_time_is_an_exception(
        self, line: TimeLine, command: str, error: QgaError
    ) -> None:
        guest = full_guest(line)
        fails(guest, command, error)
        with pytest.raises(type(error)):
            facts_of(guest)

    def test_an_agent_that_goes_on_the_way_costs_what_is_left_and_is_asked_no_more(self, line: TimeLine) -> None:
        guest = full_guest(line)
        fails(guest, "guest-get-osinfo", UnresponsiveError("gone"))
        facts = facts_of(guest, "agent", "hostname", "os", "timezone", "load")
        assert (facts["hostname"], facts["agent"]["kind"]) == ("web1", "stock")
        codes = {name: error["code"] for name, error in facts["errors"].items()}
        assert codes == dict.fromkeys(("os", "timezone", "load"), "unresponsive")
        assert guest.requests[-1][0] == "guest-get-osinfo"


def test_the_work_on_a_guest_returns_its_facts(line: TimeLine) -> None:
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
def test_selecting(asked: list[str], names: tuple[str, ...]) -> None:
    assert tuple(subset.name for subset in select(asked)) == names


@pytest.mark.parametrize("asked", [["nonsense"], ["!nonsense"], ["!!os"], [""], ["!"], ["OS"], ["os", " load"]])
def test_unknown_names_are_refused_before_a_guest_is_asked(asked: list[str]) -> None:
    with pytest.raises(InvalidOptionError, match="unknown names") as caught:
        gathering(asked)
    assert asked[-1] in caught.value.message
    assert all(name in caught.value.hint for name in SUBSET_NAMES)
