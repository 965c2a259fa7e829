"""A simulated fleet as a test has it: the server as a process of its own, and what can be asked of it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.fakes.fleet.places import missing_directories, remove, socket_path
from tests.fakes.fleet.profile import Profile
from tests.support.collection import ROOT

START_SECONDS = 60.0
ANSWER_SECONDS = 30.0
GRACE_SECONDS = 10.0
_CHUNK = 1 << 20


class SimulatedFleetError(RuntimeError):
    """The server could not be started, or did not answer."""


class SimulatedFleet:
    """Agents by name, behind their sockets: ``with SimulatedFleet(directory, {"guest1": Profile()}) as fleet:``.

    The sockets lie in ``directory``, at ``path(name)``. No clock of theirs is this machine's.
    """

    def __init__(self, directory: Path, profiles: Mapping[str, Profile]) -> None:
        """
        :raises ValueError: a name or the directory is not fit for sockets
        """
        self._directory = Path(directory).absolute()
        self._profiles = dict(profiles)
        self._paths = {name: socket_path(self._directory, name) for name in self._profiles}
        self._directories: list[Path] = []
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._received = b""

    def __enter__(self) -> SimulatedFleet:
        self._directories = missing_directories(self._paths.values())
        self._is_ready = False
        self._received = b""
        # The server's temporary files go with it, however it ends.
        self._scratch = tempfile.TemporaryDirectory(prefix="simulated-fleet-")
        try:
            self._start(Path(self._scratch.name))
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------------------- the fleet

    @property
    def paths(self) -> list[str]:
        """All sockets, sorted."""
        return sorted(map(str, self._paths.values()))

    def path(self, name: str) -> str:
        return str(self._paths[name])

    def truths(self) -> dict[str, int]:
        """How far each clock is off this machine's, in nanoseconds."""
        truths: dict[str, int] = self._ask({"do": "truths"})
        return truths

    def shift(self, by_ns: int | Mapping[str, int]) -> None:
        """Move all clocks, or those that are named."""
        self._ask({"do": "shift", "by_ns": by_ns if isinstance(by_ns, int) else dict(by_ns)})

    def received(self) -> dict[str, dict[str, int]]:
        """How often each agent was asked for which command."""
        received: dict[str, dict[str, int]] = self._ask({"do": "received"})
        return received

    # ----------------------------------------------------------------------------------------------------- the process

    @property
    def pid(self) -> int:
        return self._running.pid

    def cpu_seconds(self) -> float:
        """What the server has used so far, user and system, to a hundredth of a second."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def wait(self) -> None:
        """For the server's end, which nothing but a fault or another program brings about.

        :raises SimulatedFleetError: it has ended
        """
        self._running.wait()
        raise self._ended()

    def stop(self) -> None:
        """End the server, which takes its sockets with it; once more does nothing."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
            if self._is_ready and process.returncode != 0:
                remove(self._paths.values(), self._directories)
        if self._scratch is not None:
            self._scratch.cleanup()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise SimulatedFleetError("the simulated fleet does not run")
        return self._process

    def _start(self, scratch: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        self._log = scratch / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.fleet.server", str(self._directory)],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(scratch)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
            )
        self._tell({name: vars(profile) for name, profile in self._profiles.items()})
        line = self._line(deadline)
        if line != b"ready":
            raise SimulatedFleetError(f"the simulated fleet did not start: {line!r}")
        self._is_ready = True

    def _ask(self, request: Mapping[str, Any]) -> Any:
        self._tell(request)
        answered = json.loads(self._line(time.monotonic() + ANSWER_SECONDS))
        if isinstance(answered.get("error"), str):
            raise SimulatedFleetError(answered["error"])
        return answered

    def _tell(self, value: Mapping[str, Any]) -> None:
        stdin = self._running.stdin
        assert stdin is not None
        view = memoryview(json.dumps(value).encode() + b"\n")
        try:
            while view:
                view = view[stdin.write(view) or 0 :]
        except BrokenPipeError:
            raise self._ended() from None

    def _line(self, deadline: float) -> bytes:
        stdout = self._running.stdout
        assert stdout is not None
        waiting = select.poll()  # select() takes no descriptor above 1023, and a fleet's clients have them
        waiting.register(stdout, select.POLLIN)
        pieces = [self._received]
        while b"\n" not in pieces[-1]:
            if not waiting.poll(max(deadline - time.monotonic(), 0) * 1000):
                raise SimulatedFleetError(f"the simulated fleet does not answer: {self._complaint()}")
            data = os.read(stdout.fileno(), _CHUNK)
            if not data:
                raise self._ended()
            pieces.append(data)
        line, _newline, self._received = b"".join(pieces).partition(b"\n")
        return line

    def _ended(self) -> SimulatedFleetError:
        self._running.wait(GRACE_SECONDS)
        return SimulatedFleetError(f"the simulated fleet has ended: {self._complaint()}")

    def _complaint(self) -> str:
        return self._log.read_text(errors="replace").strip() or "it says nothing"
