"""Guests from a saved state: a guest of each kind is booted once, and all others of that kind are restored from it.

Theory of operation
-------------------
A boot takes 15 s under software emulation and a deployment a minute; a restore takes about a second. So the first time
that a kind of guest is wanted, one is booted (with the extended agent: restored and deployed to), brought to rest, and
saved. Its memory and its disk's overlay stay in the cache beside the image, under a key that holds everything they
depend on. Each guest then has a copy of both:

- the memory, with its own name, UUID and paths in the XML that libvirt keeps in front of it (``save_file``);
- the overlay, as it was when the memory was saved.

After the restore, the guest's clock is set right and it gets its own host name, both by the witness: neither the stock
agent nor the collection is involved. What stays is the state's machine id, and its UUID in the firmware's tables until
the guest reboots.

A state that cannot be restored is discarded and made anew, once. Processes that restore hold its lock shared, one that
makes or discards it holds it alone. The name of the guest that a state is made of contains the key, so two clones with
different keys have nothing in common.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt

from tests.support.extended_agent import PACKAGE as EXTENDED_AGENT
from tests.support.role_package import ROOT
from tests.vm import cache, save_file
from tests.vm.deployment import deploy
from tests.vm.domain_xml import GuestFiles, domain_xml
from tests.vm.errors import VmError
from tests.vm.guest import Guest, files_of, new_files, security_models
from tests.vm.image import Image, image_for
from tests.vm.lock import locked
from tests.vm.recipe import DEFAULT_KIND, DEFAULT_RELEASE, KIND_MEMORY_MIB, recipe_for

# Raise it when this file makes something else of the same kind.
VERSION = 1
# Memory and overlay of the largest kind, and the guest's own overlay while it is made.
NEEDS_MIB = 1500
# A restored guest answers within a second on a quiet machine.
ANSWER_DEADLINE_S = 60.0
# The fields of /proc/cpuinfo that say which processor it is, and not how it is doing.
_CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")

Say = Callable[[str], None]


@dataclass(frozen=True)
class GuestKind:
    """All that distinguishes test guests from each other, except for their names."""

    release: str = DEFAULT_RELEASE
    kind: str = DEFAULT_KIND
    # The extended agent was deployed to it, by its role.
    is_extended: bool = False
    # Its RTC injects lost ticks later, as is usual for Windows.
    catches_up: bool = False

    @property
    def label(self) -> str:
        """For people."""
        marks = ("extended" if self.is_extended else "", "catching-up" if self.catches_up else "")
        return "-".join(word for word in (self.release, self.kind, *marks) if word)

    def image(self, say: Say) -> Image:
        return image_for(recipe_for(self.release, kind=self.kind), say)


PLAIN = GuestKind()
EXTENDED = GuestKind(is_extended=True)


@dataclass(frozen=True)
class SavedState:
    """A guest at rest. Never written to: guests have copies."""

    directory: Path

    @property
    def memory(self) -> Path:
        return self.directory / "memory"

    @property
    def overlay(self) -> Path:
        return self.directory / "overlay.qcow2"


def restored(connection: libvirt.virConnect, name: str, kind: GuestKind = PLAIN, say: Say = print) -> Guest:
    """Return a new guest whose agent and witness answer and whose clock is right.

    :raises VmError: there is none to be had
    """
    for is_last in (False, True):
        state = _state_for(connection, kind, say)
        inode = state.directory.stat().st_ino
        try:
            return _restored(connection, name, state)
        except (_UnusableError, libvirt.libvirtError) as error:
            if is_last:
                raise VmError(f"The {kind.label} guest that was just saved cannot be restored: {error}") from None
            say(f"the saved {kind.label} guest cannot be restored and is made anew: {error}")
            cache.discard(state.directory, inode)
    raise AssertionError("unreachable")


def state_key(kind: GuestKind, image: Image, connection: libvirt.virConnect) -> str:
    """Return a name that changes when anything does that the saved state depends on."""
    xml = domain_xml(
        "qga-key",
        image,
        GuestFiles(Path("/key")),
        KIND_MEMORY_MIB[kind.kind],
        1,
        security_models(connection),
        kind.catches_up,
    )
    parts = {
        "version": VERSION,
        "kind": kind.label,
        "image": image.directory.name,
        "xml": xml,
        "qemu": _output("qemu-system-x86_64", "--version"),
        "libvirt": connection.getLibVersion(),
        "cpu": _cpu(Path("/proc/cpuinfo").read_text()),
        "deployed": _deployed() if kind.is_extended else {},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class _UnusableError(VmError):
    """The state is not what it should be."""


def _state_for(connection: libvirt.virConnect, kind: GuestKind, say: Say) -> SavedState:
    image = kind.image(say)
    key = state_key(kind, image, connection)

    def make(directory: Path) -> None:
        cache.remove_unused("state-*")
        begun = time.monotonic()
        say(f"making a saved {kind.label} guest, once: {_way(kind)}")
        _make(connection, kind, f"qga-state-{key}", SavedState(directory), say)
        say(f"saved a {kind.label} guest in {time.monotonic() - begun:.0f} s")

    return SavedState(cache.entry(f"state-{kind.label}-{key}", make, NEEDS_MIB))


def _way(kind: GuestKind) -> str:
    return "the extended agent is deployed, about a minute" if kind.is_extended else "it boots, about half a minute"


def _make(connection: libvirt.virConnect, kind: GuestKind, name: str, state: SavedState, say: Say) -> None:
    # We hold the lock of this state, so nobody else is making it.
    Guest.clear(connection, name)
    try:
        with _made(connection, kind, name, say) as guest:
            guest.rest()
            guest.save(state.memory)
            shutil.move(guest.files.overlay, state.overlay)
    except libvirt.libvirtError as error:
        raise VmError(f"The {kind.label} guest could not be saved: {error}.") from None


@contextmanager
def _made(connection: libvirt.virConnect, kind: GuestKind, name: str, say: Say) -> Iterator[Guest]:
    if kind.is_extended:
        with restored(connection, name, dataclasses.replace(kind, is_extended=False), say) as guest:
            deploy(guest)
            yield guest
    else:
        memory_mib = KIND_MEMORY_MIB[kind.kind]
        with Guest.create(
            connection, name, kind.image(say), memory_mib=memory_mib, catches_up=kind.catches_up
        ) as guest:
            guest.wait()
            yield guest


def _restored(connection: libvirt.virConnect, name: str, state: SavedState) -> Guest:
    files = new_files(connection, name)
    try:
        with locked(cache.lock_of(state.directory), shared=True):
            _copy(state, name, files)
        guest = Guest(connection.defineXML(save_file.read_xml(files.saved)), files)
    except BaseException:
        shutil.rmtree(files.directory)
        raise
    try:
        guest.restore()
        _come_to(guest)
    except VmError as error:
        guest.destroy()
        raise _UnusableError(str(error)) from None
    except BaseException:
        guest.destroy()
        raise
    return guest


def _copy(state: SavedState, name: str, files: GuestFiles) -> None:
    try:
        shutil.copyfile(state.overlay, files.overlay)
        save_file.copy_with_xml(state.memory, files.saved, lambda xml: _renamed(xml, name, files))
    except (FileNotFoundError, VmError) as error:
        raise _UnusableError(str(error)) from None
    except OSError as error:
        raise VmError(f"The files of {name} could not be written to {files.directory}: {error.strerror}.") from None


def _come_to(guest: Guest) -> None:
    """Make a guest of its own out of the copy."""
    guest.witness.wait(ANSWER_DEADLINE_S)
    guest.witness.rename(guest.name)
    guest.witness.step(-guest.witness.offset().offset_ns)
    guest.wait_for_agent(ANSWER_DEADLINE_S)


def _renamed(xml: str, name: str, files: GuestFiles) -> str:
    """Return the XML of a saved guest with another name, directory and UUID."""
    domain = ET.fromstring(xml)
    old_name, old_files = domain.findtext("name"), files_of(domain)
    if not old_name or old_files is None:
        raise VmError("the saved domain is not a test guest.")

    def new(text: str) -> str:
        # Both are unique, since they contain the state's key. The directory contains the name, so it comes first.
        return text.replace(str(old_files.directory), str(files.directory)).replace(old_name, name)

    for element in domain.iter():
        element.text = element.text and new(element.text)
        for attribute, value in element.items():
            element.set(attribute, new(value))
    own_uuid = domain.find("uuid")
    if own_uuid is not None:
        own_uuid.text = str(uuid.uuid4())
    return ET.tostring(domain, encoding="unicode")


def _deployed() -> dict[str, str]:
    """Return the digests of all files that get into a guest with the role, or say what does."""
    roles = [ROOT / "roles" / name for name in (EXTENDED_AGENT.role, "qga_deployment")]
    files = [path for role in roles for path in role.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted({*files, *EXTENDED_AGENT.sources(ROOT)})
    }


def _cpu(cpuinfo: str) -> dict[str, str]:
    """Return what identifies the first processor: a guest's time stamp counter is the host's."""
    pairs = (line.partition(":") for line in cpuinfo.partition("\n\n")[0].splitlines())
    return {key: value.strip() for name, _colon, value in pairs if (key := name.strip()) in _CPU_FIELDS}


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise VmError(f"{command[0]} cannot be run ({error}): apt-get install qemu-system-x86.") from None
