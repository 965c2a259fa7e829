"""One test guest: boot, suspend, resume, save, restore and destroy it."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from tests.support.until import until
from tests.vm import libvirtd
from tests.vm.console import Console
from tests.vm.domain_xml import AGENT_PORT, METADATA_URI, GuestFiles, domain_xml
from tests.vm.errors import VmError
from tests.vm.image import Image
from tests.vm.paths import state_dir
from tests.vm.witness import Witness

STOCK_UNIT = "qemu-guest-agent.service"
NAME = re.compile(r"qga-[a-z0-9][a-z0-9-]{0,39}")
# sun_path of unix(7), with its final NUL.
SOCKET_PATH_LIMIT = 108
# A guest alone boots within 30 s; three side by side, beside other work on two processors, took up to 143 s.
BOOT_DEADLINE_S = 600.0
# In whole seconds, libvirt's unit. guest-set-time runs hwclock, which may take two.
ASK_DEADLINE_S = 30
# An idle guest uses a tenth of this: two programs in it poll for the host ten and twenty times a second.
LOAD_AT_REST = 0.3
# Each failed try adds a line to libvirtd's log.
RETRY_S = 0.2


class Guest:
    """A test domain. As a context manager, it is destroyed at the end."""

    uri = libvirtd.URI

    def __init__(self, domain: libvirt.virDomain, files: GuestFiles) -> None:
        self._handle = domain
        self.files = files
        self.name: str = domain.name()
        self.witness = Witness(files.witness)

    @classmethod
    def create(
        cls, connection: libvirt.virConnect, name: str, image: Image, memory_mib: int, catches_up: bool
    ) -> Guest:
        """Define a guest and start it; it has not booted yet on return."""
        files = new_files(connection, name)
        overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk), str(files.overlay)]
        subprocess.run(overlay, check=True)
        models = security_models(connection)
        guest = cls(connection.defineXML(domain_xml(name, image, files, memory_mib, models, catches_up)), files)
        try:
            guest.start()
        except BaseException:
            guest.destroy()
            raise
        return guest

    @classmethod
    def find(cls, connection: libvirt.virConnect, name: str) -> Guest | None:
        """Return an existing test guest; None: there is none of that name."""
        domain = _lookup(connection, name)
        files = files_of(ET.fromstring(domain.XMLDesc())) if domain is not None else None
        return cls(domain, files) if files is not None else None

    @classmethod
    def clear(cls, connection: libvirt.virConnect, name: str) -> None:
        """Destroy a test guest of that name, left over from a run that was killed, if there is one."""
        left_over = cls.find(connection, name)
        if left_over is not None:
            left_over.destroy()

    @property
    def _domain(self) -> libvirt.virDomain:
        """The domain, looked up again if libvirtd was restarted."""
        try:
            self._handle.connect().getLibVersion()  # a broken connection counts as alive until it is used
        except libvirt.libvirtError:
            self._handle = libvirtd.connect().lookupByName(self.name)
        return self._handle

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.destroy()

    @property
    def is_running(self) -> bool:
        return self._state() == int(libvirt.VIR_DOMAIN_RUNNING)

    @property
    def agent_is_connected(self) -> bool:
        """Whether libvirt reports that a process in the guest has the agent's channel open."""
        target = ET.fromstring(self._domain.XMLDesc()).find(f"./devices/channel/target[@name='{AGENT_PORT}']")
        return target is not None and target.get("state") == "connected"

    @property
    def state(self) -> str:
        """The state as text, for messages."""
        names = {
            libvirt.VIR_DOMAIN_RUNNING: "running",
            libvirt.VIR_DOMAIN_PAUSED: "paused",
            libvirt.VIR_DOMAIN_SHUTOFF: "saved" if self._domain.hasManagedSaveImage() else "shut off",
        }
        return names.get(self._state(), f"state {self._state()}")

    @property
    def console(self) -> Console:
        return Console(self.files.console)

    def start(self) -> None:
        """Boot, or resume from a managed save."""
        self._domain.create()

    def wait(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Return as soon as the stock agent and the witness answer."""
        self.wait_for_agent(deadline_s)
        self.witness.wait(deadline_s)

    def rest(self) -> None:
        """Return as soon as the guest has finished booting and its processor idles."""
        self.sh("systemctl is-system-running --wait || true; sync", BOOT_DEADLINE_S)
        until(lambda: self._load() <= LOAD_AT_REST, f"{self.name} does not become idle", BOOT_DEADLINE_S)

    def _load(self) -> float:
        """Return the share of a processor that QEMU uses, measured over a second."""
        began, used_ns = time.monotonic(), self._domain.info()[4]
        time.sleep(1.0)
        return (self._domain.info()[4] - used_ns) / 1e9 / (time.monotonic() - began)

    def wait_for_agent(self, deadline_s: float = BOOT_DEADLINE_S) -> None:
        """Return as soon as the stock agent answers a ping."""
        deadline = time.monotonic() + deadline_s
        while not self.answers(5):
            if time.monotonic() > deadline or not self._domain.isActive():
                # The console's file is removed with the guest.
                console = f"The end of its console:\n{self.console.tail()}"
                raise VmError(f"The agent of {self.name}, which is {self.state}, does not answer. {console}")
            time.sleep(RETRY_S)

    def ask(self, command: str, **arguments: Any) -> Any:
        """Return the agent's reply to a command; libvirt.libvirtError if it is an error."""
        return self.ask_raw(json.dumps({"execute": command, "arguments": arguments}))

    def ask_raw(self, request: str) -> Any:
        """As ``ask``, for a literal request."""
        return json.loads(libvirt_qemu.qemuAgentCommand(self._domain, request, ASK_DEADLINE_S, 0))["return"]

    def sh(self, script: str, deadline_s: float = 60.0) -> str:
        """Run a shell script as root in the guest, through its agent, and return its standard output."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        process = self.ask("guest-exec", **arguments)["pid"]
        deadline = time.monotonic() + deadline_s
        while not (status := self.ask("guest-exec-status", pid=process))["exited"]:
            if time.monotonic() > deadline:
                raise VmError(f"In {self.name}, this script has not ended after {deadline_s:g} s: {script}")
            time.sleep(RETRY_S)
        output, errors = (base64.b64decode(status.get(key, "")).decode() for key in ("out-data", "err-data"))
        if status.get("exitcode") != 0:
            raise VmError(f"In {self.name}, this script failed: {script}\n{errors}{output}")
        return output

    @contextlib.contextmanager
    def agent_stopped(self) -> Iterator[None]:
        """Stop the stock agent's process with SIGSTOP, so that it hangs, and continue it at the end."""
        self.witness.start(f"systemctl kill --signal=STOP {STOCK_UNIT}")
        try:
            until(lambda: not self.answers(), f"the agent of {self.name} still answers")
            yield
        finally:
            self.witness.start(f"systemctl kill --signal=CONT {STOCK_UNIT}")

    @contextlib.contextmanager
    def agent_away(self) -> Iterator[None]:
        """Stop the unit of the stock agent, and start it again at the end."""
        # Send no request meanwhile: qemu-ga 7.2 that received SIGTERM during a request has hung until systemd killed it
        # 90 s later. Its handler of SIGTERM calls g_main_loop_quit, which takes a lock (qga/main.c).
        self.witness.start(f"systemctl stop {STOCK_UNIT}")
        try:
            until(lambda: not self.agent_is_connected, f"the agent of {self.name} has not ended", BOOT_DEADLINE_S)
            yield
        finally:
            self.witness.start(f"systemctl start {STOCK_UNIT}")

    def answers(self, deadline_s: int = 3) -> bool:
        """Return whether the agent answers a ping within ``deadline_s``, in whole seconds."""
        try:
            libvirt_qemu.qemuAgentCommand(self._domain, '{"execute": "guest-ping"}', deadline_s, 0)
        except libvirt.libvirtError:
            return False
        return True

    def suspend(self) -> None:
        self._domain.suspend()

    def resume(self) -> None:
        self._domain.resume()

    def shut_down_by_agent(self) -> None:
        """As ``virsh shutdown --mode agent``; libvirt.libvirtError if the agent refuses."""
        self._domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)

    def suspend_to_memory(self) -> None:
        """As ``virsh dompmsuspend GUEST mem``, through the agent. Return when the guest can be woken."""
        self._domain.pMSuspendForDuration(libvirt.VIR_NODE_SUSPEND_TARGET_MEM, 0)
        asleep = int(libvirt.VIR_DOMAIN_PMSUSPENDED)
        until(lambda: self._state() == asleep, f"{self.name} is not suspended")

    def wake_up(self) -> None:
        """Wake up from ``suspend_to_memory``; it may take a moment until the guest runs."""
        self._domain.pMWakeup()

    def save(self, path: Path | None = None) -> Path:
        """Save the guest's memory to a file, and stop the guest."""
        path = path or self.files.saved
        self._domain.save(str(path))
        return path

    def restore(self, path: Path | None = None) -> None:
        """Restore the guest from a file, and remove the file: it must not be used twice with the same disk."""
        path = path or self.files.saved
        self._domain.connect().restore(str(path))
        path.unlink()

    def managed_save(self) -> None:
        """As ``save``, but libvirt keeps the file; ``start`` resumes from it."""
        self._domain.managedSave(0)

    def snapshot(self, name: str) -> None:
        """Take a snapshot of memory and disk in the overlay; the guest keeps running."""
        self._domain.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>", 0)

    def revert(self, name: str) -> None:
        """Revert to a snapshot."""
        self._domain.revertToSnapshot(self._domain.snapshotLookupByName(name, 0), 0)

    def delete_snapshot(self, name: str) -> None:
        self._domain.snapshotLookupByName(name, 0).delete(0)

    def destroy(self) -> None:
        """Destroy the guest and remove all its files."""
        if self._domain.isActive():
            self._domain.destroy()
        self._domain.undefineFlags(
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        )
        shutil.rmtree(self.files.directory, ignore_errors=True)

    def _state(self) -> int:
        return int(self._domain.state(0)[0])


