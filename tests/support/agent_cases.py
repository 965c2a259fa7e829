"""The requests of clients to an agent, as cases: each is one client's dialog, which notes all that comes back.

``UPSTREAM`` has what QEMU's own cases for its agent check (tests/unit/test-qga.c in QEMU 10.0), written anew, and
``OTHERS`` has more in which clients differ. Nothing here acts on this machine: what would is blocked in every stock
agent (``tests.processes.stock_agent``).
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.processes.stock_agent import find_qemu_ga
from tests.support.agent_client import Client, said

# Ours alone: test_differences.py.
OURS = frozenset(("guest-update-time", "guest-get-clock", "guest-get-command-info"))
# What these return changes by itself, so only its shape is compared.
VARYING = frozenset(
    (
        "guest-exec",
        "guest-file-open",
        "guest-get-fsinfo",
        "guest-get-load",
        "guest-get-time",
        "guest-network-get-interfaces",
    )
)
# Why a list refuses a command: QEMU 10.0 says it, and 7.2 does not.
NOT_ALLOWED = ": the command is not allowed"
OS_RELEASE = r"""ID=made-up
NAME="Made Up"
PRETTY_NAME="Made Up 3 (\"Third\")"
VERSION="3 (Third)"
VERSION_ID=3
VARIANT="A 'variant' for \$5, \`quoted\` \\ twice"
VARIANT_ID=a-variant
"""
OS_INFO = {
    "id": "made-up",
    "name": "Made Up",
    "pretty-name": 'Made Up 3 ("Third")',
    "version": "3 (Third)",
    "version-id": "3",
    "variant": "A 'variant' for $5, `quoted` \\ twice",
    "variant-id": "a-variant",
}
TEXT = b"What is written is read.\n"


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
            raise EndedError(f"{command}: {reply['error']['desc']}")
        value = reply.pop("return")
        assert reply == {}
        self.notes.append({"return": shape(value)} if command in VARYING else comparable({"return": value}))
        return value

    def error(self, data: bytes) -> dict[str, str]:
        """Return the error that the data is answered with, and note it."""
        return dict(self.replies(data, 1)[0]["error"])

    def replies(self, data: bytes, count: int) -> list[Any]:
        """Return the replies to the data, and note them with their 0xFF bytes."""
        self.send(data)
        lines = [self.line() for _reply in range(count)]
        self._note(lines)
        return [said(line)[1] for line in lines]

    def synchronize(self, number: int) -> int:
        """Send 0xFF and ``guest-sync-delimited``; how many replies came before its own, which are noted.

        :raises EndedError: the sync is refused
        """
        self.send(b"\xff" + request("guest-sync-delimited", id=number))
        before = 0
        while (line := self.line()) != b'\xff{"return": %d}' % number:
            self._note([line])
            before += 1
            if b"guest-sync-delimited has been disabled" in line:
                raise EndedError("guest-sync-delimited has been disabled")
        return before

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


Case = Callable[[Dialog, Path], None]


def simple(name: str, command: str, is_right: Callable[[Any], bool], **arguments: Any) -> Case:
    """A case of one command that returns the right value."""

    def case(dialog: Dialog, _directory: Path) -> None:
        assert is_right(dialog.value(command, **arguments))

    case.__name__ = name
    return case


# --------------------------------------------------------------------------------------------------- QEMU's own cases


def sync_delimited(dialog: Dialog, _directory: Path) -> None:
    assert dialog.synchronize(4_000_000_000) == 1  # the complaint about 0xFF


def info(dialog: Dialog, _directory: Path) -> None:
    printed = subprocess.run([find_qemu_ga(), "--version"], capture_output=True, text=True, check=True).stdout
    assert dialog.value("guest-info")["version"] in printed


def file_ops(dialog: Dialog, directory: Path) -> None:
    encoded = base64.b64encode(TEXT).decode()
    handle = dialog.value("guest-file-open", path=str(directory / "file"), mode="w+")
    assert dialog.value("guest-file-write", handle=handle, **{"buf-b64": encoded}) == {"count": len(TEXT), "eof": False}
    assert dialog.value("guest-file-read", handle=handle) == {"count": 0, "buf-b64": "", "eof": True}
    assert dialog.value("guest-file-seek", handle=handle, offset=0, whence="set") == {"position": 0, "eof": False}
    assert dialog.value("guest-file-read", handle=handle) == {"count": len(TEXT), "buf-b64": encoded, "eof": True}
    assert dialog.value("guest-file-flush", handle=handle) == {}
    assert dialog.value("guest-file-close", handle=handle) == {}
    assert (directory / "file").read_bytes() == TEXT
    handle = dialog.value("guest-file-open", path=str(directory / "file"), mode="r")
    assert dialog.value("guest-file-read", handle=handle) == {"count": len(TEXT), "buf-b64": encoded, "eof": True}
    assert dialog.value("guest-file-seek", handle=handle, offset=8, whence="set") == {"position": 8, "eof": False}
    rest = dialog.value("guest-file-read", handle=handle)
    assert base64.b64decode(rest["buf-b64"]) == TEXT[8:]
    assert rest["eof"]
    dialog.value("guest-file-close", handle=handle)


def identity(dialog: Dialog, _directory: Path) -> None:
    (reply,) = dialog.replies(request("guest-ping", 1), 1)
    assert reply["id"] == 1


def invalid_oob(dialog: Dialog, _directory: Path) -> None:
    assert dialog.error(b'{"exec-oob": "guest-ping"}')["class"] == "GenericError"


def invalid_cmd(dialog: Dialog, _directory: Path) -> None:
    error = dialog.error(request("guest-invalid-cmd"))
    assert error["class"] == "CommandNotFound"
    assert error["desc"]


def invalid_args(dialog: Dialog, _directory: Path) -> None:
    error = dialog.error(request("guest-ping", foo=42))
    if "disabled" not in error["desc"]:  # lists are looked at first
        assert error == {"class": "GenericError", "desc": "Parameter 'foo' is unexpected"}


def finish(dialog: Dialog, pid: int) -> dict[str, Any]:
    """Wait for a program that was started; only its end is noted."""
    deadline = time.monotonic() + 30
    while True:
        reply = dialog.execute("guest-exec-status", pid=pid)
        if "error" in reply or reply["return"]["exited"]:
            break
        assert time.monotonic() < deadline, "the program does not end"
    dialog.notes.append(comparable(reply))
    if "error" in reply:
        raise EndedError(reply["error"]["desc"])
    ended: dict[str, Any] = reply["return"]
    return ended


SHELL = ("/bin/sh", "-c", "for word in out err; do echo $word; echo $word >&2; done")


def program(name: str, capture: bool | str, expected: dict[str, bytes], command: tuple[str, ...] = SHELL) -> Case:
    """A case of a program's output, captured in one way."""

    def case(dialog: Dialog, _directory: Path) -> None:
        path, *words = command
        started = dialog.value("guest-exec", path=path, arg=words, **{"capture-output": capture})
        ended = finish(dialog, started["pid"])
        assert ended["exitcode"] == 0
        assert {key: base64.b64decode(ended[key]) for key in ended if key.endswith("-data")} == expected

    case.__name__ = name
    return case


