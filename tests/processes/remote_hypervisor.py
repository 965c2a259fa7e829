"""A hypervisor for other processes: a fake libvirt-python there, and the daemon and its guests here.

All processes see the same hypervisor: one watches it, and another one, which it starts, uses a guest's agent.
"""

from __future__ import annotations

import contextlib
import errno
import json
import socket
import threading
from collections.abc import Mapping
from multiprocessing.connection import Client, Listener
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fakes.domains import RUNNING, Definition, Domain
from tests.fakes.libvirt import Connection, FakeHypervisor
from tests.fakes.libvirt_replies import SYSTEM_ERROR, LibvirtError, answers_by

if TYPE_CHECKING:
    from tests.fakes.agent import Agent

_AUTHKEY = b"hypervisor"
_JOIN_SECONDS = 20.0

# The requests of a process, one for each connection.
_DEFINITIONS = "definitions"
_EVENTS = "events"
_COMMAND = "command"

# The source of both modules of libvirt-python.
_MODULE = """
import sys
from tests.processes.remote_hypervisor import RemoteHypervisor
sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = RemoteHypervisor({path!r})
"""


class Hypervisor:
    """The daemon, and its guests by name. As a context manager, it serves in ``directory``."""

    def __init__(self, directory: Path, guests: Mapping[str, Agent]) -> None:
        self.guests = guests
        self._answers = {name: answers_by(agent) for name, agent in guests.items()}
        self.metadata: dict[str, str] = {}
        self.states: dict[str, int] = dict.fromkeys(guests, RUNNING)
        self.commands: list[tuple[str, str]] = []  # domain, command
        self._directory = directory
        self._path = directory / "libvirt.sock"
        self._lock = threading.Lock()
        self._listeners: list[Pipe] = []
        self._is_down = False
        self._is_closing = False

    def __enter__(self) -> Hypervisor:
        for name in ("libvirt", "libvirt_qemu"):
            (self._directory / f"{name}.py").write_text(_MODULE.format(path=str(self._path)))
        self._listener = Listener(str(self._path), "AF_UNIX", authkey=_AUTHKEY)
        self._thread = threading.Thread(target=self._serve, name="hypervisor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_closing = True
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as bell:
            bell.connect(str(self._path))
        self._thread.join(_JOIN_SECONDS)
        self._listener.close()
        self._hang_up()

    def fire(self, what: str, *arguments: object) -> None:
        """Fire an event. ``what`` is a method of :class:`tests.fakes.libvirt.FakeHypervisor`."""
        with self._lock:
            for pipe in self._listeners:
                pipe.send((what, arguments))

    def stop_daemon(self) -> None:
        self._is_down = True
        self._hang_up()

    def start_daemon(self) -> None:
        self._is_down = False

    def _hang_up(self) -> None:
        with self._lock:
            for pipe in self._listeners:
                pipe.close()
            self._listeners.clear()

    def _serve(self) -> None:
        while not self._is_closing:
            with contextlib.suppress(OSError, EOFError):
                pipe = self._listener.accept()
                threading.Thread(target=self._answer, args=(pipe,), name="hypervisor's client", daemon=True).start()

    def _answer(self, pipe: Pipe) -> None:
        with contextlib.suppress(OSError, EOFError):
            what, *arguments = pipe.recv()
            if self._is_down:
                pipe.close()
            elif what == _EVENTS:
                with self._lock:
                    self._listeners.append(pipe)
                    pipe.send(True)
                return
            elif what == _DEFINITIONS:
                known = self.metadata
                pipe.send([{"name": n, "state": self.states[n], "metadata": known.get(n)} for n in self.guests])
            else:
                pipe.send(self._command(*arguments))
            pipe.close()

    def _command(self, name: str, text: str) -> tuple[int, str]:
        """Return 0 and the reply, or an error's number and text."""
        request = json.loads(text)
        with self._lock:
            self.commands.append((name, request["execute"]))
        try:
            return 0, self._answers[name](request)
        except LibvirtError as error:
            return error.get_error_code(), error.get_error_message()


class RemoteHypervisor(FakeHypervisor):
    """``libvirt`` and ``libvirt_qemu`` in another process."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._has_loop = False

    def virEventRegisterDefaultImpl(self) -> int:  # noqa: N802  # libvirt's name
        self._has_loop = True
        return super().virEventRegisterDefaultImpl()

    def registerErrorHandler(self, _handler: object, _context: object) -> None:  # noqa: N802
        """Ignore the handler, because nothing is printed here."""

    def open(self, uri: str) -> Connection:
        with self._asked(_DEFINITIONS) as pipe:
            self.definitions = [Definition(**defined) for defined in pipe.recv()]
        connection = super().open(uri)
        if self._has_loop:
            events = Client(self._path, "AF_UNIX", authkey=_AUTHKEY)
            events.send((_EVENTS,))
            events.recv()
            threading.Thread(target=self._listen, args=(events,), name="hypervisor's events", daemon=True).start()
        return connection

    def qemuAgentCommand(self, domain: Domain, text: str, _timeout: int, _flags: int) -> str:  # noqa: N802
        with self._asked(_COMMAND, domain.name(), text) as pipe:
            code, reply = pipe.recv()
        if code:
            raise LibvirtError(code, reply)
        return str(reply)

    @contextlib.contextmanager
    def _asked(self, *what: object) -> Any:
        try:
            with Client(self._path, "AF_UNIX", authkey=_AUTHKEY) as pipe:
                pipe.send(what)
                yield pipe
        except (OSError, EOFError):
            refused = "Failed to connect socket: Connection refused"
            raise LibvirtError(SYSTEM_ERROR, refused, errno.ECONNREFUSED) from None

    def _listen(self, events: Pipe) -> None:
        try:
            while True:
                what, arguments = events.recv()
                getattr(self, what)(*arguments)
        except (OSError, EOFError):
            self.break_connections()
