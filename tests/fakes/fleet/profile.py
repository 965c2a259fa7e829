"""What simulated agents are, as plain descriptions: one by one, or many at once from a seed."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tests.fakes.agent import Agent
from tests.fakes.clock import Clock
from tests.fakes.faults import FAULTS
from tests.fakes.kinds import EXTENDED, SECOND_NS, STOCK, Kind

KINDS: Mapping[str, Kind] = {"extended": EXTENDED, "stock": STOCK}

Range = tuple[float, float]


@dataclass(frozen=True)
class Profile:
    """One agent. ``drift_ppm``: its clock runs so much too fast.

    ``forward_seconds`` and ``backward_seconds`` are what a request and its reply spend on the way; 0: nothing. Others
    become whole milliseconds, rounded up, which is how finely the server's loop waits. ``set_seconds`` is how long
    guest-set-time takes to answer after the clock was set (hwclock), and the agent is deaf for so long.
    """

    kind: str = "extended"
    offset_ns: int = 0
    drift_ppm: float = 0.0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    set_seconds: float = 0.0
    fault: str = "none"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no kind of agent {self.kind!r}: it is one of {', '.join(KINDS)}")
        if self.fault not in FAULTS:
            raise ValueError(f"there is no fault {self.fault!r}: it is one of {', '.join(FAULTS)}")
        for name in ("forward_seconds", "backward_seconds", "set_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name):g}, but nothing takes less than no time")

    def agent(self, name: str) -> Agent:
        """``host01/guest0001`` has the host name guest0001.host01."""
        fault = FAULTS[self.fault]
        kind = _kind(self.kind, self.set_seconds, fault.is_frozen, fault.claims_only)
        clock = Clock(self.offset_ns, round(self.drift_ppm * 1000), fault.tick_ns)
        return Agent(kind, clock, fault.replies, host_name=".".join(reversed(name.split("/"))))


@functools.cache  # agents share what does not change
def _kind(name: str, set_seconds: float, is_frozen: bool, claims_only: bool) -> Kind:
    return replace(KINDS[name], set_seconds=set_seconds, is_frozen=is_frozen, claims_only=claims_only)


def profiles(
    count: int,
    seed: int,
    *,
    stock: float = 0.0,
    dead: float = 0.0,
    ahead: float = 0.1,
    off_seconds: Range = (1.0, 20.0),
    drift_ppm: Range = (-50.0, 50.0),
    delay_seconds: Range = (0.0, 0.0),
    set_seconds: Range = (0.0, 0.0),
) -> list[Profile]:
    """As many profiles, always the same ones for a seed.

    ``stock``, ``dead`` and ``ahead`` are shares from 0 to 1: of stock agents, of agents that read and never answer,
    spread evenly, and of clocks that are ahead; the others are behind. Ranges hold what is drawn for each agent;
    ``delay_seconds`` goes for either way.
    """
    for name, share in (("stock", stock), ("dead", dead), ("ahead", ahead)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share:g}, but a share is from 0 to 1")
    drawn = random.Random(seed)
    are_stock = _some(drawn, count, stock)
    are_ahead = _some(drawn, count, ahead)
    are_dead = _evenly(count, dead)
    return [
        Profile(
            kind="stock" if number in are_stock else "extended",
            offset_ns=round(drawn.uniform(*off_seconds) * SECOND_NS) * (1 if number in are_ahead else -1),
            drift_ppm=round(drawn.uniform(*drift_ppm), 3),
            forward_seconds=round(drawn.uniform(*delay_seconds), 6),
            backward_seconds=round(drawn.uniform(*delay_seconds), 6),
            set_seconds=round(drawn.uniform(*set_seconds), 6),
            fault="silent" if number in are_dead else "none",
        )
        for number in range(count)
    ]


def _some(drawn: random.Random, count: int, share: float) -> frozenset[int]:
    return frozenset(drawn.sample(range(count), round(count * share)))


def _evenly(count: int, share: float) -> frozenset[int]:
    chosen = round(count * share)
    return frozenset(number for number in range(count) if number * chosen // count < (number + 1) * chosen // count)


def named(listed: Iterable[Profile], hosts: int = 0) -> dict[str, Profile]:
    """The profiles by name: guest0001 and so on, or, dealt out to so many hosts in turn, host01/guest0001."""
    numbered = enumerate(listed, 1)
    if not hosts:
        return {f"guest{number:04}": profile for number, profile in numbered}
    return {f"host{(number - 1) % hosts + 1:02}/guest{number:04}": profile for number, profile in numbered}
