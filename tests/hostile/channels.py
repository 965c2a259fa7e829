"""A hostile agent on each kind of channel, and the options for a module to reach it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.agent import serving
from tests.hostile.agent import HostileAgent, Play, honestly
from tests.hostile.attacks import LIBVIRT
from tests.hostile.case import Case
from tests.hostile.libvirt_daemon import Daemon
from tests.processes.socket_server import listen_tcp, listen_unix

_HOSTS = {"tcp": "127.0.0.1", "tcp6": "::1"}


@contextmanager
def reached(agent: HostileAgent, channel: str, module: str, **options: Any) -> Iterator[Case]:
    """Serve this agent on this channel and yield the case."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        path, daemon = str(directory / "agent.sock"), str(directory / "libvirt.sock")
        listener = listen_tcp(_HOSTS[channel]) if channel in _HOSTS else listen_unix(Path(path))
        stack.enter_context(serving(listener, agent))
        if channel == LIBVIRT:
            stack.enter_context(Daemon(Path(daemon), Path(path)))
        port = listener.getsockname()[1] if channel in _HOSTS else 0
        # The options that select the guest, and the fakes for the way to it.
        ways: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
            "unix": ({"socket": path}, {}),
            "tcp": ({"address": f"127.0.0.1:{port}"}, {}),
            "tcp6": ({"address": f"[::1]:{port}"}, {}),
            "vsock": ({"vsock": "42:9999"}, {"vsock": path}),
            LIBVIRT: ({"domain": "tenant"}, {"libvirtd": daemon}),
        }
        named, stand_ins = ways[channel]
        yield Case(module, {**named, **options}, **stand_ins)


@contextmanager
def several(plays: Mapping[str, Play]) -> Iterator[dict[str, str]]:
    """Yield the names of plays by sockets. A guest begins its play at the first request that is not a sync."""

    def after_sync(play: Play) -> Play:
        return lambda asked: honestly(asked) if asked.command.startswith("guest-sync") else play(asked)

    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        names = {}
        for number, (name, play) in enumerate(plays.items()):
            path = directory / f"{number:03}.sock"
            stack.enter_context(serving(listen_unix(path), HostileAgent(after_sync(play))))
            names[str(path)] = name
        yield names
