"""A program inside a guest, in place of its agent, that plays attacks on the agent's port on request.

    python3 -m tests.hostile.in_guest AGENT_PORT CONTROL_PORT

The control port takes one order per line and returns one answer per line::

    play WORK NAME   ->  playing     the attack of that name; the agent's port is opened for it
    rest             ->  resting     the port is closed
    end              ->  ended       the port is closed, and this ends
"""

from __future__ import annotations

import functools
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.fakes.agent import CHUNK, deliver
from tests.fakes.faults import Piece
from tests.hostile.agent import HostileAgent
from tests.hostile.attacks import ATTACKS

# Reads of a port without a host at its other end return nothing.
_DISCONNECTED_SECONDS = 0.05

# The required files, from the root of the collection: this program, the fake agent, and their dependencies.
_PROTOCOL = "plugins/module_utils/_protocol"
_SHIPPED = (
    *(f"tests/hostile/{name}.py" for name in ("agent", "attacks", "false_replies", "in_guest", "payloads")),
    *(f"tests/fakes/{name}.py" for name in ("agent", "clock", "faults", "kinds")),
    "tests/processes/socket_server.py",
    *(f"{_PROTOCOL}/{name}.py" for name in ("commands", "errors", "framing", "limits", "messages", "values")),
)


def shipped() -> Iterator[tuple[str, bytes]]:
    """Yield the files with their paths below the directory in which the program is started."""
    root = Path(__file__).parents[2]
    for name in _SHIPPED:
        place = name.replace("plugins", "ansible_collections/qemu/guest_agent/plugins", 1)
        yield place, (root / name).read_bytes()


_ANSWERS = {"play": b"playing\n", "rest": b"resting\n", "end": b"ended\n"}
_BY_NAME = {(attack.work, attack.name): attack for attack in ATTACKS}


def _play(path: str, agent: HostileAgent) -> None:
    """Play the attack forever. To end it, the process has to be killed, which closes the port."""
    while True:
        # Without O_NONBLOCK, the kernel waits with interrupts off for a host that does not read (virtio_console.c).
        port = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            _serve(port, agent)
        finally:
            agent.disconnected()
            os.close(port)


def _serve(port: int, agent: HostileAgent) -> None:
    """Serve until the agent hangs up."""
    goes_on = _do(port, agent.connected())
    while goes_on:
        select.select([port], [], [])
        try:
            data = os.read(port, CHUNK)
        except BlockingIOError:
            continue
        if not data:
            time.sleep(_DISCONNECTED_SECONDS)
        else:
            goes_on = _do(port, agent.received(data))


def _do(port: int, pieces: Iterable[Piece]) -> bool:
    return deliver(pieces, functools.partial(_send, port), time.sleep)


def _send(port: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        select.select([], [port], [])
        try:
            rest = rest[os.write(port, rest[:CHUNK]) :]
        except BlockingIOError:
            continue


class _Player:
    """Plays each attack in a process of its own, so that no attack affects the next one."""

    def __init__(self, agent_port: str) -> None:
        self._agent_port = agent_port
        self._process = 0

    def play(self, work: str, name: str) -> None:
        attack = _BY_NAME[work, name]
        self._process = os.fork()
        if not self._process:
            _play(self._agent_port, attack.agent())

    def stop(self) -> None:
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._process = 0


def main(agent_port: str, control_port: str) -> None:
    player = _Player(agent_port)
    control = os.open(control_port, os.O_RDWR)
    pending = b""
    while True:
        data = os.read(control, CHUNK)
        if not data:
            time.sleep(_DISCONNECTED_SECONDS)
            continue
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            order, _space, what = line.decode().partition(" ")
            player.stop()
            if order == "play":
                player.play(*what.split(" ", 1))
            os.write(control, _ANSWERS[order])
            if order == "end":
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
