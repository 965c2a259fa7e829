"""What the administrator of a real stock agent has disabled is disabled under every name, unless the extended agent's
own allow list names it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.processes.stock_agent import StockAgent, stock_version
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent
from tests.support.extended_agent_served import serving
from tests.support.until import until

QUICK = {"slow_seconds": 0.1, "alive_seconds": 0.4, "reply_seconds": 3.0, "start_seconds": 0.3}
STEP = {"seconds": 1, "relative": True}
SIGNS_OF_LIFE = ("guest-ping", "guest-sync", "guest-sync-delimited")
# The commands that are answered in front, with arguments.
ASKED: dict[str, dict[str, Any]] = {
    "guest-ping": {},
    "guest-sync": {"id": 1},
    "guest-sync-delimited": {"id": 2},
    "guest-get-time": {},
    "guest-get-clock": {},
    "guest-update-time": STEP,
    "guest-info": {},
    "guest-get-command-info": {"name": "guest-ping"},
}
REASONS = ("", ": the command is not allowed")
# Refused where the stock agent does not list its commands: what else it has disabled is not known then.
UNTOLD = {"guest-info", "guest-get-command-info", "guest-update-time"}
TIME = {"guest-update-time", "guest-get-time", "guest-get-clock"}


def refused(client: Client) -> set[str]:
    """The commands that are refused as the stock agent refuses one. What is shown of them must be the same."""
    replies = {command: client.execute(command, **arguments) for command, arguments in ASKED.items()}
    found = {command for command, reply in replies.items() if "error" in reply}
    for command in found:
        error = replies[command]["error"]
        # Newer agents add a reason.
        assert error["class"] == "CommandNotFound"
        assert error["desc"] in (f"Command {command} has been disabled{reason}" for reason in REASONS)
    if "guest-info" not in found:
        listed = replies["guest-info"]["return"]["supported_commands"]
        assert {each["name"] for each in listed if each["name"] in ASKED and not each["enabled"]} == found
    if "guest-get-command-info" not in found:
        details = [client.execute("guest-get-command-info", name=command)["return"] for command in ASKED]
        assert {each["name"] for each in details if not each["enabled"]} == found
    return found


BLOCKED: tuple[tuple[tuple[str, ...], set[str]], ...] = (
    ((), set()),
    (("guest-set-time",), {"guest-update-time"}),
    (("guest-get-time",), {"guest-get-time", "guest-get-clock"}),
    (
        ("guest-set-time", "guest-get-time"),
        {"guest-update-time", "guest-get-time", "guest-get-clock"},
    ),
    # What else is disabled is not known then. Reading the time is tried.
    (("guest-info",), UNTOLD),
    (
        ("guest-info", "guest-get-time"),
        {*UNTOLD, "guest-get-time", "guest-get-clock"},
    ),
    (("guest-exec", "guest-file-open"), set()),
    (("guest-ping",), {"guest-ping"}),
    (("guest-sync",), {"guest-sync"}),
    (("guest-sync-delimited",), {"guest-sync-delimited"}),
    (SIGNS_OF_LIFE, {*SIGNS_OF_LIFE}),
    (("guest-info", "guest-ping"), {*UNTOLD, "guest-ping"}),
    (("guest-info", *SIGNS_OF_LIFE), {*UNTOLD, *SIGNS_OF_LIFE}),
)
ALLOWED: tuple[tuple[tuple[str, ...], set[str]], ...] = (
    ((*SIGNS_OF_LIFE, "guest-info"), TIME),
    ((*SIGNS_OF_LIFE, "guest-info", "guest-set-time"), {"guest-get-time", "guest-get-clock"}),
    ((*SIGNS_OF_LIFE, "guest-info", "guest-get-time"), {"guest-update-time"}),
    ((*SIGNS_OF_LIFE, "guest-set-time", "guest-get-time"), UNTOLD),
    (SIGNS_OF_LIFE, UNTOLD | TIME),
    (("guest-sync", "guest-ping"), UNTOLD | TIME | {"guest-sync-delimited"}),
    (("guest-sync", "guest-ping", "guest-info"), TIME | {"guest-sync-delimited"}),
    (("guest-sync-delimited", "guest-info"), TIME | {"guest-sync", "guest-ping"}),
    (("guest-info",), {*TIME, *SIGNS_OF_LIFE}),
    ((), set(ASKED)),
)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        *(({"block_rpcs": blocked}, expected) for blocked, expected in BLOCKED),
        *(({"allow_rpcs": (*allowed, "guest-get-osinfo")}, expected) for allowed, expected in ALLOWED),
    ],
)
def test_what_its_lists_disable_is_disabled_under_every_name(
    lists: dict[str, tuple[str, ...]], expected: set[str]
) -> None:
    with serving(StockAgent(**lists, permits_time=True)) as (_stock, _agent, client):
        assert refused(client) == expected
        assert "return" in client.execute("guest-get-osinfo")
        if "guest-info" not in expected:
            assert client.execute("guest-info")["return"]["version"] == stock_version()


@pytest.mark.parametrize(
    ("allowed", "blocked", "expected"),
    [
        ((*ASKED,), (), {"guest-get-time"}),  # that one is the stock agent's own
        (("guest-info", "guest-get-command-info", "guest-update-time"), (), {"guest-get-time", "guest-get-clock"}),
        ((*ASKED,), ("guest-update-time",), {"guest-get-time", "guest-update-time"}),
    ],
)
def test_an_allow_list_here_that_names_a_command_is_a_permission(
    allowed: Iterable[str], blocked: Iterable[str], expected: set[str]
) -> None:
    with serving(
        StockAgent(block_rpcs=("guest-set-time", "guest-get-time")),
        allow_rpcs=(*SIGNS_OF_LIFE, *allowed),
        block_rpcs=blocked,
    ) as (_stock, _agent, client):
        assert refused(client) == expected


def test_an_allow_list_here_permits_what_an_agent_that_tells_nothing_may_have_disabled() -> None:
    with serving(StockAgent(block_rpcs=("guest-info",)), allow_rpcs=ASKED) as (_stock, _agent, client):
        assert refused(client) == {"guest-info"}


# ------------------------------------------------------------------------------------------------ when it is not there


def test_what_is_disabled_stays_so_while_the_stock_agent_hangs_and_when_it_has_gone() -> None:
    with serving(StockAgent(block_rpcs=("guest-get-time",)), costs=QUICK) as (stock, _agent, client):
        expected = {"guest-update-time", "guest-get-time", "guest-get-clock"}
        assert refused(client) == expected
        os.kill(stock.pid, signal.SIGSTOP)
        assert refused(client) == expected
        os.kill(stock.pid, signal.SIGKILL)
        until(lambda: "error" in client.execute("guest-get-host-name"), "the stock agent still answers")
        assert refused(client) == expected


@pytest.mark.parametrize(
    ("blocked", "expected"),
    [
        ((), set()),
        (("guest-set-time", "guest-get-time"), {"guest-update-time", "guest-get-time", "guest-get-clock"}),
        (("guest-info",), UNTOLD | TIME),  # nothing can be tried now
    ],
)
def test_an_extended_agent_that_starts_without_it_knows_what_was_disabled(
    tmp_path: Path, blocked: tuple[str, ...], expected: set[str]
) -> None:
    memory = str(tmp_path / "stock.json")
    with serving(StockAgent(block_rpcs=blocked, permits_time=True), stock_memory=memory) as (_stock, agent, client):
        assert client.execute("guest-ping") == {"return": {}}
    with (
        ExtendedAgent(str(tmp_path / "none"), costs=QUICK, stock_memory=memory) as agent,
        Client(agent.socket) as client,
    ):
        assert refused(client) == expected


def test_one_that_starts_while_it_hangs_knows_so_and_learns_what_has_changed(tmp_path: Path) -> None:
    memory = str(tmp_path / "stock.json")
    path = tmp_path / "stock.sock"
    with StockAgent() as first:
        path.symlink_to(first.socket)
        with ExtendedAgent(str(path), stock_memory=memory) as agent, Client(agent.socket) as client:
            assert refused(client) == {"guest-update-time"}
        os.kill(first.pid, signal.SIGSTOP)
        with (
            ExtendedAgent(str(path), costs=QUICK, stock_memory=memory) as agent,
            Client(agent.socket) as client,
        ):
            assert refused(client) == {"guest-update-time"}
            with StockAgent(permits_time=True) as second:
                path.unlink()
                path.symlink_to(second.socket)
                os.kill(first.pid, signal.SIGKILL)
                until(lambda: "return" in client.execute("guest-get-host-name"), "the new one is not found")
                until(lambda: refused(client) == set(), "what it allows is not known")
    with (
        ExtendedAgent(str(tmp_path / "none"), costs=QUICK, stock_memory=memory) as agent,
        Client(agent.socket) as client,
    ):
        assert refused(client) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("owner", [0, 65534])
def test_a_memory_that_others_could_have_written_is_not_used(tmp_path: Path, owner: int) -> None:
    memory = tmp_path / "stock.json"
    memory.write_bytes(b'{"return": {"version": "9.9.9", "supported_commands": []}}\n')
    memory.chmod(0o644 if owner else 0o666)
    os.chown(memory, owner, -1)
    with (
        ExtendedAgent(str(tmp_path / "none"), costs=QUICK, stock_memory=str(memory)) as agent,
        Client(agent.socket) as client,
    ):
        assert client.execute("guest-info")["return"]["version"] != "9.9.9"
        assert "what is known of the stock agent's commands is not used" in agent.read_log()


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"[]", b'{"return": 1}', b"\xff\xfe", b"{" * 5000, b"x" * 2_000_000]
)
def test_a_memory_that_makes_no_sense_is_none(tmp_path: Path, content: bytes) -> None:
    memory = tmp_path / "stock.json"
    memory.write_bytes(content)
    with serving(StockAgent(), stock_memory=str(memory)) as (_stock, _agent, client):
        assert refused(client) == {"guest-update-time"}
    assert b"supported_commands" in memory.read_bytes()
    assert memory.stat().st_mode & 0o777 == 0o600


def test_a_memory_that_cannot_be_written_costs_a_line_in_the_log(tmp_path: Path) -> None:
    memory = str(tmp_path / "none" / "stock.json")
    with serving(StockAgent(), stock_memory=memory) as (_stock, agent, client):
        assert refused(client) == {"guest-update-time"}
        assert "cannot be kept in" in agent.read_log()