def guest_exec_invalid(dialog: Dialog, _directory: Path) -> None:
    for data in (request("guest-exec", path="/nonexistent/program"), request("guest-exec-status", pid=0)):
        error = dialog.error(data)
        assert error["class"] == "GenericError" or "disabled" in error["desc"]
        assert error["desc"]


UPSTREAM: tuple[Case, ...] = (
    sync_delimited,
    simple("sync", "guest-sync", lambda value: value == 4_000_000_000, id=4_000_000_000),
    simple("ping", "guest-ping", lambda value: value == {}),
    info,
    simple("network_get_interfaces", "guest-network-get-interfaces", lambda value: all("name" in one for one in value)),
    simple("get_vcpus", "guest-get-vcpus", lambda value: {"online", "logical-id"} <= value[0].keys()),
    simple(
        "get_fsinfo",
        "guest-get-fsinfo",
        lambda value: all({"name", "mountpoint", "type", "disk"} <= one.keys() for one in value),
    ),
    simple("get_load", "guest-get-load", lambda value: value.keys() == {"load1m", "load5m", "load15m"}),
    simple("get_memory_block_info", "guest-get-memory-block-info", lambda value: value["size"] > 0),
    simple(
        "get_memory_blocks",
        "guest-get-memory-blocks",
        lambda value: all({"phys-index", "online"} <= one.keys() for one in value),
    ),
    file_ops,
    simple("get_time", "guest-get-time", lambda value: value > 0),
    identity,
    invalid_oob,
    invalid_cmd,
    invalid_args,
    simple("fsfreeze_status", "guest-fsfreeze-status", lambda value: value == "thawed"),
    program("guest_exec", True, {"out-data": b'" quoted "|$x|'}, ("printf", "%s|", '" quoted "', "$x")),
    program("guest_exec_separated", "separated", {"out-data": b"out\nerr\n", "err-data": b"out\nerr\n"}),
    program("guest_exec_merged", "merged", {"out-data": b"out\nout\nerr\nerr\n"}),
    guest_exec_invalid,
    simple("guest_get_osinfo", "guest-get-osinfo", lambda value: OS_INFO.items() <= value.items()),
    simple("guest_get_host_name", "guest-get-host-name", lambda value: value.keys() == {"host-name"}),
    simple("guest_get_timezone", "guest-get-timezone", lambda value: "offset" in value),
    simple("guest_get_users", "guest-get-users", lambda value: isinstance(value, list)),
)
# The first version that can do what a case needs; an older agent has to refuse it in both arrangements alike.
SINCE = {"get_load": (10, 0), "guest_exec_separated": (8, 0), "guest_exec_merged": (8, 0)}
# Not every kernel says in /sys what these ask for, as upstream's cases allow for.
MAY_FAIL = frozenset(("get_memory_block_info", "get_memory_blocks"))


