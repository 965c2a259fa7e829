# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run commands on the agent at a Unix socket, and fail unless it answers: probe.py SOCKET [COMMAND].

It does not use the agent's code, because that is what it tests. An agent that refuses to synchronize because of its
lists has answered.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any

DEADLINE_S = 30.0
RETRY_S = 0.1
SYNC = "guest-sync-delimited"
# More than any reply to the commands that are used here.
MAX_REPLY_BYTES = 1 << 20


def main(path: str, *commands: str) -> int:
    deadline = time.monotonic() + DEADLINE_S
    try:
        with connect(path, deadline) as agent:
            synchronize(agent, deadline)
            for command in commands:
                agent.sendall(json.dumps({"execute": command}).encode() + b"\n")
                reply = json.loads(read_line(agent, deadline))
                if "return" not in reply:
                    raise ValueError(f"it answered {command} with {json.dumps(reply)}")
    except (OSError, ValueError, TypeError) as error:
        print(f"The agent at {path} failed the test: {error}", file=sys.stderr)
        return 1
    return 0


def connect(path: str, deadline: float) -> socket.socket:
    """Connect, and retry while the socket does not exist yet."""
    while True:
        agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            agent.connect(path)
            return agent
        except OSError:
            agent.close()
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


def synchronize(agent: socket.socket, deadline: float) -> None:
    """Synchronize. 0xFF discards an earlier client's incomplete request, which may cause an error before the reply."""
    number = os.getpid()
    request = {"execute": SYNC, "arguments": {"id": number}}
    agent.sendall(b"\xff" + json.dumps(request).encode() + b"\n")
    while True:
        before, mark, reply = read_line(agent, deadline).partition(b"\xff")
        if mark and json.loads(reply).get("return") == number:
            return
        if not mark and is_refusal(before):
            return


def is_refusal(line: bytes) -> bool:
    """Return whether this is a refusal of guest-sync-delimited.

    It has no 0xFF in front of it, and only its text names the command. Its class is different before QEMU 4.2.
    """
    try:
        reply: Any = json.loads(line)
    except ValueError:
        return False
    error = reply.get("error") if isinstance(reply, dict) else None
    return isinstance(error, dict) and SYNC in str(error.get("desc"))


def read_line(agent: socket.socket, deadline: float) -> bytes:
    # Only to the end of a reply: the stock agent ends when its client leaves something unread.
    line = bytearray()
    while not line.endswith(b"\n"):
        agent.settimeout(max(0.001, deadline - time.monotonic()))
        byte = agent.recv(1)
        if not byte:
            raise ConnectionError("it closed the connection")
        line += byte
        if len(line) > MAX_REPLY_BYTES:
            raise ValueError("its reply is too long")
    return bytes(line)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
