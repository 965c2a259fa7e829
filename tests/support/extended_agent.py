"""The extended agent for tests: its package assembled as the role does it, and run beside this machine's clock.

The agent under test gets a clock that is an object in its process (see ``extended_agent_runner``). So whatever it is
asked to set, this machine's clock stays as it is.

``python -m tests.support.extended_agent`` assembles the package in build/, for mypy.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.role_package import ROOT, RolePackage

PACKAGE = RolePackage("extended_agent", "qemu_ga_extended")
module = PACKAGE.module
package_parent = PACKAGE.parent
RUNNER = Path(__file__).with_name("extended_agent_runner.py")

START_SECONDS = 15.0
GRACE_SECONDS = 5.0
# A request that takes long lets others past it, and becomes an error. With these limits, no order depends on speed.
PATIENT = {"slow_seconds": 60.0, "alive_seconds": 60.0}


class ExtendedAgent:
    """An extended agent on a unix socket: ``with ExtendedAgent(stock.socket) as agent: agent.socket``.

    ``costs`` are limits other than the usual ones, ``clock`` what the fake clock does (see the runner).
    """

    def __init__(
        self,
        stock_socket: str,
        block_rpcs: Iterable[str] = (),
        allow_rpcs: Iterable[str] | None = None,
        costs: Mapping[str, float] | None = None,
        clock: Mapping[str, Any] | None = None,
        rtc_error: str | None = None,
        state_directory: str | None = None,
        device: tuple[str, str] | None = None,
        verbose: bool = False,
        stock_memory: str = "",
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="extended-agent-run-")
        directory = Path(self._directory.name)
        self.socket = str(directory / "agent.sock")
        self._log = directory / "log"
        self._setup = {
            "package_parent": str(package_parent()),
            "socket": self.socket,
            "device": device,
            "stock_socket": stock_socket,
            "state_directory": state_directory or str(directory),
            "block_rpcs": sorted(block_rpcs),
            "allow_rpcs": None if allow_rpcs is None else sorted(allow_rpcs),
            "costs": dict(costs or {}),
            "clock": dict(clock or {}),
            "rtc_error": rtc_error,
            "verbose": verbose,
            "stock_memory": stock_memory,
        }

    def __enter__(self) -> ExtendedAgent:
        reader, writer = os.pipe()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(RUNNER), json.dumps({**self._setup, "ready": writer})],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
            )
        os.close(writer)
        with os.fdopen(reader, "rb") as ready:
            if self._setup["device"] is None:
                self._wait_until_listening()
            elif ready.read() != b"ready":
                raise RuntimeError(f"the extended agent did not start: {self.read_log()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._directory.cleanup()

    def stop(self) -> int:
        """End it; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def read_log(self) -> str:
        return self._log.read_text(errors="replace").strip()

    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self) -> int:
        """How often it has gone to sleep by itself so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    def sleeps_without_end(self) -> bool:
        """Return whether it waits in epoll_wait(2) without a timeout: only a descriptor can wake it then."""
        try:
            # proc(5): the call's number and its arguments; the number depends on the architecture.
            call, *arguments = Path(f"/proc/{self.pid}/syscall").read_text().split()
        except ProcessLookupError:
            return False
        return call.isdigit() and int(arguments[3], 16) & 0xFFFFFFFF == 0xFFFFFFFF

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"the extended agent ended at its start: {self.read_log()}")
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                    client.connect(self.socket)
                return
            except (FileNotFoundError, ConnectionError):
                if time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"the extended agent does not listen: {self.read_log()}") from None
                time.sleep(0.02)


if __name__ == "__main__":
    print(PACKAGE.assemble(ROOT / "build" / "extended_agent"))
