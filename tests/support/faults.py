"""A record of the faults that were injected, and what became of each: build/faults.json, for all suites together."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.collection import BUILD

RECORD = BUILD / "faults.json"


@dataclass(frozen=True)
class Injected:
    """``survived``: whatever became of the run that it fell into, a plain rerun ended right. In ``seconds`` is both."""

    suite: str
    fault: str
    phase: str
    survived: bool
    seconds: float


class Ledger:
    """The faults of one suite of tests."""

    def __init__(self, suite: str, record: Path = RECORD) -> None:
        self._suite = suite
        self._record = record
        self._entries: list[Injected] = []

    @contextlib.contextmanager
    def entry(self, fault: str, phase: str) -> Iterator[None]:
        """What is tested within was survived if it does not raise."""
        begun = time.monotonic()
        survived = False
        try:
            yield
            survived = True
        finally:
            seconds = round(time.monotonic() - begun, 3)
            self._entries.append(Injected(self._suite, fault, phase, survived, seconds))

    def write(self) -> None:
        """Put them in place of what an earlier run of this suite recorded."""
        try:
            known = [Injected(**entry) for entry in json.loads(self._record.read_text())]
        except FileNotFoundError:
            known = []
        entries = [*(each for each in known if each.suite != self._suite), *self._entries]
        part = self._record.with_suffix(".part")
        part.write_text(json.dumps([asdict(entry) for entry in entries], indent=1) + "\n")
        part.replace(self._record)
