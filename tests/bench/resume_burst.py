"""A host that comes back with all of its guests: the service, and 200 simulated ones restored in the same second."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.fakes.fleet import named, profiles
from tests.support.resync_service import ServiceProcess

GUESTS = 200
SEED = 1
TOLERANCE_NS = 100_000_000
TURNS = 3
DEADLINE_S = 120.0


@dataclass(frozen=True)
class ResumeBurst:
    """Of each turn: the seconds from the first event to the last line, and how many of the guests were right then."""

    seconds: tuple[float, ...]
    corrected: tuple[int, ...]
    worst_since_event_ms: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "resume_burst_guests": GUESTS,
            "resume_burst_s": self.seconds,
            "resume_burst_corrected": self.corrected,
            "resume_burst_worst_since_event_ms": self.worst_since_event_ms,
        }

    def rows(self) -> list[list[str]]:
        """For a table of what was seen and what is wanted."""
        return [
            [f"corrected of {GUESTS} resumed at once", str(min(self.corrected)), str(GUESTS)],
            ["from the first event to the last line (s)", f"{median(self.seconds):.2f}", "-"],
            ["from a guest's event to its step, worst (ms)", f"{max(self.worst_since_event_ms):.0f}", "-"],
        ]


def bench_resume_burst(say: Callable[[str], None]) -> ResumeBurst:
    fleet = named(profiles(GUESTS, SEED))
    seconds, corrected, worst = [], [], []
    for _turn in range(TURNS):
        with (
            tempfile.TemporaryDirectory(prefix="bench-burst-") as directory,
            ServiceProcess(Path(directory), "[watch]\nlook_at_start = no\n", fleet) as service,
        ):
            service.wait_for("watching")
            begun = time.monotonic()
            service.ask("restore", list(fleet))
            lines = service.wait_for("resync", GUESTS, DEADLINE_S)
            seconds.append(time.monotonic() - begun)
            corrected.append(sum(abs(offset) <= TOLERANCE_NS for offset in service.ask("truths").values()))
            worst.append(max(int(line.fields["since_resume_ns"]) for line in lines) / 1e6)
        say(f"{GUESTS} simulated guests at once: {corrected[-1]} right after {seconds[-1]:.2f} s")
    return ResumeBurst(tuple(seconds), tuple(corrected), tuple(worst))
