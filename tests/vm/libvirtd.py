"""The libvirt that runs the test guests: a private one within tests/setup/with-guests, otherwise the machine's."""

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
# In the order of their start. PATH does not always contain sbin.
DAEMONS = ("virtlogd", "libvirtd")
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# libvirt probes QEMU's capabilities with CAP_DAC_OVERRIDE, and then tests whether its QEMU user may open /dev/kvm. If
# only root may (without udev, which sets the device's group), the two contradict each other and libvirt repeats the
# probe, which takes 8 s, every time: 70 s for one definition. With root as the QEMU user they agree. Without cgroups,
# since those are the machine's, and two daemons with a domain of the same name would collide there.
OUR_QEMU_CONF = 'user = "root"\ngroup = "root"\ncgroup_controllers = []\n'


def connect(say: Callable[[str], None] = print) -> libvirt.virConnect:
    """Return a connection to libvirt. Start the private one if it is not running yet; it ends with with-guests."""
    # libvirt-python prints every error to stderr in addition to raising it.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    with suppress(libvirt.libvirtError):
        return libvirt.open(URI)
    if not _is_own():
        raise VmError(f"libvirt does not answer at {URI}: start it, or run this as root with tests/setup/with-guests.")
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
    """Stop libvirtd with this signal and start it again while its guests keep running. All connections to it break."""
    pid = process()
    if not _is_own() or pid is None:
        raise VmError("These tests did not start libvirtd, so they do not restart it.")
    with locked(state_dir() / "libvirtd.lock"):
        os.kill(pid, how)
        until(lambda: process() is None, "libvirtd does not end", DEADLINE_S)
        _start("libvirtd")
        _open().close()


def process(name: str = "libvirtd") -> int | None:
    """Return the process ID of a daemon; None: it is not running."""
    file = _pid_file(name) if _is_own() else Path(f"/run/{name}.pid")
    # A process that has ended is a zombie until it is reaped.
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
    # with-guests has mounted a private directory there.
    Path("/etc/libvirt/qemu.conf").write_text(OUR_QEMU_CONF)
    subprocess.run([program, "--daemon", "--pid-file", str(_pid_file(name))], check=True, stdin=subprocess.DEVNULL)


def _open() -> libvirt.virConnect:
    opened: list[libvirt.virConnect] = []

    def answers() -> bool:
        with suppress(libvirt.libvirtError):
            opened.append(libvirt.open(URI))
        return bool(opened)

    until(answers, f"libvirtd was started but does not answer at {URI}", DEADLINE_S)
    return opened[0]
