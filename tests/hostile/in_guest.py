"""Runs inside of a guest, in place of its agent: plays one attack after the other on the agent's port, as it is told.

    python3 -m hostile.in_guest AGENT_PORT CONTROL_PORT

One order a line on the control port, and one answer a line::

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

from .agent import Actions, HostileAgent, perform
from .attacks import ATTACKS

_CHUNK = 4096
# A port without a host at its other end reads as empty.
_DISCONNECTED_SECONDS = 0.05

# Without a suffix, what has to lie beside this file.
SHIPPED = ("__init__", "agent", "attacks", "false_replies", "guest", "in_guest", "payloads")

_ANSWERS = {"play": b"playing\n", "rest": b"resting\n", "end": b"ended\n"}
_BY_NAME = {(attack.work, attack.name): attack for attack in ATTACKS}


def _play(path: str, agent: HostileAgent) -> None:
    """For ever; who wants it to end kills the process, which closes the port."""
    while True:
        # Without O_NONBLOCK the kernel waits with its interrupts off for a host that does not read (virtio_console.c).
        port = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            _serve(port, agent)
        finally:
            os.close(port)


def _serve(port: int, agent: HostileAgent) -> None:
    """Until the agent hangs up."""
    if not _do(port, agent.connected()):
        return
    while True:
        select.select([port], [], [])
        try:
            data = os.read(port, _CHUNK)
        except BlockingIOError:
            continue
        if not data:
            time.sleep(_DISCONNECTED_SECONDS)
        elif not _do(port, agent.received(data)):
            return


def _do(port: int, actions: Actions) -> bool:
    return perform(actions, functools.partial(_send, port), time.sleep)


def _send(port: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        select.select([], [port], [])
        try:
            rest = rest[os.write(port, rest[:_CHUNK]) :]
        except BlockingIOError:
            continue


class _Player:
    """A process of its own for each attack: no attack is in the way of the next one."""

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
        data = os.read(control, _CHUNK)
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
