"""The commands of QEMU's own cases for its agent (tests/unit/test-qga.c in QEMU 10.0), and a few more.

Each runs on a stock agent alone and on an extended agent in front of another one, with the same lists of commands in
either or both. The replies must be equal. ``test_differential.py`` tests what does not depend on lists, and
``test_differences.py`` what is not equal. Commands that would affect this machine are blocked in every stock agent.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client
from tests.support.extended_agent import PATIENT, ExtendedAgent

# Only the extended agent has these: test_differences.py.
OURS = frozenset(("guest-update-time", "guest-get-clock", "guest-get-command-info"))
# Their return values change by themselves, so only the shapes are compared.
VARYING = ("cpustats", "diskstats", "fsinfo", "load", "time", "interfaces", "exec", "open")
# The reason why a list refuses a command: QEMU 10.0 reports it, 7.2 does not.
NOT_ALLOWED = ": the command is not allowed"


class EndedError(Exception):
    """The agent refused a command that the rest of the case depends on."""


class Dialog(Client):
    """A client that records the comparable parts of all replies."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.notes: list[Any] = []

    def value(self, command: str, **arguments: Any) -> Any:
        """Run a command; return and record its value.

        :raises EndedError: it returned an error
        """
        reply = self.execute(command, **arguments)
        if "error" in reply:
            self.notes.append(comparable(reply))
            raise EndedError(command)
        value = reply.pop("return")
        assert reply == {}
        self.notes.append({"return": shape(value)} if command.endswith(VARYING) else comparable({"return": value}))
        return value


def shape(value: Any) -> Any:
    """Return the value's structure, with types in place of values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def comparable(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the reply without the differences of test_differences.py."""
    value, error = reply.get("return"), reply.get("error")
    if isinstance(value, dict) and "supported_commands" in value:
        commands = [entry for entry in value["supported_commands"] if entry["name"] not in OURS]
        return {**reply, "return": {"version": value["version"], "supported_commands": commands}}
    if error is not None:
        return {**reply, "error": {**error, "desc": error["desc"].removesuffix(NOT_ALLOWED)}}
    return reply


Case = Callable[[Dialog, Path], object]


def simple(command: str, **arguments: Any) -> Case:
    return lambda dialog, _directory: dialog.value(command, **arguments)


def files(content: bytes) -> Case:
    def case(dialog: Dialog, directory: Path) -> None:
        encoded = base64.b64encode(content).decode()
        handle = dialog.value("guest-file-open", path=str(directory / "file"), mode="w+")
        dialog.value("guest-file-write", handle=handle, **{"buf-b64": encoded})
        dialog.value("guest-file-seek", handle=handle, offset=0, whence="set")
        assert dialog.value("guest-file-read", handle=handle, count=len(content) + 1)["buf-b64"] == encoded
        dialog.value("guest-file-flush", handle=handle)
        dialog.value("guest-file-close", handle=handle)
        assert (directory / "file").read_bytes() == content

    return case


def program(capture: bool | str) -> Case:
    def case(dialog: Dialog, _directory: Path) -> None:
        words = ["-c", 'echo "$0 out"; echo err >&2', '" quoted "']
        pid = dialog.value("guest-exec", path="/bin/sh", arg=words, **{"capture-output": capture})["pid"]
        deadline = time.monotonic() + 30
        while "return" in (reply := dialog.execute("guest-exec-status", pid=pid)) and not reply["return"]["exited"]:
            assert time.monotonic() < deadline, "the program does not end"
        dialog.notes.append(comparable(reply))

    return case


CASES: dict[str, Case] = {
    "sync": simple("guest-sync", id=4_000_000_000),
    **{
        command: simple(command)
        for command in (
            "guest-ping",
            "guest-info",
            "guest-network-get-interfaces",
            "guest-get-vcpus",
            "guest-get-fsinfo",
            "guest-get-load",
            "guest-get-memory-block-info",
            "guest-get-memory-blocks",
            "guest-get-time",
            "guest-get-disks",
            "guest-get-cpustats",
            "guest-get-diskstats",
            "guest-fsfreeze-status",
            "guest-get-osinfo",
            "guest-get-host-name",
            "guest-get-timezone",
            "guest-get-users",
        )
    },
    "a file": files(b"What is written is read.\n"),
    "a large file": files(bytes(range(256)) * 12_000),
    "a program": program(True),
    "a program, separated": program("separated"),
    "a program, merged": program("merged"),
}
# Older agents lack some of these commands, and not every kernel has the files in /sys that others need.
MAY_FAIL = ("load", "memory-block-info", "memory-blocks", "disks", "cpustats", "diskstats", "separated", "merged")

Lists = dict[str, tuple[str, ...]]
LISTS: dict[str, Lists] = {
    "no lists": {},
    "blocks": {"block_rpcs": ("guest-ping", "guest-get-time")},
    "allows": {"allow_rpcs": ("guest-ping", "guest-get-time", "guest-info", "guest-sync-delimited")},
    "blocks the middle of most cases": {
        "block_rpcs": ("guest-info", "guest-file-flush", "guest-exec-status", "guest-get-osinfo")
    },
}
PLACES = ("in front", "in the stock agent", "in both")
ARRANGEMENTS = [("no lists", "in both"), *((name, place) for name in LISTS if LISTS[name] for place in PLACES)]


@pytest.fixture(scope="module", params=ARRANGEMENTS, ids=", ".join)
def agents(request: pytest.FixtureRequest) -> Iterator[tuple[Lists, str, str]]:
    """The lists, and the sockets of a stock agent alone and of an extended agent in front of another one."""
    name, place = request.param
    lists = LISTS[name]
    in_front, after_it = ({} if place == other else lists for other in ("in the stock agent", "in front"))
    with (
        StockAgent(**lists) as alone,
        StockAgent(**after_it) as stock,
        ExtendedAgent(stock.socket, **in_front, costs=PATIENT) as extended,
    ):
        yield lists, alone.socket, extended.socket


def run(case: Case, path: str, directory: Path) -> tuple[list[Any], str]:
    """Return all replies of one agent, and the command that ended the case early, if any."""
    directory.mkdir()
    with Dialog(path) as dialog:
        try:
            case(dialog, directory)
        except EndedError as ended:
            return dialog.notes, str(ended)
        return dialog.notes, ""


@pytest.mark.parametrize("name", CASES)
def test_the_agent_in_front_replies_as_the_stock_agent_alone(
    agents: tuple[Lists, str, str], name: str, tmp_path: Path
) -> None:
    lists, stock, extended = agents
    alone = run(CASES[name], stock, tmp_path / "alone")
    assert run(CASES[name], extended, tmp_path / "in_front") == alone
    if not lists and not name.endswith(MAY_FAIL):
        assert alone[1] == ""
