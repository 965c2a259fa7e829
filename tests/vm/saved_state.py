"""Guests from a saved state: a guest of each kind is booted once, and all others of that kind are restored from it.

Theory of operation
-------------------
A boot takes 15 s under software emulation and a deployment a minute; a restore takes about a second. So the first time
that a kind of guest is needed, one is booted (for the extended agent: restored and deployed to), left to become idle,
and saved. Its memory and its disk's overlay stay in the cache next to the image, under a key that covers everything
they depend on. Each guest then gets a copy of both:

- the memory, with the guest's own name, UUID and paths in the XML at the head of the file (``save_file``);
- the overlay, as it was when the memory was saved.

After the restore, the witness sets the guest's clock and its host name: neither the stock agent nor the collection is
involved. The guest keeps the state's machine ID, and until it reboots the state's UUID in the firmware's tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable
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
from tests.vm.recipe import DEFAULT_KIND, DEFAULT_RELEASE, KIND_MEMORY_MIB, recipe_for

# Increase it when this file makes something else from the same kind.
VERSION = 1
# A restored guest answers within a second on a quiet machine.
ANSWER_DEADLINE_S = 60.0
# The fields of /proc/cpuinfo that identify the processor, not its current state.
_CPU_FIELDS = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")

MEMORY, OVERLAY = "memory", "overlay.qcow2"

Say = Callable[[str], None]


@dataclass(frozen=True)
class GuestKind:
    """Everything that distinguishes test guests, except for their names."""

    release: str = DEFAULT_RELEASE
    kind: str = DEFAULT_KIND
    # The extended agent's role was run.
    is_extended: bool = False
    # Its RTC injects lost ticks later, as is usual for Windows.
    catches_up: bool = False

    @property
    def label(self) -> str:
        """The kind as text, for messages and file names."""
        marks = ("extended" if self.is_extended else "", "catching-up" if self.catches_up else "")
        return "-".join(word for word in (self.release, self.kind, *marks) if word)


PLAIN = GuestKind()
EXTENDED = GuestKind(is_extended=True)


def restored(connection: libvirt.virConnect, name: str, kind: GuestKind = PLAIN, say: Say = print) -> Guest:
    """Return a new guest whose agent and witness answer and whose clock is correct.

    :raises VmError: it cannot be made
    """
    state = _state_for(connection, kind, say)
    files = new_files(connection, name)
    guest = None
    try:
        shutil.copyfile(state / OVERLAY, files.overlay)
        save_file.copy_with_xml(state / MEMORY, files.saved, lambda xml: _renamed(xml, name, files))
        guest = Guest(connection.defineXML(save_file.read_xml(files.saved)), files)
        guest.restore()
        _individualize(guest)
    except BaseException as error:
        if guest is None:
            shutil.rmtree(files.directory)
        else:
            guest.destroy()
        if isinstance(error, Exception):
            hint = f"if its saved state is damaged, remove {state}"
            raise VmError(f"The {kind.label} guest cannot be restored: {error}; {hint}.") from error
        raise
    return guest


def state_key(kind: GuestKind, image: Image, connection: libvirt.virConnect) -> str:
    """Return a name that changes with everything that the saved state depends on."""
    files, models = GuestFiles(Path("/key")), security_models(connection)
    xml = domain_xml("qga-key", image, files, KIND_MEMORY_MIB[kind.kind], models, kind.catches_up)
    parts = {
        "version": VERSION,
        "kind": kind.label,
        "image": image.directory.name,
        "xml": xml,
        "qemu": subprocess.check_output(["qemu-system-x86_64", "--version"], text=True),
        "libvirt": connection.getLibVersion(),
        "cpu": _cpu(),
        "deployed": _deployed() if kind.is_extended else {},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _state_for(connection: libvirt.virConnect, kind: GuestKind, say: Say) -> Path:
    """Return the directory of an idle guest's state. It is never written to: guests have copies."""
    image = image_for(recipe_for(kind.release, kind.kind), say)
    key = state_key(kind, image, connection)
    name = f"qga-state-{key}"

    def make(directory: Path) -> None:
        cache.remove_unused("state-*")
        work = "deploying the extended agent takes a minute" if kind.is_extended else "booting takes half a minute"
        say(f"making the saved state of the {kind.label} guest, once: {work}")
        # This process holds the lock of this state, so no other process is making it.
        Guest.clear(connection, name)
        with _made(connection, kind, image, name, say) as guest:
            guest.rest()
            guest.save(directory / MEMORY)
            shutil.move(guest.files.overlay, directory / OVERLAY)

    return cache.entry(f"state-{kind.label}-{key}", make)


def _made(connection: libvirt.virConnect, kind: GuestKind, image: Image, name: str, say: Say) -> Guest:
    if kind.is_extended:
        guest = restored(connection, name, dataclasses.replace(kind, is_extended=False), say)
    else:
        guest = Guest.create(connection, name, image, KIND_MEMORY_MIB[kind.kind], kind.catches_up)
    try:
        if kind.is_extended:
            deploy(guest)
        else:
            guest.wait()
    except BaseException:
        guest.destroy()
        raise
    return guest


def _individualize(guest: Guest) -> None:
    """Give the copy its own host name and the correct time."""
    guest.witness.wait(ANSWER_DEADLINE_S)
    guest.witness.rename(guest.name)
    guest.witness.step(-guest.witness.offset().offset_ns)
    guest.wait_for_agent(ANSWER_DEADLINE_S)


def _renamed(xml: str, name: str, files: GuestFiles) -> str:
    """Return the XML of a saved guest with another name, directory and UUID."""
    domain = ET.fromstring(xml)
    old_name, old_files = domain.findtext("name"), files_of(domain)
    assert old_name, "the saved domain has no name"
    assert old_files, "the saved domain is not a test guest"

    def new(text: str) -> str:
        # Both are unique, since they contain the state's key. The directory contains the name, so replace it first.
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
    """Return the digests of the role's files, and of all files that it copies into a guest."""
    roles = [ROOT / "roles" / name for name in (EXTENDED_AGENT.role, "qga_deployment")]
    files = [path for role in roles for path in role.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted({*files, *EXTENDED_AGENT.sources(ROOT)})
    }


def _cpu() -> list[str]:
    """Return what identifies the first processor: a guest's time stamp counter is the host's."""
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    return [line for line in first.splitlines() if line.partition("\t")[0] in _CPU_FIELDS]