# ------------------------------------------------------------------------------------------ where clients differ: ours


def pipelined_with_ids(dialog: Dialog, _directory: Path) -> None:
    commands = ("guest-ping", "guest-get-host-name", "guest-nonsense", "guest-get-timezone", "guest-sync")
    numbered = list(enumerate(commands * 60))
    replies = dialog.replies(b"".join(request(command, number) for number, command in numbered), len(numbered))
    assert [reply["id"] for reply in replies] == [number for number, _command in numbered]


def pipelined_without_ids(dialog: Dialog, _directory: Path) -> None:
    """As programs do that write lines: with CR, LF, tabs and spaces between and in requests."""
    requests = (
        b'{"execute":\t"guest-get-host-name"}\r\n',
        b'\n\n{\n"execute":\n"guest-sync",',
        b'"arguments":{"id":3}}',
    )
    dialog.replies(b"".join(requests) * 50 + request("guest-get-timezone"), 101)


def delimiters_anywhere(dialog: Dialog, _directory: Path) -> None:
    """Between requests, doubled, in half a request, in half a text, and right after a request that is passed on."""
    asked = request("guest-get-host-name")
    pieces = (b"", b"\xff", b'{"execute": "gue', b'{"execute": "guest-ping', asked, asked + b"\xff")
    for number, data in enumerate(pieces):
        dialog.send(data)
        dialog.synchronize(number)