def new_files(connection: libvirt.virConnect, name: str) -> GuestFiles:
    """Make an empty directory for a new guest.

    :raises VmError: a test guest cannot have that name
    """
    if not NAME.fullmatch(name):
        raise VmError(f"{name!r} is not a valid name for a test guest: use qga- and then a-z, 0-9 and dashes.")
    files = GuestFiles(state_dir() / "guests" / name)
    if len(str(files.witness)) >= SOCKET_PATH_LIMIT:
        raise VmError(f"{files.witness} is too long for a socket: set XDG_STATE_HOME to a shorter path.")
    if _lookup(connection, name) is not None:
        raise VmError(f"A domain {name} already exists.")
    # Left over from a guest whose domain was undefined by hand.
    shutil.rmtree(files.directory, ignore_errors=True)
    files.directory.mkdir(parents=True)
    return files


def files_of(domain: ET.Element) -> GuestFiles | None:
    """Return the files that a domain's definition records, or None: it is not a test guest."""
    record = domain.find(f"metadata/{{{METADATA_URI}}}guest")
    directory = record.get("directory") if record is not None else None
    return GuestFiles(Path(directory)) if directory else None


def _lookup(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def security_models(connection: libvirt.virConnect) -> list[str]:
    """Return the host's security models by their names in libvirt."""
    capabilities = ET.fromstring(connection.getCapabilities())
    return [model.text or "" for model in capabilities.findall("host/secmodel/model")]
