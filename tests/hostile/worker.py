"""A process that runs the modules against hostile agents, one case after the other, and measures each case.

Each line of standard input is a case, and each line of standard output its verdict. It exits at the end of its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import io
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from tests.support.collection import make_importable

make_importable()

from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import methods, options  # noqa: E402
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections  # noqa: E402
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time  # noqa: E402

from tests.fakes import hypervisors  # noqa: E402
from tests.hostile.case import Case, Verdict  # noqa: E402
from tests.hostile.libvirt_client import RemoteLibvirt  # noqa: E402
from tests.support.ansible_core import module_args  # noqa: E402

MODULES: Mapping[str, ModuleType] = {"qga_info": qga_info, "qga_update_time": qga_update_time}

# The extra timeout of a step. The real one is five seconds, for a hwclock that no hostile agent runs.
_HWCLOCK_SECONDS = 0.5

_WORTHWHILE_KIB = 1024
_LIBC = ctypes.CDLL(None)

# An abandoned call through libvirt continues for the rest of its last second.
_SETTLE_SECONDS = 60.0
_POLL_SECONDS = 0.02


def run(case: Case, baseline_kib: int = 0) -> Verdict:
    threads, descriptors = set(threading.enumerate()), _descriptors()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak to the present size
    began = time.monotonic()
    with _in_place(case):
        output, noise = _printed(case)
    seconds = time.monotonic() - began
    try:
        result, more = json.loads(output), ""
    except ValueError:
        result, more = None, output
    # Wait for threads that end by themselves, and collect garbage, because an error's traceback still holds a channel.
    until = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < until and not (set(threading.enumerate()) <= threads and _descriptors() <= descriptors):
        time.sleep(_POLL_SECONDS)
        gc.collect()
    peak_kib = _memory("VmHWM") - baseline_kib  # includes the late reply of an abandoned call
    # Return free memory to the system, as far as the C library can (malloc_trim(3)), if that is worth the time.
    if _memory("VmRSS") > baseline_kib + _WORTHWHILE_KIB:
        gc.collect()
        _LIBC.malloc_trim(0)
    return Verdict(
        result,
        noise + more,
        seconds,
        peak_kib,
        _memory("VmRSS") - baseline_kib,
        [each.name for each in threading.enumerate() if each not in threads],
        sorted(_descriptors() - descriptors),
    )


def _printed(case: Case) -> tuple[str, str]:
    """Run the module. Return its standard output, and its traceback with its standard error."""
    output, errors = io.StringIO(), io.StringIO()
    trace = ""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors), module_args(dict(case.arguments)):
        try:
            MODULES[case.module].main()
        except SystemExit:
            pass
        except BaseException:
            trace = traceback.format_exc()
    return output.getvalue(), trace + errors.getvalue()


@contextlib.contextmanager
def _in_place(case: Case) -> Iterator[None]:
    """Replace libvirt and vsock with fakes."""
    libvirt: Any = RemoteLibvirt(case.libvirtd) if case.libvirtd is not None else None
    if case.hypervisors is not None:
        made, *arguments = case.hypervisors
        libvirt = getattr(hypervisors, made)(*arguments)
        libvirt.registerErrorHandler(connections._remember, None)
    with contextlib.ExitStack() as stack:
        if libvirt is not None:
            stack.enter_context(mock.patch.object(connections, "import_libvirt", libvirt.modules))
        if case.vsock is not None:
            stack.enter_context(mock.patch.object(socket, "socket", _vsock_at(case.vsock)))
        yield


def _vsock_at(path: str) -> type[socket.socket]:
    class StandIn(socket.socket):
        """Connects to a unix socket for vsock, because many machines have no loopback for vsock."""

        def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
            self.is_vsock = family == socket.AF_VSOCK
            super().__init__(socket.AF_UNIX if self.is_vsock else family, *rest, **named)

        def connect_ex(self, address: Any) -> int:
            return super().connect_ex(path if self.is_vsock else address)

    return StandIn


def _descriptors() -> set[str]:
    """Return each descriptor with its target, because a number may be reused for another file."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def _memory(what: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what))


def main() -> None:
    quick = methods.Timings(hwclock=_HWCLOCK_SECONDS)
    options.ResyncOptions = functools.partial(methods.ResyncOptions, timings=quick)
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    baseline_kib = 0
    for line in sys.stdin:
        case = Case(**json.loads(line))
        print(json.dumps(asdict(run(case, baseline_kib))), file=output, flush=True)
        # The first case has an honest agent, and imports everything.
        baseline_kib = baseline_kib or _memory("VmRSS")


if __name__ == "__main__":
    main()