def identities_of_all_kinds(dialog: Dialog, _directory: Path) -> None:
    numbers = (0, -1, 2**53 + 1, -(2**63), 0.5, 1e300)
    for each in (False, *numbers, "", 'a"\\\n\u00e9\u0000\U0001f600', [], [1, {"a": None}], {"b": {}}):
        for command in ("guest-ping", "guest-get-host-name", "guest-nonsense", "guest-set-time"):
            (reply,) = dialog.replies(request(command, each), 1)
            assert reply["id"] == each
    dialog.replies(b'{"execute": "guest-ping", "id": null}', 1)


def large_reply(dialog: Dialog, directory: Path) -> None:
    content = bytes(range(256)) * 12_000
    (directory / "file").write_bytes(content)
    handle = dialog.value("guest-file-open", path=str(directory / "file"))
    value = dialog.value("guest-file-read", handle=handle, count=len(content) + 1)
    assert base64.b64decode(value["buf-b64"]) == content
    dialog.value("guest-file-close", handle=handle)


def large_request(dialog: Dialog, directory: Path) -> None:
    content = os.urandom(2_000_000)
    handle = dialog.value("guest-file-open", path=str(directory / "file"), mode="w")
    encoded = base64.b64encode(content).decode()
    assert dialog.value("guest-file-write", handle=handle, **{"buf-b64": encoded})["count"] == len(content)
    dialog.value("guest-file-close", handle=handle)
    assert (directory / "file").read_bytes() == content


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


def refused_by_lists(dialog: Dialog, _directory: Path) -> None:
    """Blocked in all of these agents; before arguments are looked at."""
    for command in ("guest-set-time", "guest-fsfreeze-freeze", "guest-set-vcpus", "guest-set-user-password"):
        for arguments in ({}, {"wrong": 1}):
            error = dialog.error(request(command, **arguments))
            assert error["class"] == "CommandNotFound"
            assert "has been disabled" in error["desc"]


def refused_without_success_response(dialog: Dialog, _directory: Path) -> None:
    """Commands that are answered only if they fail, here by a list: each error comes in its turn, whatever follows."""
    silent = ("guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid")
    for number, command in enumerate(silent):
        asked = request(command), request(command, number)
        dialog.replies(asked[0] + request("guest-sync", id=number) + asked[1] + request("guest-ping", "x"), 4)
        dialog.send(asked[0] + asked[1])
        dialog.synchronize(number)
        dialog.replies(b"".join(asked) + request("guest-get-host-name"), 3)


def half_a_request_of_the_client_before(dialog: Dialog, _directory: Path) -> None:
    """The next one begins with 0xFF and a sync, as a client has to; what precedes the sync differs."""
    dialog.send(b'{"execute": "guest-')
    dialog.end()
    dialog.notes.clear()
    with Dialog(dialog.path) as following:
        following.synchronize(9)
        following.notes.clear()
        following.replies(request("guest-get-host-name"), 1)
        dialog.notes += following.notes


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


def all_wrong_at_once(dialog: Dialog, _directory: Path) -> None:
    """Wrong arguments of many commands, each of them named in an error by both in the same words."""
    wrong: dict[str, tuple[dict[str, Any], ...]] = {
        "guest-sync-delimited": ({}, {"id": None}),
        "guest-file-open": ({}, {"path": 1}, {"path": "/nonexistent/file"}),
        "guest-file-read": ({"handle": 1}, {"handle": "1"}),
        "guest-exec": ({"path": "true", "arg": "x"}, {"path": "true", "env": [1]}),
    }
    for command, each in wrong.items():
        for arguments in each:
            dialog.error(request(command, **arguments))


OTHERS: tuple[Case, ...] = (
    pipelined_with_ids,
    pipelined_without_ids,
    delimiters_anywhere,
    identities_of_all_kinds,
    large_reply,
    large_request,
    one_byte_at_a_time,
    requests_and_then_no_more,
    as_libvirt_synchronizes,
    refused_by_lists,
    refused_without_success_response,
    half_a_request_of_the_client_before,
    two_clients,
    all_wrong_at_once,
)
