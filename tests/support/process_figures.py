"""Resources that a process has used so far, by /proc, and the peak memory of a piece of work."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path


class ProcessFigures:
    """Figures of the process ``pid``, and of its present threads."""

    pid: int

    def resident_kib(self) -> int:
        return _field(Path(f"/proc/{self.pid}"), "VmRSS:")

    def peak_kib(self) -> int:
        return _field(Path(f"/proc/{self.pid}"), "VmHWM:")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def wakeups(self) -> int:
        return sum(_field(task, "voluntary_ctxt_switches:") for task in self._tasks())

    def cpu_seconds(self) -> float:
        return sum(int((task / "schedstat").read_text().split()[0]) for task in self._tasks()) / 1e9

    def _tasks(self) -> list[Path]:
        return list(Path(f"/proc/{self.pid}/task").iterdir())


def _field(process: Path, name: str) -> int:
    return int((process / "status").read_text().split(f"\n{name}")[1].split()[0])


def peak_memory(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
