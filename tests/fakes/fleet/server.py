"""The program that a simulated fleet runs in: python -m tests.fakes.fleet.server DIRECTORY [FILE].

FILE, or else the first line of standard input, is a JSON object: the agents' profiles by name. It says "ready" when all
listen, then answers what it is asked on its standard input, and ends when that is closed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.agent import Agent
from tests.fakes.faults import FAULTS
from tests.fakes.fleet.places import missing_directories, remove, socket_path
from tests.fakes.fleet.port import Port
from tests.fakes.fleet.profile import Profile
from tests.support.extended_agent import module

_STDIN, _STDOUT = 0, 1
_CHUNK = 1 << 20

ports: Any = module("ports")


# ------------------------------------------------------------------------------------------- what it is told and asked

Agents = Mapping[str, Agent]


def _truths(agents: Agents, _request: Mapping[str, Any]) -> dict[str, int]:
    return {name: agent.clock.offset_ns() for name, agent in agents.items()}


def _shift(agents: Agents, request: Mapping[str, Any]) -> dict[str, int]:
    """Says by how much each clock was moved."""
    by_ns = request["by_ns"]
    moved: dict[str, int] = by_ns if isinstance(by_ns, dict) else dict.fromkeys(agents, by_ns)
    for name, delta_ns in moved.items():
        if name not in agents:
            raise ValueError(f"there is no agent {name!r}")
        if not isinstance(delta_ns, int):
            raise ValueError(f"a clock is shifted by whole nanoseconds, not by {delta_ns!r}")
    for name, delta_ns in moved.items():
        agents[name].clock.step(delta_ns)
    return moved


def _received(agents: Agents, _request: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    return {name: agent.commands for name, agent in agents.items()}


_DO: Mapping[str, Callable[[Agents, Mapping[str, Any]], object]] = {
    "truths": _truths,
    "shift": _shift,
    "received": _received,
}


def answer(agents: Agents, line: bytes) -> bytes:
    """The answer to one request. One that cannot be done is answered with ``{"error": why}``, and nothing was."""
    try:
        request = json.loads(line)
        done = _DO[request["do"]](agents, request)
    except (KeyError, TypeError) as error:
        done = {"error": f"this is no request, or it lacks something: {error}"}
    except ValueError as error:
        done = {"error": str(error)}
    return json.dumps(done).encode() + b"\n"


# ---------------------------------------------------------------------------------------------------------- the server


class Lines:
    """The lines of a descriptor, by its number: nothing is read ahead that a loop would not see."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._received = b""
        self.has_ended = False

    def read(self) -> list[bytes]:
        """Wait for more, and take the lines that are whole."""
        data = os.read(self._descriptor, _CHUNK)
        self.has_ended = not data
        *lines, self._received = (self._received + data).split(b"\n")
        return lines

    def first(self) -> tuple[bytes, list[bytes]]:
        """The first line, and what came with it."""
        lines: list[bytes] = []
        while not lines and not self.has_ended:
            lines = self.read()
        return (lines[0], lines[1:]) if lines else (self._received, [])


def read_profiles(description: bytes) -> dict[str, Profile]:
    """
    :raises ValueError: it is no description
    """
    value = json.loads(description)
    if not isinstance(value, dict) or not all(isinstance(profile, dict) for profile in value.values()):
        raise ValueError("the description is no JSON object of profiles by name")
    try:
        return {name: Profile(**profile) for name, profile in value.items()}
    except TypeError as error:
        raise ValueError(f"the description does not fit: {error}") from error


def raise_descriptor_limit() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server:
    """All agents behind their sockets."""

    def __init__(self, loop: asyncio.AbstractEventLoop, directory: Path, profiles: Mapping[str, Profile]) -> None:
        self.agents = {name: profile.agent(name) for name, profile in profiles.items()}
        self._loop = loop
        self._profiles = profiles
        self._paths = {name: socket_path(directory, name) for name in profiles}
        self._directories = missing_directories(self._paths.values())
        self._made: list[Path] = []
        self._ports: list[Port] = []

    def open(self) -> None:
        """
        :raises OSError: a directory cannot be made
        :raises PortError: the in-guest agent's; a socket cannot
        """
        for path in self._directories:
            path.mkdir()
        for name, profile in self._profiles.items():
            listener = ports.listen_unix(str(self._paths[name]))
            self._made.append(self._paths[name])
            if FAULTS[profile.fault].is_listening:
                self._ports.append(Port(self._loop, self.agents[name], profile, listener))
            else:
                listener.close()  # the file stays, and whoever connects to it is refused

    def close(self) -> None:
        for port in self._ports:
            port.close()
        remove(self._made, self._directories)


def serve(directory: Path, description: bytes | None) -> None:
    """Until standard input is closed, or SIGTERM."""
    lines = Lines(_STDIN)
    first: list[bytes] = []
    if description is None:
        description, first = lines.first()
    profiles = read_profiles(description)
    loop = asyncio.new_event_loop()
    server = Server(loop, directory, profiles)
    # It comes from a terminal for all programs in it; who started this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, loop.stop)
    try:
        server.open()
        # What is here by now stays, and is much; the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        _say(b"ready\n")
        _listen(loop, lines, lambda line: _say(answer(server.agents, line)), first)
        loop.run_forever()
    finally:
        server.close()
        loop.run_until_complete(asyncio.sleep(0))  # transports close their sockets in the loop's next round
        loop.close()


def _listen(loop: asyncio.AbstractEventLoop, lines: Lines, hear: Callable[[bytes], None], first: list[bytes]) -> None:
    def look() -> None:
        for line in lines.read():
            hear(line)
        if lines.has_ended:
            loop.remove_reader(_STDIN)
            loop.stop()

    for line in first:
        hear(line)
    loop.add_reader(_STDIN, look)


def _say(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_STDOUT, view) :]


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: python -m tests.fakes.fleet.server DIRECTORY [FILE]", file=sys.stderr)
        return 2
    directory, *files = map(Path, arguments)
    try:
        raise_descriptor_limit()
        serve(directory, files[0].read_bytes() if files else None)
    except (OSError, ValueError, ports.PortError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
