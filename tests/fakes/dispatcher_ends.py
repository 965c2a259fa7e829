"""A client and a clock for the extended agent's dispatcher, in the same process."""

from __future__ import annotations

import json
from typing import Any

from tests.support.extended_agent import module

_LONGEST_SLEW_NS = 500_000_000


class Client:
    """A client that collects replies. ``is_congested`` means that it does not read. ``flow`` lists the calls that asked
    it to pause and to resume its requests.
    """

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.is_congested = False
        self.flow: list[str] = []

    def send(self, data: bytes) -> None:
        self.lines.append(bytes(data))

    def pause(self) -> None:
        self.flow.append("pause")

    def resume(self) -> None:
        self.flow.append("resume")

    @property
    def replies(self) -> list[Any]:
        return [json.loads(line.replace(b"\xff", b"")) for line in self.lines]


class CountingClock:
    """A clock that advances by one at each reading. It accepts all changes that the kernel accepts and ignores them."""

    def __init__(self, start_ns: int = 0) -> None:
        self._start_ns = start_ns
        self.readings = 0

    def now_ns(self) -> int:
        self.readings += 1
        return self._start_ns + self.readings

    def set_ns(self, epoch_ns: int) -> None:
        assert 0 <= epoch_ns < 2**63

    def shift_ns(self, delta_ns: int) -> None:
        assert 0 <= self._start_ns + self.readings + delta_ns < 2**63

    def slew_ns(self, delta_ns: int) -> None:
        assert abs(delta_ns) <= _LONGEST_SLEW_NS

    def discipline(self) -> Any:
        return module("clock").Discipline(True, self.readings * 1000)
