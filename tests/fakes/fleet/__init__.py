"""A fleet of simulated agents in one process, each on a unix socket. Their clocks are not this machine's clock.

The server imports this module first, so the collection has to be importable.
"""

from __future__ import annotations

import functools
import random
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.collection import ROOT, make_importable

make_importable()

from tests.fakes.agent import Agent  # noqa: E402
from tests.fakes.clock import Clock  # noqa: E402
from tests.fakes.faults import Delays, Silent  # noqa: E402
from tests.fakes.kinds import KINDS, SECOND_NS, Kind  # noqa: E402
from tests.support.process_figures import ProcessFigures  # noqa: E402

_FAULTS = {"none": (), "silent": (Silent(),), "refuses": ()}
_ANSWER_SECONDS = 60.0
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Profile:
    """One agent, whose clock runs ``drift_ppm`` too fast.

    ``forward_seconds`` and ``backward_seconds`` are the delays of a request and its reply. ``set_seconds`` is the time
    from setting the clock to the answer of guest-set-time (hwclock). ``fault``: "none"; "silent", it reads and never
    answers; "refuses", nothing listens on its socket.
    """

    kind: str = "extended"
    offset_ns: int = 0
    drift_ppm: float = 0.0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    set_seconds: float = 0.0
    fault: str = "none"

    def agent(self, name: str) -> Agent:
        """Return the agent. ``host01/guest0001`` has the host name guest0001.host01."""
        return Agent(
            _kind(self.kind, self.set_seconds),
            Clock(self.offset_ns, round(self.drift_ppm * 1000)),
            _FAULTS[self.fault],
            Delays((self.forward_seconds,), (self.backward_seconds,)),
            host_name=".".join(reversed(name.split("/"))),
        )


@functools.cache  # agents share immutable parts
def _kind(name: str, set_seconds: float) -> Kind:
    return replace(KINDS[name], set_seconds=set_seconds)


def profiles(count: int, seed: int, *, dead: float = 0.0) -> list[Profile]:
    """Return ``count`` profiles, always the same for a seed. Their clocks are 1 to 20 s behind, every tenth one ahead.

    ``dead`` is the share of silent agents, from 0 to 1, spread evenly.
    """
    drawn = random.Random(seed)
    are_ahead = frozenset(drawn.sample(range(count), round(count * 0.1)))
    silent = round(count * dead)
    return [
        Profile(
            offset_ns=round(drawn.uniform(1.0, 20.0) * SECOND_NS) * (1 if number in are_ahead else -1),
            drift_ppm=round(drawn.uniform(-50.0, 50.0), 3),
            fault="silent" if number * silent // count < (number + 1) * silent // count else "none",
        )
        for number in range(count)
    ]


def named(listed: Iterable[Profile], hosts: int = 0) -> dict[str, Profile]:
    """Return the profiles by name: guest0001 and so on, or host01/guest0001 if dealt out to so many hosts in turn."""
    return {
        (f"host{(number - 1) % hosts + 1:02}/" if hosts else "") + f"guest{number:04}": profile
        for number, profile in enumerate(listed, 1)
    }


class Agents(dict[str, Agent]):
    """Agents by name, and the truth about them."""

    def truths(self) -> dict[str, int]:
        """Return the offset of each clock from this machine's, in nanoseconds."""
        return {name: agent.clock.offset_ns() for name, agent in self.items()}

    def shift(self, by_ns: int | Mapping[str, int]) -> None:
        for name, ns in (by_ns if isinstance(by_ns, Mapping) else dict.fromkeys(self, by_ns)).items():
            self[name].clock.step(ns)

    def received(self) -> dict[str, dict[str, int]]:
        return {name: agent.commands for name, agent in self.items()}


class SimulatedFleetError(RuntimeError):
    """The server could not be started, or did not answer."""


class SimulatedFleet(ProcessFigures):
    """Agents by name, on their sockets: ``with SimulatedFleet(directory, {"guest1": Profile()}) as fleet:``."""

    def __init__(self, directory: Path, profiles: Mapping[str, Profile]) -> None:
        self._profiles = dict(profiles)
        self._paths = {name: Path(directory).absolute() / f"{name}.qga" for name in profiles}

    def __enter__(self) -> SimulatedFleet:
        for path in self._paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.fleet.server", str(theirs.fileno())],
                cwd=ROOT,
                pass_fds=(theirs.fileno(),),
            )
        self.pid = self._process.pid
        self._pipe = Connection(ours.detach())
        try:
            self._ask({name: (str(path), self._profiles[name]) for name, path in self._paths.items()})
        except SimulatedFleetError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_what: object) -> None:
        self._pipe.close()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def paths(self) -> list[str]:
        return sorted(map(str, self._paths.values()))

    def path(self, name: str) -> str:
        return str(self._paths[name])

    def truths(self) -> dict[str, int]:
        return dict(self._ask("truths"))

    def shift(self, by_ns: int | Mapping[str, int]) -> None:
        self._ask("shift", by_ns)

    def received(self) -> dict[str, dict[str, int]]:
        return dict(self._ask("received"))

    def _ask(self, *request: object) -> Any:
        try:
            self._pipe.send(request)
            if not self._pipe.poll(_ANSWER_SECONDS):
                raise SimulatedFleetError("the simulated fleet does not answer")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise SimulatedFleetError("the simulated fleet has ended") from error
        if isinstance(answer, Exception):
            raise SimulatedFleetError(f"{answer.__class__.__name__}: {answer}")
        return answer
