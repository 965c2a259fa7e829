"""This machine as a guest: an agent in the test's process, which runs programs and opens files here.

Tests must keep all its work below a temporary directory. A fault changes one reply.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.base import Channel, Exchange, Request
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import ExchangeTimeoutError, NotConnectedError
from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused, Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import SessionLimits

# An agent that systemd started has no HOME.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}

# Small limits, so that little data needs many exchanges.
LIMITS = SessionLimits(request=8192, reply=4096, output=65536, exec_timeout=30.0, patience=10.0, fetch=1 << 30)

# Takes the function that performs a request, and returns the reply or raises the channel's error.
Fault = Callable[[Callable[[], Reply]], Reply]


def lost(perform: Callable[[], Reply]) -> Reply:
    """Perform the request and lose the reply."""
    perform()
    raise ExchangeTimeoutError("the agent did not answer in time")


def undelivered(_perform: Callable[[], Reply]) -> Reply:
    raise NotConnectedError("no guest agent runs")


def refused(description: str, kind: str = "GenericError") -> Fault:
    return lambda _perform: Refused(kind, description)


def frozen(_perform: Callable[[], Reply]) -> Reply:
    return Refused("CommandNotFound", "Command has been disabled: the command is not allowed")


def returning(change: Callable[[Any], Any]) -> Fault:
    """Perform the request and change the returned value."""

    def fault(perform: Callable[[], Reply]) -> Reply:
        reply = perform()
        assert isinstance(reply, Returned)
        return Returned(change(reply.value))

    return fault


class ThisMachine(Channel):
    """``faults`` by command and by the number of the request for it, counted from 0; None stands for all requests."""

    def __init__(self, faults: Mapping[tuple[str, int | None], Fault] | None = None) -> None:
        self.faults = dict(faults or {})
        self.requests: list[tuple[str, Mapping[str, Any]]] = []
        self.timeouts: list[float] = []
        self.most_read = 2**31  # most bytes of a file in one reply, whatever was requested
        self.is_frozen = False
        self.frozen_as = Refused("CommandNotFound", "Command {} has been disabled: the agent is in frozen state")
        self.is_closed = False
        self.let_gos = 0
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._groups: list[int] = []
        self._files: dict[int, BinaryIO] = {}
        self._opened = 1000

    async def call(self, request: Request, timeout: float) -> Exchange:
        command, arguments = request.execute, request.arguments_at(0)
        number = self.count(command)
        self.requests.append((command, arguments))
        self.timeouts.append(timeout)
        fault = self.faults.get((command, number), self.faults.get((command, None)))
        sent_ns = time.monotonic_ns()
        reply = self._perform(command, arguments) if fault is None else fault(lambda: self._perform(command, arguments))
        return Exchange(reply, sent_ns, time.monotonic_ns())

    async def let_go(self, held: float = 0.0) -> None:  # noqa: ARG002  # there are no other clients
        self.let_gos += 1

    async def close(self) -> None:
        self.is_closed = True

    def reply_to(self, command: str, arguments: Mapping[str, Any]) -> Reply:
        """Like :meth:`call`, for an agent on a socket."""
        return tasks.run(self.call(Request(command, arguments), 0.0)).reply

    def agent(self) -> GuestAgent:
        return GuestAgent(self, 5.0)

    def count(self, command: str) -> int:
        return sum(name == command for name, _arguments in self.requests)

    def forget(self) -> None:
        """Behave like a restarted agent: programs keep running, but it knows neither them nor any open file."""
        self._processes.clear()
        for file in self._files.values():
            file.close()
        self._files.clear()

    def end_all(self) -> None:
        """Kill all programs that it started, as systemd does when it stops an agent's service."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def is_idle(self) -> bool:
        """Return whether all programs have ended, including those whose end it did not report."""
        return all(process.poll() is not None for process in self._processes.values())

    def groups(self) -> list[int]:
        """Return the programs that it started and whose process group, which each leads, still has a process."""
        return [group for group in self._groups if _runs(group)]

    open_files = property(lambda machine: len(machine._files))
    known_processes = property(lambda machine: len(machine._processes))

    def _perform(self, command: str, arguments: Mapping[str, Any]) -> Reply:
        try:
            json.dumps(arguments, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return Refused("GenericError", "JSON parse error, invalid UTF-8 sequence in string")
        if self.is_frozen and not command.startswith("guest-fsfreeze"):
            return Refused(self.frozen_as.kind, self.frozen_as.description.format(command))
        try:
            return Returned(getattr(self, "_" + command.replace("-", "_"))(**_identifiers(arguments)))
        except OSError as error:
            return Refused("GenericError", f"failed: {error.strerror}")
        except KeyError:
            return Refused("GenericError", "Invalid parameter")

    def _guest_ping(self) -> dict[str, Any]:
        return {}

    def _guest_fsfreeze_status(self) -> str:
        return "frozen" if self.is_frozen else "thawed"

    def _guest_exec(self, path: str, arg: list[str], capture_output: bool, input_data: str = "") -> dict[str, Any]:
        assert capture_output
        pipe, stdin = subprocess.PIPE, subprocess.PIPE if input_data else subprocess.DEVNULL
        process = subprocess.Popen(
            [path, *arg], stdin=stdin, stdout=pipe, stderr=pipe, env=ENVIRONMENT, cwd="/", start_new_session=True
        )
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(base64.b64decode(input_data))
                process.stdin.close()
            process.stdin = None
        self._processes[process.pid] = process
        self._groups.append(process.pid)
        return {"pid": process.pid}

    def _guest_exec_status(self, pid: int) -> dict[str, Any]:
        process = self._processes[pid]
        if process.poll() is None:
            return {"exited": False}
        del self._processes[pid]
        output, errors = process.communicate()
        how = {"exitcode": process.returncode} if process.returncode >= 0 else {"signal": -process.returncode}
        return {"exited": True, "out-data": _base64(output), "err-data": _base64(errors), **how}

    def _guest_file_open(self, path: str, mode: str) -> int:
        self._opened += 1
        self._files[self._opened] = open(path, mode)  # noqa: SIM115  # open until guest-file-close
        return self._opened

    def _guest_file_close(self, handle: int) -> dict[str, Any]:
        self._files.pop(handle).close()
        return {}

    def _guest_file_read(self, handle: int, count: int) -> dict[str, Any]:
        count = min(count, self.most_read)
        data = self._files[handle].read(count)
        return {"count": len(data), "buf-b64": _base64(data), "eof": len(data) < count}

    def _guest_file_seek(self, handle: int, offset: int, whence: str) -> dict[str, Any]:
        position = self._files[handle].seek(offset, {"set": 0, "cur": 1, "end": 2}[whence])
        return {"position": position, "eof": False}

    def _guest_file_write(self, handle: int, buf_b64: str) -> dict[str, Any]:
        data = base64.b64decode(buf_b64)
        self._files[handle].write(data)
        return {"count": len(data), "eof": False}


def _runs(group: int) -> bool:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                return True
    return False


def _identifiers(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("-", "_"): value for name, value in arguments.items()}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
