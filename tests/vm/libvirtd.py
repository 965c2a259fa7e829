"""Have a libvirt to talk to: use the one that runs, or start one and remember that it is ours."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import libvirt

from tests.vm.errors import VmError
from tests.vm.lock import locked
from tests.vm.paths import state_dir

URI = "qemu:///system"
START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 15.0
# sbin is not in everybody's PATH.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# In the order in which they must start; they end in the reverse order.
DAEMONS = ("virtlogd", "libvirtd")
QEMU_CONF = Path("/etc/libvirt/qemu.conf")
# libvirt asks QEMU what it can do with CAP_DAC_OVERRIDE, and then tests whether its own QEMU user may open
# /dev/kvm. Where only root may (no udev has given the device its group), the two contradict each other and it
# asks again, for 8 s, at every turn: 70 s for one definition. With root as the QEMU user they agree.
# Control groups are the machine's, where two daemons with a domain of the same name would meet.
OUR_QEMU_CONF = 'user = "root"\ngroup = "root"\ncgroup_controllers = []\n'
# Lays one file over another in a mount namespace of its own, where nobody else sees it, and becomes the rest.
WITH_OUR_CONF = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


@dataclasses.dataclass(frozen=True)
class Daemon:
    """A daemon that we started."""

    name: str
    pid: int
    # From /proc/PID/stat: a process that was given the same number later has another.
    start_ticks: int

    def runs(self) -> bool:
        return _start_ticks(self.pid) == self.start_ticks


def connect(say: Callable[[str], None] = print) -> libvirt.virConnect:
    """A connection to libvirt, which is started if nothing answers."""
    # libvirt-python prints every error to stderr besides raising it.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        return libvirt.open(URI)
    except libvirt.libvirtError:
        pass
    with locked(state_dir() / "libvirtd.lock"):
        try:
            # Somebody else may have started it while we waited for the lock.
            return libvirt.open(URI)
        except libvirt.libvirtError:
            _start(say)
        return _open_by(time.monotonic() + START_DEADLINE_S)


def stop(say: Callable[[str], None] = print) -> None:
    """End the daemons that we started, and no others, unless somebody's guest still runs under them."""
    with locked(state_dir() / "libvirtd.lock"):
        ours = [daemon for daemon in _recorded() if daemon.runs()]
        running = _running_domains() if ours else []
        if running:
            say(f"libvirtd is left running for {', '.join(running)}")
            return
        for daemon in reversed(ours):
            os.kill(daemon.pid, signal.SIGTERM)
            _await_end(daemon)
            say(f"ended {daemon.name} (process {daemon.pid})")
        _record_path().unlink(missing_ok=True)


def restart(say: Callable[[str], None] = print, how: signal.Signals = signal.SIGTERM) -> None:
    """End libvirtd by this signal and start it again under its guests, which run on. All connections to it break."""
    with locked(state_dir() / "libvirtd.lock"):
        if _is_systemd():
            say("restarting libvirtd by systemctl")
            kill = ["systemctl", "kill", f"--signal={how.name}", "libvirtd"]
            for command in (kill, ["systemctl", "restart", "libvirtd"]):
                subprocess.run(command, check=False, stdin=subprocess.DEVNULL)
        else:
            ours = [daemon for daemon in _recorded() if daemon.runs() and daemon.name == "libvirtd"]
            if not ours:
                raise VmError("libvirtd was not started by these tests, so they do not restart it.")
            os.kill(ours[0].pid, how)
            _await_end(ours[0])
            _start(say)
        _open_by(time.monotonic() + START_DEADLINE_S).close()


def _is_own() -> bool:
    """Whether this process has a libvirt of its own (tests/setup/with-guests), which nobody else can have started."""
    return bool(os.environ.get("QGA_OWN_LIBVIRT"))


def _is_systemd() -> bool:
    # sd_booted(3): this directory exists if and only if systemd is the service manager.
    return Path("/run/systemd/system").is_dir() and not _is_own()


