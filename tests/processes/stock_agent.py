"""Run a real stock agent (qemu-ga) on a unix socket of this machine, for the duration of a test.

The agent acts on the machine that the tests run on. Commands that would change that machine's clock, power,
file systems, processors, memory or accounts are therefore always blocked.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ALWAYS_BLOCKED = frozenset(
    (
        *("guest-set-time", "guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"),
        *("guest-fsfreeze-freeze", "guest-fsfreeze-freeze-list", "guest-fsfreeze-thaw", "guest-fstrim"),
        *("guest-set-vcpus", "guest-set-memory-blocks", "guest-set-user-password"),
        *("guest-ssh-add-authorized-keys", "guest-ssh-remove-authorized-keys"),
    )
)

# Without CAP_SYS_TIME, neither the clock nor the hardware clock can be set. Only root has this capability.
WITHOUT_CLOCK = (
    ("setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time", "--no-new-privs", "--") if os.geteuid() == 0 else ()
)

START_SECONDS = 10.0
# SIGTERM can leave qemu-ga hanging in a futex forever, so the wait for its end has a short timeout.
GRACE_SECONDS = 2.0
SYNC_ID = 4242


class StockAgentError(RuntimeError):
    """The stock agent could not be run, or did not answer correctly."""


def find_qemu_ga() -> str:
    """Return the path of qemu-ga. Debian installs it in /usr/sbin, which is not in every user's PATH."""
    path = shutil.which("qemu-ga", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if path is None:
        raise StockAgentError("qemu-ga is not installed: install the package qemu-guest-agent.")
    return path


def _printed(*arguments: str) -> list[str]:
    command = [find_qemu_ga(), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, check=True).stdout.split()


def stock_commands() -> frozenset[str]:
    """Return the names of all commands of the installed qemu-ga."""
    return frozenset(word for word in _printed("-b", "help") if word.startswith("guest-"))


def stock_version() -> str:
    """Return the version of the installed qemu-ga, as in guest-info."""
    return _printed("-V")[-1]


def exchange(path: str, command: str, timeout: float = 5.0) -> dict[str, Any]:
    """Run a command without arguments over a new connection and return the reply."""
    received = _answered(path, command, timeout)
    # Before the 0xFF byte are the agent's error for our own 0xFF, or late replies.
    replies = [json.loads(line) for line in received.rpartition(b"\xff")[2].splitlines()]
    if len(replies) != 2 or replies[0] != {"return": SYNC_ID}:
        raise StockAgentError(f"the agent on {path} did not answer {command} as expected: {received!r}")
    reply: dict[str, Any] = replies[1]
    return reply


def _answered(path: str, command: str, timeout: float) -> bytes:
    """Return the agent's whole answer to one command.

    Begin with 0xFF and a sync, because the parser may hold half a request of the previous client. Half-close and
    then read to the end, because a client that closes with unread replies makes qemu-ga exit.
    """
    deadline = time.monotonic() + timeout
    sync = {"execute": "guest-sync-delimited", "arguments": {"id": SYNC_ID}}
    received = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        client.connect(path)
        client.sendall(b"\xff" + json.dumps(sync).encode() + json.dumps({"execute": command}).encode())
        client.shutdown(socket.SHUT_WR)
        while True:
            client.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = client.recv(65536)
            if not chunk:
                return received
            received += chunk


class StockAgent:
    """A stock agent with a private socket and state directory: ``with StockAgent() as agent: agent.socket``.

    ``allow_rpcs``: only these are enabled. ``block_rpcs``: these are disabled, even if they are allowed.

    ``permits_time``: ``guest-set-time`` is enabled, as in most guests, but the kernel does not let the process set any
    clock. ``umask`` is inherited by the programs that the agent starts; the default is the umask of the tests.
    ``environment`` is added to the tests' own. ``verbose``: it logs the requests.
    """

    def __init__(
        self,
        block_rpcs: Iterable[str] = (),
        allow_rpcs: Iterable[str] = (),
        permits_time: bool = False,
        umask: int | None = None,
        environment: Mapping[str, str] | None = None,
        verbose: bool = False,
    ) -> None:
        always = ALWAYS_BLOCKED - {"guest-set-time"} if permits_time else ALWAYS_BLOCKED
        self._powerless = WITHOUT_CLOCK if permits_time else ()
        self._umask = -1 if umask is None else umask  # subprocess.Popen's default
        self._options = ["--verbose"] if verbose else []
        self._environment = dict(environment or {})
        self._blocked = frozenset(block_rpcs) | always
        self._allowed = frozenset(allow_rpcs)

    def __enter__(self) -> StockAgent:
        qemu_ga = find_qemu_ga()
        known = stock_commands()
        unknown = sorted((self._blocked - ALWAYS_BLOCKED | self._allowed) - known)
        if unknown:
            raise StockAgentError(f"this qemu-ga cannot block or allow what it does not have: {', '.join(unknown)}.")
        # qemu-ga before 8.0 has no --allow-rpcs; blocking all other commands has the same effect in every version.
        blocked = self._blocked & known
        if self._allowed:
            blocked |= known - self._allowed
        self._directory = tempfile.TemporaryDirectory(prefix="stock-agent-")
        directory = Path(self._directory.name)
        self.socket = str(directory / "agent.sock")
        self._log = directory / "log"
        self._words = [
            *self._powerless,
            qemu_ga,
            "--method=unix-listen",
            f"--statedir={directory}",
            f"--block-rpcs={','.join(sorted(blocked))}",
            *self._options,
        ]
        self._start(self.socket)
        return self

    def restart(self) -> None:
        """Restart it on the same socket. Programs that it started keep running, but it no longer knows them."""
        self._end()
        # It removes its socket's path before it listens there, which clients must not see.
        path = f"{self.socket}.new"
        self._start(path)
        os.replace(path, self.socket)

    def _start(self, path: str) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._words, f"--path={path}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A file that does not exist, because the machine's own configuration must not affect tests.
                env={**os.environ, **self._environment, "QGA_CONF": str(self._log.with_name("no.conf"))},
                umask=self._umask,
            )
        try:
            self._wait_until_ready(path)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_exception: object) -> None:
        self._end()
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def _wait_until_ready(self, path: str) -> None:
        # A successful connect proves nothing, because it may only be queued. An agent that answers is ready; the answer
        # does not matter, because all commands may be blocked.
        deadline = time.monotonic() + START_SECONDS
        while True:
            status = self._process.poll()
            if status is not None:
                raise StockAgentError(f"qemu-ga exited with status {status} at its start: {self.read_log()}")
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise StockAgentError(f"qemu-ga did not answer within {START_SECONDS:g} s: {self.read_log()}")
            try:
                if _answered(path, "guest-ping", remaining):
                    return
            except (FileNotFoundError, ConnectionError):
                time.sleep(0.02)
            except TimeoutError:
                continue

    def read_log(self) -> str:
        return self._log.read_text(errors="replace").strip() or "it wrote nothing"

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
