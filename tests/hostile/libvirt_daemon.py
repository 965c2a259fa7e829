"""A fake of libvirt's daemon: its processing of a hostile agent's bytes before its clients see them.

Modeled on ``src/qemu/qemu_agent.c`` of libvirt 9.0, and on tests with a hostile agent in a real guest. Replies are
lines of up to 10 MiB. Except in the first sync of a connection, garbage makes the daemon give up the agent until the
agent opens its port again. Unsolicited data is dropped. A text of more than 4 MiB does not fit into a message to the
client; if it belongs to an error, the client is disconnected.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from tests.fakes.libvirt_replies import AGENT_UNRESPONSIVE, INTERNAL_ERROR, SYSTEM_ERROR
from tests.hostile.libvirt_client import AUTHKEY

_MOST_OF_A_LINE = 10 * 1024 * 1024  # QEMU_AGENT_MAX_RESPONSE
_MOST_OF_A_TEXT = 4 * 1024 * 1024  # REMOTE_STRING_MAX, src/remote/remote_protocol.x
_SYNC_SECONDS = 5.0  # QEMU_AGENT_WAIT_TIME

_DEEPEST = 128  # YAJL_MAX_DEPTH, for output; input may be nested deeper
# Freeing such deeply nested values takes more than a thread's stack, so the daemon crashes.
_DEADLY = 500_000

# As lenient as yajl, which accepts overlong forms and surrogates.
_UTF8 = re.compile(rb"(?:[\x00-\x7f]|[\xc0-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf7][\x80-\xbf]{3})*\Z")

# Even an agent that sends endless data gets the command after this time, in seconds.
_LONGEST_DROP = 0.05

_RPC = 39  # VIR_ERR_RPC

CONNECTED, DISCONNECTED = "connected", "disconnected"


class _Failure(Exception):  # noqa: N818  # a message for the client, not a bug
    """An error for the client. ``code`` is a virErrorNumber."""

    def __init__(self, code: int, text: str | bytes) -> None:
        super().__init__(text)
        self.code = code
        self.text = text if isinstance(text, bytes) else text.encode()


def _late() -> _Failure:
    return _Failure(AGENT_UNRESPONSIVE, "Guest agent is not responding: Guest agent not available for now")


class Daemon:
    """A daemon with one domain, whose agent is on a unix socket. Clients are served one at a time."""

    def __init__(self, path: Path, agent: Path) -> None:
        self._agent_path = str(agent)
        self._listener = Listener(str(path), "AF_UNIX", authkey=AUTHKEY)
        self._agent: socket.socket | None = None
        self._buffer = bytearray()
        self._is_in_sync = False
        self._is_given_up = False
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="libvirtd", daemon=True)

    def __enter__(self) -> Daemon:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopping = True
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as bell:
            bell.connect(self._listener.address)  # type: ignore[arg-type]
        self._thread.join(20.0)
        self._listener.close()
        self._hang_up()
        if self._thread.is_alive():
            raise RuntimeError("the fake libvirtd did not end")

    def _serve(self) -> None:
        while not self._stopping:
            with contextlib.suppress(OSError, EOFError), self._listener.accept() as client:
                self._answer(client)

    def _answer(self, client: Connection) -> None:
        text, timeout = client.recv()
        try:
            reply, code = self._command(text, float(timeout)), 0
        except _Failure as failure:
            reply, code = failure.text, failure.code
        if len(reply) > _MOST_OF_A_TEXT:
            if code:
                return  # hang up
            reply, code = b"Unable to encode message payload", _RPC
        client.send((CONNECTED if self._agent is not None else DISCONNECTED, code, reply))

    # ------------------------------------------------------------------------------------------------------- the agent

    def _command(self, text: str, timeout: float) -> bytes:
        if self._is_given_up:
            raise _Failure(AGENT_UNRESPONSIVE, "QEMU guest agent is not available due to an error")
        agent = self._connected()
        try:
            if not self._is_in_sync:
                self._sync(agent, time.monotonic() + min(_SYNC_SECONDS, timeout))
            # Data that arrived between commands is read and dropped.
            until = time.monotonic() + _LONGEST_DROP
            while time.monotonic() < until and self._reply(agent, 0.0) is not None:
                pass
            agent.sendall(text.encode() + b"\n")
            reply = self._reply(agent, time.monotonic() + timeout)
        except ConnectionAbortedError:
            self._hang_up()
            raise
        except OSError:
            self._hang_up()
            raise _Failure(AGENT_UNRESPONSIVE, "Guest agent disappeared while executing command") from None
        if reply is None:
            self._is_in_sync = False
            raise _late()
        if "error" in reply[1]:
            failed = f"internal error: unable to execute QEMU agent command '{json.loads(text)['execute']}'"
            raise _Failure(INTERNAL_ERROR, f"{failed}: {_description(reply[1]['error'])}")
        if reply[0].count(b"[") + reply[0].count(b"{") > _DEEPEST and _depth(reply[1]) > _DEEPEST:
            raise _Failure(INTERNAL_ERROR, "internal error: failed to convert virJSONValue to yajl data")
        return reply[0]

    def _connected(self) -> socket.socket:
        """Return the connection to the agent. After an agent closed its port, connect again."""
        if self._agent is None:
            self._agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._agent.connect(self._agent_path)
            except OSError:
                self._hang_up()
                raise _Failure(AGENT_UNRESPONSIVE, "Guest agent is not responding: it is not connected") from None
            self._buffer.clear()
            self._is_in_sync = False
        return self._agent

    def _hang_up(self) -> None:
        agent, self._agent = self._agent, None
        if agent is not None:
            agent.close()

    def _sync(self, agent: socket.socket, until: float) -> None:
        number = time.time_ns() // 1_000_000
        sync = json.dumps({"execute": "guest-sync", "arguments": {"id": number}}).encode() + b"\n"
        may_be_garbage = True
        agent.sendall(sync)
        while True:
            try:
                reply = self._reply(agent, until)
            except _Failure:
                # Once, garbage may be the rest of an earlier reply.
                if not may_be_garbage:
                    raise
                may_be_garbage, self._is_given_up = False, False
                agent.sendall(sync)
                continue
            if reply is None:
                raise _late()
            if reply[1].get("return") == str(number):
                self._is_in_sync = True
                return

    def _reply(self, agent: socket.socket, until: float) -> tuple[bytes, dict[str, Any]] | None:
        """Return the next line that is a reply, or None if none arrives in time."""
        for line in self._lines(agent, until):
            value = self._parsed(line)
            if "event" in value or "QMP" in value:
                continue
            if "return" not in value and "error" not in value:
                raise self._given_up(b"Unknown JSON reply '%b'" % line)
            return line, value
        return None

    def _lines(self, agent: socket.socket, until: float) -> Iterator[bytes]:
        is_late = False
        while True:
            while (end := self._end_of_line()) >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                yield line
            if len(self._buffer) >= _MOST_OF_A_LINE:
                self._is_given_up = True
                what = f"No complete agent response found in {_MOST_OF_A_LINE} bytes"
                raise _Failure(SYSTEM_ERROR, f"{what}: Numerical result out of range")
            if is_late:
                return
            is_late = time.monotonic() >= until  # then only data that is already here is read
            if not select.select([agent], [], [], max(0.0, until - time.monotonic()))[0]:
                return
            data = agent.recv(65536)
            if not data:
                raise ConnectionError("the guest has closed the port")
            self._buffer += data

    def _end_of_line(self) -> int:
        """Return the position of the line's end, found like with strstr(3), which stops at a NUL."""
        nul = self._buffer.find(b"\0")
        return self._buffer.find(b"\n", 0, len(self._buffer) if nul < 0 else nul)

    def _parsed(self, line: bytes) -> dict[str, Any]:
        if not line.isascii() and _UTF8.match(line) is None:
            raise self._given_up(b"cannot parse json %b: lexical error: invalid bytes in UTF8 string." % line)
        try:
            value = _DECODER.decode(line.decode("utf-8", "replace"))
        except ValueError:
            raise self._given_up(b"cannot parse json %b: lexical error: invalid char in json text." % line) from None
        except RecursionError:
            if len(line) > _DEADLY:
                raise ConnectionAbortedError("the daemon died") from None
            raise _Failure(INTERNAL_ERROR, "internal error: failed to convert virJSONValue to yajl data") from None
        if not isinstance(value, dict):
            raise self._given_up(b"Parsed JSON reply '%b' isn't an object" % line)
        return value

    def _given_up(self, why: bytes) -> _Failure:
        self._is_given_up = True
        return _Failure(INTERNAL_ERROR, b"internal error: " + why)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        members = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [inner for inner in members if isinstance(inner, (dict, list))]
    return depth


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("duplicate key")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


# Numbers stay strings, as in virJSONValue.
_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_constant, object_pairs_hook=_unique)


def _description(error: Any) -> str:
    """``qemuAgentStringifyError``."""
    if isinstance(error, dict):
        for member in ("desc", "class"):
            if isinstance(error.get(member), str):
                return str(error[member])
    return "unknown QEMU command error"