def _start(say: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        raise VmError(
            f"libvirt does not answer at {URI}: run this as root, or start libvirtd and join the group libvirt."
        )
    programs = {name: shutil.which(name, path=SEARCH_PATH) for name in DAEMONS}
    if None in programs.values() or not shutil.which("qemu-system-x86_64"):
        raise VmError("libvirt or QEMU is not installed: apt-get install libvirt-daemon-system qemu-system-x86.")
    if _is_systemd():
        say("starting libvirtd by systemctl")
        subprocess.run(["systemctl", "start", "libvirtd"], check=False, stdin=subprocess.DEVNULL)
        return
    begun = [daemon for daemon in _recorded() if daemon.runs()]
    running = {daemon.name for daemon in begun}
    for name, program in programs.items():
        if name not in running and (_is_own() or not _pid_file_lives(name)):
            say(f"starting {name}")
            begun.append(_daemonise(name, str(program)))
            _record(begun)


def _daemonise(name: str, program: str) -> Daemon:
    log = state_dir() / f"{name}.log"
    with log.open("ab") as output:
        result = subprocess.run(
            [*_with_our_conf(), program, "--daemon", "--pid-file", str(_pid_file(name))],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=START_DEADLINE_S,
        )
    pid = _pid_from(_pid_file(name))
    ticks = _start_ticks(pid) if pid else None
    if result.returncode != 0 or pid is None or ticks is None:
        raise VmError(f"{name} did not start (status {result.returncode}): see {log}.")
    return Daemon(name, pid, ticks)


def _with_our_conf() -> list[str]:
    """The start of a command that reads our qemu.conf instead of the system's, which stays as it is."""
    ours = state_dir() / QEMU_CONF.name
    ours.write_text(OUR_QEMU_CONF)
    script = ["sh", "-c", WITH_OUR_CONF, "sh", str(ours), str(QEMU_CONF)]
    return ["unshare", "--mount", "--propagation", "slave", *script]


def _open_by(deadline: float) -> libvirt.virConnect:
    while True:
        try:
            return libvirt.open(URI)
        except libvirt.libvirtError as error:
            if time.monotonic() > deadline:
                raise VmError(f"libvirtd was started but does not answer at {URI}: {error}.") from None
            time.sleep(0.1)


def _running_domains() -> list[str]:
    try:
        connection = libvirt.open(URI)
    except libvirt.libvirtError:
        return []
    domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    return [domain.name() for domain in domains]


def _await_end(daemon: Daemon) -> None:
    deadline = time.monotonic() + STOP_DEADLINE_S
    while daemon.runs():
        if time.monotonic() > deadline:
            raise VmError(f"{daemon.name} (process {daemon.pid}) does not end.")
        time.sleep(0.05)


def process() -> int | None:
    """Return the process of libvirtd: ours, or else the machine's."""
    ours = [daemon.pid for daemon in _recorded() if daemon.runs() and daemon.name == "libvirtd"]
    return ours[0] if ours else _pid_from(Path("/run/libvirtd.pid"))


def _pid_file(name: str) -> Path:
    """Of a daemon that we start. Its own place would be /run, which is the machine's."""
    return state_dir() / f"{name}.pid"


def _pid_from(file: Path) -> int | None:
    # The daemons write the file before their first process returns.
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _pid_file_lives(name: str) -> bool:
    pid = _pid_from(Path(f"/run/{name}.pid"))
    try:
        # One that was killed leaves its file behind, and is a zombie where nobody reaps it.
        alive = pid is not None and _start_ticks(pid) is not None
        return alive and Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def _start_ticks(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # proc(5): the command's name, in brackets, may hold spaces; state is field 3, starttime field 22.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


def _record_path() -> Path:
    return state_dir() / "daemons.json"


def _record(daemons: list[Daemon]) -> None:
    _record_path().write_text(json.dumps([dataclasses.asdict(daemon) for daemon in daemons]))


def _recorded() -> list[Daemon]:
    try:
        return [Daemon(**entry) for entry in json.loads(_record_path().read_text())]
    except FileNotFoundError:
        return []
