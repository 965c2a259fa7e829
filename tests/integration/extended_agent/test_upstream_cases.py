"""What QEMU's own cases for its agent check (tests/unit/test-qga.c in QEMU 10.0), and more in which clients differ.

Each case is one client's dialog, which notes all that comes back. It is held with a stock agent alone and with an
extended agent in front of another one, with the same lists of commands in either or both; the notes must be equal.
``test_differences.py`` has what is not. Nothing here acts on this machine: what would is blocked in every stock agent.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.stock_agent import StockAgent
from tests.support.agent_client import Client, said
from tests.support.extended_agent import PATIENT, ExtendedAgent

# Ours alone: test_differences.py.
OURS = frozenset(("guest-update-time", "guest-get-clock", "guest-get-command-info"))
# What these return changes by itself, so only its shape is compared.
VARYING = ("cpustats", "diskstats", "fsinfo", "load", "time", "interfaces", "exec", "open")
# Why a list refuses a command: QEMU 10.0 says it, and 7.2 does not.
NOT_ALLOWED = ": the command is not allowed"


class EndedError(Exception):
    """The agent refused what the rest of the case rests on."""


class Dialog(Client):
    """A client that notes all that it gets, as far as that can be compared."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path
        self.notes: list[Any] = []
        self._has_ended = False

    def value(self, command: str, **arguments: Any) -> Any:
        """Return what a command returns, and note it.

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

    def replies(self, data: bytes, count: int) -> list[Any]:
        """Return the replies to the data, and note them with their 0xFF bytes."""
        self.send(data)
        lines = [self.line() for _reply in range(count)]
        self._note(lines)
        return [said(line)[1] for line in lines]

    def synchronize(self, number: int) -> None:
        """Send 0xFF and ``guest-sync-delimited``; note what comes before its reply."""
        self._note(self.sync(number))

    def end(self) -> None:
        """Send no more, and note what still comes."""
        if self._has_ended:
            return
        self._has_ended = True
        self.socket.shutdown(socket.SHUT_WR)
        while line := self.line():
            self._note([line])
        self.notes.append("end")

    def _note(self, lines: Iterable[bytes]) -> None:
        for delimited, reply in map(said, lines):
            self.notes.append((delimited, comparable(reply)))


def shape(value: Any) -> Any:
    """Return the value's structure, with types in place of values."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def comparable(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the reply without what test_differences.py has."""
    value, error = reply.get("return"), reply.get("error")
    if isinstance(value, dict) and "supported_commands" in value:
        commands = [entry for entry in value["supported_commands"] if entry["name"] not in OURS]
        return {**reply, "return": {"version": value["version"], "supported_commands": commands}}
    if error is not None:
        return {**reply, "error": {**error, "desc": error["desc"].removesuffix(NOT_ALLOWED)}}
    return reply


def request(command: str, identity: Any = None, **arguments: Any) -> bytes:
    members = {"execute": command, "arguments": arguments, **({} if identity is None else {"id": identity})}
    return json.dumps(members).encode()


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


def pipelined_with_ids(dialog: Dialog, _directory: Path) -> None:
    commands = ("guest-ping", "guest-get-host-name", "guest-nonsense", "guest-get-timezone", "guest-sync")
    numbered = list(enumerate(commands * 60))
    replies = dialog.replies(b"".join(request(command, number) for number, command in numbered), len(numbered))
    assert [reply["id"] for reply in replies] == [number for number, _command in numbered]


def delimiters_anywhere(dialog: Dialog, _directory: Path) -> None:
    """Between requests, doubled, in half a request, in half a text, and right after a request that is passed on."""
    asked = request("guest-get-host-name")
    pieces = (b"", b"\xff", b'{"execute": "gue', b'{"execute": "guest-ping', asked, asked + b"\xff")
    for number, data in enumerate(pieces):
        dialog.send(data)
        dialog.synchronize(number)


