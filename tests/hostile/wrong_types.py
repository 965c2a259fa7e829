"""Honest replies with one value replaced by a value of each JSON type, at every leaf and inner node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tests.fakes.agent import COMMAND_INFO, info
from tests.fakes.faults import Piece
from tests.fakes.kinds import EXTENDED, FACTS
from tests.hostile.agent import Asked, Play, encoded

# One value of each type, and values that are easily taken for another type.
STRANGERS: tuple[Any, ...] = (
    None,
    True,
    False,
    7,
    -(2**63),
    2**64 - 1,
    0.5,
    1e300,
    "",
    "7",
    [],
    [7],
    [[None]],
    {},
    {"a": 7},
)

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Swap:
    """``stranger`` replaces the value at ``path`` in the result of ``command``. An empty path is the whole result."""

    command: str
    path: Path
    stranger: Any

    def __str__(self) -> str:
        where = "".join(f"[{step!r}]" for step in self.path)
        return f"{self.command}{where} = {json.dumps(self.stranger)}"

    @property
    def value(self) -> Any:
        return _swapped(HONEST[self.command], self.path, self.stranger)

    def play(self) -> Play:
        reply = encoded({"return": self.value})

        def play(asked: Asked) -> list[Piece]:
            answer = asked.answer()  # executes the command
            return [reply if asked.command == self.command else answer]

        return play


def _swapped(value: Any, path: Path, stranger: Any) -> Any:
    if not path:
        return stranger
    copy = value.copy()
    copy[path[0]] = _swapped(value[path[0]], path[1:], stranger)
    return copy


def _paths(value: Any) -> Iterator[Path]:
    yield ()
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, member in inner:
        for path in _paths(member):
            yield (step, *path)


# All commands are alike, and swaps in every one would be thousands.
_FEW = frozenset(("guest-get-clock", "guest-get-time", "guest-info", "guest-set-time", "guest-update-time"))

# A guest may report any plausible time, so this one is long ago.
_THEN_NS = 1_795_406_706_123_456_789

HONEST: dict[str, Any] = {
    **FACTS,
    "guest-get-command-info": COMMAND_INFO,
    "guest-info": info(replace(EXTENDED, commands=_FEW)),
    "guest-get-time": _THEN_NS,
    "guest-get-clock": {
        "received": _THEN_NS,
        "transmitted": _THEN_NS + 1000,
        "synchronized": True,
        "max-error": 500,
        "slewing": 0,
        "slewable": True,
        "source": "host-message",
    },
    "guest-set-time": {},
    "guest-update-time": {"before": _THEN_NS, "after": _THEN_NS + 1000, "rtc-error": "no clock"},
    "guest-sync-delimited": 7,
}


def swaps(command: str) -> Iterator[Swap]:
    """Yield swaps of every value of its reply with every stranger."""
    for path in _paths(HONEST[command]):
        for stranger in STRANGERS:
            yield Swap(command, path, stranger)
