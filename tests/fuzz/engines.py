"""Who makes the inputs: atheris, led by what the code has not done yet, or hypothesis where that is not to be had."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz import corpus
from tests.support.collection import ROOT

LONGEST_INPUT = 2048
# One input that takes longer is a defect of its own (seconds; this machine may be busy).
LONGEST_SECONDS = 20


@dataclass(frozen=True)
class Fuzzed:
    """``crash`` is an input that found a defect, ``complaint`` what was said of it."""

    engine: str
    executions: int
    seconds: float
    worst_seconds: float
    crash: bytes | None = None
    complaint: str = ""


def engine() -> Callable[[str, float], Fuzzed]:
    return by_atheris if importlib.util.find_spec("atheris") is not None else by_hypothesis


def by_atheris(target: str, seconds: float) -> Fuzzed:
    """In a process of its own: libFuzzer never returns."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        found, kept, worst = (Path(directory, name) for name in ("found", "kept", "worst"))
        for each in (found, kept):
            each.mkdir()
        for name, data in corpus.inputs(target).items():
            (kept / name).write_bytes(data)
        began = time.monotonic()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz.under_atheris", target, str(worst), str(kept)),
                *(f"-max_total_time={max(1, round(seconds))}", f"-max_len={LONGEST_INPUT}"),
                *(f"-artifact_prefix={found}/", f"-timeout={LONGEST_SECONDS}"),
                *("-print_final_stats=1", "-rss_limit_mb=1024"),
            ],
            cwd=ROOT,
            # libFuzzer ends the process without Python's leave, which so removes none of its temporary directories.
            env={**os.environ, "TMPDIR": directory},
            capture_output=True,
            check=False,
        )
        said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
        crashes = sorted(found.iterdir())
        crash = crashes[0].read_bytes() if crashes else None
        # From the exception on, without libFuzzer's own lines.
        lines = said[max(said.find("=== Uncaught Python exception"), 0) :].splitlines()
        told = "\n".join(line for line in lines if not line.startswith(("#", "INFO:", "stat::")))[-4000:]
        complaint = told if crash is not None or done.returncode else ""
        executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
        seconds, worst_seconds = time.monotonic() - began, float(worst.read_text()) if worst.exists() else 0.0
        return Fuzzed("atheris", int(executions[1]) if executions else 0, seconds, worst_seconds, crash, complaint)


def by_hypothesis(target: str, seconds: float) -> Fuzzed:
    """Kept inputs, spoilt here and there, and bytes of its own making.

    One at least is tried: on a busy machine hypothesis may need longer than ``seconds`` to make its first.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    from tests.fuzz.targets import TARGETS

    function = TARGETS[target]
    kept = list(corpus.inputs(target).values()) or [b""]
    positions = st.integers(0, LONGEST_INPUT)
    edits = st.lists(st.tuples(positions, st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=6)

    def spoil(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
        for position, removed, added in changes:
            at = position % (len(data) + 1)
            data = data[:at] + added + data[at + removed :]
        return data[:LONGEST_INPUT]

    executions, worst, last = 0, 0.0, b""
    began = time.monotonic()

    @settings(
        max_examples=100,  # at most so many more are made once the time is over
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.one_of(st.builds(spoil, st.sampled_from(kept), edits), st.binary(max_size=512)))
    def try_it(data: bytes) -> None:
        nonlocal executions, worst, last
        if executions and time.monotonic() - began >= seconds:
            return
        last = data
        executions += 1
        before = time.thread_time()
        function(data)
        worst = max(worst, time.thread_time() - before)

    found: tuple[Any, ...] = ()
    try:
        while not executions or time.monotonic() - began < seconds:
            try_it()
    except Exception as error:  # whatever it is, it is what was looked for
        found = (last, f"{type(error).__name__}: {error}")
    return Fuzzed("hypothesis", executions, time.monotonic() - began, worst, *found)
