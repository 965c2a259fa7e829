"""The extended agent for tests: its package, assembled as the role does, and a process that runs it with a fake clock.

The clock is an object in that process (see ``extended_agent_runner``), so this machine's clock is never set.
``python -m tests.support.extended_agent`` assembles the package in build/, for mypy.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.process_figures import ProcessFigures
from tests.support.role_package import ROOT, RolePackage
from tests.support.until import until

PACKAGE = RolePackage("extended_agent", "qemu_ga_extended")
module = PACKAGE.module
package_parent = PACKAGE.parent
RUNNER = Path(__file__).with_name("extended_agent_runner.py")

START_SECONDS = 15.0
GRACE_SECONDS = 5.0
# A slow request is overtaken, and becomes an error. With these limits, the order does not depend on speed.
PATIENT = {"slow_seconds": 60.0, "alive_seconds": 60.0}


class ExtendedAgent(ProcessFigures):
    """An extended agent on a unix socket: ``with ExtendedAgent(stock.socket) as agent: agent.socket``.

    ``costs``: limits that differ from the defaults. ``clock``: options of the fake clock (see the runner).
    """

    def __init__(self, stock_socket: str, block_rpcs: Iterable[str] = (), **setup: Any) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="extended-agent-run-")
        directory = Path(self._directory.name)
        self.socket = str(directory / "agent.sock")
        self._log = directory / "log"
        self._setup = {
            "package_parent": str(package_parent()),
            "socket": self.socket,
            "stock_socket": stock_socket,
            "block_rpcs": block_rpcs,
            "state_directory": str(directory),
            "verbose": False,
            **dict.fromkeys(("allow_rpcs", "rtc_error", "device")),
            "costs": {},
            "clock": {},
            **dict.fromkeys(("rtc_shortage", "stock_memory"), ""),
            **setup,
        }

    def __enter__(self) -> ExtendedAgent:
        reader, writer = os.pipe()
        setup = json.dumps({**self._setup, "ready": writer}, default=sorted)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(RUNNER), setup],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writer,),
            )
        self.pid = self._process.pid
        os.close(writer)
        with os.fdopen(reader, "rb") as ready:
            assert ready.read() == b"ready", f"the extended agent did not start: {self.read_log()}"
        if self._setup["device"] is None:
            until(self._is_listening, lambda: f"the extended agent does not listen: {self.read_log()}", START_SECONDS)
        return self

    def __exit__(self, *_what: object) -> None:
        self.stop()
        self._directory.cleanup()

    def stop(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def read_log(self) -> str:
        return self._log.read_text(errors="replace").strip()

    def sleeps_without_end(self) -> bool:
        """Return whether it waits in epoll_wait(2) without a timeout, so that only a descriptor can wake it."""
        try:
            # proc(5): the call's number and its arguments; the number depends on the architecture.
            call, *arguments = Path(f"/proc/{self.pid}/syscall").read_text().split()
        except ProcessLookupError:
            return False
        return call.isdigit() and int(arguments[3], 16) & 0xFFFFFFFF == 0xFFFFFFFF

    def _is_listening(self) -> bool:
        assert self._process.poll() is None, f"the extended agent ended at its start: {self.read_log()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            return client.connect_ex(self.socket) == 0


if __name__ == "__main__":
    print(PACKAGE.assemble(ROOT / "build" / "extended_agent"))
