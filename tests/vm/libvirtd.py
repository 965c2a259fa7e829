"""The libvirt that test guests run under: one of our own within tests/setup/with-guests, or else the machine's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import libvirt

from tests.support.until import until
from tests.vm.errors import VmError
from tests.vm.lock import locked
from tests.vm.paths import state_dir

URI = "qemu:///system"
DEADLINE_S = 30.0
# In the order in which they must start. sbin is not in everybody's PATH.
DAEMONS = ("virtlogd", "libvirtd")
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# libvirt asks QEMU what it can do with CAP_DAC_OVERRIDE, and then tests whether its own QEMU user may open
# /dev/kvm. Where only root may (no udev has given the device its group), the two contradict each other and it
# asks again, for 8 s, at every turn: 70 s for one definition. With root as the QEMU user they agree.
# Control groups are the machine's, where two daemons with a domain of the same name would meet.
OUR_QEMU_CONF = 'user = "root"\ngroup = "root"\ncgroup_controllers = []\n'


def connect(say: Callable[[str], None] = print) -> libvirt.virConnect:
    """A connection to libvirt. One of our own is started if it does not run yet; it ends with with-guests."""
    # libvirt-python prints every error to stderr besides raising it.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    with suppress(libvirt.libvirtError):
        return libvirt.open(URI)
    if not _is_own():
        raise VmError(f"libvirt does not answer at {URI}: start it, or run this as root by tests/setup/with-guests.")
    with locked(state_dir() / "libvirtd.lock"):
        # Another process may have started it while this one waited for the lock.
        with suppress(libvirt.libvirtError):
            return libvirt.open(URI)
        for name in DAEMONS:
            if process(name) is None:
                say(f"starting {name}")
                _start(name)
        return _open()


def restart(how: signal.Signals = signal.SIGTERM) -> None:
    """End libvirtd by this signal and start it again under its guests, which run on. All connections to it break."""
    pid = process()
    if not _is_own() or pid is None:
        raise VmError("libvirtd was not started by these tests, so they do not restart it.")
    with locked(state_dir() / "libvirtd.lock"):
        os.kill(pid, how)
        until(lambda: process() is None, "libvirtd does not end", DEADLINE_S)
        _start("libvirtd")
        _open().close()


def process(name: str = "libvirtd") -> int | None:
    """Return the process of a daemon, if it runs."""
    file = _pid_file(name) if _is_own() else Path(f"/run/{name}.pid")
    # One that has ended is a zombie until it is reaped.
    with suppress(OSError, ValueError):
        pid = int(file.read_text())
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            return pid
    return None


def _is_own() -> bool:
    return bool(os.environ.get("QGA_OWN_LIBVIRT"))


def _pid_file(name: str) -> Path:
    return state_dir() / f"{name}.pid"


def _start(name: str) -> None:
    program = shutil.which(name, path=SEARCH_PATH)
    if program is None:
        raise VmError(f"{name} is not installed: apt-get install libvirt-daemon-system qemu-system-x86.")
    # with-guests has put a directory of our own in the place of the machine's.
    Path("/etc/libvirt/qemu.conf").write_text(OUR_QEMU_CONF)
    subprocess.run([program, "--daemon", "--pid-file", str(_pid_file(name))], check=True, stdin=subprocess.DEVNULL)


def _open() -> libvirt.virConnect:
    opened: list[libvirt.virConnect] = []

    def answers() -> bool:
        with suppress(libvirt.libvirtError):
            opened.append(libvirt.open(URI))
        return bool(opened)

    until(answers, f"libvirtd was started and does not answer at {URI}", DEADLINE_S)
    return opened[0]
