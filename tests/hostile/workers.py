"""Several processes that run modules, each one case at a time."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from tests.hostile.agent import HostileAgent
from tests.hostile.case import Case, Verdict
from tests.hostile.channels import reached
from tests.support.collection import ROOT
from tests.support.task_error import task_error

_GRACE_SECONDS = 20.0
# By default, the C library keeps memory that threads freed in separate arenas (mallopt(3)). Used memory is measured.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
_MOST_KEPT_KIB = 4096
_WARM_UP = tuple((module, channel) for module in ("qga_info", "qga_update_time") for channel in ("unix", "libvirt"))


class Worker:
    """One process: ``with Worker() as worker: worker.run(case)``. It starts with runs against an honest agent.

    ``is_usual``: its C library keeps memory as it does by default.
    """

    def __init__(self, is_usual: bool = False) -> None:
        self._environment = {**os.environ, **({} if is_usual else _ENVIRONMENT)}

    def __enter__(self) -> Worker:
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    def run(self, case: Case) -> Verdict:
        verdict = self._ask(case)
        if verdict.kept_kib > _MOST_KEPT_KIB:
            # Its free memory would hide the memory that the next case takes.
            self._stop()
            self._start()
        return verdict

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.worker"],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for module, channel in _WARM_UP:
            with reached(HostileAgent(), channel, module) as case:
                verdict = self._ask(case)
            if verdict.result is None or task_error(verdict.result) is not None or verdict.noise:
                raise RuntimeError(f"{module} failed with an honest agent: {verdict}")

    def _stop(self) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]  # stdin is a pipe
        try:
            self._process.wait(_GRACE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()  # type: ignore[union-attr]

    def _ask(self, case: Case) -> Verdict:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: PT018
        self._process.stdin.write(json.dumps(asdict(case)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process died: {case}")
        return Verdict(**json.loads(line))


class Workers:
    """A pool of workers; each case takes the next free one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    def __enter__(self) -> Workers:
        with ExitStack() as begun:
            for _worker in range(self._count):
                self._free.put(begun.enter_context(Worker()))
            self._all = begun.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._all.close()

    def run(self, case: Case) -> Verdict:
        worker = self._free.get()
        try:
            return worker.run(case)
        finally:
            self._free.put(worker)

    def play(self, agent: HostileAgent, channel: str, module: str, **options: Any) -> Verdict:
        """Run the module against the agent on this channel."""
        with reached(agent, channel, module, **options) as case:
            return self.run(case)
