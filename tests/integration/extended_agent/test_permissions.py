"""A command that a real stock agent's administrator has disabled is disabled under every name, unless the extended
agent's own allow list names it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import ExtendedAgent
from tests.support.extended_agent_served import QUICK, serving
from tests.support.until import until

SIGNS_OF_LIFE = ("guest-ping", "guest-sync", "guest-sync-delimited")
# The extended agent's own commands, with arguments.
ASKED: dict[str, dict[str, Any]] = {
    "guest-ping": {},
    "guest-sync": {"id": 1},
    "guest-sync-delimited": {"id": 2},
    "guest-get-time": {},
    "guest-get-clock": {},
    "guest-update-time": {"seconds": 1, "relative": True},
    "guest-info": {},
    "guest-get-command-info": {"name": "guest-ping"},
}
# Refused if the stock agent does not list its commands, because it is not known what it has disabled.
UNLISTED = {"guest-info", "guest-get-command-info", "guest-update-time"}
TIME = {"guest-update-time", "guest-get-time", "guest-get-clock"}


def refused(client: Client) -> set[str]:
    """Return the commands that are refused with the stock agent's error. guest-info must list the same as disabled."""
    replies = {command: client.execute(command, **arguments) for command, arguments in ASKED.items()}
    found = {command for command, reply in replies.items() if "error" in reply}
    for command in found:
        error = replies[command]["error"]
        error["desc"] = error["desc"].removesuffix(": the command is not allowed")  # older agents give no reason
        assert error == {"class": "CommandNotFound", "desc": f"Command {command} has been disabled"}
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
    (("guest-set-time", "guest-get-time"), TIME),
    # It is not known what else is disabled. Reading the time is tried.
    (("guest-info",), UNLISTED),
    (("guest-info", "guest-get-time"), UNLISTED | TIME),
    (("guest-exec", "guest-file-open"), set()),
    (SIGNS_OF_LIFE, {*SIGNS_OF_LIFE}),
    (("guest-info", *SIGNS_OF_LIFE), {*UNLISTED, *SIGNS_OF_LIFE}),
)
ALLOWED: tuple[tuple[tuple[str, ...], set[str]], ...] = (
    ((*SIGNS_OF_LIFE, "guest-info", "guest-set-time"), {"guest-get-time", "guest-get-clock"}),
    ((*SIGNS_OF_LIFE, "guest-info", "guest-get-time"), {"guest-update-time"}),
    ((*SIGNS_OF_LIFE, "guest-set-time", "guest-get-time"), UNLISTED),
    (("guest-sync", "guest-ping"), UNLISTED | TIME | {"guest-sync-delimited"}),
    (("guest-sync-delimited", "guest-info"), TIME | {"guest-sync", "guest-ping"}),
    ((), set(ASKED)),
)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        *(({"block_rpcs": blocked}, expected) for blocked, expected in BLOCKED),
        *(({"allow_rpcs": (*allowed, "guest-get-osinfo")}, expected) for allowed, expected in ALLOWED),
    ],
)
def test_a_disabled_command_is_disabled_under_every_name(lists: dict[str, tuple[str, ...]], expected: set[str]) -> None:
    with serving(StockAgent(**lists, permits_time=True)) as (_stock, _agent, client):
        assert refused(client) == expected
        assert "return" in client.execute("guest-get-osinfo")


# ------------------------------------------------------------------------------------------------ when it is not there


def test_disabled_commands_stay_disabled_while_the_stock_agent_hangs_and_after_it_has_ended() -> None:
    with serving(StockAgent(block_rpcs=("guest-get-time",)), costs=QUICK) as (stock, _agent, client):
        assert refused(client) == TIME
        os.kill(stock.pid, signal.SIGSTOP)
        assert refused(client) == TIME
        os.kill(stock.pid, signal.SIGKILL)
        until(lambda: "error" in client.execute("guest-get-host-name"), "the stock agent still answers")
        assert refused(client) == TIME


def test_after_a_start_during_a_hang_the_stored_list_applies_until_there_is_a_new_one(tmp_path: Path) -> None:
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
    without_stock = ExtendedAgent(str(tmp_path / "none"), costs=QUICK, stock_memory=memory)
    with without_stock as agent, Client(agent.socket) as client:
        assert refused(client) == set()