def one_byte_at_a_time(dialog: Dialog, _directory: Path) -> None:
    data = request("guest-get-host-name", "x") + b"\xff" + request("guest-sync", id=5)
    for position in range(len(data)):
        dialog.send(data[position : position + 1])
    dialog.replies(b"", 3)


def requests_and_then_no_more(dialog: Dialog, _directory: Path) -> None:
    """A client that sends all, shuts its side down and reads to the end, as socat does with a file."""
    dialog.send(request("guest-get-host-name") + request("guest-ping", 1) + request("guest-get-timezone"))
    dialog.end()
    assert [reply.get("id") for _delimited, reply in dialog.notes[:-1]] == [None, 1, None]


def as_libvirt_synchronizes(dialog: Dialog, _directory: Path) -> None:
    """Its ids are milliseconds; after a timeout it syncs anew and skips what it did not ask for."""
    for number in (1_795_406_754_194, 1_795_406_754_195):
        dialog.replies(request("guest-sync", id=number) + request("guest-get-host-name"), 2)
    dialog.replies(request("guest-get-osinfo") + request("guest-sync", id=1) + request("guest-sync", id=2), 3)


def refused_without_success_response(dialog: Dialog, _directory: Path) -> None:
    """Commands that are answered only if they fail, here by a list: each error comes in its turn, whatever follows."""
    silent = ("guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid")
    for number, command in enumerate(silent):
        asked = request(command), request(command, number)
        dialog.replies(asked[0] + request("guest-sync", id=number) + asked[1] + request("guest-ping", "x"), 4)
        dialog.send(asked[0] + asked[1])
        dialog.synchronize(number)
        dialog.replies(b"".join(asked) + request("guest-get-host-name"), 3)


def two_clients(dialog: Dialog, _directory: Path) -> None:
    """The second one is served when the first one has gone."""
    dialog.replies(request("guest-get-host-name"), 1)
    with Dialog(dialog.path) as second:
        second.send(request("guest-get-timezone"))
        dialog.replies(request("guest-sync", id=3), 1)
        assert second.is_quiet(0.02)
        dialog.end()
        second.replies(b"", 1)
        dialog.notes += second.notes


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
DIALOGS: tuple[Case, ...] = (
    pipelined_with_ids,
    delimiters_anywhere,
    one_byte_at_a_time,
    requests_and_then_no_more,
    as_libvirt_synchronizes,
    refused_without_success_response,
    two_clients,
)
CASES.update((case.__name__, case) for case in DIALOGS)
# Older agents lack some, and not every kernel says in /sys what the others ask for.
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
    """The lists, and the sockets of a stock agent alone and of an extended one in front of another."""
    name, place = request.param
    lists = LISTS[name]
    in_front, after_it = ({} if place == other else lists for other in ("in the stock agent", "in front"))
    with (
        StockAgent(**lists) as alone,
        StockAgent(**after_it) as stock,
        ExtendedAgent(stock.socket, **in_front, costs=PATIENT) as extended,
    ):
        yield lists, alone.socket, extended.socket


def hold(case: Case, path: str, directory: Path) -> tuple[list[Any], str]:
    """Return all that one agent replied, and which command ended the case before its end, if one did."""
    directory.mkdir()
    reason = ""
    with Dialog(path) as dialog:
        try:
            case(dialog, directory)
        except EndedError as ended:
            reason = str(ended)
        dialog.end()
    return dialog.notes, reason


@pytest.mark.parametrize("name", CASES)
def test_the_agent_in_front_replies_as_the_stock_agent_alone(
    agents: tuple[Lists, str, str], name: str, tmp_path: Path
) -> None:
    lists, stock, extended = agents
    alone = hold(CASES[name], stock, tmp_path / "alone")
    assert hold(CASES[name], extended, tmp_path / "in_front") == alone
    if not lists and not name.endswith(MAY_FAIL):
        assert alone[1] == ""
