"""The recipe of a guest's image."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import stat
from pathlib import Path

# Increase it when image.py builds something else from the same recipe.
VERSION = 1

PACKAGES = ("dbus", "initramfs-tools", "iproute2", "kmod", "python3", "qemu-guest-agent", "udev")
INIT_PACKAGES = {
    "systemd": ("systemd", "systemd-sysv"),
    "sysvinit": ("sysv-rc", "sysvinit-core"),
    "openrc": ("openrc", "sysvinit-core"),
}
# The stock agent's guest-set-time runs /sbin/hwclock, which moved out of util-linux after bullseye.
RELEASE_PACKAGES = {"bullseye": (), "bookworm": ("util-linux-extra",), "trixie": ("util-linux-extra",)}
KERNEL = "linux-image-cloud-amd64"
# Linux 6.12 dies of double faults within seconds under the software emulation of QEMU 7.2, which bookworm has.
KERNEL_RELEASES = {"bullseye": "bullseye", "bookworm": "bookworm", "trixie": "bookworm"}
DEFAULT_RELEASE = "bookworm"

# Additional packages and memory by kind of guest.
KIND_PACKAGES = {
    "plain": (),
    # For guests of its own.
    "hypervisor": ("libvirt-clients", "libvirt-daemon-system", "python3-libvirt", "qemu-system-x86"),
    # Like plain, without systemd.
    "sysvinit": (),
    "openrc": (),
}
KIND_MEMORY_MIB = {"plain": 384, "hypervisor": 1024, "sysvinit": 384, "openrc": 384}
DEFAULT_KIND = "plain"
DEFAULT_INIT = "systemd"
# Init systems other than systemd.
KIND_INITS = {"sysvinit": "sysvinit", "openrc": "openrc"}

# Names without the suffix of systemd's units.
ENABLED_SERVICES = ("qga-witness",)
# Under software emulation, each delays the boot by a part of a second, or wakes the guest during a measurement.
_MASKED = {
    "timer": "apt-daily apt-daily-upgrade dpkg-db-backup e2scrub_all fstrim logrotate man-db systemd-tmpfiles-clean",
    "mount": "dev-hugepages dev-mqueue sys-fs-fuse-connections sys-kernel-config sys-kernel-debug sys-kernel-tracing",
    "service": (
        "console-getty e2scrub_reap getty@tty1 modprobe@configfs modprobe@dm_mod modprobe@drm modprobe@efi_pstore "
        "modprobe@fuse modprobe@loop serial-getty@ttyS0 systemd-binfmt systemd-logind systemd-pstore "
        "systemd-random-seed systemd-timesyncd systemd-update-utmp systemd-update-utmp-runlevel"
    ),
}
MASKED_UNITS = tuple(sorted(f"{name}.{kind}" for kind, names in _MASKED.items() for name in names.split()))

GUEST_ROOT = Path(__file__).parent / "guest_root"
# Additional files for guests without systemd.
INIT_SCRIPTS_ROOT = Path(__file__).parent / "guest_root_initd"


@dataclasses.dataclass(frozen=True)
class GuestFile:
    """A file that the tests add to a guest."""

    path: str
    content: bytes
    is_executable: bool = False


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines an image."""

    release: str
    kernel_release: str
    init: str
    packages: tuple[str, ...]
    files: tuple[GuestFile, ...]
    enabled_services: tuple[str, ...]
    # Only for systemd.
    masked_units: tuple[str, ...]
    version: int

    @property
    def key(self) -> str:
        """A name that changes when anything in the recipe does."""
        document = json.dumps(dataclasses.asdict(self), sort_keys=True, default=bytes.hex)
        return hashlib.sha256(document.encode()).hexdigest()[:16]


def recipe_for(release: str = DEFAULT_RELEASE, kind: str = DEFAULT_KIND) -> Recipe:
    """Return the recipe of a kind of guest."""
    kernel = f"{KERNEL}/{KERNEL_RELEASES[release]}"
    init = KIND_INITS.get(kind, DEFAULT_INIT)
    has_systemd = init == DEFAULT_INIT
    packages = (*PACKAGES, *INIT_PACKAGES[init], *RELEASE_PACKAGES[release], *KIND_PACKAGES[kind], kernel)
    return Recipe(
        release=release,
        kernel_release=KERNEL_RELEASES[release],
        init=init,
        packages=tuple(sorted(packages)),
        files=(*_guest_files(GUEST_ROOT), *(() if has_systemd else _guest_files(INIT_SCRIPTS_ROOT))),
        enabled_services=ENABLED_SERVICES,
        masked_units=MASKED_UNITS if has_systemd else (),
        version=VERSION,
    )


def _guest_files(guest_root: Path) -> list[GuestFile]:
    return [
        GuestFile(str(path.relative_to(guest_root)), path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        for path in sorted(guest_root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
