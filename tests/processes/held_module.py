"""A real module in a process of its own, which tests can hold, resume or kill at a chosen moment."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.qemu.guest_agent.plugins.modules import qga_update_time

from tests.support.ansible_core import module_args
from tests.support.collection import ROOT
from tests.support.moments import Moment

RUNNER = "tests.processes.held_module_runner"
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Stop:
    """A stop of the module. ``is_held``: it waits there for :meth:`HeldModule.go_on`; otherwise it only reports it.

    ``step_host_ns``: instead of both, it sees the host's clock stepped by so much from then on.
    """

    moment: Moment
    is_held: bool = True
    step_host_ns: int = 0


class HeldModule:
    """``with HeldModule({"socket": path}, stops=[Stop(Moment("guest-update-time"))]) as run: run.wait()``.

    ``seed`` is the seed of the module's random numbers.
    """

    def __init__(
        self,
        options: dict[str, Any],
        stops: Sequence[Stop] = (),
        seed: int | None = None,
        module: str = "qga_update_time",
    ) -> None:
        self._setup = {"options": options, "stops": [asdict(stop) for stop in stops], "seed": seed, "module": module}

    def __enter__(self) -> HeldModule:
        theirs_in, self._go_on = os.pipe()
        self._reports, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", RUNNER, json.dumps({**self._setup, "ends": (theirs_in, theirs_out)})],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(theirs_in, theirs_out),
            text=True,
        )
        for end in (theirs_in, theirs_out):
            os.close(end)
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()
        for end in (self._go_on, self._reports):
            os.close(end)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it has reached its next stop."""
        poll = select.poll()
        poll.register(self._reports, select.POLLIN)
        deadline = time.monotonic() + seconds
        report = b""
        while not report.endswith(b"\n"):
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise RuntimeError(f"the module has not reached its next stop within {seconds:g} s")
            piece = os.read(self._reports, 1)
            if not piece:
                raise RuntimeError(f"the module ended before its next stop: {self._process.communicate()}")
            report += piece

    def go_on(self) -> None:
        os.write(self._go_on, b"\n")

    def kill(self) -> None:
        """Kill it with SIGKILL. It may already have ended by itself."""
        self._process.kill()
        self._process.wait()

    def result(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for its end and return its result."""
        output, errors = self._process.communicate(timeout=seconds)
        return _result(output, errors)


def run_here(options: dict[str, Any]) -> dict[str, Any]:
    """Run the module in this process, which is faster, and return its result."""
    output = io.StringIO()
    with module_args(options), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        qga_update_time.main()
    return _result(output.getvalue(), "")


def _result(output: str, errors: str) -> dict[str, Any]:
    assert "Traceback" not in errors, errors
    try:
        result: dict[str, Any] = json.loads(output)
    except ValueError:
        raise RuntimeError(f"the module returned nothing: {output}{errors}") from None
    return result
