"""The XML that defines a guest for libvirt."""

from __future__ import annotations

import dataclasses
import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from tests.vm.image import Image

# Marks the domains of these tests; no other domain is ever touched.
METADATA_URI = "urn:qemu.guest_agent:test-guest"
METADATA_PREFIX = "qga"

AGENT_PORT = "org.qemu.guest_agent.0"
WITNESS_PORT = "org.qemu.guest_agent.witness"

KERNEL_ARGUMENTS = (
    "root=/dev/vda",
    "rootfstype=ext4",
    "rw",
    "console=ttyS0",
    # The emulated serial line is slow, and every line of the boot waits for it.
    "quiet",
    "systemd.show_status=false",
    # The kernel panics if no timer interrupt arrives within some milliseconds. On a busy machine QEMU's timer thread
    # may be delayed for longer: of 80 guests that booted 20 at a time, two panicked.
    "no_timer_check",
    "fsck.mode=skip",
    "mitigations=off",
    "audit=0",
    "net.ifnames=0",
    # Drivers that udev would load needlessly.
    "module_blacklist=floppy,kvm,kvm_amd,powernow_k8,psmouse",
)


@dataclasses.dataclass(frozen=True)
class GuestFiles:
    """A guest's own files on the host, all in one directory that is removed with it."""

    directory: Path

    @property
    def overlay(self) -> Path:
        return self.directory / "overlay.qcow2"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def witness(self) -> Path:
        return self.directory / "witness.sock"

    @property
    def saved(self) -> Path:
        return self.directory / "saved"


def domain_xml(
    name: str, image: Image, files: GuestFiles, memory_mib: int, security_models: Sequence[str], catches_up: bool
) -> str:
    """Return the domain's XML. ``catches_up``: its RTC injects lost ticks later, as is usual for Windows."""
    # Hardware virtualization is unreliable even if /dev/kvm opens: nested, it may hang.
    domain = ET.Element("domain", type="qemu")
    _text(domain, "name", name)
    metadata = _child(domain, "metadata")
    _child(metadata, f"{{{METADATA_URI}}}guest", directory=str(files.directory))
    _text(domain, "memory", str(memory_mib), unit="MiB")
    _text(domain, "vcpu", "1")
    boot = _child(domain, "os")
    _text(boot, "type", "hvm", arch="x86_64", machine="pc")
    _text(boot, "kernel", str(image.kernel))
    _text(boot, "initrd", str(image.initrd))
    _text(boot, "cmdline", " ".join((*KERNEL_ARGUMENTS, f"systemd.hostname={name}")))
    _child(_child(domain, "features"), "acpi")
    clock = _child(domain, "clock", offset="utc")
    if catches_up:
        _child(clock, "timer", name="rtc", tickpolicy="catchup")
    devices = _child(domain, "devices")
    disk = _child(devices, "disk", type="file", device="disk")
    # The overlay is deleted with the guest: its writes need not reach the disk.
    _child(disk, "driver", name="qemu", type="qcow2", cache="unsafe")
    _child(disk, "source", file=str(files.overlay))
    _child(disk, "target", dev="vda", bus="virtio")
    agent = _child(devices, "channel", type="unix")
    _child(agent, "target", type="virtio", name=AGENT_PORT)
    witness = _child(devices, "channel", type="unix")
    _child(witness, "source", mode="bind", path=str(files.witness))
    _child(witness, "target", type="virtio", name=WITNESS_PORT)
    serial = _child(devices, "serial", type="file")
    _child(serial, "source", path=str(files.console), append="on")
    _child(serial, "target", port="0")
    _text(_child(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    _child(devices, "memballoon", model="none")
    _security(domain, security_models)
    return ET.tostring(domain, encoding="unicode")


def _security(domain: ET.Element, models: Sequence[str]) -> None:
    # QEMU runs as the user of the tests, so that it can read files in a private home directory without a change to
    # libvirt's configuration.
    for model in models:
        if model == "dac":
            label = _child(domain, "seclabel", type="static", model="dac", relabel="no")
            _text(label, "label", f"+{os.geteuid()}:+{os.getegid()}")
        elif model != "none":
            _child(domain, "seclabel", type="none", model=model)


def _child(parent: ET.Element, tag: str, **attributes: str) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    _child(parent, tag, **attributes).text = text


ET.register_namespace(METADATA_PREFIX, METADATA_URI)
